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

BOX_TYPES = {1: "vehicle", 2: "pedestrian", 3: "sign", 4: "cyclist"}
LABEL_NAMES = (
    *("", "ego_vehicle", "car", "truck", "bus", "other_large_vehicle", "bicycle", "motorcycle"),
    *("trailer", "pedestrian", "cyclist", "motorcyclist", "bird", "ground_animal"),
    *("construction_cone_pole", "pole", "pedestrian_object", "sign", "traffic_light", "building"),
    *("road", "lane_marker", "road_marker", "sidewalk", "vegetation", "sky", "other_ground"),
    *("dynamic", "static"),
)
"""CameraSegmentation.Type by its number. 0, undefined, and numbers beyond are unlabelled."""

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
    named = (classes > 0) & (classes < len(LABEL_NAMES))
    label_map = np.where(named, classes, UNLABELLED).astype(np.uint8)
    return label_map, np.where(instances > 0, panoptic, 0).astype(np.uint16)
