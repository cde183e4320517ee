"""The page of the demo, in a browser."""

from __future__ import annotations

import cv2
import numpy as np

from lemumo_core.inference.package import load_package
from lemumo_ros.demo_report import Summary, write_report
from tests.helpers.browser import show
from tests.helpers.paths import ROOT


def test_the_page_is_whole_without_a_network(tmp_path) -> None:
    (tmp_path / "overlays").mkdir()
    for number in range(2):
        picture = tmp_path / "overlays" / f"{number}_000000000.png"
        cv2.imwrite(str(picture), np.full((8, 8, 3), 99, np.uint8))
    latency = {"total": {"p50": 12.0, "p99": 20.0}}
    counts = {"frames_in": 2, "frames_in_bag": 2, "messages_out": {"markers": 2}, "drops": {}}
    model = {"model": "m", "trained": False, "backend": "b", "bag": "<bag>", "machine": "x86"}
    summary = Summary(**counts, **model, latency_ms=latency, seconds=1.0)
    manifest = load_package(ROOT / "models" / "lemumo-tiny").manifest
    page = write_report(summary, manifest, tmp_path)
    shown = show(page, tmp_path / "profile")
    assert (shown.elements["img"], shown.elements["table"]) == (2, 4)
    text = page.read_text()
    assert "dropped as <i>busy</i>" in text and "trained on rendered streets alone" in text
    named = [*manifest.detection_classes, *manifest.segmentation_classes]
    assert all(f"</span>{name}" in text for name in named)
    assert shown.console == [] and shown.broken == []
    picture.unlink()  # a picture that is missing would be seen
    assert show(page, tmp_path / "profile").broken == ["overlays/1_000000000.png"]
