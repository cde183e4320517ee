"""Attention is that of the paper at every precision."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from lemumo_core.model.attention import attention


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equals_the_fused_kernel_forward_and_backward(dtype):
    torch.manual_seed(0)
    exact = [torch.randn(2, 3, rows, 16, dtype=torch.float64) for rows in (5, 9, 9)]
    asked = torch.randn(2, 3, 5, 16, dtype=torch.float64)

    def gradients(of, kind):
        inputs = [x.to(kind, copy=True).requires_grad_() for x in exact]
        found = of(*inputs)
        found.backward(asked.to(kind))
        return [found.detach(), *(x.grad for x in inputs)]

    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    expected = gradients(scaled_dot_product_attention, torch.float64)
    for found, true in zip(gradients(attention, dtype), expected, strict=True):
        assert found.dtype == dtype
        assert torch.allclose(found.double(), true, atol=tolerance)
