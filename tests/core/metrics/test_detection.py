"""Centre-distance AP against nuscenes-devkit, loops from the definition, and values by hand."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from lemumo_core.frame import Labels
from lemumo_core.metrics.detection import DISTANCES_M, DetectionMetric
from lemumo_core.metrics.objects import ObjectFilter, Objects
from lemumo_core.metrics.paper_xy import PaperXyMetric
from lemumo_core.taxonomy import Taxonomy

CLASSES = ("car", "pedestrian")


def objects(boxes, class_ids, visibility=np.nan, num_points=-1) -> Objects:
    n = len(class_ids)
    return Objects(
        np.asarray(boxes, np.float32).reshape(n, 7),
        np.asarray(class_ids, np.int64),
        np.broadcast_to(visibility, n),
        np.broadcast_to(num_points, n),
    )


def box(x=0.0, z=10.0, y=1.0, size=(4.0, 2.0, 1.5), yaw=0.0) -> list[float]:
    return [x, y, z, *size, yaw]


def random_frames(seed: int, count: int = 25):
    """Frames (boxes, scores, class ids, truth) with near misses, duplicates and clutter."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        n = rng.integers(0, 9)
        truth = np.column_stack(
            [
                rng.uniform((-15, -1, 3), (15, 2, 70), (n, 3)),
                rng.uniform(0.5, 5, (n, 3)),
                rng.uniform(-4, 4, n),
            ]
        )
        ids = rng.integers(0, 2, n)
        copies = rng.integers(0, 3, n)
        boxes = np.repeat(truth, copies, 0)
        boxes += rng.normal(0, (1, 0.5, 1.5, 0.2, 0.2, 0.2, 0.5), boxes.shape)
        found = np.repeat(ids, copies)
        clutter = rng.integers(0, 4)
        extra = rng.uniform((-15, -1, 3, 1, 1, 1, -3), (15, 2, 70, 4, 4, 4, 3), (clutter, 7))
        boxes = np.vstack([boxes, extra])
        boxes[:, 3:6] = np.abs(boxes[:, 3:6]) + 0.1
        found = np.r_[found, rng.integers(0, 2, clutter)]
        yield boxes, rng.uniform(0.02, 1, len(boxes)), found, objects(truth, ids)


def evaluated(frames, metric=DetectionMetric, **settings):
    result = metric(CLASSES, **settings)
    for frame in frames:
        result.add(*frame)
    return result


@pytest.mark.parametrize("seed", range(3))
def test_ap_and_errors_are_those_of_nuscenes_devkit(seed: int) -> None:
    algo = pytest.importorskip("nuscenes.eval.detection.algo", reason="nuscenes-devkit is absent")
    from nuscenes.eval.common.data_classes import EvalBoxes
    from nuscenes.eval.common.utils import center_distance
    from nuscenes.eval.detection.data_classes import DetectionBox

    def boxes_of(rows, ids, scores, token):
        # Camera x, z, -y are nuScenes' x, y, z; a turn from x towards z is a turn by -yaw.
        return [
            DetectionBox(
                sample_token=token,
                translation=(row[0], row[2], -row[1]),
                size=tuple(row[[4, 3, 5]]),
                rotation=(np.cos(-row[6] / 2), 0, 0, np.sin(-row[6] / 2)),
                velocity=(0, 0),
                detection_name=CLASSES[i],
                detection_score=float(s),
                attribute_name="",
            )
            for row, i, s in zip(rows, ids, scores, strict=True)
        ]

    frames = list(random_frames(seed))
    truth, predicted = EvalBoxes(), EvalBoxes()
    for i, (boxes, scores, ids, real) in enumerate(frames):
        rows = real.boxes_3d.astype(np.float64)
        truth.add_boxes(str(i), boxes_of(rows, real.class_ids, np.full(len(rows), -1.0), str(i)))
        predicted.add_boxes(str(i), boxes_of(boxes, ids, scores, str(i)))
    got = evaluated(frames).scores()
    for name in CLASSES:
        ours = got.classes[name]
        data = [algo.accumulate(truth, predicted, name, center_distance, d) for d in DISTANCES_M]
        expected = [algo.calc_ap(one, 0.1, 0.1) for one in data]
        np.testing.assert_allclose(ours.ap, expected, atol=1e-12)
        assert 0.05 < np.mean(expected) < 0.95
        errors = [
            algo.calc_tp(data[2], 0.1, key) for key in ("trans_err", "scale_err", "orient_err")
        ]
        np.testing.assert_allclose((ours.ate_m, ours.ase, ours.aoe_rad), errors, atol=1e-9)


