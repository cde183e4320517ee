"""Statistics of a source, to be looked at before anything is trained on it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from itertools import compress
from typing import Any

import numpy as np

from lemumo_core.data.sources import FrameSource, evenly_spaced
from lemumo_core.depth_projection import explain_empty_view, project_depth, project_returns
from lemumo_core.frame import UNLABELLED, Frame, Labels, LidarScan, companion_kind
from lemumo_core.progress import track
from lemumo_core.taxonomy import SEGMENTATION_CLASSES, Taxonomy

VISIBILITY_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
POINT_EDGES = (0, 1, 5, 10, 50, 100, 1000)
"""The last bin of points is open."""
Z_MIN_M = 1.0
NONE = "unlabelled"
LOOKED_AT = 4
"""Frames that are looked at for what all have in common."""


def statistics(source: FrameSource, classes: Taxonomy | None = None) -> dict[str, Any]:
    """Read a whole source once and count.

    Args:
        source: any.
        classes: of the model to train; by default the default ones.

    Returns:
        JSON values: ``source`` (as it describes itself); frames by ``cameras``, ``image_sizes``,
        ``companions`` and ``labels`` (which kinds they carry); ``boxes`` by class name;
        ``unknown_classes``: of these the names that the classes do not know, which are ignored in
        training and evaluation;
        ``pixels`` and ``points``: shares of the labelled ones by the source's own names;
        ``visibility`` and ``num_points``: histograms of boxes; min, median and max per frame of
        ``boxes_per_frame`` and ``depth_returns`` (pixels of the full image that a LiDAR return
        falls into, farther than 1 m); ``first_stamp_ns``, ``last_stamp_ns``;
        ``duplicate_stamps`` (of one camera) and ``duplicate_images``.
    """
    counts: dict[str, Counter[str]] = {
        name: Counter() for name in ("cameras", "image_sizes", "companions", "labels", "boxes")
    }
    labelled: dict[str, Counter[str]] = {"pixels": Counter(), "points": Counter()}
    visibility: list[np.ndarray] = []
    num_points: list[np.ndarray] = []
    boxes_per_frame: list[int] = []
    depth_returns: list[int] = []
    stamps: Counter[tuple[str, int]] = Counter()
    images: Counter[bytes] = Counter()
    for index in track(range(len(source)), "statistics"):
        frame = source[index]
        labels = frame.labels or Labels()
        counts["cameras"][frame.camera_name] += 1
        counts["image_sizes"][f"{frame.camera.width}x{frame.camera.height}"] += 1
        counts["companions"][_companion(frame)] += 1
        counts["labels"].update(k for k, v in vars(labels).items() if v is not None and len(v))
        counts["boxes"].update(labels.class_names)
        stamps[frame.camera_name, frame.stamp_ns] += 1
        if frame.image is not None:
            images[hashlib.blake2b(frame.image.data, digest_size=16).digest()] += 1
        if frame.labels is not None:
            boxes_per_frame.append(len(labels.class_names))
        visibility += [] if labels.visibility is None else [labels.visibility]
        num_points += [] if labels.num_points is None else [labels.num_points]
        for name, values in (("pixels", labels.label_map), ("points", labels.point_labels)):
            if values is not None:
                labelled[name].update(_by_name(values, labels.label_names))
        if isinstance(frame.companion, LidarScan):
            scan = frame.companion
            depth_m = project_depth(scan.points, scan.T_camera_lidar, frame.camera, Z_MIN_M)
            depth_returns.append(int(np.isfinite(depth_m).sum()))
    times = [stamp_ns for _, stamp_ns in stamps]
    classes = classes or Taxonomy()
    names = sorted(counts["boxes"])
    unknown = compress(names, classes.is_unknown(names))
    return {
        "source": source.describe(),
        **{name: dict(sorted(counter.items())) for name, counter in counts.items()},
        "unknown_classes": {name: counts["boxes"][name] for name in unknown},
        **{name: _shares(count) for name, count in labelled.items()},
        "visibility": _histogram(visibility, VISIBILITY_EDGES),
        "num_points": _histogram(num_points, (*POINT_EDGES, np.inf)),
        "boxes_per_frame": _range(boxes_per_frame),
        "depth_returns": _range(depth_returns),
        "first_stamp_ns": min(times),
        "last_stamp_ns": max(times),
        "duplicate_stamps": stamps.total() - len(stamps),
        "duplicate_images": images.total() - len(images),
    }


def empty_view(frame: Frame) -> str:
    """Explain why no return of a frame's LiDAR is in its image; '' where some are.

    The network takes such a frame as one of the camera alone (``preprocess.modalities_present``).
    """
    scan = frame.companion
    if frame.image is None or not isinstance(scan, LidarScan):
        return ""
    if len(project_returns(scan.points, scan.T_camera_lidar, frame.camera, Z_MIN_M).row):
        return ""
    return f"no LiDAR return is in view: {explain_empty_view(frame)}"


def empty_views(source: FrameSource) -> str:
    """Explain why frames spread over a source have no return in view; '' where any has some."""
    looked_at = evenly_spaced(len(source), LOOKED_AT)
    causes = [empty_view(source[i]) for i in looked_at]
    if not causes or not all(causes):
        return ""
    return f"{len(looked_at)} of {len(looked_at)} frames that were looked at: {causes[0]}"


def report(found: dict[str, Any]) -> str:
    """Format statistics for a terminal."""
    seconds = (found["last_stamp_ns"] - found["first_stamp_ns"]) / 1e9
    lines = [
        f"frames            {found['source']['frames']}, {seconds:.1f} s from first to last stamp"
    ]
    for name, values in found.items():
        if isinstance(values, dict) and values and name != "source":
            text = "  ".join(
                f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}"
                for key, value in values.items()
            )
            lines.append(f"{name:17s} {text}")
    lines += [f"{name:17s} {found[name]}" for name in ("duplicate_stamps", "duplicate_images")]
    return "\n".join(lines)


def _companion(frame: Frame) -> str:
    return companion_kind(frame.companion) if frame.companion else "none"


def _by_name(ids: np.ndarray, names: Sequence[str]) -> dict[str, int]:
    """Count label ids by their names; those without a name by their number."""
    named = dict(enumerate(names or SEGMENTATION_CLASSES)) | {UNLABELLED: NONE}
    count = np.bincount(ids.ravel(), minlength=256)
    return {named.get(i) or str(i): int(count[i]) for i in np.flatnonzero(count).tolist()}


def _shares(count: Counter[str]) -> dict[str, float]:
    """Return the share of each name among labelled elements, and that of unlabelled ones."""
    if not count:
        return {}
    labelled = max(count.total() - count[NONE], 1)
    shares = {name: number / labelled for name, number in count.items() if name != NONE}
    return {**shares, NONE: count[NONE] / count.total()}


def _histogram(values: list[np.ndarray], edges: tuple[float, ...]) -> dict[str, int]:
    """Count values by lower edge; NaN (unknown) on its own."""
    if not values:
        return {}
    joined = np.concatenate(values).astype(np.float64)
    count, _ = np.histogram(joined[~np.isnan(joined)], edges)
    bins = {f">={edge:g}": int(n) for edge, n in zip(edges, count, strict=False)}
    unknown = int(np.isnan(joined).sum())
    return {**bins, "unknown": unknown} if unknown else bins


def _range(values: list[int]) -> dict[str, float]:
    if not values:
        return {}
    return {"min": min(values), "median": float(np.median(values)), "max": max(values)}
