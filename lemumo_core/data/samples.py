"""Frames as tensors on a canvas of fixed size, and batches of them.

The worker's half of the input pipeline: what costs time per frame and needs no randomness. A
sample is a ``Batch`` of one; ``views.py`` cuts views from batches on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from lemumo_core.depth_projection import project_returns
from lemumo_core.faults import Fault
from lemumo_core.frame import UNLABELLED, Frame, Labels, LidarScan, ThermalImage
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.view_transfer import move_boxes
from lemumo_core.metrics.objects import ignored_regions
from lemumo_core.preprocess import (
    InputSpec,
    check_input,
    image_in_view,
    labels_in_view,
    modalities_present,
    network_view,
    thermal_in_view,
)
from lemumo_core.taxonomy import detection_ids

PADDING = {
    "returns": float("inf"),
    "point_labels": UNLABELLED,
    "points": float("inf"),
    "return_rows": -1,
    "boxes_3d": 0.0,
    "centers": float("nan"),
    "boxes_2d": 0.0,
    "class_ids": -1,
    "visibility": float("nan"),
    "num_points": -1,
    "ignore": 0.0,
}
"""Fields whose second dimension differs between samples, and what fills it up."""

T = TypeVar("T")


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
        class_ids: int64 (B, K) into the detection classes that ``sample`` was given.
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
        label_map: uint8 (B, H, W), 255 = unlabelled.
        point_labels: uint8 (B, N), one per return, 255 = unlabelled.
        depth_m: float32 (B, H, W) dense depth, NaN = unknown.
        boxes: the objects.
    """

    label_map: Tensor
    point_labels: Tensor
    depth_m: Tensor
    boxes: Boxes


@dataclass(frozen=True, eq=False)
class Batch:
    """B samples on one canvas, the ``network_view`` of each frame's camera.

    Attributes:
        canvas: size (H, W), companion and depth range.
        image: uint8 (B, H, W, 3) RGB, zeros where absent.
        present: float32 (B, 2), which of image and companion exists.
        intrinsics: float32 (B, 3, 3) of the canvas.
        returns: float32 (B, N, 3) u, v (canvas pixels) and depth (metres) of every LiDAR return
            on the canvas, hidden ones included; padded with inf. N is 0 for a thermal companion.
        thermal: float32 (B, H, W, 2) intensity in [0, 1] and validity; None for LiDAR.
        labels: None unless asked for.
        points: float32 (B, M, 4) x, y, z (metres) and intensity of the whole sweep, LiDAR frame,
            padded with inf; None unless asked for. Intensity is 0 where the sensor gives none.
        T_camera_lidar: float32 (B, 4, 4), points from the LiDAR to the camera optical frame, beside
            ``points``; the identity where there is no sweep.
        return_rows: int64 (B, N) beside ``points``: return n is row ``return_rows[b, n]`` of
            ``points[b]``; -1 for padding.
    """

    canvas: InputSpec
    image: Tensor
    present: Tensor
    intrinsics: Tensor
    returns: Tensor
    thermal: Tensor | None = None
    labels: CanvasLabels | None = None
    points: Tensor | None = None
    T_camera_lidar: Tensor | None = None
    return_rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.image)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Copy the batch to a device."""
        return map_tensors(self, lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Copy the batch to pinned memory; ``DataLoader(pin_memory=True)`` calls this."""
        return map_tensors(self, Tensor.pin_memory)


def sample(
    frame: Frame,
    canvas: InputSpec,
    detection_classes: Sequence[str] | None = None,
    points: bool = False,
) -> Batch:
    """Put one frame on the canvas. Deterministic; no label is read unless classes are given.

    Args:
        frame: the instant.
        canvas: one for the whole run.
        detection_classes: names that ``taxonomy.detection_class`` gives, in the order of their
            ids; boxes of other classes are dropped. None leaves ``labels`` out.
        points: whether the whole sweep is kept, with its pose and ``return_rows``.

    Raises:
        Fault: as ``preprocess``, and ``bad_labels`` for labels that do not fit the frame.
    """
    check_input(frame, canvas)
    view = network_view(frame.camera, canvas)
    returns, rows = np.empty((0, 3), np.float32), np.empty(0, np.intp)
    if isinstance(frame.companion, LidarScan):
        scan = frame.companion
        *uvz, rows = project_returns(scan.points, scan.T_camera_lidar, view, canvas.depth_min_m)
        returns = np.stack(uvz, axis=1)
    thermal = None
    if canvas.companion == "thermal":
        thermal = np.zeros((canvas.height, canvas.width, 2), np.float32)
        if isinstance(frame.companion, ThermalImage):
            thermal = thermal_in_view(frame.companion, view)
    labels = None
    if detection_classes is not None:
        labels = _canvas_labels(frame, canvas, view, rows, detection_classes)
    return Batch(
        canvas=canvas,
        image=_batch_of_one(image_in_view(frame, canvas)),
        present=_batch_of_one(modalities_present(frame)),
        intrinsics=_batch_of_one(view.K.astype(np.float32)),
        returns=_batch_of_one(returns),
        thermal=None if thermal is None else _batch_of_one(thermal),
        labels=labels,
        **(_sweep(frame, rows) if points else {}),
    )


