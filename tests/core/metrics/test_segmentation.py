"""IoU against sets of pixels, and values by hand."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from lemumo_core.metrics.segmentation import SegmentationMetric

CLASSES = ("road", "car", "sky", "pole")


def test_is_iou_of_sets_over_all_frames() -> None:
    rng = np.random.default_rng(0)
    true = rng.choice([0, 1, 2, 255], (3, 9, 11)).astype(np.uint8)  # no pole in the truth
    predicted = np.where(rng.random(true.shape) < 0.6, true, rng.integers(0, 4, true.shape))
    predicted = predicted.astype(np.uint8)
    predicted[0, :2] = 255
    metric, other = SegmentationMetric(CLASSES), SegmentationMetric(CLASSES)
    for p, t in zip(predicted[:2], true[:2], strict=True):
        metric.add(p, t)
    other.add(predicted[2], true[2])
    metric.merge(pickle.loads(pickle.dumps(other)))
    labelled = {tuple(i) for i in np.argwhere(true != 255)}
    expected = {}
    for i, name in enumerate(CLASSES[:3]):
        a = {tuple(j) for j in np.argwhere(true == i)}
        b = {tuple(j) for j in np.argwhere(predicted == i)} & labelled
        expected[name] = len(a & b) / len(a | b)
    assert metric.iou() == pytest.approx(expected)
    assert metric.miou() == pytest.approx(np.mean(list(expected.values())))


def test_perfect_wrong_and_unlabelled() -> None:
    true = np.array([[0, 1, 255]], np.uint8)
    perfect, wrong, none = (SegmentationMetric(CLASSES) for _ in range(3))
    perfect.add(np.array([[0, 1, 2]], np.uint8), true)
    wrong.add(np.array([[1, 255, 2]], np.uint8), true)
    none.add(true, np.full_like(true, 255))
    assert perfect.miou() == 1.0 and wrong.miou() == 0.0 and np.isnan(none.miou())


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="nearest"):
        SegmentationMetric(CLASSES).add(np.zeros((2, 2), int), np.zeros((1, 2), int))
    for predicted, true in ((7, 0), (0, 7), (-1, 0)):
        with pytest.raises(ValueError, match="run from"):
            SegmentationMetric(CLASSES).add(np.full((1, 1), predicted), np.full((1, 1), true))
    with pytest.raises(ValueError, match="merge"):
        SegmentationMetric(CLASSES).merge(SegmentationMetric(("road",)))
