"""IoU of points by class and range."""

from __future__ import annotations

import numpy as np
import pytest

from lemumo_core.metrics.points import PointMetric, horizontal_range


def test_ranges_and_classes_are_counted_apart() -> None:
    metric, other = PointMetric("abc"), PointMetric("abc")
    true = np.array([0, 0, 1, 1, 255, 0], np.uint8)
    predicted = np.array([0, 1, 1, 255, 1, 0], np.uint8)
    points = np.array([[3.0, 4, 0], [5, 0, 0], [0, 9, 5], [15, 0, 0], [1, 1, 1], [100, 0, 0]])
    assert horizontal_range(points).tolist() == pytest.approx([5, 5, 9, 15, 2**0.5, 100])
    for one, part in ((metric, slice(0, 3)), (other, slice(3, 6))):
        one.add(predicted[part], true[part], horizontal_range(points)[part])
    metric.merge(other)
    result = metric.result()
    assert result["points"] == 5
    assert result["iou"] == pytest.approx({"a": 2 / 3, "b": 1 / 3})
    assert result["miou"] == pytest.approx(0.5)
    assert result["constant_miou"] == pytest.approx(3 / 5 / 2)  # "a" everywhere
    near = (1 / 2 + 1 / 2) / 2
    assert result["miou_by_range"] == pytest.approx({"0-10 m": near, "10-20 m": 0.0})
    assert result["iou_by_range"]["0-10 m"] == pytest.approx({"a": 0.5, "b": 0.5})
    assert result["constant_class"] == "a"
    assert result["constant_iou"] == pytest.approx({"a": 3 / 5, "b": 0.0})
    by_constant = {"0-10 m": 2 / 3 / 2, "10-20 m": 0.0}
    assert result["constant_miou_by_range"] == pytest.approx(by_constant)
    assert np.isnan(PointMetric("ab").result()["constant_miou"])
