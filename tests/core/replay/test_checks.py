"""Verdicts of a replay's checks, from rows of its table; the other modules test whole bags."""

from __future__ import annotations

from lemumo_core.replay.checks import NAN, check_modalities, check_view


def test_returns_are_in_view_only_of_what_was_perceived() -> None:
    """A dropped image has its scan, and nothing was projected."""
    fused = {"modalities": "camera+lidar", "companion_gap_ms": 2.0}
    dropped = {"modalities": "", "companion_gap_ms": 2.0}
    alone = {"modalities": "camera", "companion_gap_ms": NAN}
    assert check_view([fused, dropped], [])["verdict"] == "ok"
    assert check_view([dropped, alone], [])["verdict"] == "undecided"
    said = check_view([fused] * 5, ["turned"] * 5)
    assert said["verdict"] == "warn"
    assert said["words"] == "5 of 5 scans have no return in view: turned"


def test_what_disagrees_is_named_with_its_mean_difference() -> None:
    rows = [
        {"disagreement_detections": one, "disagreement_labels": 0.6, "disagreement_depth": depth}
        for one, depth in ((0.9, NAN), (0.7, 0.4))
    ]
    shares = "(mean difference: detections 80%, labels 60%, depth 40%)"
    disagree = "fused and camera-only results disagree in detections, labels and depth"
    assert check_modalities(rows)["words"] == f"{disagree} {shares}"
    one_part = [{**row, "disagreement_detections": 0.1, "disagreement_depth": NAN} for row in rows]
    words = "disagree in labels (mean difference: detections 10%, labels 60%)"
    assert check_modalities(one_part)["words"] == f"fused and camera-only results {words}"
    steady = [{**row, "disagreement_labels": 0.1} for row in one_part]
    assert check_modalities(steady)["words"].startswith("fused and camera-only results agree (")
