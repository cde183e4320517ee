"""Linear layers whose large float32 products on a CPU go through oneDNN where MKL is slow.

Everything else is ``torch.nn.functional.linear``: other devices and types, autocast, exported,
traced and compiled graphs, small layers, processors on which MKL is fast (``products``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from lemumo_core.model import products


class Linear(nn.Linear):
    """``torch.nn.Linear`` by ``linear``."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x @ weight.T + bias, as ``torch.nn.functional.linear`` does.

    Through oneDNN it can be differentiated once.

    Args:
        x: (..., in).
        weight: (out, in).
        bias: (out).

    Returns:
        (..., out).
    """
    if not _goes_through_onednn(x, weight):
        return functional.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    if torch.is_grad_enabled():
        mapped: Tensor = _Linear.apply(rows, weight, bias)
    else:
        # Stochastic depth, in training alone, varies the number of rows: here none are cut off.
        mapped = products.linear_pointwise(rows, weight, bias)
    return mapped.view(*x.shape[:-1], -1)


def _goes_through_onednn(x: Tensor, weight: Tensor) -> bool:
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    if not x.device.type == weight.device.type == "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    if not x.dtype == weight.dtype == torch.float32 or x.shape[-1:] != weight.shape[1:]:
        return False
    # A convolution is no faster than MKL forward and backward.
    if products.ROW_PRODUCT is not products.linear_pointwise:
        return False
    return products.pays(x.numel() // weight.shape[1], *weight.shape)


class _Linear(torch.autograd.Function):
    """``linear`` of rows (n, in)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        of_x, of_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if of_weight else None, weight if of_x else None)
        return products.multiply(x, weight.t(), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        g = gradient.contiguous()
        of_x = of_weight = None
        if weight is not None:
            of_x = products.multiply(g, weight)
        if x is not None:
            of_weight = products.weight_gradient_into(g.new_empty(g.shape[1], x.shape[1]), g, x)
        return of_x, of_weight, g.sum(0) if ctx.needs_input_grad[2] else None
