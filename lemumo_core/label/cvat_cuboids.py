"""Cuboids of CVAT's 3D tasks, in its "Kitti Raw Format 1.0": tracklets in the LiDAR's frame.

A task is made of ``pointcloud/*.pcd`` with ``related_images/NAME_pcd/*.png``, and its boxes come
and go as ``tracklet_labels.xml`` with ``frame_list.txt``, which names the frames. Unlike KITTI's
own tracklets, CVAT's positions are the centres of the boxes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from lemumo_core.data.sources.annotations import Annotations, visible_labels
from lemumo_core.data.sources.files import existing, read_text
from lemumo_core.faults import Fault
from lemumo_core.files import write_whole
from lemumo_core.frame import Frame, Labels, LidarScan
from lemumo_core.geometry.boxes import box_rotation, count_points
from lemumo_core.geometry.se3 import inverse, transform
from lemumo_core.label.formats import LabelsOf, NamedFrame
from lemumo_core.label.frame_names import write_image

FILE, FRAMES = "tracklet_labels.xml", "frame_list.txt"
OUT_OF_VIEW = ("2", "99")
"""Truncations of poses that stand for gaps of a track."""
POSE = ("tx", "ty", "tz", "rx", "ry", "rz")


def write(frames: Iterable[NamedFrame], out: Path) -> None:
    """Write sweeps with their images, and the boxes of each frame as tracklets of one pose."""
    root = Element("boost_serialization", version="9", signature="serialization::archive")
    tracklets = SubElement(root, "tracklets", version="0", tracking_level="0", class_id="0")
    names = []
    (out / "pointcloud").mkdir(parents=True, exist_ok=True)
    for number, (name, frame) in enumerate(frames):
        scan = _scan(frame)
        names.append(f"{number} {name}\n")
        (out / "pointcloud" / f"{name}.pcd").write_bytes(_pcd(scan))
        write_image(frame, out / "related_images" / f"{name}_pcd" / f"{name}.png")
        labels = frame.labels or Labels()
        boxes = np.zeros((0, 7)) if labels.boxes_3d is None else labels.boxes_3d
        ids = labels.track_ids or ("",) * len(boxes)
        for box, label, track in zip(boxes.astype(float), labels.class_names, ids, strict=False):
            tracklets.append(_tracklet(number, box, label, track, scan.T_camera_lidar))
    count = Element("count")
    count.text = str(len(tracklets))
    tracklets.insert(0, count)
    ElementTree.indent(root)
    write_whole(out / FILE, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
    write_whole(out / FRAMES, "".join(names).encode())


def read(path: Path) -> Mapping[str, LabelsOf]:
    """Read a folder of ``tracklet_labels.xml`` and ``frame_list.txt``, as CVAT exports it.

    Raises:
        FileNotFoundError: one of them is missing.
        Fault: ``bad_labels`` for a file that is not of the format.
    """
    file = existing(path / FILE if path.is_dir() else path, f"CVAT's {FILE}")
    found: dict[int, list[tuple[str, str, list[float]]]] = defaultdict(list)
    try:
        lines = read_text(file.with_name(FRAMES), FRAMES).splitlines()
        numbered = (line.split(maxsplit=1) for line in lines if line.strip())
        names = {int(number): Path(name.strip()).name for number, name in numbered}
        items = ElementTree.parse(file).getroot().findall(".//tracklets/item")
        for number, item in enumerate(items):
            size = [float(_text(item, key)) for key in ("l", "w", "h")]
            first = int(_text(item, "first_frame"))
            poses = item.findall("poses/item")
            name = f"tracklet {number}" if len(poses) > 1 else ""
            for offset, pose in enumerate(poses):
                if pose.findtext("truncation") not in OUT_OF_VIEW:
                    track = pose.findtext("attributes/attribute[name='object']/value")
                    values = [*size, *(float(_text(pose, key)) for key in POSE)]
                    row = _text(item, "objectType"), track or name, values
                    found[first + offset].append(row)
    except (ElementTree.ParseError, ValueError) as error:
        raise Fault("bad_labels", f"{file} is not as CVAT writes it: {error}") from None
    return {name: partial(_labels, found[number]) for number, name in names.items()}


def _labels(rows: list[tuple[str, str, list[float]]], frame: Frame) -> dict[str, Any]:
    scan = _scan(frame)
    values = np.array([row[2] for row in rows], np.float64).reshape(-1, 9)
    names, tracks = tuple(row[0] for row in rows), tuple(row[1] for row in rows)
    if np.abs(values[:, 6:8]).max(initial=0) > MAX_TILT:
        raise Fault(
            "bad_labels", "a cuboid is tilted: turn cuboids about their vertical axis alone"
        )
    half, zero = values[:, 8] / 2, np.zeros(len(rows))
    annotations = Annotations(
        poses=np.column_stack([values[:, 3:6], np.cos(half), zero, zero, np.sin(half)]),
        sizes=values[:, :3],
        names=names,
        num_points=np.zeros(len(rows), np.int32),
        track_ids=tracks if any(tracks) else (),
    )
    found = visible_labels(annotations, scan.T_camera_lidar, frame.camera)
    assert found.boxes_3d is not None
    points = transform(scan.T_camera_lidar, scan.points[:, :3].astype(np.float64))
    return {
        "boxes_3d": found.boxes_3d,
        "boxes_2d": found.boxes_2d,
        "class_names": found.class_names,
        "track_ids": found.track_ids,
        "num_points": count_points(points, found.boxes_3d),
    }


MAX_TILT = 0.1
"""Radians by which a cuboid may pitch or roll, as our boxes do not."""


def _text(element: Element, key: str) -> str:
    found = element.findtext(key)
    if found is None:
        raise ValueError(f"{element.tag} has no {key}")
    return found


def _scan(frame: Frame) -> LidarScan:
    if not isinstance(frame.companion, LidarScan):
        raise Fault(
            "no_points",
            f"the frame of {frame.stamp_ns} ns has no LiDAR sweep, in which cuboids are",
        )
    return frame.companion


def _tracklet(
    number: int, box: np.ndarray, label: str, track: str, T_camera_lidar: np.ndarray
) -> Element:
    T_lidar_camera = inverse(T_camera_lidar)
    center = transform(T_lidar_camera, box[None, :3])[0]
    forward = T_lidar_camera[:3, :3] @ box_rotation(box[6:])[0, :, 0]
    yaw = math.atan2(forward[1], forward[0])
    item = Element("item")
    length, width, height = box[3:6].tolist()
    about = {"objectType": label, "h": height, "w": width, "l": length, "first_frame": number}
    for key, value in about.items():
        SubElement(item, key).text = str(value)
    poses = SubElement(item, "poses")
    SubElement(poses, "count").text = "1"
    pose = SubElement(poses, "item")
    values = dict(zip(POSE, (*center.tolist(), 0.0, 0.0, yaw), strict=True))
    states = {"state": 2, "occlusion": 0, "occlusion_kf": 1, "truncation": 0}
    unknown = dict.fromkeys(("amt_occlusion", "amt_border_l", "amt_border_r"), -1)
    unknown |= dict.fromkeys(("amt_occlusion_kf", "amt_border_kf"), -1)
    for key, value in {**values, **states, **unknown}.items():
        SubElement(pose, key).text = str(value)
    if track:
        attribute = SubElement(SubElement(pose, "attributes"), "attribute")
        SubElement(attribute, "name").text = "object"
        SubElement(attribute, "value").text = track
    SubElement(item, "finished").text = "1"
    return item


def _pcd(scan: LidarScan) -> bytes:
    """Return a sweep as a binary PCD file of x, y, z and intensity."""
    rows = scan.columns(4)
    header = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z intensity\nSIZE 4 4 4 4\nTYPE F F F F\n"
        f"COUNT 1 1 1 1\nWIDTH {len(rows)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\n"
        f"POINTS {len(rows)}\nDATA binary\n"
    )
    return header.encode() + rows.tobytes()
