"""spconv as a ``Backend``: its native products over our kernel maps.

Worth it on NVIDIA GPUs, with the wheel of one's CUDA (``pip install spconv-cu126``); the plain
``spconv`` wheel computes on CPUs.
"""

from __future__ import annotations

import functools
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from lemumo_core.extras import install_line
from lemumo_core.model.sparse.kernel_map import CENTER, KernelMap


def convolve_with_spconv(x: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """Convolve the rows of voxels; arguments and result as of ``convolution.convolve``.

    Raises:
        ImportError: spconv is not installed.
    """
    functional, ops = _spconv(x.is_cuda)
    pairs, counts = _indice_pairs(kernel_map)
    filters = weight.permute(2, 0, 1).contiguous()  # (out, K, in), as spconv 2 keeps them
    native = ops.ConvAlgo.Native
    arguments = x.contiguous(), filters, pairs, counts, kernel_map.targets, native
    if kernel_map.center is not None:
        result: Tensor = functional.indice_subm_conv(*arguments)
    else:
        result = functional.indice_conv(*arguments)
    return result


@functools.lru_cache(maxsize=2)
def _spconv(cuda: bool) -> tuple[Any, Any]:
    try:
        from spconv.pytorch import functional, ops
    except ImportError as error:
        raise ImportError(f"spconv is missing: {install_line('spconv')}") from error
    if not cuda:
        # The CPU wheel asks for the CUDA stream in its backward pass, and torch then raises.
        ops.get_current_stream = lambda: 0
    return functional, ops


def _indice_pairs(kernel_map: KernelMap) -> tuple[Tensor, Tensor]:
    """Return the map as spconv has it: int32 (2, K, most pairs), -1 beyond, and counts (K,).

    Of a submanifold map spconv reads the offsets before the centre alone.
    """
    made = getattr(kernel_map, "_indice_pairs", None)
    if made is None:
        spans = kernel_map.spans
        sizes = [end - start for start, end in pairwise(spans)]
        most = max(*sizes, 1)
        if kernel_map.center is not None:
            most = kernel_map.sources
        pairs = torch.full((2, len(sizes), most), -1, dtype=torch.int32)
        pairs = pairs.to(kernel_map.source.device)
        for k, (start, size) in enumerate(zip(spans, sizes, strict=False)):
            pairs[0, k, :size] = kernel_map.source[start : start + size]
            pairs[1, k, :size] = kernel_map.target[start : start + size]
        if kernel_map.center is not None:
            sizes[CENTER] = kernel_map.sources
        counts = torch.tensor(sizes, dtype=torch.int32, device=pairs.device)
        made = pairs, counts
        object.__setattr__(kernel_map, "_indice_pairs", made)
    return made
