"""Greedy matching and accumulation over frames, shared by the detection metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

IGNORED, FALSE, TRUE = -1, 0, 1
"""Outcomes of a detection: it counts neither way, or is a false or a true positive."""


class Counts(NamedTuple):
    """Numbers of a class at one threshold of the score.

    Attributes:
        objects: that count.
        found: of them by a detection of at least this score.
        false: detections of at least this score that found none.
    """

    objects: int
    found: int
    false: int


class Accumulator:
    """Rows gathered over frames. Picklable; ranks and replays merge theirs.

    Args:
        truths: shape of the counts of objects, by class id and what else the metric counts by.
        settings: what two accumulators must share to be merged.
    """

    def __init__(self, truths: tuple[int, ...], **settings: Any):
        self._settings = settings
        self._rows: list[tuple[np.ndarray, ...]] = []
        self._truths = np.zeros(truths, np.int64)

    def merge(self, other: Accumulator) -> None:
        """Add the frames of another accumulator. The order matters only to equal scores.

        Raises:
            ValueError: it is of another kind or has other settings.
        """
        if type(other) is not type(self) or other._settings != self._settings:
            raise ValueError(
                f"{type(other).__name__} with {other._settings} cannot be merged into "
                f"{type(self).__name__} with {self._settings}"
            )
        self._rows += other._rows
        self._truths = self._truths + other._truths

    def state(self) -> dict[str, np.ndarray]:
        """Return everything gathered as plain arrays; without frames there are no columns."""
        columns = [np.concatenate(column) for column in zip(*self._rows, strict=True)]
        return {"truths": self._truths, **{str(i): column for i, column in enumerate(columns)}}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Restore what ``state`` returned.

        Raises:
            ValueError: that was of other settings.
        """
        if state["truths"].shape != self._truths.shape:
            raise ValueError(f"the state is that of a {type(self).__name__} with other settings")
        self._truths = state["truths"]
        columns = tuple(state[str(i)] for i in range(len(state) - 1))
        self._rows = [columns] if columns else []

    def _count(self, class_ids: np.ndarray, *rest: np.ndarray) -> None:
        """Count objects; ids that are none of the classes are left out."""
        known = (class_ids >= 0) & (class_ids < len(self._truths))
        np.add.at(self._truths, tuple(index[known] for index in (class_ids, *rest)), 1)

    def _best_first(self) -> list[np.ndarray]:
        """Return the columns over all frames, sorted by falling score (the first column).

        Raises:
            ValueError: no frame was added.
        """
        if not self._rows:
            raise ValueError(f"{type(self).__name__} has seen no frame")
        columns = [np.concatenate(column) for column in zip(*self._rows, strict=True)]
        order = np.argsort(-columns[0], kind="stable")
        return [column[order] for column in columns]


def tally(
    classes: Sequence[str], objects: np.ndarray, class_ids: np.ndarray, outcomes: np.ndarray
) -> dict[str, Counts]:
    """Count by class.

    Args:
        classes: names by id.
        objects: int (classes,), those that count.
        class_ids: int (N,) of detections.
        outcomes: of these, int (N,).
    """
    found, false = (
        np.bincount(class_ids[outcomes == outcome], minlength=len(classes))
        for outcome in (TRUE, FALSE)
    )
    return {
        name: Counts(int(objects[i]), int(found[i]), int(false[i]))
        for i, name in enumerate(classes)
    }


def by_score(
    boxes: np.ndarray, scores: np.ndarray, class_ids: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort the detections of one image by falling score, equal ones in the order given.

    Args:
        boxes: (K, width).
        scores: (K,).
        class_ids: (K,).
        width: numbers of a box.

    Raises:
        ValueError: shapes that do not fit, or values that are not finite.
    """
    boxes, scores = np.asarray(boxes, np.float64), np.asarray(scores, np.float64)
    class_ids = np.asarray(class_ids)
    if boxes.shape != (len(scores), width) or scores.shape != class_ids.shape:
        raise ValueError(
            f"detections have boxes {boxes.shape}, scores {scores.shape} and class ids "
            f"{class_ids.shape}; expected (K, {width}), (K,) and (K,)"
        )
    if not np.isfinite(boxes).all() or not np.isfinite(scores).all():
        raise ValueError("boxes or scores of detections hold NaN or infinity")
    order = np.argsort(-scores, kind="stable")
    return boxes[order], scores[order], class_ids[order]


def in_score_order(flags: np.ndarray | None, scores: np.ndarray) -> np.ndarray:
    """Bring flags of detections, bool (K,), into the order of ``by_score``; None: all False."""
    if flags is None:
        return np.zeros(len(scores), bool)
    ordered: np.ndarray = flags[np.argsort(-np.asarray(scores, np.float64), kind="stable")]
    return ordered


def match(cost: np.ndarray, allowed: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Match each detection in turn to the cheapest object that is still free.

    An object that does not count is given only where none that counts is free.

    Args:
        cost: (K, G) of detections, best first, and objects.
        allowed: bool (K, G), pairs that may match.
        counts: bool (G,).

    Returns:
        int (K,), the object of each detection, -1 for none.
    """
    cost = np.where(allowed, cost, np.inf)
    matched = np.full(len(cost), -1)
    for k in np.flatnonzero(allowed.any(axis=1)):
        for group in (counts, ~counts):
            candidates = np.where(group, cost[k], np.inf)
            best = candidates.argmin()
            if candidates[best] < np.inf:
                matched[k] = best
                cost[:, best] = np.inf
                break
    return matched
