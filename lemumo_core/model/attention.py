"""Attention of all encoders."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention (arXiv 1706.03762, equation 1).

    In bfloat16 on a CPU the two products are written out: there torch's fused kernel takes three
    to five times as long, forward and backward (torch 2.13, EPYC with AVX512-BF16).

    Args:
        q: queries, (B, heads, R, D).
        k: keys, (B, heads, N, D).
        v: values, like the keys.

    Returns:
        (B, heads, R, D).
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        weights = (q * q.shape[-1] ** -0.5) @ k.mT
        return weights.softmax(-1) @ v
    return functional.scaled_dot_product_attention(q, k, v)
