"""Whether a model is good enough: limits of a file, what they are compared with, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lemumo_core.cli import main as cli
from lemumo_core.evaluation.requirements import read_requirements
from lemumo_core.evaluation.verdict import MET, NOT_JUDGED, NOT_MET, assess, exit_code, overall
from lemumo_core.faults import Fault
from lemumo_core.metrics.bands import BAND_EDGES_M
from lemumo_core.metrics.depth import DepthMetric
from lemumo_core.metrics.detection import DetectionMetric
from lemumo_core.metrics.detection_2d import Detection2dMetric
from lemumo_core.metrics.objects import Objects
from lemumo_core.metrics.perception import PerceptionMetric
from lemumo_core.taxonomy import Taxonomy

CLASSES = ("car", "pedestrian")


def required(tmp_path: Path, text: str):
    path = tmp_path / "requirements.yaml"
    path.write_text(text)
    return read_requirements(path)


def test_counts_are_those_of_detections_that_are_published() -> None:
    """Leaving low scores out beforehand, and matching by hand, gives the same counts by range."""
    rng = np.random.default_rng(3)
    edges_m = (0.0, 15.0, 40.0, 80.0)
    metric, flat = DetectionMetric(CLASSES, band_edges_m=edges_m), Detection2dMetric(CLASSES)
    wanted = {name: np.zeros((3, 3), int) for name in CLASSES}  # by band: objects, found, false
    for _ in range(20):
        boxes = np.tile([0.0, 0, 0, 4, 2, 2, 0], (6, 1))
        boxes[:, 0], boxes[:, 2] = rng.uniform(-20, 20, 6), rng.uniform(2, 75, 6)
        ids = rng.integers(0, 2, 6)
        found = np.concatenate(
            [boxes + rng.normal(0, 0.8, boxes.shape) * [1, 0, 1, 0, 0, 0, 0]] * 2
        )
        found_ids, scores = np.concatenate([ids, rng.integers(0, 2, 6)]), rng.uniform(0, 1, 12)
        unknown = np.full(6, np.nan), np.full(6, -1)
        metric.add(found, scores, found_ids, Objects(boxes, ids, *unknown))
        flat.add(np.tile([0.0, 0, 9, 9], (12, 1)), scores, found_ids, np.zeros((0, 4)), ids[:0])
        band = np.digitize(boxes[:, 2], edges_m) - 1
        free = set(range(6))
        for i, name in enumerate(CLASSES):
            wanted[name][:, 0] += np.bincount(band[ids == i], minlength=3)
        for k in sorted(np.flatnonzero(scores >= 0.4), key=lambda k: -scores[k]):
            near = {
                g: np.hypot(*(found[k] - boxes[g])[[0, 2]]) for g in free if ids[g] == found_ids[k]
            }
            near = {g: distance for g, distance in near.items() if distance < 2.0}
            name = CLASSES[found_ids[k]]
            if near:
                best = min(near, key=near.__getitem__)
                free.remove(best)
                wanted[name][band[best], 1] += 1
            elif 0 < found[k, 2] <= 80:
                wanted[name][np.digitize(found[k, 2], edges_m) - 1, 2] += 1
    for first, last in ((0, 3), (0, 1), (1, 3)):
        counts = metric.counts(0.4, edges_m[first], edges_m[last])
        assert {name: tuple(wanted[name][first:last].sum(0)) for name in CLASSES} == counts
    assert wanted["car"][:, 1].min() > 0 and wanted["car"][:, 2].min() > 0
    everything = flat.counts(0.0).values()
    assert sum(one.false for one in everything) == 240 and not any(one.found for one in everything)


def test_depth_between_edges_is_that_of_the_pixels_there() -> None:
    rng = np.random.default_rng(0)
    true_m = rng.uniform(0, 90, 4000).astype(np.float32)
    predicted_m = np.where(rng.uniform(size=4000) < 0.2, np.nan, true_m + rng.normal(size=4000))
    metric = DepthMetric((0.0, 12.5, 40.0, 80.0))
    metric.add(predicted_m, true_m)
    inside = (true_m >= 12.5) & (true_m <= 80)
    scores = metric.scores_between(12.5, 80.0)
    assert scores.mae_m == pytest.approx(np.nanmean(abs(predicted_m - true_m)[inside]))
    assert scores.pixels == inside.sum()
    assert scores.coverage == pytest.approx(np.isfinite(predicted_m[inside]).mean())


def measured(depth_error_m: float, coverage: float, edges_m: tuple[float, ...]) -> PerceptionMetric:
    """Depth is known up to 20 m alone; half of the road is found; there are no boxes."""
    metric = PerceptionMetric(Taxonomy(CLASSES, ("road", "sky")), band_edges_m=edges_m)
    true_m = np.full(100, 10.0, np.float32)
    answered = np.arange(100) < 100 * coverage
    metric.depth.add(np.where(answered, true_m + depth_error_m, np.nan), true_m)
    metric.baselines["nearest"].add(true_m + 1, true_m)
    metric.segmentation.add(np.repeat([0, 255], 50), np.zeros(100, int))
    metric.frames = 1
    return metric


LIMITS = """
depth: [{{at_most_m: {depth}, to_m: 20, coverage: {coverage}}}]
miou: [{{at_least: {miou}, class: road}}]
"""


@pytest.mark.parametrize(
    ("depth", "coverage", "miou", "more", "status"),
    [
        (0.5, 0.9, 0.5, "", MET),
        (0.49, 0.9, 0.5, "", NOT_MET),
        (0.5, 0.96, 0.5, "", NOT_MET),
        (0.5, 0.9, 0.51, "", NOT_MET),
        (0.5, 0.9, 0.5, "rate: [{at_least_hz: 10}]", MET),
        (0.5, 0.9, 0.5, "rate: [{at_least_hz: 11}]", NOT_MET),
        (0.5, 0.9, 0.5, "latency: [{at_most_ms: 199, percentile: 100}]", NOT_MET),
        (0.5, 0.9, 0.5, "latency: [{at_most_ms: 50, percentile: 50}]", MET),
        (0.5, 0.9, 0.5, "recall: [{class: car, at_least: 0}]", NOT_JUDGED),
        (0.5, 0.9, 0.5, "precision: [{class: car, at_least: 0}]", NOT_JUDGED),
        (0.49, 0.9, 0.5, "recall: [{class: car, at_least: 0}]", NOT_MET),
    ],
)
def test_the_worst_limit_decides(depth, coverage, miou, more, status, tmp_path) -> None:
    """What has no truth is not judged, and never passed."""
    text = LIMITS.format(depth=depth, coverage=coverage, miou=miou) + more
    limits = required(tmp_path, text)
    metric = measured(0.5, 0.95, limits.band_edges_m)
    verdicts = assess(limits, {"fused": metric}, times_ms=[50.0, 50.0, 200.0])
    assert overall(verdicts) == status
    assert exit_code(verdicts) == {MET: 0, NOT_MET: 4, NOT_JUDGED: 5}[status]
    assert "nearest 1.00 m" in verdicts[0].detail and "95%" in verdicts[0].detail


@pytest.mark.parametrize(
    "limit",
    [
        "depth: [{at_most_m: 80, from_m: 33, to_m: 55.5}]",
        "depth: [{at_most_m: 80, modality: camera_only}]",
        "miou: [{at_least: 0, class: sky}]",
        "latency: [{at_most_ms: 1000}]",
        "recall: [{class: pedestrian, at_least: 0, modality: companion_only}]",
    ],
)
def test_without_truth_nothing_is_passed(limit, tmp_path) -> None:
    limits = required(tmp_path, limit)
    (verdict,) = assess(limits, {"fused": measured(0.0, 1.0, limits.band_edges_m)})
    assert verdict.status == NOT_JUDGED and verdict.measured is None and verdict.detail


def test_a_model_without_an_answer_is_not_good_enough(tmp_path) -> None:
    limits = required(tmp_path, "depth: [{at_most_m: 80}]")
    (verdict,) = assess(limits, {"fused": measured(0.0, 0.0, limits.band_edges_m)})
    assert verdict.status == NOT_MET


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("depth: [{at_most_m: 1, to: 20}]", "did you mean 'to_m'"),
        ("depht: [{at_most_m: 1}]", "did you mean 'depth'"),
        ("depth: [{at_most_m: 1, to_m: 100}]", "at most 80"),
        ("depth: [{to_m: 20}]", "limit 1 has no at_most_m"),
        ("depth: {at_most_m: 1}", "must be a list"),
        ("depth: [{at_most_m: 1, from_m: 20, to_m: 20}]", "it ends at 20 m"),
        ("depth: [{at_most_m: 1, modality: lidar}]", "camera_only"),
        ("recall: [{at_least: 0.5}]", "has no class"),
        ("recall: [{class: car, at_least: 90}]", "at most 1"),
        ("latency: [{at_most_ms: soon}]", "must be a number"),
        ("score_threshold: 0.5", "it holds no limit"),
        ("- 1", "must be a mapping"),
        ("depth: [", "is not YAML"),
        ("depth: [{at_most_m: 1}]\ndepth: [{at_most_m: 9}]", "key 'depth' is there twice"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(text, said, tmp_path) -> None:
    with pytest.raises(Fault, match=r"requirements\.yaml") as caught:
        required(tmp_path, text)
    assert said in str(caught.value) and caught.value.reason == "bad_requirements"


def test_classes_are_those_of_the_model(tmp_path) -> None:
    classes = Taxonomy(("car", "pedestrian"), ("road", "sky"))
    required(tmp_path, "recall: [{class: car, at_least: 1}]").check_classes(classes)
    with pytest.raises(Fault, match="did you mean 'pedestrian'"):
        required(tmp_path, "recall: [{class: pedestriann, at_least: 1}]").check_classes(classes)
    with pytest.raises(Fault, match="no class 'car'"):
        required(tmp_path, "miou: [{class: car, at_least: 1}]").check_classes(classes)


def test_a_replay_is_compared_with_limits(toy_package, small_bag, tmp_path, capsys) -> None:
    """Other limits need no other replay, other ranges do; exit codes and page say the verdict."""
    limits, out = tmp_path / "limits.yaml", tmp_path / "out"
    command = ["replay", small_bag, "--model", toy_package, "--backend", "onnxruntime"]
    command = [str(word) for word in (*command, "--out", out, "--requirements", limits)]

    def verdict(text: str) -> tuple[int, dict]:
        limits.write_text(text)
        code = cli.main(command)
        return code, json.loads((out / "metrics.json").read_text())["requirements"]

    easy = "depth: [{at_most_m: 200, to_m: 30}]\nlatency: [{at_most_ms: 100000}]"
    code, found = verdict(easy)
    assert (code, found["verdict"]) == (0, MET)
    metrics = json.loads((out / "metrics.json").read_text())["fused"]["depth"]
    assert list(metrics["bands"]) == ["0-20 m", "20-30 m", "30-40 m", "40-80 m"]
    near = [metrics["bands"][name] for name in ("0-20 m", "20-30 m")]
    pixels = [one["pixels"] * (one["coverage"] or 0) for one in near]
    mean = np.average([one["mae_m"] or 0 for one in near], weights=pixels)
    assert found["limits"][0]["measured"] == pytest.approx(mean) and mean > 0
    assert "Good enough: of 2 limits 2 met" in (out / "index.html").read_text()

    capsys.readouterr()
    code, found = verdict(f"depth: [{{at_most_m: {mean / 2}, to_m: 30}}]")
    assert (code, found["verdict"]) == (4, NOT_MET)
    shown = capsys.readouterr()
    assert "done already" in shown.err and "Not good enough: of 1 limits 1 not met" in shown.out
    code, found = verdict("depth: [{at_most_m: 80, to_m: 30, modality: companion_only}]")
    assert (code, found["verdict"]) == (5, NOT_JUDGED)
    limits.write_text("depth: [{at_most_m: 80, to_m: 35}]")
    assert cli.main(command) == 1
    assert "band_edges_m" in capsys.readouterr().err


def test_usual_bands_stay_without_ranges(tmp_path) -> None:
    assert required(tmp_path, "miou: [{at_least: 0.5}]").band_edges_m == BAND_EDGES_M
