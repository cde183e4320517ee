"""Matrix products of many rows in float32, through oneDNN where MKL is slow.

MKL uses AVX-512 on Intel's processors alone. On AMD's since Zen 5, whose units are 512 bits wide
(Zen 4's have 256), its product takes 2 to 2.5 times as long as oneDNN's; on Intel's it is as fast,
and faster for gradients of weights, as it is everywhere with AVX2. PyTorch has two doors to
oneDNN: the operator that ``torch.compile`` emits for linear layers, which is not documented, and a
1 x 1 convolution of a channels-last view, which is. The first costs less to call and is taken
where it exists.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

LEAST_CHANNELS, LEAST_WORK = 32, 2_000_000
"""Below either MKL is as fast; work is rows x channels in x channels out."""
LEADING_BITS = 3
"""oneDNN compiles a kernel for every new shape, in about a millisecond and half a megabyte, and
keeps 1024 of them; no two scans, nor two draws of stochastic depth, have the same counts. Row
counts are cut to so many leading bits, and plain products take the rest."""
AMD_FAMILY, ZEN_5 = re.compile(r"AuthenticAMD\ncpu family\s*: (\d+)"), 26

RowProduct = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Takes a (n, c), b (m, c) and bias (m) or None, float32 on the CPU; returns a @ b.T + bias."""


def linear_pointwise(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a @ b.T + bias through the operator of ``torch.compile``."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return product


def pointwise_convolution(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a @ b.T + bias as a 1 x 1 convolution of one channels-last image of n pixels."""
    image = a.view(1, 1, *a.shape).permute(0, 3, 1, 2)
    mapped = functional.conv2d(image, b[:, :, None, None], bias)
    return mapped.permute(0, 2, 3, 1).reshape(len(a), -1)


def is_mkl_slow(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether MKL leaves half of the processor's speed unused, by what Linux says of it."""
    capability = torch.backends.cpu.get_cpu_capability()
    if not (torch.backends.mkl.is_available() and capability.startswith("AVX512")):
        return False
    found = re.search(AMD_FAMILY, cpuinfo.read_text()) if cpuinfo.exists() else None
    return found is not None and int(found[1]) >= ZEN_5


def find_row_product() -> RowProduct | None:
    """Return the way to oneDNN that this PyTorch has, None where plain products are faster."""
    if not (torch.backends.mkldnn.is_available() and is_mkl_slow()):
        return None
    try:
        linear_pointwise(torch.ones(1, 1), torch.ones(1, 1))
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return pointwise_convolution
    return linear_pointwise


ROW_PRODUCT = find_row_product()
"""The product that this process uses for large float32 jobs on the CPU: the same one in every
process of a machine, so that a run goes on there to the bit."""


def multiply(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a (n, c), of contiguous rows, @ b (c, m) + bias (m)."""
    if ROW_PRODUCT is not None and _rows_for_onednn(a, b.shape[1]) == len(a):
        return ROW_PRODUCT(a, b.t(), bias)
    return multiply_into(a.new_empty(len(a), b.shape[1]), a, b, bias)


def multiply_into(out: Tensor, a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Set ``out`` (n, m), of contiguous rows, to a (n, c) @ b (c, m) + bias, and return it."""
    n = _rows_for_onednn(a, b.shape[1])
    if n:
        assert ROW_PRODUCT is not None
        out[:n] = ROW_PRODUCT(a[:n], b.t(), bias)
    if n < len(a):
        rest = a[n:], b
        torch.mm(*rest, out=out[n:]) if bias is None else torch.addmm(bias, *rest, out=out[n:])
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
        out.copy_(ROW_PRODUCT(xt.contiguous(), gt, None))
    else:
        out.copy_(ROW_PRODUCT(gt.contiguous(), xt, None).t())
    return out.addmm_(x[n:].t(), g[n:]) if n < len(x) else out


def pays(rows: int, channels_in: int, channels_out: int) -> bool:
    """Return whether a float32 product on the CPU of this size is one for oneDNN."""
    few = min(channels_in, channels_out) < LEAST_CHANNELS
    return ROW_PRODUCT is not None and not few and rows * channels_in * channels_out >= LEAST_WORK


def _rows_for_onednn(a: Tensor, channels_out: int) -> int:
    n, channels_in = a.shape
    if a.device.type != "cpu" or a.dtype != torch.float32 or not pays(n, channels_in, channels_out):
        return 0
    dropped = max(n.bit_length() - LEADING_BITS, 0)
    return n >> dropped << dropped