def test_perfect_detections_score_one_and_none_scores_zero() -> None:
    truth = objects([box(), box(5.0, 30.0), box(-3.0, 50.0)], [0, 0, 1])
    perfect = evaluated([(truth.boxes_3d, np.full(3, 0.9), truth.class_ids, truth)]).scores()
    assert (perfect.map, perfect.nds) == pytest.approx((1.0, 1.0))
    assert (perfect.ate_m, perfect.ase, perfect.aoe_rad) == pytest.approx((0, 0, 0), abs=1e-6)
    empty = evaluated([(np.empty((0, 7)), np.empty(0), np.empty(0, int), truth)]).scores()
    assert (empty.map, empty.nds) == (0.0, 0.0)
    assert np.isnan([empty.ate_m, empty.ase, empty.aoe_rad]).all()
    far = truth.boxes_3d + np.float32([0, 0, 3, 0, 0, 0, 0])
    shifted = evaluated([(far, np.full(3, 0.9), truth.class_ids, truth)]).scores()
    assert shifted.map == pytest.approx(0.25)  # found at 4 m alone
    assert np.isnan(shifted.ate_m) and shifted.nds == pytest.approx(5 * 0.25 / 8)


def test_errors_by_hand() -> None:
    truth = objects([box(size=(4, 2, 1.5), yaw=3.0)], [0])
    guess = [box(x=0.3, z=10.4, size=(2, 2, 1.5), yaw=-3.0)]
    score = evaluated([(guess, [0.5], np.array([0]), truth)]).scores().classes["car"]
    assert score.ate_m == pytest.approx(0.5, abs=1e-6)
    assert score.ase == pytest.approx(0.5)
    assert score.aoe_rad == pytest.approx(2 * np.pi - 6, abs=1e-6)
    assert score.ap == pytest.approx((0.0, 1.0, 1.0, 1.0), abs=1e-6)  # 0.5 m is not below 0.5 m


@pytest.mark.parametrize(
    "hidden",
    [
        {"visibility": np.array([np.nan, 0.05])},
        {"num_points": np.array([-1, 0])},
        {"boxes": [box(), box(5.0, 90.0)]},
    ],
)
def test_objects_that_do_not_count_count_neither_way(hidden) -> None:
    boxes = hidden.pop("boxes", [box(), box(5.0, 30.0)])
    truth = objects(boxes, [0, 0], **hidden)
    for k in (1, 2):  # with and without a detection of the second one
        detected = truth.boxes_3d[:k], np.linspace(0.5, 0.9, k), truth.class_ids[:k]
        scores = evaluated([(*detected, truth)]).scores()
        assert scores.map == pytest.approx(1.0) and scores.classes["car"].truths == 1


def test_one_ignored_object_takes_one_detection() -> None:
    truth = objects([box(), box(5.0, 30.0)], [0, 0], visibility=np.array([1.0, 0.0]))
    boxes = truth.boxes_3d[[1, 1, 0]]
    scores = evaluated([(boxes, [0.9, 0.8, 0.7], np.zeros(3, int), truth)]).scores()
    alone = evaluated([(boxes[1:], [0.8, 0.7], np.zeros(2, int), objects([box()], [0]))]).scores()
    assert scores.map == pytest.approx(alone.map) and 0 < scores.map < 1


def test_bands_hold_objects_and_mistakes_of_their_depth() -> None:
    truth = objects([box(z=10.0), box(z=39.9), box(z=80.0)], [0, 0, 0])
    boxes = [box(z=10.0), box(z=40.3), box(x=30.0, z=50.0)]
    metric = evaluated([(boxes, [0.5, 0.5, 0.9], np.zeros(3, int), truth)])
    near, middle, far = metric.scores_by_band().values()
    assert near.map == pytest.approx(1.0) and middle.map == pytest.approx(1.0)
    assert far.map == 0.0 and far.classes["car"].truths == 1
    assert metric.scores().map < 1.0


