"""Which objects count as found, and which boxes as false."""

from __future__ import annotations

import numpy as np

from benchmarks.boxes import Count, count
from lemumo_core.frame import Detections, Labels
from lemumo_core.taxonomy import Taxonomy


def boxes(*places_m: tuple[float, float]) -> np.ndarray:
    return np.array([(x, 0, z, 4, 2, 1.5, 0) for x, z in places_m], np.float32).reshape(-1, 7)


def test_objects_are_found_once_and_only_those_that_count_are_asked_for() -> None:
    labels = Labels(
        boxes_3d=boxes((0, 10), (1, 10), (0, 30), (5, 20), (0, 60), (9, 15)),
        class_names=("car", "Van", "pedestrian", "car", "car", "barrier"),
        num_points=np.array([9, -1, 5, 4, 99, 50], np.int32),
    )
    found = boxes((0.2, 10), (0.3, 10.5), (0.1, 10), (1.9, 30), (5, 20.5), (9, 15), (0, 55))
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], np.float32)
    detections = Detections(found, np.zeros((7, 4), np.float32), scores, np.zeros(7, np.int64))
    # Two cars and a pedestrian count; the third box on the two cars is no false one, the barrier
    # is, and nothing beyond the reach counts.
    assert count(detections, labels, Taxonomy(), 0.2) == Count(3, 3, 1)
    assert count(detections, labels, Taxonomy(), 0.65) == Count(2, 3, 0)
    assert count(detections, labels, Taxonomy(), 0.95) == Count(0, 3, 0)
