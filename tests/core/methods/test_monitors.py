"""Monitors: the collapse warning, the shares of the modalities, and that nothing is disturbed."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from lemumo_core.data.views import View
from lemumo_core.methods.lemumo.monitors import Monitors, modality_shares
from lemumo_core.methods.lemumo.projector import Projector
from lemumo_core.metrics.collapse import embedding_std, gaussian_p_values, rankme
from lemumo_core.model.encoder import Encoder
from lemumo_core.model.variants import build_encoder
from tests.helpers.random_views import CONFIG, random_view


def seeded(variant: str = "pruned") -> tuple[Encoder, Projector]:
    torch.manual_seed(0)
    config = replace(CONFIG, variant=variant)
    return build_encoder(config).train(), Projector(config.token_dim).train()


def constant() -> tuple[Encoder, Projector]:
    """The same embedding for every input."""
    encoder, projector = seeded()
    torch.nn.init.zeros_(projector.embedding.weight)
    return encoder, projector


@torch.no_grad()
def outputs(encoder: Encoder, projector: Projector, view: View) -> tuple[Tensor, Tensor]:
    return projector(encoder(view.inputs, dense=False).cls)


def test_a_constant_encoder_raises_the_warning_once_an_onset(caplog):
    view, healthy, dead = random_view(16), seeded(), constant()
    monitors = Monitors(*healthy)
    flags = []
    with caplog.at_level(logging.WARNING, "lemumo_core.methods.lemumo.monitors"):
        for step, networks in enumerate((healthy, dead, dead, healthy, dead)):
            scalars = monitors.observe(step, view, *outputs(*networks, view))
            flags.append(scalars["collapsed"])
    assert flags == [0, 1, 1, 0, 1]
    assert [record.args[0] for record in caplog.records] == [1, 4]
    assert "RankMe 1 " in caplog.records[0].getMessage()


def test_one_direction_of_both_signs_is_a_collapse():
    """Embeddings on a line have spread, but a rank of one."""
    line = torch.randn(16, 1) * torch.ones(1, 512)
    scalars = Monitors(*seeded()).observe(0, random_view(16), line, torch.randn(16, 128))
    assert scalars["embedding_std"] > 0.5 and scalars["collapsed"] == 1.0


def test_scalars_are_those_of_the_rows_and_views():
    view, g = random_view(16), torch.Generator().manual_seed(2)
    embeddings = torch.randn(16, 512, generator=g)
    projections = torch.randn(2, 8, 128, generator=g)
    scalars = Monitors(*seeded()).observe(7, view, embeddings, projections)
    assert scalars["rankme"] == rankme(embeddings.numpy())
    assert scalars["embedding_std"] == embedding_std(embeddings.numpy())
    p = np.concatenate([gaussian_p_values(x.numpy(), 7) for x in projections])
    assert scalars["sigreg_p_median"] == np.median(p)
    assert scalars["sigreg_rejected"] == np.mean(p < 0.05)
    assert scalars["collapsed"] == 0.0
    flat = Monitors(*seeded()).observe(7, view, embeddings, projections.flatten(0, 1))
    assert flat == scalars


def test_rises_are_their_definition():
    networks, view = seeded(), random_view(6)
    view.present[0, 1] = 0.0  # of sample 0 in view 0; it does not count there
    shares = modality_shares(*networks, view, global_views=2)
    for network in networks:
        network.eval()
    joint = outputs(*networks, view)[1]
    for name, kept in (("image", [0.0, 1.0]), ("companion", [1.0, 0.0])):
        alone = outputs(*networks, replace(view, present=view.present * torch.tensor(kept)))[1]
        rises = []
        for row in range(1, 6):
            sample = row % 3
            center = (joint[sample] + joint[3 + sample]) / 2
            for p, sign in ((alone, 1), (joint, -1)):
                rises.append(sign * (p[row] - center).square().mean().item())
        assert_allclose(shares[f"rise_{name}"], sum(rises) / 5, rtol=1e-3, atol=1e-7)
    assert_allclose(shares["share_image"] + shares["share_companion"], 1.0)


@pytest.mark.parametrize(
    ("variant", "share_image"), [("camera_only", 1.0), ("companion_only", 0.0)]
)
def test_an_encoder_of_one_modality_shares_nothing(variant: str, share_image: float):
    shares = modality_shares(*seeded(variant), random_view(6), 2)
    assert shares["share_image"] == share_image
    assert min(shares["rise_image"], shares["rise_companion"]) == 0.0


def test_samples_without_one_modality_have_no_share():
    view = random_view(4)
    view.present[:, 0] = 0.0
    assert modality_shares(*seeded(), view, 2) == {}


def test_observing_changes_nothing():
    networks, view = torch.nn.ModuleList(seeded()), random_view(8)
    made = outputs(*networks, view)
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    state = torch.get_rng_state()
    Monitors(*networks).observe(0, view, *made)
    assert all(module.training for module in networks)
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in networks.state_dict().items():
        assert torch.equal(value, before[name]), name
