"""The calibration check of a replayed bag: verdict, corrected extrinsics, and a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import cv2
import numpy as np

from lemumo_core.bags.index import TF_STATIC
from lemumo_core.bags.reader import BagReader
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, LidarScan
from lemumo_core.geometry.se3 import inverse, quaternion_from_rotation
from lemumo_core.messages.transforms import TransformBuffer
from lemumo_core.metrics.calibration import Alignment
from lemumo_core.metrics.calibration_drift import Drift, drift
from lemumo_core.metrics.depth_edges import depth_edges
from lemumo_core.replay.checks import OK, UNDECIDED, WARN, Check
from lemumo_core.replay.image_events import ImageEvent
from lemumo_core.wording import signed

VERDICTS = {"aligned": OK, "off": WARN, "undecided": UNDECIDED}
PICTURE_WIDTH = 1242
GIVEN, CORRECTED = (255, 60, 60), (70, 255, 90)


def check_calibration(
    alignments: Mapping[int, Alignment],
    event: ImageEvent | None = None,
    transforms: TransformBuffer | None = None,
    T_header_lidar: np.ndarray | None = None,
) -> Check:
    """Check that depth edges of the LiDAR meet image edges under the given extrinsics.

    Args:
        alignments: by number of the image.
        event: any of the images, for the names of the frames.
        transforms: fixed ones of the bag.
        T_header_lidar: (4, 4) extrinsics instead of those.

    Returns:
        The check, with the values of ``Drift``. Where the extrinsics are off, ``corrected`` holds
        those that fit, as ``corrected_extrinsics``; ``picture`` is the image with most edges.
    """
    found = drift(list(alignments.values()))
    check = {**asdict(found), "verdict": VERDICTS[found.verdict], "words": describe(found)}
    check["picture"] = max(alignments, key=lambda n: len(alignments[n].edges), default=None)
    check["corrected"] = None
    if found.verdict == "off" and event is not None and transforms is not None:
        check["corrected"] = corrected_extrinsics(found, event, transforms, T_header_lidar)
        if check["corrected"]:
            check["words"] += f"; corrected: {check['corrected']['tf']}"
    return check


def fixed_transforms(reader: BagReader) -> TransformBuffer:
    """Return the transforms of /tf_static, as far as the bag can be read."""
    transforms = TransformBuffer()
    if not any(topic.name == TF_STATIC for topic in reader.topics):
        return transforms
    messages = reader.raw_messages([TF_STATIC])
    while True:
        try:
            raw = next(messages, None)
            if raw is None:
                return transforms
            transforms.add(reader.deserialize(raw.data, raw.type))
        except Fault as fault:
            if fault.reason == "damaged_bag":
                return transforms  # the images are read up to there too, and say so


def describe(found: Drift) -> str:
    """Return a sentence on the drift."""
    if found.verdict == "undecided":
        return found.reason
    pitch, yaw, roll = (signed(angle, ".2f") for angle in found.rotation_deg)
    turn = f"pitch {pitch}, yaw {yaw}, roll {roll} degrees"
    basis = f"{found.edges} depth edges in {found.scenes} scenes"
    low, high = found.angle_interval_deg
    if found.verdict == "aligned":
        within = math.ceil(10 * high) / 10
        near_m, far_m = found.depth_m
        return (
            f"LiDAR and image fit within {within:.1f} degrees for objects {near_m:.0f} to "
            f"{far_m:.0f} m ahead (best with {turn}; {basis})"
        )
    right, down = (signed(metres, ".2f") for metres in found.shift_m)
    shift = f" and a shift of {right} m to the right, {down} m down" if any(found.shift_m) else ""
    return (
        f"the extrinsics are off by {found.angle_deg:.2f} degrees ({low:.2f} to {high:.2f}): LiDAR "
        f"edges meet image edges best after {turn} about the camera's x, y and z{shift} ({basis})"
    )


def corrected_extrinsics(
    found: Drift,
    event: ImageEvent,
    transforms: TransformBuffer,
    T_header_lidar: np.ndarray | None = None,
) -> dict[str, Any] | None:
    """Return the extrinsics that fit: as a matrix, and as a transform to publish instead.

    The transform keeps its place in the tree: that of the LiDAR to its parent, or, where the
    LiDAR's frame is above the camera's, that of the camera to its parent.

    Args:
        found: of the images.
        event: any of them.
        transforms: fixed ones of the bag.
        T_header_lidar: (4, 4) extrinsics that were given instead of these; they replace them in
            what is returned, from the camera's frame to the LiDAR's.

    Returns:
        ``T_camera_lidar`` (4 rows of 4) between the frames that the headers name, ``parent`` and
        ``child`` frame, ``tf``, the command that publishes the transform, and ``option``, the
        matrix as lemumo replay takes it. None where the frames are not joined by fixed transforms.
    """
    camera, lidar = (name.lstrip("/") for name in (event.frame_id, event.companion_frame_id))
    is_given = T_header_lidar is not None
    if T_header_lidar is None:
        try:
            T_header_lidar = transforms.lookup(camera, lidar)
        except Fault:
            return None
    T_camera_header = event.T_camera_header
    T_new = inverse(T_camera_header) @ found.correction @ T_camera_header @ T_header_lidar
    parent, child, T_parent_child = camera, lidar, T_new
    parents = {below: above for above, below, _ in transforms.edges()}
    if not is_given and lidar in _above(camera, parents):
        parent, child = parents[camera], camera
        T_parent_child = transforms.lookup(parent, lidar) @ inverse(T_new)
    elif not is_given:
        parent = parents[lidar]
        T_parent_child = transforms.lookup(parent, camera) @ T_new
    return {
        "T_camera_lidar": T_new.tolist(),
        "parent": parent,
        "child": child,
        "tf": static_transform_command(parent, child, T_parent_child),
        "option": " ".join(["--extrinsics", *(f"{number:.9f}" for number in T_new.flat)]),
    }


def static_transform_command(parent: str, child: str, T_parent_child: np.ndarray) -> str:
    """Return the command by which ROS 2 publishes a fixed transform."""
    w, x, y, z = quaternion_from_rotation(T_parent_child[:3, :3]).tolist()
    named = zip(("x", "y", "z"), T_parent_child[:3, 3].tolist(), strict=True)
    numbers = {**dict(named), "qx": x, "qy": y, "qz": z, "qw": w}
    options = " ".join(f"--{name} {value:.6f}" for name, value in numbers.items())
    return (
        f"ros2 run tf2_ros static_transform_publisher {options} --frame-id {parent} "
        f"--child-frame-id {child}"
    )


def draw_calibration(frame: Frame, correction: np.ndarray) -> np.ndarray:
    """Draw the depth edges of a frame into its image, uint8 RGB.

    Args:
        frame: with image and LiDAR.
        correction: (4, 4) as ``Drift.correction``.

    Returns:
        The image, darkened: edges by the given extrinsics in red, those by the corrected ones in
        green.
    """
    scan = frame.companion
    assert frame.image is not None and isinstance(scan, LidarScan)
    width = min(PICTURE_WIDTH, frame.camera.width)
    camera = frame.camera.scaled(width, round(frame.camera.height * width / frame.camera.width))
    picture = cv2.resize(frame.image, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
    picture = cv2.convertScaleAbs(picture, alpha=0.6)
    is_corrected = not np.array_equal(correction, np.eye(4))
    for T, color in ((np.eye(4), GIVEN), (correction, CORRECTED))[: 1 + is_corrected]:
        moved = LidarScan(scan.points, T @ scan.T_camera_lidar, scan.stamp_ns)
        for u, v in depth_edges(moved, camera).uv.round().astype(int).tolist():
            cv2.circle(picture, (u, v), 1, color, -1)
    return picture


def _above(frame: str, parents: Mapping[str, str]) -> list[str]:
    """Return the frames above one, nearest first."""
    found: list[str] = []
    while frame in parents and parents[frame] not in found:
        frame = parents[frame]
        found.append(frame)
    return found
