"""How far two backends are apart on the same samples, and whether that is near enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields

import numpy as np

from lemumo_core.evaluation.modalities import SCORE_THRESHOLD, metric_for
from lemumo_core.export.parity_inputs import Sample
from lemumo_core.faults import Fault
from lemumo_core.inference.manifest import Manifest
from lemumo_core.inference.results import perception_of
from lemumo_core.metrics.perception import Summary
from lemumo_core.preprocess import network_view

Arrays = Mapping[str, np.ndarray]
NO_TRUTH = np.nan
DEPTH_GAP = 1e-3
"""Relative difference of depth from which on a pixel counts as another one."""
WORST = Summary(0.0, 0.0, np.inf, NO_TRUTH, NO_TRUTH, 0.0, 0.0)


@dataclass(frozen=True)
class Limits:
    """Largest values that pass; None: reported alone. Meanings as in ``Parity``."""

    raw: float | None = None
    depth: float | None = None
    depth_pixels: float | None = None
    depth_confidence: float | None = None
    boxes: float | None = None
    scores: float | None = None
    unmatched: float | None = 0.0
    mean_depth: float | None = None
    labels: float | None = None
    bev_map_loss: float | None = None
    depth_mae_loss: float | None = None
    miou_loss: float | None = None
    center: float = 1e-3
    """Two detections of a class are the same if their centres are at most this share of their
    distance apart (or of one metre)."""


EXACT = Limits(
    raw=1e-4,
    depth_pixels=1e-4,
    depth_confidence=1e-4,
    boxes=1e-3,
    scores=1e-4,
    mean_depth=1e-5,
    labels=1e-3,
)
"""For float32: equal up to the order of summation. Where two hypotheses of refined depth, 3 and
70 m say, are about equally good, a logit that differs by 1e-6 moves that pixel's depth by 2e-3:
hence the limits of the mean and of the share of pixels, and none of the worst one."""
REDUCED = Limits(
    unmatched=0.02,
    mean_depth=0.02,
    labels=0.03,
    bev_map_loss=0.01,
    depth_mae_loss=0.02,
    miou_loss=0.01,
    center=0.05,
)
"""For a lower precision: what the vehicle would notice."""


@dataclass
class Parity:
    """Differences of a candidate from a reference, the worst of all samples unless said otherwise.

    Attributes:
        raw: of the heads' outputs before decoding, relative: |difference| / max(1, |reference|).
        depth, depth_confidence, boxes, scores: of the decoded outputs, relative; the latter two
            between matched detections.
        depth_pixels: share of pixels whose depth differs by more than ``DEPTH_GAP``, relative, all
            samples.
        unmatched: share of all detections without a counterpart of their class, one to one.
        mean_depth: mean |difference| of depth over mean depth, all samples.
        labels: share of label pixels that differ, all samples.
        bev_map_loss, miou_loss: how much smaller the candidate's BEV mAP and mIoU are; NaN without
            truth.
        depth_mae_loss: how much larger its error against the true depth is, relative; NaN without
            truth.
        samples, detections: how many were compared.
        task_metrics: values of reference and candidate by name, of those that have truth.
    """

    raw: float = 0.0
    depth: float = 0.0
    depth_pixels: float = 0.0
    depth_confidence: float = 0.0
    boxes: float = 0.0
    scores: float = 0.0
    unmatched: float = 0.0
    mean_depth: float = 0.0
    labels: float = 0.0
    bev_map_loss: float = NO_TRUTH
    depth_mae_loss: float = NO_TRUTH
    miou_loss: float = NO_TRUTH
    samples: int = 0
    detections: int = 0
    worst_sample: dict[str, int] = field(default_factory=dict)
    task_metrics: dict[str, tuple[float, float]] = field(default_factory=dict)

    def failures(self, limits: Limits) -> list[str]:
        """Measures outside their limits, with both numbers. NaN fails, but for missing truth."""
        failed = []
        for name in MEASURES:
            value, limit = getattr(self, name), getattr(limits, name)
            unknown = name.endswith("_loss") and np.isnan(value)
            if limit is not None and not unknown and not value <= limit:
                failed.append(f"{name} {value:.3g} is above {limit:g}")
        return failed


MEASURES = tuple(f.name for f in fields(Limits) if f.name != "center")


def compare(
    samples: Sequence[Sample],
    reference: Sequence[Arrays],
    candidate: Sequence[Arrays],
    limits: Limits,
    least_score: float = 0.0,
) -> Parity:
    """Compare two backends' outputs.

    Args:
        samples: what went in.
        reference: the outputs by name, one set per sample; names that begin with ``raw_`` are
            heads before decoding.
        candidate: likewise.
        limits: its ``center`` decides which detections are the same.
        least_score: detections below it do not count.
    """
    parity = Parity(samples=len(samples))
    sums = dict.fromkeys(("depth", "depth_gap", "depth_pixels", "labels", "unmatched"), 0.0)
    for index, (a, b) in enumerate(zip(reference, candidate, strict=True)):
        gaps = {name: relative_gap(b[name], a[name]) for name in ("depth", "depth_confidence")}
        raw = [
            relative_gap(b[name], a[name])
            for name in a.keys() & b.keys()
            if name.startswith("raw_")
        ]
        gaps["raw"] = float(np.max(raw)) if raw else 0.0
        matches, unmatched, count = match_detections(a, b, limits.center, least_score)
        sums["unmatched"] += unmatched
        parity.detections += count
        i, j = np.array(matches, int).reshape(-1, 2).T
        gaps["boxes"] = float(box_gap(b["boxes"][0, j], a["boxes"][0, i]).max(initial=0.0))
        gaps["scores"] = float(np.abs(b["scores"][0, j] - a["scores"][0, i]).max(initial=0.0))
        for name, gap in gaps.items():
            if not gap <= getattr(parity, name):  # unlike max, keeps NaN
                setattr(parity, name, gap)
                parity.worst_sample[name] = index
        sums["depth"] += float(np.abs(a["depth"]).mean())
        sums["depth_gap"] += float(np.abs(b["depth"] - a["depth"]).mean())
        near = relative_gaps(b["depth"], a["depth"]) <= DEPTH_GAP
        sums["depth_pixels"] += 1.0 - float(near.mean())  # not a number is not near
        sums["labels"] += float((a["labels"] != b["labels"]).mean())
    parity.unmatched = sums["unmatched"] / max(1, parity.detections)
    parity.mean_depth = sums["depth_gap"] / max(sums["depth"], 1e-9)
    parity.depth_pixels = sums["depth_pixels"] / max(1, len(samples))
    parity.labels = sums["labels"] / max(1, len(samples))
    return parity


def add_truth(
    parity: Parity,
    samples: Sequence[Sample],
    reference: Sequence[Arrays],
    candidate: Sequence[Arrays],
    manifest: Manifest,
) -> None:
    """Add to a comparison what the candidate loses against the truth.

    Args:
        parity: changed in place.
        samples: as for ``compare``.
        reference: likewise.
        candidate: likewise.
        manifest: of the model.
    """
    before, after = score(samples, reference, manifest), score(samples, candidate, manifest)
    for name, value in asdict(before).items():
        if not np.isnan(value):
            parity.task_metrics[name] = (value, getattr(after, name))
    parity.bev_map_loss = before.bev_map - after.bev_map
    parity.depth_mae_loss = after.depth_mae_m / max(before.depth_mae_m, 1e-9) - 1.0
    parity.miou_loss = before.miou - after.miou


def score(samples: Sequence[Sample], outputs: Sequence[Arrays], manifest: Manifest) -> Summary:
    """Return the task metrics over samples that have ground truth.

    For outputs that are not finite they are the worst possible.
    """
    metric = metric_for(manifest)
    for sample, out in zip(samples, outputs, strict=True):
        if sample.frame is not None:
            first = {name: array[0] for name, array in out.items() if not name.startswith("raw_")}
            view = network_view(sample.frame.camera, manifest.input)
            try:
                perception = perception_of(first, sample.frame, view, manifest, SCORE_THRESHOLD)
            except Fault:
                return WORST
            metric.add(sample.frame, perception)
    return metric.summary()


def match_detections(
    reference: Arrays, candidate: Arrays, center: float, least_score: float
) -> tuple[list[tuple[int, int]], int, int]:
    """Pair the detections of two outputs as sets, since near-tied scores may change places.

    One to one and best score first, each takes, of the free ones of its class whose centres are
    within ``center`` (see ``Limits``), the most similar box. A detection near the last score that
    still made the top K need not have a counterpart: which of them makes it is a matter of
    rounding.

    Returns:
        Pairs of rows, the number of detections on either side that should have a counterpart and
        have none, and how many should.
    """
    a, b = reference, candidate
    pairs: list[tuple[int, int]] = []
    free = b["scores"][0] > 0.0
    for i in range(len(a["scores"][0])):
        at = _centers(a["boxes"][0, i])
        apart = np.linalg.norm(_centers(b["boxes"][0]) - at, axis=1)
        near = apart <= center * max(1.0, float(np.linalg.norm(at)))
        usable = free & near & (b["class_ids"][0] == a["class_ids"][0, i])
        if usable.any():
            gaps = box_gap(b["boxes"][0, usable], a["boxes"][0, i])
            j = int(np.flatnonzero(usable)[np.argmin(gaps)])
            free[j] = False
            pairs.append((i, j))
    unmatched = count = 0
    for side, (out, other) in enumerate(((a, b), (b, a))):
        scores = out["scores"][0]
        margin = np.abs(np.sort(scores)[::-1] - np.sort(other["scores"][0])[::-1]).max()
        due = np.flatnonzero((scores >= least_score) & (scores > scores.min() + 2 * margin))
        paired = {pair[side] for pair in pairs}
        unmatched += sum(int(i) not in paired for i in due)
        count += len(due)
    pairs = [(i, j) for i, j in pairs if a["scores"][0, i] >= least_score]
    return pairs, unmatched, count


def _centers(boxes: np.ndarray) -> np.ndarray:
    """Return the centres of boxes (..., 7), metres, or of 2D boxes (..., 4), pixels."""
    if boxes.shape[-1] == 7:
        return boxes[..., :3]
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def box_gap(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the largest |difference| / max(1, |expected|) of each box.

    Boxes are (..., 7), with yaw the short way round, or 2D (..., 4).
    """
    difference = np.abs(got - expected)
    turn = difference[..., 6:] % (2 * np.pi)
    difference[..., 6:] = np.minimum(turn, 2 * np.pi - turn)
    gaps: np.ndarray = (difference / np.maximum(1.0, np.abs(expected))).max(axis=-1)
    return gaps


def relative_gap(got: np.ndarray, expected: np.ndarray) -> float:
    """Largest of ``relative_gaps``; NaN if either holds one."""
    return float(relative_gaps(got, expected).max())


def relative_gaps(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """|difference| / max(1, |expected|) of each element."""
    gaps: np.ndarray = np.abs(got - expected) / np.maximum(1.0, np.abs(expected))
    return gaps
