"""Detections as visualization_msgs markers, for RViz and Foxglove."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lemumo_core.frame import Detections, Tracks
from lemumo_core.messages.builder import MessageBuilder
from lemumo_core.messages.tracks import track_names, twist

ADD, DELETE_ALL = 0, 3
ARROW, CUBE, TEXT_VIEW_FACING = 0, 1, 9
"""Constants of visualization_msgs/Marker."""
BOX_ALPHA = 0.35
TEXT_HEIGHT_M = 0.6
TEXT_GAP_M = 0.5
ARROW_SCALE_M = (0.15, 0.35, 0.0)
"""Diameters of an arrow's shaft and head."""
LIFETIME_NS = 500_000_000
"""Time for which a viewer keeps the markers when no others follow."""
WHITE = (1.0, 1.0, 1.0, 1.0)


def markers(
    build: MessageBuilder,
    detections: Detections,
    class_names: Sequence[str],
    colors: Sequence[tuple[int, int, int]],
    T_output_camera: np.ndarray,
    header: Any,
    tracks: Tracks | None = None,
) -> Any:
    """Return markers that delete all earlier ones, then a translucent cube and a text for each box.

    A box with a track has its id in the text, and an arrow to where it will be in a second.

    Args:
        build: builder of the messages.
        detections: as for ``MessageBuilder.detections_3d``.
        class_names: likewise.
        colors: RGB, 0 to 255, by class id.
        T_output_camera: as for ``MessageBuilder.detections_3d``.
        header: likewise.
        tracks: of the detections, or None.

    Returns:
        A visualization_msgs/MarkerArray.
    """
    (origin,) = build.box_poses(np.zeros((1, 7)), np.eye(4))
    found = [_marker(build, header, origin, action=DELETE_ALL)]
    count, names = len(detections.boxes_3d), track_names(tracks)
    tops = detections.boxes_3d.astype(np.float64)
    tops[:, 1] -= tops[:, 5] / 2 + TEXT_GAP_M  # y points down in the camera frame
    text_poses = build.box_poses(tops, T_output_camera)
    poses = build.box_poses(detections.boxes_3d, T_output_camera)
    for i, (pose, text_pose) in enumerate(zip(poses, text_poses, strict=True)):
        class_id = int(detections.class_ids[i])
        r, g, b = (value / 255 for value in colors[class_id])
        size = tuple(detections.boxes_3d[i, 3:6].tolist())
        box: dict[str, Any] = {"ns": "boxes", "id": i, "type": CUBE, "scale": size}
        text: dict[str, Any] = {"ns": "labels", "id": count + i, "type": TEXT_VIEW_FACING}
        text |= {"color": WHITE, "scale": (0.0, 0.0, TEXT_HEIGHT_M)}
        number = f"#{names[i]} " if names and names[i] else ""
        text |= {"text": f"{number}{class_names[class_id]} {detections.scores[i]:.2f}"}
        found.append(_marker(build, header, pose, color=(r, g, b, BOX_ALPHA), **box))
        found.append(_marker(build, header, text_pose, **text))
        if number:
            assert tracks is not None
            velocity, _ = twist(tracks, i, T_output_camera[:3, :3])
            ends = [pose.position, _moved(build, pose.position, velocity)]
            arrow: dict[str, Any] = {"ns": "velocities", "id": 2 * count + i, "points": ends}
            arrow |= {"scale": ARROW_SCALE_M, "color": (r, g, b, 1.0)}
            found.append(_marker(build, header, origin, **arrow))
    return build.new("visualization_msgs/MarkerArray", markers=found)


def _marker(
    build: MessageBuilder,
    header: Any,
    pose: Any,
    scale: tuple[float, ...] = (0.0, 0.0, 0.0),
    color: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0),
    **fields: Any,
) -> Any:
    """Return a Marker; fields that are not given have their defaults."""
    lifetime_ns = LIFETIME_NS if fields.get("action", ADD) == ADD else 0
    defaults = {"ns": "", "id": 0, "type": ARROW, "action": ADD, "text": "", "points": []}
    values = defaults | fields
    return build.new(
        "visualization_msgs/Marker",
        header=header,
        pose=pose,
        scale=build.xyz("Vector3", scale),
        color=build.new("std_msgs/ColorRGBA", **dict(zip("rgba", color, strict=True))),
        lifetime=build.new("builtin_interfaces/Duration", sec=0, nanosec=lifetime_ns),
        frame_locked=False,
        colors=[],
        texture_resource="",
        texture=build.new("sensor_msgs/CompressedImage", header=header, format="", data=_no(build)),
        uv_coordinates=[],
        mesh_resource="",
        mesh_file=build.new("visualization_msgs/MeshFile", filename="", data=_no(build)),
        mesh_use_embedded_materials=False,
        **values,
    )


def _moved(build: MessageBuilder, position: Any, offset: np.ndarray) -> Any:
    x, y, z = offset.tolist()
    return build.xyz("Point", (position.x + x, position.y + y, position.z + z))


def _no(build: MessageBuilder) -> Any:
    return build.data(np.zeros(0, np.uint8))
