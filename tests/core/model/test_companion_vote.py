"""Boxes with the companion's vote: a mean of two predictions, where both sensors are there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lemumo_core.inference.inputs import random_inputs
from lemumo_core.losses.centernet import RawDetections
from lemumo_core.model.companion_vote import companion_alone, voted
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import seeded_model
from lemumo_core.preprocess import Inputs

CONFIG = ModelConfig(size="nano", height=64, width=96, refine_depth=True)
VOTING = replace(CONFIG, companion_vote=0.5)


def maps(seed: int, batch: int = 3) -> RawDetections:
    """Predictions of B views, whose depths lie around 20 m."""
    rng = np.random.default_rng(seed)
    heat, offset, size, depth, rotation = (
        torch.from_numpy(rng.normal(0, 0.1, (batch, channels, 4, 6)).astype(np.float32))
        for channels in (5, 2, 3, 1, 2)
    )
    confidence = torch.from_numpy(rng.uniform(0, 1, (batch, 1, 4, 6)).astype(np.float32))
    return RawDetections(heat, offset, size, depth + 3.0, rotation, confidence)


def test_a_vote_counts_as_much_as_it_is_sure_of_the_depth() -> None:
    both, alone = maps(0), maps(1)
    present = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    found = voted(both, alone, 0.5, present)
    far = (both.log_depth - alone.log_depth).abs()[:1] > 0.1
    assert 0.2 < far.float().mean() < 0.8
    for name in ("heatmap", "offset", "log_size", "rotation", "depth_confidence", "log_depth"):
        one, other, mean = (getattr(x, name).numpy() for x in (both, alone, found))
        share = 0.5 * alone.depth_confidence.numpy()[:1]
        if name == "log_depth":
            share = np.where(far.numpy(), 0.0, share)
        np.testing.assert_allclose(mean[:1], (1 - share) * one[:1] + share * other[:1], rtol=1e-5)
        np.testing.assert_array_equal(mean[1:], one[1:])  # without one of the sensors


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return Inputs(*map(torch.from_numpy, random_inputs(CONFIG.input_spec, 2)))


def test_only_boxes_of_both_sensors_change(inputs) -> None:
    plain, voting = seeded_model(CONFIG, 0), seeded_model(VOTING, 0)
    assert VOTING.seen == CONFIG.seen
    for present, changes in (([1.0, 1.0], True), ([1.0, 0.0], False), ([0.0, 1.0], False)):
        seen = inputs._replace(present=torch.tensor([present, present]))
        with torch.no_grad():
            found, without = voting(seen), plain(seen)
            alone = plain.raw(companion_alone(seen)).detections
            raw = voted(plain.raw(seen).detections, alone, 0.5, seen.present)
            expected = plain.decoder(raw, seen.intrinsics)
        for name in ("depth", "depth_confidence", "labels"):
            assert torch.equal(getattr(found, name), getattr(without, name))
        torch.testing.assert_close((found.boxes, found.scores, found.class_ids), expected)
        assert torch.equal(found.scores, without.scores) != changes


def test_it_runs_where_no_device_but_the_models_is_allowed(inputs) -> None:
    """On ``meta``, which refuses another device's tensors and every look at a value."""
    found = seeded_model(VOTING, 0).to("meta")(Inputs(*(one.to("meta") for one in inputs)))
    assert found.boxes.shape == (2, 100, 7) and found.boxes.is_meta


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"companion_vote": 1.5}, "must be in"),
        ({"detection": "2d"}, "3d detection"),
        ({"head_preset": "paper", "refine_depth": False}, "head_preset deploy"),
        ({"variant": "camera_only"}, "both sensors"),
    ],
)
def test_what_has_no_vote_is_refused(wrong, words) -> None:
    with pytest.raises(ValueError, match=f"companion_vote.*{words}"):
        replace(VOTING, **wrong)
