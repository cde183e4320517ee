"""Differences are measured as defined, sets are sets, and every gate can fail."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from lemumo_core.export.parity import EXACT, REDUCED, add_truth, compare, match_detections
from lemumo_core.export.parity_inputs import Sample, source_samples
from lemumo_core.export.parity_report import as_text, write_report
from lemumo_core.export.verify import losses
from lemumo_core.frame import Frame, Labels
from lemumo_core.geometry.camera import Camera
from lemumo_core.inference.model_manifest import manifest_of
from lemumo_core.model.config import ModelConfig
from lemumo_core.preprocess import InputSpec, preprocess

MANIFEST = manifest_of(
    ModelConfig(
        height=16,
        width=32,
        detection_classes=("car", "truck"),
        segmentation_classes=("road", "sidewalk", "building", "pole", "sign"),
    ),
    "made up",
    trained=True,
)


def outputs(seed=0, k=6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    low, high = (-5, -3, 10, 1, 1, 1, -3), (5, 3, 60, 5, 3, 3, 3)
    boxes = rng.uniform(low, high, (1, k, 7)).astype(np.float32)
    return {
        "boxes": boxes,
        "scores": np.linspace(0.9, 0.4, k, dtype=np.float32)[None],
        "class_ids": np.arange(k)[None] % 2,
        "depth": rng.uniform(2, 80, (1, 4, 8)).astype(np.float32),
        "depth_confidence": rng.random((1, 4, 8), np.float32),
        "labels": rng.integers(0, 5, (1, 4, 8)).astype(np.uint8),
    }


def changed(**values) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in outputs().items()} | values


def parity_of(candidate, limits=EXACT):
    return compare([Sample({})], [outputs()], [candidate], limits)


def test_equal_outputs_pass_in_any_order() -> None:
    order = np.array([3, 0, 5, 1, 4, 2])
    shuffled = {n: outputs()[n][:, order] for n in ("boxes", "scores", "class_ids")}
    parity = parity_of(changed(**shuffled))
    assert parity.failures(EXACT) == [] and parity.boxes == parity.unmatched == 0.0
    assert parity.detections == 10  # 5 a side: the last is at the cut


def break_boxes(out) -> None:
    out["boxes"][0, 0, 4] += 0.5


def break_class(out) -> None:
    out["class_ids"][0, 1] += 7


def break_center(out) -> None:
    out["boxes"][0, 2, :3] += 3.0


def break_depth(out) -> None:
    out["depth"][0, 1, 1] *= 1.002


def break_confidence(out) -> None:
    out["depth_confidence"][0, 0, 0] += 0.01


def break_labels(out) -> None:
    out["labels"][0, 0, 0] += 1


def break_scores(out) -> None:
    out["scores"][0, 0] += 0.01


def nan_depth(out) -> None:
    out["depth"][0, 0, 0] = np.nan


def nan_box(out) -> None:
    out["boxes"][0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("change", "measure"),
    [
        (break_boxes, "boxes"),
        (break_class, "unmatched"),
        (break_center, "unmatched"),
        (break_depth, "depth_pixels"),
        (break_confidence, "depth_confidence"),
        (break_labels, "labels"),
        (break_scores, "scores"),
        (nan_depth, "depth_pixels"),
        (nan_box, "unmatched"),
    ],
)
def test_every_difference_fails_its_own_gate(change, measure) -> None:
    out = changed()
    change(out)
    failures = parity_of(out).failures(EXACT)
    assert any(text.startswith(f"{measure} ") for text in failures), failures


def test_values_are_those_of_the_definitions() -> None:
    out = changed()
    out["depth"] = outputs()["depth"] + 2.0
    parity = parity_of(out)
    depth = outputs()["depth"]
    assert parity.depth == pytest.approx((2 / np.maximum(1, depth)).max(), rel=1e-5)
    assert parity.mean_depth == pytest.approx(2 / depth.mean(), rel=1e-5)
    assert parity.depth_pixels == 1.0
    out["labels"][0, 0, :2] += 1
    assert parity_of(out).labels == pytest.approx(2 / 32)


def test_raw_heads_are_compared() -> None:
    a, b = outputs(), outputs()
    a["raw_heatmap"] = np.zeros((1, 2, 3), np.float32)
    b["raw_heatmap"] = np.full((1, 2, 3), 0.25, np.float32)
    assert compare([Sample({})], [a], [b], EXACT).raw == 0.25


def test_yaw_goes_the_short_way_round() -> None:
    a, b = outputs(), outputs()
    a["boxes"][0, :, 6], b["boxes"][0, :, 6] = np.pi, -np.pi
    assert compare([Sample({})], [a], [b], EXACT).boxes < 1e-6


def test_one_box_is_no_counterpart_of_two() -> None:
    a, b = outputs(), outputs()
    for out in (a, b):
        out["class_ids"][:] = 0
    a["boxes"][0, 1] = a["boxes"][0, 0]
    _, unmatched, count = match_detections(a, b, 1e-3, 0.0)
    assert (unmatched, count) == (2, 10)  # a's second copy, and what b has in its place


def test_scores_at_the_cut_need_no_counterpart() -> None:
    a, b = outputs(), outputs()
    b["boxes"][0, -1] += 9.0  # another of many near-tied candidates made the last place
    b["scores"][0, -1] -= 1e-6
    assert match_detections(a, b, 1e-3, 0.0)[1] == 0


def compared(candidate, frame: Frame | None):
    """Parity with the losses against the truth of one frame."""
    parity = parity_of(candidate, REDUCED)
    add_truth(parity, [Sample({}, frame)], [outputs()], [candidate], MANIFEST)
    return parity


@pytest.fixture
def frame() -> Frame:
    """Predict as the reference, but for the depth, which is 1 m less.

    It is known in the corners of the image, where it is read between no two cells.
    """
    said = outputs()
    labels, depth_m = (said[name][0].repeat(4, 0).repeat(4, 1) for name in ("labels", "depth"))
    depth_m[2:-2], depth_m[:, 2:-2] = np.nan, np.nan
    names = [MANIFEST.detection_classes[i] for i in said["class_ids"][0]]
    truth = Labels(said["boxes"][0], None, tuple(names), None, None, labels, None, depth_m - 1.0)
    return Frame(1, "front", Camera(32, 16, 16.0, 16.0, 15.5, 7.5), labels=truth)


def test_losses_against_truth(frame) -> None:
    """A candidate without cars, 10 % farther from the true depth and wrong in one label of 32."""
    candidate = changed(depth=outputs()["depth"] + 0.1)
    candidate["scores"][0, ::2], candidate["boxes"][0, ::2, 2] = 0.0, 79.0
    candidate["labels"][0, 0, 0] = (candidate["labels"][0, 0, 0] + 1) % 5
    parity = compared(candidate, frame)
    assert parity.bev_map_loss == pytest.approx(0.5)
    assert parity.depth_mae_loss == pytest.approx(0.1, rel=1e-3)
    true, said = outputs()["labels"][0], candidate["labels"][0]
    ious = [((true == i) & (said == i)).sum() / ((true == i) | (said == i)).sum() for i in range(5)]
    assert parity.miou_loss == pytest.approx(1 - np.mean(ious))
    assert parity.task_metrics["depth_mae_m"] == pytest.approx((1.0, 1.1), rel=1e-3)
    failed = {text.split()[0] for text in parity.failures(REDUCED)}
    assert {"bev_map_loss", "depth_mae_loss", "miou_loss"} <= failed
    assert "0.5 (1.000 to 0.500)" in as_text("t", parity, REDUCED)
    assert set(losses(parity)) >= {"bev_map_loss", "depth_mae_loss", "miou_loss"}


def test_without_truth_losses_are_not_compared(frame) -> None:
    parity = compared(changed(), None)
    assert parity.failures(REDUCED) == [] and np.isnan(parity.bev_map_loss)
    assert "no truth" in as_text("t", parity, REDUCED) and "bev_map_loss" not in losses(parity)
    unlabelled = compared(changed(), replace(frame, labels=None))
    assert unlabelled.task_metrics == {}


def test_outputs_that_are_not_finite_lose_everything(frame) -> None:
    out = changed()
    out["depth"][0, 3, 3] = np.nan
    failed = {text.split()[0] for text in compared(out, frame).failures(REDUCED)}
    assert {"bev_map_loss", "depth_mae_loss", "miou_loss"} <= failed


def test_one_pixel_of_many_may_choose_another_surface() -> None:
    """Two hypotheses that are equally good part by the order of summation."""
    depth = np.full((1, 192, 352), 20.0, np.float32)
    one, many = changed(depth=depth.copy()), changed(depth=depth.copy())
    one["depth"][0, 7, 9] *= 1.002
    many["depth"][0, 7, 9:18] *= 1.002
    near = compare([Sample({})], [changed(depth=depth)], [one], EXACT)
    assert near.depth == pytest.approx(2e-3, rel=1e-2) and not near.failures(EXACT)
    far = compare([Sample({})], [changed(depth=depth)], [many], EXACT)
    assert [text.split()[0] for text in far.failures(EXACT)] == ["depth_pixels"]


def test_report(tmp_path) -> None:
    out = changed()
    break_depth(out)
    parity = parity_of(out)
    text = as_text("a <title>", parity, EXACT)
    assert "FAILS: depth_pixels 0.0312 is above 0.0001" in text
    write_report(tmp_path, "a <title>", parity, EXACT, {"frames": "bags:/x"})
    document = json.loads((tmp_path / "parity.json").read_text())
    assert document["passes"] is False and document["parity"]["depth_mae_loss"] is None
    assert document["parity"]["depth"] == pytest.approx(2e-3, rel=1e-2)
    page = (tmp_path / "index.html").read_text()
    assert "a &lt;title&gt;" in page and "Fails" in page and "bags:/x" in page


def test_real_frames_keep_returns_as_truth(shared_data) -> None:
    spec = InputSpec(64, 96, "lidar", 2)
    samples = source_samples(f"kitti:{shared_data / 'kitti_object'}", spec, 2)
    assert len(samples) == 2 and samples[0].inputs.image.shape == (1, 64, 96, 3)
    for sample in samples:
        shown = preprocess(sample.frame, spec).companion
        np.testing.assert_array_equal(sample.inputs.companion, shown)
        assert np.isfinite(sample.frame.labels.depth_m).sum() > 500


def test_boxes_of_2d_models_are_compared_in_pixels() -> None:
    low = np.array([[[10, 20], [50, 8], [70, 30], [12, 40], [33, 5], [90, 60]]], np.float32)
    flat = changed(boxes=np.concatenate([low, low + np.float32([20, 30])], axis=2))
    moved = {**flat, "boxes": flat["boxes"].copy()}
    moved["boxes"][0, 2, 3] += 3  # one edge of one box
    same, other = (compare([Sample({})], [flat], [one], EXACT) for one in (flat, moved))
    assert same.boxes == same.unmatched == 0.0
    assert other.unmatched > 0 and "unmatched" in " ".join(other.failures(EXACT))
    wide = replace(EXACT, center=0.05)
    assert compare([Sample({})], [flat], [moved], wide).boxes == pytest.approx(3 / 60)


def test_boxes_of_2d_models_are_judged_in_the_image(frame) -> None:
    """Whose frames may have boxes in space, too."""
    boxes = np.array([[2, 2, 9, 9], [12, 4, 20, 12]], np.float32)
    labels = replace(frame.labels, boxes_2d=boxes.repeat(3, axis=0))
    flat = changed(boxes=labels.boxes_2d[None])
    flat["boxes"][0, :, 2:] += 0.5
    lost = {**flat, "scores": np.zeros_like(flat["scores"])}
    manifest = replace(MANIFEST, model={"detection": "2d"})
    parity = compare([Sample({})], [flat], [flat], EXACT)
    add_truth(parity, [Sample({}, replace(frame, labels=labels))], [flat], [lost], manifest)
    assert "bev_map" not in parity.task_metrics and "ap50" in parity.task_metrics
