"""Verdicts of a replay's checks, from rows of its table; the other modules test whole bags."""

from __future__ import annotations

from lemumo_core.replay.checks import NAN, check_view


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
