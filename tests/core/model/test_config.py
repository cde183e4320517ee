"""Model configuration and weights: round trips, and errors that name what is wrong."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import load_model, save_weights, seeded_model

CONFIG = ModelConfig("lemumo", "tiny", 32, 48)


def test_round_trip_through_json() -> None:
    values = json.loads(json.dumps(dataclasses.asdict(CONFIG)))
    assert ModelConfig.from_dict(values) == CONFIG


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"preset": "papers"}, "unknown preset 'papers'; did you mean 'paper'"),
        ({"size": "huge"}, "unknown size 'huge'.*known: nano, tiny, small, base, large"),
        ({"variant": "prunned"}, "unknown variant 'prunned'; did you mean 'pruned'"),
        ({"height": 100}, "multiples of 16"),
        ({"companion": "radar"}, "radar"),
        ({"detection_classes": ()}, "classes"),
    ],
)
def test_bad_values_are_named(change, words) -> None:
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(CONFIG, **change)


def test_a_manifest_without_a_variant_is_pruned() -> None:
    values = dataclasses.asdict(CONFIG)
    del values["variant"]
    assert ModelConfig.from_dict(values).variant == "pruned"


def test_unknown_key_gets_a_suggestion() -> None:
    with pytest.raises(ValueError, match="'heigth'; did you mean 'height'"):
        ModelConfig.from_dict({"heigth": 32})


def test_seeds_reproduce() -> None:
    first, second = (seeded_model(CONFIG, 3).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = seeded_model(CONFIG, 4).state_dict()
    assert not torch.equal(first["encoder.cls_token"], other["encoder.cls_token"])


def test_weights_must_fit(tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    model = seeded_model(CONFIG, 3)
    save_weights(model, path)
    loaded = load_model(CONFIG, path).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())
    weights = load_file(path)
    weights["encoder.cls_token"] = torch.zeros(1, 1, 7)
    weights["extra"] = weights.pop("encoder.norm.bias")
    save_file(weights, path)
    with pytest.raises(ValueError) as error:
        load_model(CONFIG, path)
    for words in (
        "missing encoder.norm.bias",
        "unexpected extra",
        "encoder.cls_token is (1, 1, 7)",
    ):
        assert words in str(error.value)