def _sweep(frame: Frame, rows: np.ndarray) -> dict[str, Tensor]:
    """Return ``Batch.points`` and what belongs to them."""
    points, T_camera_lidar = np.zeros((0, 4), np.float32), np.eye(4)
    if isinstance(frame.companion, LidarScan):
        scan, T_camera_lidar = frame.companion.points, frame.companion.T_camera_lidar
        points = np.zeros((len(scan), 4), np.float32)
        points[:, : min(4, scan.shape[1])] = scan[:, :4]
    return {
        "points": _batch_of_one(points),
        "T_camera_lidar": _batch_of_one(T_camera_lidar.astype(np.float32)),
        "return_rows": _batch_of_one(rows.astype(np.int64)),
    }


def collate(samples: Sequence[Batch]) -> Batch:
    """Join samples (or batches) into one batch; returns and boxes are padded (``PADDING``).

    Raises:
        ValueError: no samples, different canvases, or only some with labels.
    """
    if not samples:
        raise ValueError("collate needs at least one sample")
    canvases = {one.canvas for one in samples}
    if len(canvases) > 1:
        raise ValueError(f"samples on different canvases cannot be joined: {canvases}")
    if len({one.labels is None for one in samples}) > 1:
        raise ValueError("only some samples have labels: give sample() the classes for all or none")
    if len({one.points is None for one in samples}) > 1:
        raise ValueError("only some samples have points: ask sample() for them in all or none")
    return _join(samples)


def _canvas_labels(
    frame: Frame, canvas: InputSpec, view: Camera, rows: np.ndarray, classes: Sequence[str]
) -> CanvasLabels:
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
        label_map=_batch_of_one(label_map),
        point_labels=_batch_of_one(point_labels),
        depth_m=_batch_of_one(depth_m),
        boxes=_boxes(labels, frame.camera, view, classes),
    )


def _boxes(labels: Labels, camera: Camera, view: Camera, classes: Sequence[str]) -> Boxes:
    ids = detection_ids(labels.class_names, classes)
    kept = np.flatnonzero(ids >= 0)

    def column(values: np.ndarray | None, shape: tuple[int, ...], unknown: float) -> np.ndarray:
        return np.full((len(kept), *shape), unknown) if values is None else values[kept]

    boxes_3d = column(labels.boxes_3d, (7,), 0.0).astype(np.float64)
    boxes_2d = column(labels.boxes_2d, (4,), 0.0).astype(np.float64)
    if labels.boxes_2d is not None:
        boxes_2d = move_boxes(boxes_2d, camera, view)
    ignore = move_boxes(ignored_regions(labels, classes, camera), camera, view)
    visibility = column(labels.visibility, (), PADDING["visibility"])
    num_points = column(labels.num_points, (), PADDING["num_points"])
    return Boxes(
        boxes_3d=_batch_of_one(boxes_3d.astype(np.float32)),
        centers=_batch_of_one(view.project(boxes_3d[:, :3])[0].astype(np.float32)),
        boxes_2d=_batch_of_one(boxes_2d.astype(np.float32)),
        class_ids=_batch_of_one(ids[kept]),
        visibility=_batch_of_one(visibility.astype(np.float32)),
        num_points=_batch_of_one(num_points.astype(np.int32)),
        ignore=_batch_of_one(ignore.astype(np.float32)),
        known_3d=torch.tensor([labels.boxes_3d is not None]),
        known_2d=torch.tensor([labels.boxes_2d is not None]),
    )


def _batch_of_one(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))[None]


def map_tensors(value: T, function: Callable[[Tensor], Tensor]) -> T:
    """Apply a function to the tensors of a ``Batch``, or of a part of one; return a copy."""
    changed: dict[str, Any] = {}
    for field in fields(value):  # type: ignore[arg-type]
        part = getattr(value, field.name)
        if isinstance(part, Tensor):
            changed[field.name] = function(part)
        elif isinstance(part, (CanvasLabels, Boxes)):
            changed[field.name] = map_tensors(part, function)
    return replace(value, **changed)  # type: ignore[type-var]


def _join(values: Sequence[T]) -> T:
    """Join dataclasses of tensors along the batch; other fields are the first one's."""
    joined: dict[str, Any] = {}
    for field in fields(values[0]):  # type: ignore[arg-type]
        parts = [getattr(value, field.name) for value in values]
        if isinstance(parts[0], Tensor):
            joined[field.name] = _cat(parts, PADDING.get(field.name))
        elif isinstance(parts[0], (CanvasLabels, Boxes)):
            joined[field.name] = _join(parts)
    return replace(values[0], **joined)  # type: ignore[type-var]


def _cat(parts: Sequence[Tensor], padding: float | None) -> Tensor:
    if padding is None:
        return torch.cat(list(parts))
    rows, longest = sum(len(part) for part in parts), max(part.shape[1] for part in parts)
    padded = parts[0].new_full((rows, longest, *parts[0].shape[2:]), padding)
    start = 0
    for part in parts:
        padded[start : start + len(part), : part.shape[1]] = part
        start += len(part)
    return padded
