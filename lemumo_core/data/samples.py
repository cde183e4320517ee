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

from lemumo_core.data.canvas_labels import Boxes, CanvasLabels, batch_of_one, canvas_labels
from lemumo_core.depth_projection import project_returns
from lemumo_core.frame import UNLABELLED, Frame, LidarScan, RasterImage, ThermalImage
from lemumo_core.metrics.beams import beam_numbers
from lemumo_core.picture_projection import raster_in_view, thermal_in_view
from lemumo_core.preprocess import (
    InputSpec,
    check_input,
    image_in_view,
    modalities_present,
    network_view,
)
from lemumo_core.taxonomy import Taxonomy

PADDING = {
    "returns": float("inf"),
    "point_labels": UNLABELLED,
    "points": float("inf"),
    "sweep_labels": UNLABELLED,
    "beams": -1,
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
class Batch:
    """B samples on one canvas, the ``network_view`` of each frame's camera.

    Attributes:
        canvas: size (H, W), companion and depth range.
        image: uint8 (B, H, W, 3) RGB, zeros where absent.
        present: float32 (B, 2), which of image and companion exists (``modalities_present``).
        intrinsics: float32 (B, 3, 3) of the canvas.
        returns: float32 (B, N, 3) u, v (canvas pixels) and depth (metres) of every LiDAR return
            on the canvas, occluded ones included; padded with inf. N is 0 for other companions.
        picture: float32 (B, H, W, C + 1), of a thermal (C = 1) or raster companion the values in
            [0, 1] and their validity; None for LiDAR.
        labels: None unless asked for.
        points: float32 (B, M, 4) x, y, z (metres) and intensity (0 to 255, 0 where the sensor gives
            none) of the whole sweep, LiDAR frame, padded with inf; None unless asked for.
        T_camera_lidar: float32 (B, 4, 4), points from the LiDAR to the camera optical frame, beside
            ``points``; the identity where there is no sweep.
        return_rows: int64 (B, N) beside ``points``: return n is row ``return_rows[b, n]`` of
            ``points[b]``; -1 for padding.
        sweep_labels: uint8 (B, M) beside ``points``, where there are labels, 255 = unlabelled.
        beams: int64 (B, N), number of the beam of each return, -1 for padding; None unless asked
            for.
    """

    canvas: InputSpec
    image: Tensor
    present: Tensor
    intrinsics: Tensor
    returns: Tensor
    picture: Tensor | None = None
    labels: CanvasLabels | None = None
    points: Tensor | None = None
    T_camera_lidar: Tensor | None = None
    return_rows: Tensor | None = None
    sweep_labels: Tensor | None = None
    beams: Tensor | None = None

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
    classes: Taxonomy | None = None,
    points: bool = False,
    beams: bool = False,
) -> Batch:
    """Put one frame on the canvas. Deterministic; no label is read unless classes are given.

    Args:
        frame: the instant.
        canvas: one for the whole run.
        classes: those that labels become; boxes of others are dropped. None leaves ``labels``
            out.
        points: whether the whole sweep is kept, with its pose and ``return_rows``.
        beams: whether the beam of each return is.

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
    picture = None
    if canvas.companion != "lidar":
        picture = np.zeros((canvas.height, canvas.width, canvas.bands + 1), np.float32)
        if isinstance(frame.companion, ThermalImage):
            picture = thermal_in_view(frame.companion, view)
        elif isinstance(frame.companion, RasterImage):
            picture = raster_in_view(frame.companion, view)
    labels = None
    if classes is not None:
        labels = canvas_labels(frame, canvas, view, rows, classes)
    return Batch(
        canvas=canvas,
        image=batch_of_one(image_in_view(frame, canvas)),
        present=batch_of_one(modalities_present(frame, len(returns) > 0)),
        intrinsics=batch_of_one(view.K.astype(np.float32)),
        returns=batch_of_one(returns),
        picture=None if picture is None else batch_of_one(picture),
        labels=labels,
        **(_sweep(frame, rows, classes) if points else {}),
        beams=_beams(frame, rows) if beams else None,
    )


def _beams(frame: Frame, rows: np.ndarray) -> Tensor:
    """Return ``Batch.beams``."""
    if not isinstance(frame.companion, LidarScan):
        return torch.empty(1, 0, dtype=torch.int64)
    return batch_of_one(beam_numbers(frame.companion)[rows])


def _sweep(frame: Frame, rows: np.ndarray, classes: Taxonomy | None) -> dict[str, Tensor]:
    """Return ``Batch.points`` and what belongs to them, with their labels if classes are given."""
    points, T_camera_lidar = np.zeros((0, 4), np.float32), np.eye(4)
    if isinstance(frame.companion, LidarScan):
        points, T_camera_lidar = frame.companion.scaled_points(), frame.companion.T_camera_lidar
    labels = {}
    if classes is not None:
        ids = np.full(len(points), UNLABELLED, np.uint8)
        if frame.labels is not None and frame.labels.point_labels is not None:
            ids = classes.label_ids(frame.labels.point_labels, frame.labels.label_names)
        labels = {"sweep_labels": batch_of_one(ids)}
    return labels | {
        "points": batch_of_one(points),
        "T_camera_lidar": batch_of_one(T_camera_lidar.astype(np.float32)),
        "return_rows": batch_of_one(rows.astype(np.int64)),
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
