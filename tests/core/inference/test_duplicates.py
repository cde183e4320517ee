"""One detection of an object stays, and neighbours are left in peace."""

from __future__ import annotations

import numpy as np
import pytest

from lemumo_core.geometry.boxes import box_rotation
from lemumo_core.inference.duplicates import distinct

BUS = [3.0, 0.0, 20.0, 11.0, 2.5, 3.2, 0.4]


def moved(box: list[float], ahead_m: float, left_m: float) -> list[float]:
    """A box elsewhere, told along its own axes."""
    center = box[:3] + box_rotation(np.array(box[6]))[:, :2] @ [ahead_m, left_m]
    return [*center, *box[3:]]


@pytest.mark.parametrize(
    ("ahead_m", "left_m", "kept"),
    [
        (5.0, 0.0, False),
        (0.0, 1.2, False),
        (5.0, 1.2, False),
        (6.0, 0.0, True),
        (0.0, -1.5, True),
        (-6.0, 1.5, True),
    ],
)
def test_a_worse_box_stays_if_it_stands_beside(ahead_m: float, left_m: float, kept: bool) -> None:
    boxes = np.array([moved(BUS, ahead_m, left_m), BUS], np.float32)
    scores = np.array([0.4, 0.6], np.float32)
    assert distinct(boxes, scores, np.zeros(2, int)).tolist() == [kept, True]
    assert distinct(boxes, scores, np.arange(2)).all(), "kinds do not hide each other"


def test_what_is_hidden_hides_nothing() -> None:
    row = [moved(BUS, 4.0 * i, 0.0) for i in range(4)]
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    kept = distinct(np.array(row), scores, np.zeros(4, int))
    assert kept.tolist() == [True, False, True, False]


def test_of_equal_scores_the_first_stays_and_nothing_is_nothing() -> None:
    kept = distinct(np.array([BUS] * 3), np.full(3, 0.5), np.array([1, 1, 2]))
    assert kept.tolist() == [True, False, True]
    assert distinct(np.empty((0, 7)), np.empty(0), np.empty(0, int)).tolist() == []
