"""The page of own classes works: from a CVAT export to a trained, exported, replayed package."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lemumo_core.inference.package import load_package
from lemumo_core.label.formats import label_format
from lemumo_core.label.frame_names import name_of
from lemumo_core.taxonomy import read_classes
from tests.helpers import doc_commands
from tests.helpers.exported import two_blocks
from tests.helpers.paths import ROOT

PAGE = (ROOT / "docs" / "classes.md").read_text().partition("## Labels without people")[0]
"""Its steps, from a bag to a replay; tests/core/label/test_points.py has what follows."""
SMALLER = {
    "prepare": {"workers": 1},
    "finetune": doc_commands.SHORT,
    "replay": {"backend": "onnxruntime:fp32"},
}
"""Options that are added to a command, so that it takes seconds."""


@pytest.mark.timeout(600)
def test_forklifts_from_cvat_to_the_replay(tiny_package, tmp_path: Path, monkeypatch) -> None:
    """The truck of a rendered street plays the forklift; the annotator draws what is rendered."""
    pytest.importorskip("rosbags", reason="bags need: pip install '.[bags]'")
    from lemumo_core.bags.writer import write_bag
    from lemumo_core.data.sources.synthetic import SyntheticStreet

    street = SyntheticStreet(frames=6, frames_per_drive=3, height=64, width=96)
    frames = [street[index] for index in (3, 4, 5)]
    monkeypatch.chdir(tmp_path)
    write_bag([replace(frame, labels=None) for frame in frames], "bag")
    Path("models").mkdir()
    Path("models/lemumo-tiny").symlink_to(tiny_package)
    (example,) = doc_commands.code_blocks(PAGE, "yaml")
    Path("classes.yaml").write_text(example)
    lines = [
        line for block in doc_commands.code_blocks(PAGE) for line in doc_commands.commands(block)
    ]
    assert [line[1] for line in lines] == [
        *("prepare", "label", "label", "prepare", "prepare", "finetune", "export", "replay")
    ]
    with two_blocks():
        for line in lines:
            if line[1:3] == ["label", "import"]:
                drawn = [replace(f, camera_name="camera") for f in frames]
                label_format("cvat").write([(name_of(f), f) for f in drawn], Path("out/labelled"))
            doc_commands.run(line, SMALLER.get(line[1], {}) if "stats" not in line else {})

    classes = read_classes("classes.yaml")
    assert load_package(Path("out/package")).manifest.classes == classes
    assert classes.detection_classes == ("forklift", "pedestrian")
    stats = json.loads(Path("out/shards/stats.json").read_text())
    assert stats["boxes"]["truck"] > 0 and stats["unknown_classes"] == {}
    assert {"road", "building"} < stats["pixels"].keys()
    found = json.loads(Path("out/replay/metrics.json").read_text())["fused"]
    assert {"forklift", "pedestrian"} == found["detection_2d"]["classes"].keys()
    assert found["segmentation"]["classes"].keys() <= {"floor", "rack", "pedestrian", "vehicle"}
    assert "floor" in found["segmentation"]["classes"] and found["unknown_classes"] == {}
