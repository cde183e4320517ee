"""Matrix products of rows that differ in number with every scan.

On CPUs with AVX-512 they go through oneDNN, since MKL uses AVX-512 on Intel's processors alone: on
AMD's its float32 product is 2 to 2.5 times as slow. With AVX2 MKL is the faster one on both.
PyTorch has two doors to oneDNN: the operator that ``torch.compile`` emits for linear layers, which
is not documented, and a 1 x 1 convolution of a channels-last view, which is. The first costs less
to call and is taken where it exists.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

LEAST_CHANNELS, LEAST_WORK = 32, 2_000_000
"""Below either MKL is as fast; work is rows x channels in x channels out."""
LEADING_BITS = 3
"""oneDNN compiles a kernel for every new shape and keeps 1024 of them, and no two scans have the
same counts: row counts are cut to so many leading bits, and plain products take the rest."""

RowProduct = Callable[[Tensor, Tensor], Tensor]
"""Takes a (n, c) and b (m, c), float32 on the CPU, and returns a @ b.T."""


def linear_pointwise(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b.T through the operator of ``torch.compile``."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    return product


def pointwise_convolution(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b.T as a 1 x 1 convolution of one channels-last image of n pixels."""
    image = a.view(1, 1, *a.shape).permute(0, 3, 1, 2)
    return functional.conv2d(image, b[:, :, None, None]).permute(0, 2, 3, 1).reshape(len(a), -1)


def _has_avx512() -> bool:
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def find_row_product() -> RowProduct | None:
    """Return the way to oneDNN that this PyTorch has, None where plain products are faster."""
    if not (torch.backends.mkldnn.is_available() and _has_avx512()):
        return None
    try:
        linear_pointwise(torch.ones(1, 1), torch.ones(1, 1))
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return pointwise_convolution
    return linear_pointwise


ROW_PRODUCT = find_row_product()
"""The product that this process uses for large float32 jobs on the CPU."""


def multiply_into(out: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Set ``out`` (n, m), of contiguous rows, to a (n, c) @ b (c, m), and return it."""
    n = _rows_for_onednn(a, b.shape[1])
    if n:
        assert ROW_PRODUCT is not None
        out[:n] = ROW_PRODUCT(a[:n], b.t())
    if n < len(a):
        torch.mm(a[n:], b, out=out[n:])
    return out


def weight_gradient_into(out: Tensor, x: Tensor, g: Tensor) -> Tensor:
    """Set ``out`` (c, m) to x (n, c).T @ g (n, m), and return it."""
    n = _rows_for_onednn(x, g.shape[1])
    if not n:
        return torch.mm(x.t(), g, out=out)
    assert ROW_PRODUCT is not None
    xt, gt = x[:n].t(), g[:n].t()
    # The left factor must have contiguous rows: the narrower one is copied for that.
    if len(xt) <= len(gt):
        out.copy_(ROW_PRODUCT(xt.contiguous(), gt))
    else:
        out.copy_(ROW_PRODUCT(gt.contiguous(), xt).t())
    return out.addmm_(x[n:].t(), g[n:]) if n < len(x) else out


def _rows_for_onednn(a: Tensor, channels_out: int) -> int:
    n, channels_in = a.shape
    if ROW_PRODUCT is None or a.device.type != "cpu" or a.dtype != torch.float32:
        return 0
    few = min(channels_in, channels_out) < LEAST_CHANNELS
    if few or n * channels_in * channels_out < LEAST_WORK:
        return 0
    dropped = max(n.bit_length() - LEADING_BITS, 0)
    return n >> dropped << dropped
