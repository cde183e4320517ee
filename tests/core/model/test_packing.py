"""Groups that go through blocks at once: what each would be by itself, with fewer launches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lemumo_core.model.config import VARIANTS, ModelConfig
from lemumo_core.model.encoder import Encoder
from lemumo_core.model.packing import through_packed
from lemumo_core.model.transformer import ALL, Block, through
from lemumo_core.model.variants import build_encoder
from lemumo_core.preprocess import Inputs

SHAPES = [(7, 5), (12, 3), (1, 4), (5, 2)]
ROWS = [ALL, slice(-1, None), slice(1, 3), ALL]


def gradients(found: list[Tensor], of: list[Tensor]) -> list[Tensor]:
    total = sum(x.square().sum() for x in found)
    assert isinstance(total, Tensor)
    return list(torch.autograd.grad(total, of, allow_unused=True))


@pytest.mark.parametrize("drop_path", [0.0, 0.4, 1.0 - 1e-6], ids=["none", "some", "all"])
def test_groups_at_once_are_groups_one_after_the_other(drop_path) -> None:
    torch.manual_seed(0)
    blocks = [Block(dim=16, heads=2, drop_path=drop_path).train() for _ in range(3)]
    groups = [torch.randn(*shape, 16, requires_grad=True) for shape in SHAPES]
    learning = [*groups, *nn.ModuleList(blocks).parameters()]
    calls = [0, 0]  # of the first block, and of the last

    def count(i: int) -> None:
        calls[i] += 1

    for i, block in enumerate((blocks[0], blocks[-1])):
        block.mlp.fc1.register_forward_hook(lambda *_, i=i: count(i))

    torch.manual_seed(1)
    expected = [through(blocks, x, rows) for x, rows in zip(groups, ROWS, strict=True)]
    assert calls == [4, 4]
    torch.manual_seed(1)
    found = through_packed(blocks, groups, ROWS)
    assert calls == [4 + 1, 4 + 3]  # the last one takes at once what it takes whole
    for one, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(one, reference)
    ours, theirs = gradients(found, learning), gradients(expected, learning)
    for one, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_variants_encode_views_of_several_sizes(variant) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(ModelConfig(size="nano", height=64, width=64, variant=variant)).train()
    assert isinstance(encoder, Encoder)
    embedded = [
        encoder.embed(
            Inputs(
                torch.randint(256, (count, height, 32, 3), dtype=torch.uint8),
                torch.rand(count, height, 32, encoder.patch_embed.companion_channels),
                torch.eye(3).expand(count, 3, 3),
                torch.ones(count, 2),
            )
        )
        for count, height in ((3, 64), (5, 32))
    ]
    torch.manual_seed(1)
    expected = [encoder.encode(embedded[0], True), encoder.encode(embedded[1], False)]
    torch.manual_seed(1)
    found = encoder.encode_all(embedded, [True, False])
    for one, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(one.cls, reference.cls)
        torch.testing.assert_close(one.tokens, reference.tokens)
