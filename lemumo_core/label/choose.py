"""Which frames to label next, and which frames are like a given one."""

from __future__ import annotations

import numpy as np

from lemumo_core.label.frame_table import FrameTable

DIVERSITY = 3.0
"""Doubt that counts for more takes the oddest frames, which teach little about others."""


def informativeness(scores: np.ndarray) -> np.ndarray:
    """Weigh the columns of ``SCORES`` against each other by their ranks.

    Args:
        scores: float (N, C), NaN where unknown.

    Returns:
        float64 (N,) in (0, 1], the mean over the known columns of the share of frames whose score
        is not larger; 1 where nothing is known.
    """
    shares = np.full(scores.shape, np.nan)
    for column, share in zip(scores.T, shares.T, strict=True):
        known = ~np.isnan(column)
        ordered = np.sort(column[known])
        share[known] = np.searchsorted(ordered, column[known], side="right") / max(known.sum(), 1)
    known = ~np.isnan(shares)
    total = np.where(known, shares, 0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), 1.0)


def choose(
    table: FrameTable, count: int, diversity: float = DIVERSITY
) -> tuple[list[int], np.ndarray]:
    """Choose frames to label next, one after another.

    Each is the one of largest informativeness times distance to the power of ``diversity``, the
    distance being that of its
    embedding from the nearest frame that is labelled or chosen: the greedy solution of k-centers
    (core-set selection, Sener and Savarese, arXiv 1708.00489) weighed by what the model is unsure
    of. Equal ones come in the order of the table.

    Args:
        table: the frames; labelled ones are not chosen.
        count: how many, at most.
        diversity: exponent of the distance; 0 looks at informativeness alone.

    Returns:
        Rows in the order in which they were chosen, and float64 (N,) the informativeness.
    """
    value = informativeness(table.scores)
    unit = _normalized(table.embeddings)
    distance = np.full(len(table), 2.0)
    for row in np.flatnonzero(table.labelled).tolist():
        np.minimum(distance, _distances(unit, unit[row]), out=distance)
    free = ~table.labelled
    chosen: list[int] = []
    for _ in range(min(count, int(free.sum()))):
        row = int(np.where(free, value * distance**diversity, -1.0).argmax())
        chosen.append(row)
        free[row] = False
        np.minimum(distance, _distances(unit, unit[row]), out=distance)
    return chosen, value


def similar(table: FrameTable, row: int, count: int, apart_ns: int) -> tuple[list[int], np.ndarray]:
    """Return the frames most like one by the cosine of their embeddings, best first.

    Args:
        table: the frames.
        row: of the one.
        count: how many, at most.
        apart_ns: frames of one camera and log are shown only if they are so far apart in time,
            from the one as from each other: those beside it show the same.

    Returns:
        Their rows, and float64 (N,) the cosines of all frames.
    """
    unit = _normalized(table.embeddings)
    cosines = 1 - _distances(unit, unit[row])
    logs = np.array([f"{d}\n{c}" for d, c in zip(table.data, table.camera_names, strict=True)])
    found = [row]
    for other in np.argsort(-cosines, kind="stable").tolist():
        if len(found) > count:
            break
        same = [i for i in found if logs[i] == logs[other]]
        apart = all(abs(table.stamps_ns[i] - table.stamps_ns[other]) >= apart_ns for i in same)
        if other != row and apart:
            found.append(other)
    return found[1:], cosines


def _normalized(embeddings: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit: np.ndarray = embeddings / np.maximum(length, 1e-12)
    return unit


def _distances(unit: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Return the cosine distances, float64 from 0 to 2, of rows from one, all of length 1."""
    return 1 - (unit @ one).astype(np.float64).clip(-1, 1)
