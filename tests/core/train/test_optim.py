"""Learning rate and weight decay, against their definition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lemumo_core.methods.method import ParameterGroup
from lemumo_core.model.config import VARIANTS, ModelConfig
from lemumo_core.model.variants import build_encoder
from lemumo_core.train.optim import Lars, build_optimizer, learning_rate, set_learning_rate
from lemumo_core.train.run_config import OptimizerConfig


def test_learning_rate_of_the_paper() -> None:
    # Five epochs of 100 steps: one of them warm-up, as lr 1e-4 from a hundredth of it.
    config = OptimizerConfig(lr=1e-4, final_lr=1e-6, warmup=0.2)
    rates = [learning_rate(config, step, 500) for step in range(500)]
    assert rates[0] == pytest.approx(1e-6)
    assert rates[50] == pytest.approx(1e-4 * (0.01 + 0.99 / 2))
    assert rates[100] == pytest.approx(1e-4) == max(rates)
    assert rates[499] == pytest.approx(1e-6)
    halfway = 1e-6 + (1e-4 - 1e-6) * (1 + math.cos(math.pi * 200 / 399)) / 2
    assert rates[300] == pytest.approx(halfway)
    assert rates[100:] == sorted(rates[100:], reverse=True)


def test_a_cosine_by_epochs_without_warmup() -> None:
    config = OptimizerConfig(lr=0.2, final_lr=0.0, warmup=0.0, per_epoch=True)
    rates = [learning_rate(config, step, 30, 5) for step in range(30)]
    expected = [0.1 * (1 + math.cos(math.pi * (step // 6) / 5)) for step in range(30)]
    assert rates == pytest.approx(expected)


def test_learning_rate_of_very_short_runs() -> None:
    config = OptimizerConfig()
    assert learning_rate(config, 0, 1) == pytest.approx(config.lr)
    assert learning_rate(OptimizerConfig(warmup=1.0), 1, 2) < config.lr


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_maps_decay_unless_all_do(variant: str) -> None:
    encoder = build_encoder(ModelConfig(height=32, width=32, variant=variant))
    groups_of = [ParameterGroup(list(encoder.named_parameters()))]
    maps = ("qkv.weight", "proj.weight", "fc1.weight", "fc2.weight")
    for everything in (False, True):
        optimizer = build_optimizer(encoder, groups_of, OptimizerConfig(decay_all=everything))
        groups = optimizer.param_groups
        decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
        for name, parameter in encoder.named_parameters():
            mapping = name.endswith(maps) or name == "patch_embed.image.weight"
            mapping |= name == "patch_embed.companion.weight"
            expected = 0.05 if everything or mapping else 0.0
            assert decay[id(parameter)] == expected, name


def test_options_outside_their_range() -> None:
    with pytest.raises(ValueError, match="warmup is 2"):
        OptimizerConfig(warmup=2)
    with pytest.raises(ValueError, match="final_lr"):
        OptimizerConfig(lr=1e-7)


def test_lars_is_its_definition() -> None:
    """Three steps, written out number by number; one weight is all zeros and takes no scale."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2, bias=False))
    nn.init.zeros_(model[2].weight)
    config = OptimizerConfig("lars", lr=0.3, weight_decay=0.1, momentum=0.8, trust=0.01)
    groups = [ParameterGroup(list(model.named_parameters()), rate=0.5)]
    optimizer = build_optimizer(model, groups, config)
    assert isinstance(optimizer, Lars)
    set_learning_rate(optimizer, config.lr)
    expected = {name: p.detach().double().clone() for name, p in model.named_parameters()}
    velocity = {name: torch.zeros_like(value) for name, value in expected.items()}
    for step in range(3):
        for name, parameter in model.named_parameters():
            generator = torch.Generator().manual_seed(step)
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            update, weight = parameter.grad.double(), expected[name]
            if weight.ndim == 2:
                update = update + 0.1 * weight
                norms = [math.sqrt(sum(x * x for x in v.flatten())) for v in (weight, update)]
                if min(norms) > 0:
                    update = update * 0.01 * norms[0] / norms[1]
            velocity[name] = 0.8 * velocity[name] + update
            expected[name] = weight - 0.3 * 0.5 * velocity[name]
        optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.double(), expected[name], rtol=1e-5, atol=1e-7)
