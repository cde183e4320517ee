"""AdamW and its learning rate (spec section 4)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from lemumo_core.train.run_config import OptimizerConfig


def build_optimizer(
    model: nn.Module, config: OptimizerConfig, rate: Callable[[str], float] = lambda name: 1.0
) -> torch.optim.AdamW:
    """AdamW over all parameters.

    Args:
        model: of the parameters.
        config: see ``OptimizerConfig.decay_all`` for which of them decay.
        rate: by the name of a parameter, what its learning rate is multiplied by.
    """
    maps = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    decayed = {id(module.weight) for module in maps}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        key = rate(name), config.decay_all or id(parameter) in decayed
        groups.setdefault(key, []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": groups[key], "rate": key[0], "weight_decay": key[1] * config.weight_decay}
            for key in sorted(groups, reverse=True)
        ],
        lr=config.lr,
        fused=True,
    )


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """Of a step out of so many: linear from lr / 100 to lr, then cosine to ``final_lr``."""
    warmup = round(config.warmup * steps)
    if step < warmup:
        return config.lr * (0.01 + 0.99 * step / warmup)
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    return config.final_lr + (config.lr - config.final_lr) * (1 + math.cos(math.pi * progress)) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Of all groups, each times its own rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["rate"]
