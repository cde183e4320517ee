"""Differences are measured as defined, sets are sets, and every gate can fail."""

from __future__ import annotations

import json

import numpy as np
import pytest

from export.parity import EXACT, REDUCED, Limits, compare, match_detections
from export.parity_report import as_text, write_report
from export.samples import Sample, source_samples
from lemumo_core.preprocess import InputSpec


def outputs(seed=0, k=6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(1, 30, (1, k, 7)).astype(np.float32)
    return {
        "boxes": boxes,
        "scores": np.linspace(0.9, 0.4, k, dtype=np.float32)[None],
        "class_ids": np.arange(k)[None] % 2,
        "depth": rng.uniform(1, 80, (1, 4, 5)).astype(np.float32),
        "depth_confidence": rng.random((1, 4, 5), np.float32),
        "labels": rng.integers(0, 5, (1, 4, 5)).astype(np.uint8),
    }


def changed(**values) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in outputs().items()} | values


def parity_of(candidate, limits=EXACT, sample=None):
    return compare([sample or Sample({})], [outputs()], [candidate], limits)


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


def break_centre(out) -> None:
    out["boxes"][0, 2, :3] += 3.0


def break_depth(out) -> None:
    out["depth"][0, 1, 1] *= 1.001


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
        (break_centre, "unmatched"),
        (break_depth, "depth"),
        (break_confidence, "depth_confidence"),
        (break_labels, "labels"),
        (break_scores, "scores"),
        (nan_depth, "depth"),
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
    out["labels"][0, 0, :2] += 1
    assert parity_of(out).labels == pytest.approx(2 / 20)


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


def test_losses_against_truth() -> None:
    """A candidate 10 % farther from the true depth and wrong in one more label of 20."""
    reference = outputs()
    truth = Sample({}, reference["depth"][0] - 1.0, reference["labels"][0].copy())
    candidate = changed(depth=reference["depth"] + 0.1)
    candidate["labels"][0, 0, 0] += 1
    parity = parity_of(candidate, REDUCED, truth)
    assert parity.depth_mae_loss == pytest.approx(0.1, rel=1e-3)
    assert parity.label_accuracy_loss == pytest.approx(0.05)
    failed = {text.split()[0] for text in parity.failures(REDUCED)}
    assert {"depth_mae_loss", "label_accuracy_loss"} <= failed
    assert np.isnan(parity_of(candidate).depth_mae_loss)  # without truth: not judged
    assert not any("loss" in text for text in parity_of(candidate).failures(Limits(depth=1.0)))


def test_report(tmp_path) -> None:
    out = changed()
    break_depth(out)
    parity = parity_of(out)
    text = as_text("a <title>", parity, EXACT)
    assert "FAILS: depth 0.001 is above 0.0001" in text
    write_report(tmp_path, "a <title>", parity, EXACT, {"frames": "bags:/x"})
    document = json.loads((tmp_path / "parity.json").read_text())
    assert document["passes"] is False and document["parity"]["depth_mae_loss"] is None
    assert document["parity"]["depth"] == pytest.approx(1e-3, rel=1e-2)
    page = (tmp_path / "index.html").read_text()
    assert "a &lt;title&gt;" in page and "Fails" in page and "bags:/x" in page


def test_truth_lies_where_the_outputs_do() -> None:
    """At the centre of an output cell the truth is that of the source pixel it looks at."""
    spec = InputSpec(64, 96, "lidar", 2)
    samples = source_samples("synthetic", spec, 2)
    assert len(samples) == 2
    sample = samples[0]
    assert sample.depth_m.shape == sample.labels.shape == (16, 24)
    assert sample.inputs["image"].shape == (1, 64, 96, 3)
    # LiDAR and truth see the same street: compare where the companion has returns.
    companion = sample.inputs["companion"][0]
    v, u = np.nonzero(companion[2::4, 2::4, 1])
    measured_m = companion[2::4, 2::4, 0][v, u] * spec.depth_max_m
    truth_m = sample.depth_m[v, u]
    known = np.isfinite(truth_m) & (measured_m < 0.99 * spec.depth_max_m)
    assert known.sum() > 10
    assert np.median(np.abs(measured_m - truth_m)[known] / truth_m[known]) < 0.02
