"""A view larger than what the encoder sees: made smaller, it is the view that it was trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lemumo_core.frame import Frame, LidarScan
from lemumo_core.geometry.camera import Camera
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import seeded_model
from lemumo_core.model.reduced_view import reduced
from lemumo_core.preprocess import Inputs, InputSpec, preprocess

SMALL = ModelConfig(size="nano", height=64, width=96, refine_depth=True)
LARGE = replace(SMALL, height=128, width=192, encoder_reduction=2)


@pytest.fixture(scope="module")
def large() -> Inputs:
    """Inputs of a smooth image and a scan, at twice the size."""
    rng = np.random.default_rng(0)
    camera = Camera(384, 256, 500, 500, 191.3, 127.9)
    v, u = np.mgrid[:256, :384]
    image = np.stack([u // 2, v // 2, 128 + 0 * u], axis=-1).astype(np.uint8)
    points = rng.uniform([-20, -10, 2, 0], [20, 10, 60, 1], (6000, 4)).astype(np.float32)
    frame = Frame(1, "front", camera, image, LidarScan(points, np.eye(4), 1), None)
    inputs = [preprocess(frame, config.input_spec) for config in (LARGE, SMALL)]
    return [Inputs(*map(torch.from_numpy, one)) for one in inputs]


def test_it_is_the_view_that_preprocessing_makes_at_that_size(large) -> None:
    at_full_size, expected = large
    found = reduced(at_full_size, 2)
    assert expected.companion[..., 1].sum() > 500
    assert torch.equal(found.companion, expected.companion[..., :2])
    torch.testing.assert_close(found.intrinsics, expected.intrinsics)
    assert (found.image - expected.image.float()).abs().max() < 2
    assert reduced(at_full_size, 1) is at_full_size


def test_a_model_finds_the_same_in_the_larger_view(large) -> None:
    """Boxes are metric, and refined depth and labels have the view's size."""
    at_full_size, _ = large
    small, model = seeded_model(SMALL, 0), seeded_model(LARGE, 0)
    assert LARGE.seen == SMALL
    with torch.no_grad():
        found, expected = model(at_full_size), small.raw(reduced_with_places(at_full_size))
        boxes, scores, class_ids = small.decoder(
            expected.detections, reduced(at_full_size, 2).intrinsics
        )
    torch.testing.assert_close(found.scores, scores)
    torch.testing.assert_close(found.boxes, boxes, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.class_ids, class_ids)
    assert found.depth.shape == found.labels.shape == (1, 128, 192)


def reduced_with_places(inputs: Inputs) -> Inputs:
    """A refining model takes four channels; its boxes do not depend on the last two."""
    small = reduced(inputs, 2)
    places = torch.zeros_like(small.companion)
    return small._replace(companion=torch.cat([small.companion, places], dim=-1))


@pytest.mark.parametrize(
    "wrong", [{"encoder_reduction": 0}, {"height": 80}, {"refine_depth": False}], ids=str
)
def test_what_does_not_fit_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match="encoder_reduction"):
        replace(LARGE, **wrong)
    assert isinstance(LARGE.input_spec, InputSpec)
