"""Sparse convolution: gather, multiply, add up.

    y[target] += x[source] @ weight[offset]    for every pair of a kernel map

Voxels of a scan have 3 to 9 of 26 neighbours, so that one product an offset does far less than a
dense one of 27 C columns. The products of all offsets lie in one buffer, and one segmented sum
adds up those of each target: deterministic, without atomic additions, and the gradient of the
input runs the same way with the roles exchanged. The centre of a submanifold kernel is one plain
product.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lemumo_core.model.products import multiply_into, weight_gradient_into
from lemumo_core.model.sparse.kernel_map import CENTER, KernelMap, Rows

Backend = Callable[[Tensor, Tensor, KernelMap], Tensor]
"""Takes x (sources, C), weight (K, C, C') and the map, and returns (targets, C')."""


def convolve(x: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """Convolve the rows of voxels; the default ``Backend``, and the reference.

    Args:
        x: (sources, C).
        weight: (K, C, C'), of the same type.
        kernel_map: of K offsets.

    Returns:
        (targets, C').
    """
    result: Tensor = _Convolution.apply(x, weight, kernel_map)
    return result


class SparseConv(nn.Module):
    """Sparse convolution without bias.

    Args:
        channels_in, channels_out: widths.
        offsets: of the kernel: 27 (submanifold) or 8 (strided, and transposed).
        backend: what computes it.
    """

    def __init__(
        self, channels_in: int, channels_out: int, offsets: int, backend: Backend = convolve
    ):
        super().__init__()
        self.backend = backend
        self.weight = nn.Parameter(torch.empty(offsets, channels_in, channels_out))
        # He's initialisation by the fan out, as MinkowskiEngine's networks have it, with the
        # number of neighbours that a voxel really has in place of all 27.
        nn.init.normal_(self.weight, std=(2 / (8 * channels_out)) ** 0.5)

    def forward(self, x: Tensor, kernel_map: KernelMap) -> Tensor:
        """Convolve x (sources, channels in); return (targets, channels out)."""
        return self.backend(x, self.weight, kernel_map)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.kernel_map = kernel_map
        x = x.contiguous()
        products = x.new_empty(len(kernel_map.source), weight.shape[2])
        for k, start, end in _offsets(kernel_map):
            gathered = x.index_select(0, kernel_map.source[start:end])
            multiply_into(products[start:end], gathered, weight[k])
        middle = None
        if kernel_map.center is not None:
            middle = multiply_into(products.new_empty(len(x), weight.shape[2]), x, weight[CENTER])
        return _add_up(products, kernel_map.by_target, kernel_map.targets, middle)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (x, weight), kernel_map = ctx.saved_tensors, ctx.kernel_map
        need_x = ctx.needs_input_grad[0]
        x, gradient = x.contiguous(), gradient.contiguous()
        of_weight = torch.zeros_like(weight)
        products = x.new_empty(len(kernel_map.source) if need_x else 0, weight.shape[1])
        for k, start, end in _offsets(kernel_map):
            # x is gathered again: to keep it would take P x C numbers a layer.
            gathered = x.index_select(0, kernel_map.source[start:end])
            arriving = gradient.index_select(0, kernel_map.target[start:end])
            weight_gradient_into(of_weight[k], gathered, arriving)
            if need_x:
                multiply_into(products[start:end], arriving, weight[k].t())
        if kernel_map.center is not None:
            weight_gradient_into(of_weight[CENTER], x, gradient)
        if not need_x:
            return None, of_weight, None
        middle = None
        if kernel_map.center is not None:
            middle = multiply_into(torch.empty_like(x), gradient, weight[CENTER].t())
        return (
            _add_up(products, kernel_map.by_source, kernel_map.sources, middle),
            of_weight,
            None,
        )


def _offsets(kernel_map: KernelMap) -> list[tuple[int, int, int]]:
    """Return number, first and last pair of the offsets that have any."""
    spans = enumerate(pairwise(kernel_map.spans))
    return [(k, start, end) for k, (start, end) in spans if start < end]


def _add_up(products: Tensor, rows: Rows, count: int, middle: Tensor | None) -> Tensor:
    if not len(products):
        return products.new_zeros(count, products.shape[1]) if middle is None else middle
    total = torch.embedding_bag(products, rows.pairs, rows.starts, False, 0, False, None, True)[0]
    return total if middle is None else middle.add_(total)
