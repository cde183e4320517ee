"""Ground truth from a LiDAR: returns masked from the model, and point labels, as sparse maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from lemumo_core.depth_projection import Returns, project_returns, visible
from lemumo_core.faults import Fault, known_names
from lemumo_core.frame import UNLABELLED, Frame, Labels, LidarScan, Perception
from lemumo_core.geometry.camera import Camera
from lemumo_core.metrics.beams import beam_numbers
from lemumo_core.metrics.parallax import may_be_hidden

Mask = Literal["beams", "random", "blocks"]
"""Which returns are masked.

``beams``: every second beam, what the next larger sensor would have seen. ``random``: one return in
ten; easy, since its neighbour on the same beam remains. ``blocks``: every second block of the image
of an eighth of its width, as on a chessboard.
"""
MASKS: tuple[Mask, ...] = get_args(Mask)
DEFAULT_MASK: Mask = "beams"
MASK_MEANINGS: dict[Mask, str] = {
    "beams": "every second beam of the LiDAR, or band of elevation where its beams are not known, "
    "masked from the model",
    "random": "one in ten LiDAR returns, masked from the model",
    "blocks": "LiDAR returns in every second block of the image, masked from the model",
}
RANDOM_EVERY = 10
BLOCKS_ACROSS = 8
NEAREST_M = 1.0


def mask_returns(frame: Frame, mask: Mask | None = None) -> Frame:
    """Mask a share of the LiDAR returns from the model and make them its depth ground truth.

    A frame without LiDAR is returned as it is, and so is one that has dense depth, unless a mask is
    asked for.

    Which returns are masked follows from the scan alone: the same ones in every run.

    Args:
        frame: not changed.
        mask: which; None takes ``DEFAULT_MASK``, and leaves dense depth as it is.

    Returns:
        The frame without the masked returns (and their point labels). Its ``labels.depth_m`` is
        the depth of those masked returns that the camera surely sees too, NaN elsewhere.

    Raises:
        Fault: ``bad_labels`` if there is not one point label for each point.
        ValueError: for an unknown mask.
    """
    labels, scan = frame.labels or Labels(), frame.companion
    if not isinstance(scan, LidarScan) or not needs_mask(frame, mask):
        return frame
    masked = _masked(scan, frame.camera, mask or DEFAULT_MASK)
    seen = surely_visible_returns(scan, frame.camera)
    truth = Returns(*(column[masked[seen.row]] for column in seen))
    point_labels = _point_labels(labels, scan)
    return replace(
        frame,
        companion=replace(scan, points=scan.points[~masked]),
        labels=replace(
            labels,
            depth_m=_sparse_map(truth, truth.depth_m, np.nan, frame.camera),
            point_labels=None if point_labels is None else point_labels[~masked],
            point_confidence=None,
        ),
    )


def needs_mask(frame: Frame, mask: Mask | None = None) -> bool:
    """Return whether ``mask_returns`` masks returns of a frame.

    Raises:
        ValueError: for an unknown mask.
    """
    if mask is not None and mask not in MASKS:
        raise ValueError(f"unknown mask '{mask}'{known_names(mask, MASKS)}")
    is_dense = frame.labels is not None and frame.labels.depth_m is not None
    return isinstance(frame.companion, LidarScan) and (mask is not None or not is_dense)


def with_masked_depth(
    frame: Frame, full: Perception, predict: Callable[[Frame], Perception], mask: Mask | None
) -> tuple[Frame, Perception]:
    """Give a result depth that masked returns can judge, and leave all else as it is.

    Args:
        frame: with its labels.
        full: its result, of all returns.
        predict: the model; run on the masked frame, if ``needs_mask``.
        mask: as for ``mask_returns``.

    Returns:
        The frame of ``mask_returns``, but with the labels of all points, as ``label_map``; and the
        result with the depth of the masked frame.

    Raises:
        Fault: as ``mask_returns`` and the model.
    """
    if not needs_mask(frame, mask):
        return frame, full
    masked = mask_returns(frame, mask)
    assert masked.labels is not None
    labels = replace(masked.labels, label_map=true_labels(frame))
    found = predict(masked)
    own = replace(full, depth_m=found.depth_m, depth_confidence=found.depth_confidence)
    return replace(masked, labels=labels), own


def _masked(scan: LidarScan, camera: Camera, mask: Mask) -> np.ndarray:
    """Return which points of a scan are masked: bool (N,)."""
    if mask == "random":
        return np.asarray(_hashes(scan.points) % RANDOM_EVERY == 0)
    if mask == "beams":
        return np.asarray(beam_numbers(scan) % 2 == 1)
    found = project_returns(scan.points, scan.T_camera_lidar, camera, 0.0)
    side = camera.width / BLOCKS_ACROSS
    column, row = (((at + 0.5) // side).astype(np.int64) for at in (found.u, found.v))
    masked = np.zeros(len(scan.points), bool)
    masked[found.row] = (column + row) % 2 == 1
    return masked


def true_labels(frame: Frame) -> np.ndarray | None:
    """Return the label map, or one made of the labels of LiDAR points that the camera sees.

    Returns:
        uint8 (H, W) of the image, 255 = unlabelled; None where the frame has neither.

    Raises:
        Fault: ``bad_labels`` if there is not one point label for each point.
    """
    labels = frame.labels or Labels()
    if labels.label_map is not None or not isinstance(frame.companion, LidarScan):
        return labels.label_map
    point_labels = _point_labels(labels, frame.companion)
    if point_labels is None:
        return None
    seen = surely_visible_returns(frame.companion, frame.camera)
    return _sparse_map(seen, point_labels[seen.row], UNLABELLED, frame.camera)


def _point_labels(labels: Labels, scan: LidarScan) -> np.ndarray | None:
    if labels.point_labels is not None and len(labels.point_labels) != len(scan.points):
        raise Fault(
            "bad_labels", f"{len(labels.point_labels)} point labels for {len(scan.points)} points"
        )
    return labels.point_labels


def _hashes(points: np.ndarray) -> np.ndarray:
    """Hash each point (N, >=3) by the bits of x, y and z to a number: uint64 (N,)."""
    bits = np.ascontiguousarray(points[:, :3], np.float32).view(np.uint32).astype(np.uint64)
    # Odd constants of SplitMix64 (Steele et al., OOPSLA 2014); products wrap around.
    mixed = bits @ np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB], np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def visible_returns(scan: LidarScan, camera: Camera) -> Returns:
    """Return the returns in the image that the camera sees too, as a model is shown them."""
    return visible(project_returns(scan.points, scan.T_camera_lidar, camera, NEAREST_M), camera)


def surely_visible_returns(scan: LidarScan, camera: Camera) -> Returns:
    """Return those of ``visible_returns`` that are fit to be truth, see ``may_be_hidden``."""
    seen = visible_returns(scan, camera)
    kept = ~may_be_hidden(seen, scan)
    return Returns(*(column[kept] for column in seen))


def _sparse_map(returns: Returns, values: np.ndarray, unknown: float, camera: Camera) -> np.ndarray:
    """Render values (M,) of returns at their pixels; where several meet, the nearest wins."""
    rendered = np.full((camera.height, camera.width), unknown, values.dtype)
    last_wins = np.argsort(-returns.depth_m, kind="stable")
    row, column = ((at[last_wins] + 0.5).astype(np.intp) for at in (returns.v, returns.u))
    rendered[row, column] = values[last_wins]
    return rendered
