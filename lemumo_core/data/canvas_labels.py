"""Ground truth of samples, on their canvas."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lemumo_core.faults import Fault
from lemumo_core.frame import UNLABELLED, Frame, Labels, LidarScan
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.view_transfer import move_boxes
from lemumo_core.metrics.objects import ignored_regions
from lemumo_core.preprocess import InputSpec, labels_in_view
from lemumo_core.taxonomy import Taxonomy


@dataclass(frozen=True, eq=False)
class Boxes:
    """Objects of B images, padded to K; a row of padding has class id -1.

    Attributes:
        boxes_3d: float32 (B, K, 7) as in ``frame.Labels``, camera optical frame. Boxes that the
            image does not show are kept. Zeros where the source has none.
        centers: float32 (B, K, 2) u, v of the 3D boxes' centres, pixels, through the lens
            distortion; NaN for those that have no pixel.
        boxes_2d: float32 (B, K, 4) x_min, y_min, x_max, y_max, pixels. Zeros where the source has
            none.
        class_ids: int64 (B, K) into the detection classes of the taxonomy.
        visibility: float32 (B, K), NaN where the source does not say.
        num_points: int32 (B, K), -1 where the source does not say.
        ignore: float32 (B, M, 4) as ``boxes_2d``, regions in which nothing is learnt
            (``objects.ignored_regions``); padding is empty.
        known_3d, known_2d: bool (B,), False where the source has no such boxes; then none is not
            "no object".
    """

    boxes_3d: Tensor
    centers: Tensor
    boxes_2d: Tensor
    class_ids: Tensor
    visibility: Tensor
    num_points: Tensor
    ignore: Tensor
    known_3d: Tensor
    known_2d: Tensor


@dataclass(frozen=True, eq=False)
class CanvasLabels:
    """Ground truth on the canvas; what a source does not have is filled with "unknown".

    Attributes:
        label_map: uint8 (B, H, W) into the segmentation classes of the taxonomy, 255 = unlabelled.
        point_labels: uint8 (B, N), one per return, likewise.
        depth_m: float32 (B, H, W) dense depth, NaN = unknown.
        boxes: the objects.
    """

    label_map: Tensor
    point_labels: Tensor
    depth_m: Tensor
    boxes: Boxes


def canvas_labels(
    frame: Frame, canvas: InputSpec, view: Camera, rows: np.ndarray, classes: Taxonomy
) -> CanvasLabels:
    """Bring the labels of a frame to its canvas, as a batch of one.

    Args:
        frame: the instant.
        canvas: canvas of the sample.
        view: camera of the canvas.
        rows: points of the sweep that are returns on the canvas, int (N,).
        classes: those that the labels become.

    Raises:
        Fault: ``bad_labels`` for labels that do not fit the frame.
    """
    labels = frame.labels or Labels()
    point_labels = np.full(len(rows), UNLABELLED, np.uint8)
    if labels.point_labels is not None and isinstance(frame.companion, LidarScan):
        if len(labels.point_labels) != len(frame.companion.points):
            raise Fault(
                "bad_labels",
                f"{len(labels.point_labels)} point labels for {len(frame.companion.points)} points",
            )
        point_labels = labels.point_labels[rows]
    maps = (labels.label_map, UNLABELLED, np.uint8), (labels.depth_m, np.nan, np.float32)
    label_map, depth_m = (
        np.full((canvas.height, canvas.width), unknown, dtype)
        if values is None
        else labels_in_view(values, frame.camera, canvas, unknown).astype(dtype, copy=False)
        for values, unknown, dtype in maps
    )
    return CanvasLabels(
        label_map=batch_of_one(classes.label_ids(label_map, labels.label_names)),
        point_labels=batch_of_one(classes.label_ids(point_labels, labels.label_names)),
        depth_m=batch_of_one(depth_m),
        boxes=_boxes(labels, frame.camera, view, classes),
    )


def _boxes(labels: Labels, camera: Camera, view: Camera, classes: Taxonomy) -> Boxes:
    ids = classes.detection_ids(labels.class_names)
    kept = np.flatnonzero(ids >= 0)

    def column(values: np.ndarray | None, shape: tuple[int, ...], unknown: float) -> np.ndarray:
        return np.full((len(kept), *shape), unknown) if values is None else values[kept]

    boxes_3d = column(labels.boxes_3d, (7,), 0.0).astype(np.float64)
    boxes_2d = column(labels.boxes_2d, (4,), 0.0).astype(np.float64)
    if labels.boxes_2d is not None:
        boxes_2d = move_boxes(boxes_2d, camera, view)
    ignore = move_boxes(ignored_regions(labels, classes, camera), camera, view)
    visibility = column(labels.visibility, (), math.nan)
    num_points = column(labels.num_points, (), -1)
    return Boxes(
        boxes_3d=batch_of_one(boxes_3d.astype(np.float32)),
        centers=batch_of_one(view.project(boxes_3d[:, :3])[0].astype(np.float32)),
        boxes_2d=batch_of_one(boxes_2d.astype(np.float32)),
        class_ids=batch_of_one(ids[kept]),
        visibility=batch_of_one(visibility.astype(np.float32)),
        num_points=batch_of_one(num_points.astype(np.int32)),
        ignore=batch_of_one(ignore.astype(np.float32)),
        known_3d=torch.tensor([labels.boxes_3d is not None]),
        known_2d=torch.tensor([labels.boxes_2d is not None]),
    )


def batch_of_one(array: np.ndarray) -> Tensor:
    """Return an array as a tensor with a batch dimension of one."""
    return torch.from_numpy(np.ascontiguousarray(array))[None]
