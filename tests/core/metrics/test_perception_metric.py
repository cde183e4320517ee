"""All metrics of frames at once: perfect, empty and shifted models, and truth in the right view."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, replace

import numpy as np
import pytest

from lemumo_core.data.sources.registry import open_source
from lemumo_core.faults import Fault
from lemumo_core.frame import UNLABELLED, Detections, Frame, Labels, Perception
from lemumo_core.geometry.boxes import image_bounds
from lemumo_core.geometry.camera import Camera
from lemumo_core.metrics.objects import Objects
from lemumo_core.metrics.perception import PerceptionMetric
from lemumo_core.preprocess import InputSpec, network_view
from lemumo_core.taxonomy import DETECTION_CLASSES, SEGMENTATION_CLASSES, Taxonomy

CAMERA = Camera(160, 96, 117.0, 118.0, 79.0, 46.5)
SEGMENTATION = tuple(SEGMENTATION_CLASSES)
CAR, PEDESTRIAN = DETECTION_CLASSES.index("car"), DETECTION_CLASSES.index("pedestrian")


def scene() -> Frame:
    """Cars and pedestrians on a lawn, each 8 m and more from others of its class; no two at the
    same place of the image plane."""
    boxes = []
    for z in (12.0, 20.5, 30.0, 45.0, 60.0, 75.0):
        left, right = (-4.0, 4.0) if z < 15 else (-8.0, 0.0)
        boxes += [[x + z / 100, 1.0, z, 4.0, 2.0, 1.5, 0.3] for x in (left, right)]
    names = ("car", "pedestrian") * (len(boxes) // 2)
    v = np.arange(96)[:, None] + np.zeros((1, 160))
    depth_m = np.where(v > 50, 100.0 / np.maximum(v - 46, 1), np.nan).astype(np.float32)
    label_map = np.where(v > 50, SEGMENTATION.index("terrain"), UNLABELLED).astype(np.uint8)
    label_map[60:70, 40:60] = SEGMENTATION.index("car")
    labels = Labels(np.array(boxes, np.float32), None, names, None, None, label_map, None, depth_m)
    return Frame(1, "front", CAMERA, np.zeros((96, 160, 3), np.uint8), None, labels)


def detections(boxes, class_ids, scores=None) -> Detections:
    boxes = np.asarray(boxes, np.float32).reshape(-1, 7)
    scores = np.full(len(boxes), 0.9) if scores is None else scores
    bounds = image_bounds(boxes, CAMERA)
    return Detections(boxes, bounds, np.asarray(scores, np.float32), np.asarray(class_ids, int))


def output(frame: Frame, found: Detections, depth_m=None, labels=None, view=None) -> Perception:
    """A perception at the resolution of the image unless another view is given."""
    view = view or frame.camera
    shape = view.height, view.width
    depth_m = np.full(shape, 10.0, np.float32) if depth_m is None else depth_m
    labels = np.zeros(shape, np.uint8) if labels is None else labels
    parts = (depth_m, np.ones(shape, np.float32), labels)
    return Perception(1, "front", found, *parts, view, ("camera",))


def perfect(frame: Frame) -> Perception:
    truth = Objects.from_labels(frame.labels, Taxonomy())
    depth_m = np.nan_to_num(frame.labels.depth_m, nan=99.0)
    labels = np.where(frame.labels.label_map == UNLABELLED, 3, frame.labels.label_map)
    return output(frame, detections(truth.boxes_3d, truth.class_ids), depth_m, labels)


def metrics(*pairs, in_space=True) -> dict:
    metric = PerceptionMetric(Taxonomy(DETECTION_CLASSES, SEGMENTATION), in_space=in_space)
    for frame, perception in pairs:
        metric.add(frame, perception)
    return metric.result()


def test_a_perfect_model_scores_one() -> None:
    result = metrics((scene(), perfect(scene())))
    assert [result[key] for key in ("bev_map", "map_xy", "miou")] == pytest.approx([1.0] * 3)
    errors_m = result["depth_mae_m"], result["depth"]["rmse_m"]
    assert errors_m == pytest.approx((0.0, 0.0), abs=1e-5)  # read between pixels
    assert result["depth"]["delta"] == result["depth"]["coverage"] == 1.0
    found = result["detection"]
    assert found["objects"] == 12 and found["nds"] == pytest.approx(1.0)
    assert found["ate_m"] == found["ase"] == found["aoe_rad"] == 0.0
    assert list(found["classes"]) == list(found["kinds"]) == ["car", "pedestrian"]
    assert [band["objects"] for band in found["bands"].values()] == [2, 4, 6]
    assert all(band["bev_map"] == pytest.approx(1.0) for band in found["bands"].values())
    assert found["why_null"] is None and result["segmentation"]["classes"]["car"] == 1.0


def test_classes_of_a_kind_are_judged_together_and_apart() -> None:
    frame = scene()
    buses = ("bus",) * len(frame.labels.class_names)
    frame = replace(frame, labels=replace(frame.labels, class_names=buses))
    prediction = perfect(frame)
    prediction.detections.class_ids[:] = DETECTION_CLASSES.index("truck")
    found = metrics((frame, prediction))["detection"]
    assert found["bev_map"] == found["kinds"]["truck/bus"]["ap"] == pytest.approx(1.0)
    assert found["classes"]["bus"]["ap"] == 0.0 and "truck" not in found["classes"]


def test_a_perfect_model_scores_one_on_a_rendered_street() -> None:
    pairs = [(f, perfect(f)) for f in open_source("synthetic", frames=2, width=352, height=128)]
    result = metrics(*pairs)
    assert result["detection"]["objects"] > 3 and result["segmentation"]["pixels"] > 10_000
    scores = result["bev_map"], result["miou"], result["depth_mae_m"]
    assert scores == pytest.approx((1.0, 1.0, 0.0), abs=1e-5)


def test_an_empty_model_scores_zero_everywhere() -> None:
    frame = scene()
    nothing = output(frame, detections([], []), labels=np.full((96, 160), UNLABELLED, np.uint8))
    result = metrics((frame, nothing))
    assert result["bev_map"] == result["map_xy"] == result["miou"] == 0.0
    found = result["detection"]
    assert found["nds"] == 0.0 and found["ate_m"] is None
    assert "matches" in found["why_null"]
    for part in (*found["bands"].values(), *found["classes"].values()):
        assert part.get("bev_map", part.get("ap")) == 0.0


def test_boxes_three_metres_too_far_score_a_quarter() -> None:
    """They are within the last of the four limits only; in the image plane they are right."""
    frame = scene()
    moved = perfect(frame)
    moved.detections.boxes_3d[:, 2] += 3.0
    result = metrics((frame, moved))
    assert result["bev_map"] == pytest.approx(0.25) and result["map_xy"] == 1.0
    found = result["detection"]
    within = {"0.5 m": 0.0, "1 m": 0.0, "2 m": 0.0, "4 m": pytest.approx(1.0)}
    assert all(one["ap_within"] == within for one in found["classes"].values())
    assert all(band["bev_map"] == pytest.approx(0.25) for band in found["bands"].values())
    assert found["nds"] == pytest.approx(5 * 0.25 / 8) and found["ate_m"] is None


def test_depth_three_metres_too_far() -> None:
    frame = scene()
    result = metrics((frame, replace(perfect(frame), depth_m=frame.labels.depth_m + 3.0)))
    depth, true_m = result["depth"], frame.labels.depth_m[np.isfinite(frame.labels.depth_m)]
    true_m = true_m[true_m <= 80.0].astype(np.float64)
    assert depth["pixels"] == len(true_m)
    assert [depth["mae_m"], depth["rmse_m"]] == pytest.approx([3.0, 3.0])
    assert depth["abs_rel"] == pytest.approx((3.0 / true_m).mean(), rel=1e-6)
    near = true_m[true_m < 20]
    assert depth["bands"]["0-20 m"]["delta"] == pytest.approx((near > 12).mean())


@pytest.mark.parametrize("height", [48, 112])
def test_the_view_decides_what_is_asked(height) -> None:
    """A view that leaves out the top of the image, and one that is padded there: truth in it is
    looked up exactly, truth out of it does not count."""
    frame = scene()
    view = network_view(CAMERA, InputSpec(height, 160, "lidar", 2))
    top = height - 96  # rows of padding; negative: rows left out
    labels = np.full((height, 160), 3, np.uint8)
    depth_m = np.full((height, 160), np.nan, np.float32)
    labels[max(top, 0) :] = np.where(
        frame.labels.label_map == UNLABELLED, 3, frame.labels.label_map
    )[max(-top, 0) :]
    depth_m[max(top, 0) :] = frame.labels.depth_m[max(-top, 0) :]
    above = [0.0, -3.0, 10.0, 2.0, 2.0, 2.0, 0.0]  # centre on row 11
    boxes = np.vstack([frame.labels.boxes_3d, [above]]).astype(np.float32)
    names = (*frame.labels.class_names, "car")
    frame = replace(frame, labels=replace(frame.labels, boxes_3d=boxes, class_names=names))
    found = detections(boxes[:-1], [CAR, PEDESTRIAN] * 6)
    result = metrics((frame, output(frame, found, np.nan_to_num(depth_m, nan=1.0), labels, view)))
    assert result["detection"]["objects"] == 12 + (height == 112)
    assert (result["bev_map"] > 0.99) == (height == 48)
    assert result["miou"] == 1.0 and result["depth_mae_m"] == pytest.approx(0.0, abs=1e-5)
    rows = min(96, height)
    assert result["segmentation"]["pixels"] == (frame.labels.label_map != UNLABELLED)[-rows:].sum()


def test_coarse_predictions_are_asked_by_every_pixel() -> None:
    """A map of 4 x 4 pixels, against a loop over the truth; no two depths are of one surface."""
    frame = scene()
    view = CAMERA.scaled(40, 24)
    rng = np.random.default_rng(0)
    depth_m = (1.3 ** rng.integers(0, 16, (24, 40))).astype(np.float32)
    labels = rng.integers(0, len(SEGMENTATION), (24, 40)).astype(np.uint8)
    result = metrics((frame, output(frame, detections([], []), depth_m, labels, view)))
    errors, pairs = [], []
    for v in range(96):
        for u in range(160):
            true_m, label = frame.labels.depth_m[v, u], frame.labels.label_map[v, u]
            if true_m <= 80:
                errors.append(abs(float(depth_m[v // 4, u // 4]) - float(true_m)))
            if label != UNLABELLED:
                pairs.append((label, labels[v // 4, u // 4]))
    assert result["depth_mae_m"] == pytest.approx(np.mean(errors))
    true, predicted = np.array(pairs).T
    car = SEGMENTATION.index("car")
    both, either = (true == car) & (predicted == car), (true == car) | (predicted == car)
    assert result["segmentation"]["classes"]["car"] == pytest.approx(both.sum() / either.sum())


def test_a_distorted_camera_shows_centers_by_its_distortion() -> None:
    """An object that only the pinhole would put into the image does not count, and vice versa."""
    camera = replace(CAMERA, model="plumb_bob", distortion=(-0.25, 0.0, 0.0, 0.0))
    x = (CAMERA.width - CAMERA.cx + 6) / CAMERA.fx * 10.0  # 6 px outside of a pinhole's image
    box = np.array([[x, 0.0, 10.0, 2, 2, 2, 0]], np.float32)
    for one, objects in ((CAMERA, 0), (camera, 1)):
        frame = Frame(1, "front", one, labels=Labels(boxes_3d=box, class_names=("car",)))
        assert (
            metrics((frame, output(frame, detections([], []))))["detection"]["objects"] == objects
        )


def test_classes_are_matched_by_name() -> None:
    """A model that knows fewer classes, in another order."""
    frame = scene()
    metric = PerceptionMetric(Taxonomy(("pedestrian",), ("car", "road")))
    labels = np.where(frame.labels.label_map == SEGMENTATION.index("car"), 0, 1).astype(np.uint8)
    found = detections(frame.labels.boxes_3d[1::2], [0] * 6)
    metric.add(frame, output(frame, found, labels=labels))
    result = metric.result()
    assert result["bev_map"] == pytest.approx(1.0) and result["detection"]["objects"] == 6
    assert result["segmentation"]["classes"] == {"car": 1.0}  # terrain is none of its classes


def test_frames_with_2d_boxes_alone_are_judged_in_the_image() -> None:
    """Both cars found, one of two pedestrians missed, and one label of no class of ours."""
    frame = scene()
    boxes = np.array([[x, 10, x + 20, 40] for x in (0, 30, 60, 90, 120)], np.float32)
    names = ("car", "pedestrian", "car", "pedestrian", "stop sign")
    labels = Labels(boxes_2d=boxes, class_names=names)
    found = detections(np.zeros((3, 7)), [CAR, PEDESTRIAN, CAR])
    found = replace(found, boxes_2d=boxes[:3])
    result = metrics((replace(frame, labels=labels), output(frame, found)))
    half = 51 / 101  # of 101 recalls, those up to 0.5
    assert result["ap50"] == pytest.approx((1 + half) / 2) and result["bev_map"] is None
    section = result["detection_2d"]
    assert section["ap50_95"] == result["ap50"] and section["why_null"] is None
    assert section["classes"]["car"] == {"ap50": 1.0, "ap50_95": 1.0}
    # A model of such boxes alone, whose truth also has boxes in space.
    both = replace(labels, boxes_3d=np.ones((5, 7), np.float32))
    flat = replace(found, boxes_3d=np.zeros((0, 7), np.float32))
    judged = metrics((replace(frame, labels=both), output(frame, flat)), in_space=False)
    assert judged["ap50"] == result["ap50"] and judged["bev_map"] is None
    only_3d = replace(both, boxes_2d=None)
    unjudged = metrics((replace(frame, labels=only_3d), output(frame, flat)), in_space=False)
    assert unjudged["ap50"] is None and unjudged["bev_map"] is None
    nothing = output(frame, detections(np.zeros((0, 7)), []))
    missed = metrics((replace(frame, labels=both), nothing), in_space=False)
    assert missed["ap50"] == 0 and missed["bev_map"] is None
    with_3d = metrics((frame, perfect(frame)))
    assert with_3d["ap50"] is None and "2D" in with_3d["detection_2d"]["why_null"]


def test_without_truth_figures_are_null_and_say_why() -> None:
    frame = scene()
    prediction = perfect(frame)
    bare, hidden = replace(frame, labels=None), replace(frame.labels, visibility=np.zeros(12))
    result = metrics((bare, prediction))
    assert result["frames"] == 1
    assert [result[key] for key in ("bev_map", "map_xy", "depth_mae_m", "miou")] == [None] * 4
    assert "no frame has 3D boxes" in result["detection"]["why_null"]
    assert "depth" in result["depth"]["why_null"] and "labels" in result["segmentation"]["why_null"]
    unseen = metrics((replace(frame, labels=hidden), prediction))["detection"]
    assert unseen["bev_map"] is None and "hidden" in unseen["why_null"]
    blind = metrics((frame, replace(prediction, depth_m=np.full_like(prediction.depth_m, np.nan))))[
        "depth"
    ]
    assert blind["coverage"] == 0.0 and blind["mae_m"] is None and "prediction" in blind["why_null"]
    json.dumps(result, allow_nan=False)


def test_frames_add_up() -> None:
    """What add returns is the frame's own; merging and pickling change nothing."""
    first, second = scene(), scene()
    moved = perfect(second)
    moved.detections.boxes_3d[:, 2] += 3.0
    metric = PerceptionMetric(Taxonomy(DETECTION_CLASSES, SEGMENTATION))
    summaries = [metric.add(first, perfect(first)), metric.add(second, moved)]
    assert [one.bev_map for one in summaries] == pytest.approx([1.0, 0.25])
    assert asdict(summaries[1])["miou"] == 1.0
    halves = [PerceptionMetric(Taxonomy(DETECTION_CLASSES, SEGMENTATION)) for _ in range(2)]
    halves[0].add(first, perfect(first))
    halves[1].add(second, moved)
    halves[0].merge(pickle.loads(pickle.dumps(halves[1])))
    assert halves[0].result() == metric.result()
    with pytest.raises(ValueError, match="cannot be merged"):
        metric.merge(PerceptionMetric(Taxonomy(("car",), SEGMENTATION)))


def test_truth_of_another_size_is_refused() -> None:
    frame = scene()
    for change in ({"depth_m": np.ones((3, 4), np.float32)}, {"label_map": np.zeros((3, 4), int)}):
        with pytest.raises(Fault, match=r"is \(3, 4\), the image \(96, 160\)"):
            metrics((replace(frame, labels=replace(frame.labels, **change)), perfect(frame)))
    frame.labels.label_map[3, 3] = 200
    with pytest.raises(Fault, match="label ids 200 have no name; named are 0 road, 1"):
        metrics((frame, perfect(frame)))
