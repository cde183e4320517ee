"""Waymo's labels: rows of its tables converted to boxes, label maps and instance maps.

Source: github.com/waymo-research/waymo-open-dataset, src/waymo_open_dataset/v2/perception
(box.py, segmentation.py), v2/column_types.py and protos/camera_segmentation.proto.
"""

from __future__ import annotations

import cv2
import numpy as np

from lemumo_core.data.sources.annotations import Annotations
from lemumo_core.data.sources.waymo_table import TIMESTAMP, Row, Table, decode_image
from lemumo_core.faults import Fault
from lemumo_core.frame import UNLABELLED
from lemumo_core.geometry.camera import Camera
from lemumo_core.taxonomy import SEGMENTATION_IDS

BOX_TYPES = {1: "vehicle", 2: "pedestrian", 3: "sign", 4: "cyclist"}
SEGMENTATION = {
    2: "car",
    3: "large_vehicle",  # truck
    4: "large_vehicle",  # bus
    5: "large_vehicle",  # other
    6: "two_wheeler",  # bicycle
    7: "two_wheeler",  # motorcycle
    8: "large_vehicle",  # trailer
    9: "pedestrian",
    10: "two_wheeler",  # cyclist
    11: "two_wheeler",  # motorcyclist
    15: "pole",
    17: "sign",
    19: "building",
    20: "road",
    21: "road",  # lane marker
    22: "road",  # other marking
    23: "sidewalk",
    24: "vegetation",
    25: "sky",
    26: "terrain",  # other ground
}
"""CameraSegmentation.Type to our classes. Left unlabelled: undefined, the ego vehicle, animals,
cones, things that people carry, traffic lights, and other objects."""
LABEL_IDS = np.full(30, UNLABELLED, np.uint8)
"""Waymo's class to our id; the last entry stands for all larger numbers."""
for _waymo, _ours in SEGMENTATION.items():
    LABEL_IDS[_waymo] = SEGMENTATION_IDS[_ours]

PANOPTIC = ("panoptic_label", "panoptic_label_divisor")
BOX = (
    *(f"box.{part}.{axis}" for part in ("center", "size") for axis in "xyz"),
    "box.heading",
    "num_lidar_points_in_box",
    "type",
)


def vehicle_boxes(table: Table, time: int) -> Annotations:
    """Read the boxes of one frame; they stand upright in the vehicle frame."""
    rows = table.rows(TIMESTAMP, time, *BOX)
    values = np.array([[row[name] for name in BOX[:7]] for row in rows], np.float64).reshape(-1, 7)
    half, zero = values[:, 6] / 2, np.zeros(len(rows))
    return Annotations(
        poses=np.column_stack([values[:, :3], np.cos(half), zero, zero, np.sin(half)]),
        sizes=values[:, 3:6],
        names=tuple(BOX_TYPES.get(row["type"], "unknown") for row in rows),
        num_points=np.array([row["num_lidar_points_in_box"] for row in rows], np.int32),
    )


def segmentation(row: Row, camera: Camera, table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Read label map and instance map, as in Labels, from class * divisor + instance."""
    panoptic = decode_image(row["panoptic_label"], cv2.IMREAD_UNCHANGED, camera, table)
    if row["panoptic_label_divisor"] <= 0:
        raise Fault("bad_image", f"{table.path}: the panoptic label divisor must be positive")
    classes, instances = np.divmod(panoptic, row["panoptic_label_divisor"])
    label_map = LABEL_IDS[np.minimum(classes, len(LABEL_IDS) - 1)]
    return label_map, np.where(instances > 0, panoptic, 0).astype(np.uint16)
