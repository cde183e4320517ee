"""AdamW and its learning rate (spec section 4)."""

from __future__ import annotations

import math

import torch
from torch import nn

from lemumo_core.train.config import OptimiserConfig


def build_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW over all parameters; see ``OptimiserConfig.decay_all`` for which of them decay."""
    maps = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    decayed = {id(module.weight) for module in maps}
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in model.parameters():
        groups[config.decay_all or id(parameter) in decayed].append(parameter)
    decays = {True: config.weight_decay, False: 0.0}
    return torch.optim.AdamW(
        [{"params": groups[key], "weight_decay": decays[key]} for key in groups if groups[key]],
        lr=config.lr,
        fused=True,
    )


def learning_rate(config: OptimiserConfig, step: int, steps: int) -> float:
    """Of a step out of so many: linear from lr / 100 to lr, then cosine to ``final_lr``."""
    warmup = round(config.warmup * steps)
    if step < warmup:
        return config.lr * (0.01 + 0.99 * step / warmup)
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    return config.final_lr + (config.lr - config.final_lr) * (1 + math.cos(math.pi * progress)) / 2


def set_learning_rate(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Of all groups."""
    for group in optimiser.param_groups:
        group["lr"] = lr