def test_parts_merge_and_survive_pickling() -> None:
    frames = list(random_frames(5))
    for kind in (DetectionMetric, PaperXyMetric):
        whole, left, right = (evaluated(part, kind) for part in (frames, frames[:9], frames[9:]))
        left.merge(pickle.loads(pickle.dumps(right)))
        if kind is DetectionMetric:
            assert left.scores() == whole.scores()
            assert left.scores_by_band() == whole.scores_by_band()
        else:
            assert left.map() == whole.map()
    with pytest.raises(ValueError, match="cannot be merged"):
        whole.merge(DetectionMetric(CLASSES))
    with pytest.raises(ValueError, match="cannot be merged"):
        DetectionMetric(CLASSES, ObjectFilter(min_points=5)).merge(DetectionMetric(CLASSES))


def xy_map_by_loops(frames) -> float:
    """The definition of spec section 5.1, one detection at a time."""
    of_class = []
    for name in range(len(CLASSES)):
        truths = sum(int((f[3].class_ids == name).sum()) for f in frames)
        if not truths:
            continue
        ranked = sorted(
            (-s, i, k)
            for i, (_, scores, ids, _) in enumerate(frames)
            for k, s in enumerate(scores)
            if ids[k] == name and s > 0.1
        )
        aps = []
        for limit in DISTANCES_M:
            taken, curve, hits = set(), [(0.0, 0.0)], 0
            for n, (_, i, k) in enumerate(ranked, 1):
                boxes, _, _, truth = frames[i]
                best, nearest = None, np.inf
                for g in np.flatnonzero(truth.class_ids == name):
                    d = np.linalg.norm(boxes[k][:2] - truth.boxes_3d[g, :2])
                    if d < nearest:
                        best, nearest = g, d
                if nearest < limit and (i, best) not in taken:
                    taken.add((i, best))
                    hits += 1
                curve.append((hits / truths, hits / n))
            area = 0.0
            for a in range(1, len(curve)):
                step = curve[a][0] - curve[a - 1][0]
                area += step * max(precision for _, precision in curve[a:])
            aps.append(area)
        of_class.append(np.mean(aps))
    return float(np.mean(of_class))


def test_paper_xy_is_its_definition_and_ignores_depth() -> None:
    frames = list(random_frames(7))
    got = evaluated(frames, PaperXyMetric).map()
    assert got == pytest.approx(xy_map_by_loops(frames), abs=1e-9) and 0.05 < got < 0.95
    truth = objects([box(z=10.0)], [0])
    deep = ([box(z=60.0)], [0.9], np.array([0]), truth)
    assert evaluated([deep], PaperXyMetric).map() == 1.0
    assert evaluated([deep]).scores().map == 0.0


def test_objects_from_labels() -> None:
    labels = Labels(
        boxes_3d=np.zeros((3, 7), np.float32),
        class_names=("van", "tram", "person"),
        num_points=np.array([3, 4, 5], np.int32),
    )
    got = Objects.from_labels(labels, Taxonomy(CLASSES))
    assert got.class_ids.tolist() == [0, 1] and got.num_points.tolist() == [3, 5]
    assert np.isnan(got.visibility).all() and got.boxes_3d.shape == (2, 7)
    with pytest.raises(ValueError, match="no 3D boxes"):
        Objects.from_labels(Labels(), Taxonomy(CLASSES))


def test_bad_detections_are_refused() -> None:
    truth = objects([box()], [0])
    with pytest.raises(ValueError, match="expected"):
        DetectionMetric(CLASSES).add(np.zeros((2, 7)), np.zeros(1), np.zeros(1, int), truth)
    with pytest.raises(ValueError, match="NaN"):
        DetectionMetric(CLASSES).add(np.full((1, 7), np.nan), np.zeros(1), np.zeros(1, int), truth)
    with pytest.raises(ValueError, match="seen no frame"):
        DetectionMetric(CLASSES).scores()
    with pytest.raises(ValueError, match="rising"):
        DetectionMetric(CLASSES, band_edges_m=(0.0, 20.0, 10.0))
