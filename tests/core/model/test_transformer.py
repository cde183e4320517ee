"""The block all encoders share, against its definition."""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention

from lemumo_core.model.transformer import Block


def test_stochastic_depth_is_a_mask_on_either_branch_and_computes_only_what_it_keeps() -> None:
    """Huang et al. 2016 (arXiv 1603.09382), scaled while training as in timm."""
    torch.manual_seed(0)
    block = Block(dim=16, heads=2, drop_path=0.4).train()
    x = torch.randn(64, 5, 16, requires_grad=True)
    rows: list[int] = []
    block.mlp.fc1.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))

    torch.manual_seed(1)
    found = block(x)
    gradient = torch.autograd.grad(found.square().sum(), [x, *block.parameters()])

    torch.manual_seed(1)
    masks = [torch.empty(64).bernoulli_(0.6).view(-1, 1, 1) / 0.6 for _ in range(2)]
    q, k, v = block.attn.project(block.norm1(x))
    expected = x + masks[0] * block.attn.merge(scaled_dot_product_attention(q, k, v))
    expected = expected + masks[1] * block.mlp(block.norm2(expected))
    expected_gradient = torch.autograd.grad(expected.square().sum(), [x, *block.parameters()])

    assert rows == [int((masks[1] > 0).sum()), 64] and rows[0] < 64
    torch.testing.assert_close(found, expected)
    for mine, reference in zip(gradient, expected_gradient, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-4)


def test_a_batch_that_keeps_no_sample_passes_through() -> None:
    block = Block(dim=16, heads=2, drop_path=1.0 - 1e-6).train()
    x = torch.randn(2, 5, 16, requires_grad=True)
    found = block(x)
    found.sum().backward()
    assert torch.equal(found, x)
    assert all(torch.count_nonzero(p.grad) == 0 for p in block.parameters())
