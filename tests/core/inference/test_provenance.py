"""What weights were trained on, by the manifest; where that is unknown nothing is claimed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lemumo_core.data.sources.origins import origins
from lemumo_core.inference.package import load_package
from lemumo_core.inference.provenance import UNKNOWN, rendered_note, training_sources
from tests.helpers.paths import ROOT

STREET = {"starts": [{"sources": ["synthetic"]}]}


@pytest.mark.parametrize(
    ("training", "sources"),
    [
        (STREET, {"synthetic"}),
        ({"starts": [{"sources": ["bags", "synthetic"]}]}, {"bags", "synthetic"}),
        ({"starts": [*STREET["starts"], {"sources": ["kitti"]}]}, {"synthetic", "kitti"}),
        ({"starts": [{"sources": ["bags"], "weights": STREET}]}, {"bags", "synthetic"}),
        ({**STREET, "options": {"weights": "others.safetensors"}}, {"synthetic", UNKNOWN}),
        ({"starts": [{"sources": ["synthetic"], "weights": {}}]}, {"synthetic", UNKNOWN}),
        ({"starts": [{"time": "of an older version"}]}, {UNKNOWN}),
        ({"seed": 0}, {UNKNOWN}),
        (
            {**STREET, "options": {"method": {"init_args": {"image_weights": "timm.pth"}}}},
            {"synthetic", UNKNOWN},
        ),
        (
            {**STREET, "options": {"method": {"init_args": {"image_weights": "random"}}}},
            {"synthetic"},
        ),
    ],
)
def test_sources_of_all_runs_count(training, sources) -> None:
    assert training_sources(training) == sources


def test_the_shipped_model_says_that_it_saw_rendered_streets_alone() -> None:
    manifest = load_package(ROOT / "models" / "lemumo-tiny").manifest
    assert "lemumo-tiny was trained on rendered streets alone" in rendered_note(manifest)
    assert rendered_note(manifest, "as here on street").endswith("there (as here on street)")
    assert not rendered_note(replace(manifest, trained=False))
    assert not rendered_note(replace(manifest, training={}))


def test_origins_are_those_that_recorded_the_frames() -> None:
    shards = {"source": "shards", "configuration": {"source": {"source": "kitti"}}}
    again = {"source": "shards", "configuration": {"source": shards}}
    labels = {"source": "labels", "of": again, "labelled": {"source": "synthetic"}}
    assert origins(again) == ["kitti"] and origins(labels) == ["kitti", "synthetic"]
    assert origins({"source": "bags", "bags": []}) == ["bags"]
    both = {"source": "mixture", "members": [labels, {"source": "bags"}], "labelled": again}
    assert origins(both) == ["kitti", "synthetic", "bags"]
    assert origins({**both, "labelled": {"source": "t4"}})[-1] == "t4"
