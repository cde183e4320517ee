"""Optimisers, and the learning rate of a step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lemumo_core.methods.method import ParameterGroup
from lemumo_core.train.run_config import OptimizerConfig


def build_optimizer(
    model: nn.Module, groups: Sequence[ParameterGroup], config: OptimizerConfig
) -> torch.optim.Optimizer:
    """Build the optimiser of a model.

    Args:
        model: the model, which says what is a weight of a linear map or convolution.
        groups: its parameters.
        config: which optimiser; see ``OptimizerConfig.decay_all`` for what decays.
    """
    maps = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.modules.conv._ConvNd))]
    decayed = {id(module.weight) for module in maps}
    split: dict[tuple[float, float], list[nn.Parameter]] = {}
    for group in groups:
        for _, parameter in group.parameters:
            decays = config.decay_all or id(parameter) in decayed
            split.setdefault((group.rate, decays * group.decay), []).append(parameter)
    options: list[dict[str, Any]] = [
        {"params": split[key], "rate": key[0], "weight_decay": key[1] * config.weight_decay}
        for key in sorted(split, reverse=True)
    ]
    if config.name == "lars":
        return Lars(options, config.lr, config.momentum, config.trust)
    return torch.optim.AdamW(options, lr=config.lr, fused=True)


class Lars(torch.optim.Optimizer):
    """LARS (arXiv 1708.03888) with momentum.

    A parameter of two dimensions or more takes its gradient g + decay * w, scaled so that the step
    is ``trust`` times the weight's own norm: trust * |w| / |g + decay * w|, and by 1 where either
    norm is 0. Parameters of one dimension, norms and biases, neither decay nor are scaled, as in
    SimCLR, BYOL and Barlow Twins.

    Args:
        params: groups, each with ``weight_decay``.
        lr: learning rate.
        momentum: of the scaled gradients; the learning rate multiplies their sum.
        trust: trust coefficient.
    """

    def __init__(
        self, params: list[dict[str, Any]], lr: float, momentum: float = 0.9, trust: float = 1e-3
    ):
        super().__init__(params, {"lr": lr, "momentum": momentum, "trust": trust})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient; nothing waits for the device.

        Nothing changes where ``found_inf`` is 1, as in torch's fused optimisers
        (``learner.FiniteUpdates``).
        """
        skip = getattr(self, "found_inf", torch.zeros(())) > 0
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = parameter.grad
                if parameter.ndim > 1:
                    update = update + group["weight_decay"] * parameter
                    weight, gradient = (x.norm() for x in (parameter, update))
                    ratio = group["trust"] * weight / gradient
                    update = update * torch.where((weight > 0) & (gradient > 0), ratio, 1.0)
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = group["momentum"] * state["momentum"] + update
                state["momentum"].copy_(torch.where(skip, state["momentum"], momentum))
                parameter.sub_(torch.where(skip, 0.0, group["lr"] * state["momentum"]))


def learning_rate(config: OptimizerConfig, step: int, steps: int, epochs: float = 0.0) -> float:
    """Return the rate of a step: linear from lr / 100 to lr, then cosine to ``final_lr``.

    Args:
        config: with ``per_epoch``, that of the first step of its epoch, and a cosine that would
            reach ``final_lr`` after the last one.
        step: number of the step, from 0.
        steps: of the whole run.
        epochs: passes over the data that these steps are; 0 where unknown.
    """
    warmup = round(config.warmup * steps)
    last = steps - 1
    if config.per_epoch and epochs:
        step, last = int(int(step / steps * epochs + 1e-9) / epochs * steps), steps
    if step < warmup:
        return config.lr * (0.01 + 0.99 * step / warmup)
    progress = (step - warmup) / max(1, last - warmup)
    return config.final_lr + (config.lr - config.final_lr) * (1 + math.cos(math.pi * progress)) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all groups, each times its own rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["rate"]
