"""AP by overlap against pycocotools, and values by hand."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from lemumo_core.metrics.detection_2d import Detection2dMetric, overlaps

CLASSES = ("person", "car", "bus")


def frames(seed: int, count: int = 12):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        n = rng.integers(0, 12)
        low = rng.uniform(0, 400, (n, 2))
        truth = np.hstack([low, low + rng.uniform(8, 120, (n, 2))])
        ids = rng.integers(0, 2, n)  # no bus at all
        copies = rng.integers(0, 3, n)
        boxes = np.repeat(truth, copies, 0) + rng.normal(0, 4, (copies.sum(), 4))
        found = np.repeat(ids, copies)
        wrong = rng.random(len(found)) < 0.15
        found = np.where(wrong, rng.integers(0, 3, len(found)), found)
        counts = rng.random(n) < 0.8
        yield boxes, rng.random(len(boxes)), found, truth, ids, counts


def test_is_pycocotools_with_ignored_objects() -> None:
    coco = pytest.importorskip("pycocotools.coco", reason="pip install pycocotools")
    from pycocotools.cocoeval import COCOeval

    data = list(frames(0))
    metric = Detection2dMetric(CLASSES)
    annotations, results = [], []
    for image, (boxes, scores, found, truth, ids, counts) in enumerate(data):
        metric.add(boxes, scores, found, truth, ids, counts)
        for b, i, c in zip(truth, ids, counts, strict=True):
            wh = b[2:] - b[:2]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(i),
                    "bbox": [*b[:2], *wh],
                    "area": wh.prod(),
                    "iscrowd": 0,
                    "ignore": int(not c),
                }
            )
        for b, s, i in zip(boxes, scores, found, strict=True):
            row = {"image_id": image, "category_id": int(i), "score": s}
            results.append({**row, "bbox": [*b[:2], *(b[2:] - b[:2])]})
    truth = coco.COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": i} for i in range(len(data))],
        "categories": [{"id": i, "name": n} for i, n in enumerate(CLASSES)],
        "annotations": annotations,
    }

    class WithIgnored(COCOeval):
        """COCOeval overwrites ``ignore`` by ``iscrowd``; objects here may be ignored alone."""

        def _prepare(self):
            super()._prepare()
            flags = {a["id"]: a["ignore_here"] for a in annotations}
            for group in self._gts.values():
                for one in group:
                    one["ignore"] = flags[one["id"]]

    for a in annotations:
        a["ignore_here"] = a["ignore"]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        oracle = WithIgnored(truth, truth.loadRes(results), "bbox")
        oracle.evaluate()
        oracle.accumulate()
    precision = oracle.eval["precision"][:, :, :, 0, 2]  # overlap, recall, class
    expected = np.where(precision > -1, precision, np.nan).mean(axis=1).T
    np.testing.assert_allclose(metric.ap(), expected, atol=1e-9)
    assert metric.ap50() == pytest.approx(np.nanmean(expected[:, 0]))
    assert metric.ap50_95() == pytest.approx(np.nanmean(expected))
    assert 0.1 < metric.ap50_95() < metric.ap50() < 0.95


def test_perfect_none_and_half() -> None:
    truth = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    ids = np.array([0, 1])
    perfect, empty, half = (Detection2dMetric(CLASSES) for _ in range(3))
    perfect.add(truth, np.ones(2), ids, truth, ids)
    empty.add(np.empty((0, 4)), np.empty(0), np.empty(0, int), truth, ids)
    half.add(
        truth + np.array([2.5, 0, 2.5, 0]), np.ones(2), ids, truth, ids
    )  # IoU 7.5 / 12.5 = 0.6
    assert (perfect.ap50(), perfect.ap50_95()) == (1.0, 1.0)
    assert (empty.ap50(), empty.ap50_95()) == (0.0, 0.0)
    assert (half.ap50(), half.ap50_95()) == pytest.approx((1.0, 0.3))


def test_parts_merge() -> None:
    data = list(frames(1))
    whole, left, right = (Detection2dMetric(CLASSES) for _ in range(3))
    for i, one in enumerate(data):
        whole.add(*one)
        (left if i < 5 else right).add(*one)
    left.merge(right)
    np.testing.assert_array_equal(left.ap(), whole.ap())


def test_empty_boxes_overlap_nothing() -> None:
    assert overlaps(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [[0.0]]
