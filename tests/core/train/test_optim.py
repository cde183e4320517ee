"""Learning rate and weight decay, against their definition."""

from __future__ import annotations

import math

import pytest

from lemumo_core.model.config import VARIANTS, ModelConfig
from lemumo_core.model.variants import build_encoder
from lemumo_core.train.optim import build_optimizer, learning_rate
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


def test_learning_rate_of_very_short_runs() -> None:
    config = OptimizerConfig()
    assert learning_rate(config, 0, 1) == pytest.approx(config.lr)
    assert learning_rate(OptimizerConfig(warmup=1.0), 1, 2) < config.lr


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_maps_decay_unless_all_do(variant: str) -> None:
    encoder = build_encoder(ModelConfig(height=32, width=32, variant=variant))
    maps = ("qkv.weight", "proj.weight", "fc1.weight", "fc2.weight")
    for everything in (False, True):
        optimizer = build_optimizer(encoder, OptimizerConfig(decay_all=everything))
        groups = optimizer.param_groups
        decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
        for name, parameter in encoder.named_parameters():
            mapping = name.endswith(maps) or name in ("embedding.weight", "stems.image.weight")
            mapping |= name == "stems.companion.weight"
            mapping |= name.startswith("projector") and parameter.ndim == 2
            expected = 0.05 if everything or mapping else 0.0
            assert decay[id(parameter)] == expected, name


def test_options_outside_their_range() -> None:
    with pytest.raises(ValueError, match="warmup is 2"):
        OptimizerConfig(warmup=2)
    with pytest.raises(ValueError, match="final_lr"):
        OptimizerConfig(lr=1e-7)
