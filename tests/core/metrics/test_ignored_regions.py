"""What lies in a region to ignore is not evaluated: COCO's and KITTI's rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lemumo_core.frame import Detections, Frame, Labels, Perception
from lemumo_core.geometry.boxes import image_bounds
from lemumo_core.geometry.camera import Camera
from lemumo_core.metrics.detection_2d import OVERLAPS, Detection2dMetric
from lemumo_core.metrics.metric_file import load_metrics, save_metrics
from lemumo_core.metrics.objects import share_ignored
from lemumo_core.metrics.perception import PerceptionMetric
from lemumo_core.taxonomy import Taxonomy

CLASSES = ("car", "pedestrian")
TAXONOMY = Taxonomy(CLASSES, ("road",))
CAMERA = Camera(320, 192, 230.0, 230.0, 159.5, 95.5)
CROWD = np.array([[200.0, 40, 300, 120]])


def test_share_of_a_box_in_a_region():
    boxes = np.array([[210, 50, 230, 70], [190, 50, 210, 70], [0, 0, 9, 9], [250, 60, 250, 70]])
    assert share_ignored(boxes, CROWD).tolist() == [1.0, 0.5, 0.0, 0.0]
    assert share_ignored(boxes, np.zeros((0, 4))).tolist() == [0.0] * 4
    two = np.array([[200, 40, 215, 120], [215, 40, 300, 120]])
    assert share_ignored(boxes[:1], two).tolist() == [0.75]  # the largest of one region


def test_2d_detections_in_a_crowd_are_what_cocos_tool_makes_of_them():
    """pycocotools where it is installed, else its rule, by hand."""
    truth, ids = np.array([[10.0, 10, 60, 60], [220, 50, 240, 80]]), np.array([0, 0])
    boxes = np.array(
        [[10.0, 10, 60, 60], [205, 45, 225, 65], [185, 50, 215, 70], [220, 50, 240, 80]]
    )
    scores = np.array([0.6, 0.9, 0.8, 0.5])
    metric = Detection2dMetric(CLASSES)
    metric.add(boxes, scores, np.zeros(4, int), truth, ids, regions=CROWD)
    # The second detection lies wholly in the crowd; half of the third does: false from 0.55 on.
    expected = [1.0 if overlap <= 0.5 else _ap([False, True, True]) for overlap in OVERLAPS]
    np.testing.assert_allclose(metric.ap()[0], expected)
    pycocotools = pytest.importorskip("pycocotools.coco", reason="needs pycocotools")
    from pycocotools.cocoeval import COCOeval

    coco = pycocotools.COCO()
    rows = [(box, 0) for box in truth] + [(CROWD[0], 1)]
    coco.dataset = {
        "images": [{"id": 1}],
        "categories": [{"id": 1}],
        "annotations": [
            {
                **{"id": i + 1, "image_id": 1, "category_id": 1, "iscrowd": crowd},
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                "area": float((box[2] - box[0]) * (box[3] - box[1])),
            }
            for i, (box, crowd) in enumerate(rows)
        ],
    }
    coco.createIndex()
    found = [
        [1, b[0], b[1], b[2] - b[0], b[3] - b[1], s, 1] for b, s in zip(boxes, scores, strict=True)
    ]
    oracle = COCOeval(coco, coco.loadRes(np.array(found)), "bbox")
    oracle.evaluate()
    oracle.accumulate()
    np.testing.assert_allclose(
        metric.ap()[0].mean(), oracle.eval["precision"][:, :, 0, 0, -1].mean()
    )


def _ap(hits: list[bool]) -> float:
    """COCO's AP at 101 recalls of detections, best first, that find all objects."""
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    recall = found / found[-1]
    points = [precision[recall >= r - 1e-9].max() for r in np.linspace(0, 1, 101)]
    return float(np.mean(points))


def frame_and_perception(ignore) -> tuple[Frame, Perception]:
    """A found car, and a false one with a better score whose bounds lie in the crowd."""
    true = np.array([[-4.0, 1.0, 15, 4, 2, 1.5, 0.2]], np.float32)
    false = np.array([[6.5, 0.3, 20, 4, 2, 1.5, 0.2]], np.float32)
    labels = Labels(true, image_bounds(true, CAMERA), ("car",), ignore=ignore)
    boxes = np.concatenate([false, true])
    bounds = image_bounds(boxes, CAMERA)
    assert share_ignored(bounds, CROWD).tolist() == [1.0, 0.0]
    found = Detections(boxes, bounds, np.array([0.9, 0.5], np.float32), np.array([0, 0]))
    size = CAMERA.height, CAMERA.width
    image = np.zeros((*size, 3), np.uint8)
    maps = np.ones(size, np.float32), np.ones(size, np.float32), np.zeros(size, np.uint8)
    perception = Perception(1, "front", found, *maps, CAMERA, ("camera",))
    return Frame(1, "front", CAMERA, image, None, labels), perception


@pytest.mark.parametrize("ignore", [CROWD.astype(np.float32), None])
def test_3d_detections_in_a_region_are_not_false(ignore):
    frame, perception = frame_and_perception(ignore)
    metric = PerceptionMetric(TAXONOMY)
    summary = metric.add(frame, perception)
    right = ignore is not None
    assert (summary.bev_map == pytest.approx(1.0)) == right
    assert (summary.map_xy == pytest.approx(1.0)) == right
    assert metric.result()["unknown_classes"] == {}


def test_2d_frames_through_the_whole_metric():
    frame, perception = frame_and_perception(CROWD.astype(np.float32))
    only_2d = replace(frame, labels=replace(frame.labels, boxes_3d=None))
    assert PerceptionMetric(TAXONOMY).add(only_2d, perception).ap50 == 1.0
    without = replace(only_2d, labels=replace(only_2d.labels, ignore=None))
    assert PerceptionMetric(TAXONOMY).add(without, perception).ap50 == pytest.approx(0.5)


def test_labels_of_unknown_classes_are_counted_and_neither_missed_nor_false(tmp_path):
    frame, perception = frame_and_perception(None)
    boxes = perception.detections.boxes_3d[::-1].copy()  # the second one under an unknown name
    labels = Labels(boxes, image_bounds(boxes, CAMERA), ("car", "vehiculo"))
    metric = PerceptionMetric(TAXONOMY)
    summary = metric.add(replace(frame, labels=labels), perception)
    assert summary.bev_map == pytest.approx(1.0)
    metric.add(replace(frame, labels=labels), perception)
    assert metric.result()["unknown_classes"] == {"vehiculo": 2}
    save_metrics(tmp_path / "metrics.npz", {"fused": metric})
    found = load_metrics(tmp_path / "metrics.npz", PerceptionMetric(TAXONOMY))["fused"]
    assert found.result() == metric.result()
    other = PerceptionMetric(TAXONOMY)
    other.merge(found)
    other.merge(metric)
    assert other.unknown_classes == {"vehiculo": 4}
