"""The fusion encoder against the paper's parameter counts and a naive masked implementation."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from lemumo_core.model.config import ModelConfig
from lemumo_core.model.fusion import FusionEncoder
from lemumo_core.model.perception import seeded_model


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


def encoder_of(preset: str, height: int, width: int) -> FusionEncoder:
    return seeded_model(ModelConfig(preset, "tiny", height, width), 1).encoder


def inputs(encoder: FusionEncoder, height: int, width: int, batch: int = 2):
    generator = torch.Generator().manual_seed(2)
    channels = encoder.stems.companion.in_channels
    image = torch.randint(0, 256, (batch, height, width, 3), generator=generator).byte()
    companion = torch.rand(batch, height, width, channels, generator=generator)
    return image, companion, torch.ones(batch, 2)


def test_parameter_counts_are_the_papers() -> None:
    """Spec section 2; the reference's total less timm's 273,152 dead parameters."""
    encoder = FusionEncoder(ModelConfig("paper", "small", 224, 224))
    assert [count(block) for block in encoder.blocks] == [1_774_464] * 12
    assert count(encoder.norm) == 768
    assert count(encoder.stems.image) == 295_296
    assert count(encoder.stems.companion) == 98_688
    assert count(encoder.embedding) == 197_120
    assert count(encoder.projector) == 5_517_440
    assert encoder.fusion_tokens.numel() == 75_264
    assert encoder.positions.numel() == 226_176
    assert encoder.stems.modality.numel() == 768
    assert encoder.cls_token.numel() == 384
    assert count(encoder) == 27_978_624 - 273_152


def naive(encoder: FusionEncoder, image, companion, present):
    """All 1 + 3N tokens through a masked block 0, written from the definition."""
    rgb, other = encoder.stems(image, companion, present)
    batch, n, _ = rgb.shape
    fusion = encoder.fusion_tokens.expand(batch, -1, -1)
    x = torch.cat([encoder.cls_token.expand(batch, -1, -1), fusion, rgb, other], dim=1)
    x = x + encoder.positions
    allowed = torch.zeros(1 + 3 * n, 1 + 3 * n, dtype=torch.bool)
    patches = list(range(1 + n, 1 + 3 * n))
    for query in [0, *patches]:
        allowed[query, [0, *patches]] = True
    for i in range(n):
        allowed[1 + i, [1 + i, 1 + n + i, 1 + 2 * n + i]] = True
    for index, block in enumerate(encoder.blocks):
        normed = block.norm1(x)
        q, k, v = block.attn.qkv(normed).chunk(3, dim=-1)
        heads = block.attn.heads
        q, k, v = (t.reshape(batch, t.shape[1], heads, -1).transpose(1, 2) for t in (q, k, v))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        if index == 0:
            scores = scores.masked_fill(~allowed, float("-inf"))
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, x.shape[1], -1)
        x = x + block.attn.proj(mixed)
        hidden = functional.gelu(block.mlp.fc1(block.norm2(x)))
        x = x + block.mlp.fc2(hidden)
        if index == 0:
            x = x[:, : 1 + n]
    x = encoder.norm(x)
    return x[:, 0], x[:, 1:]


@pytest.mark.parametrize("preset", ["paper", "lemumo"])
@pytest.mark.parametrize("size", [(64, 64), (48, 112)])
@torch.no_grad()
def test_equals_a_naive_masked_encoder(preset, size) -> None:
    encoder = encoder_of(preset, *size)
    arguments = inputs(encoder, *size)
    cls, tokens = naive(encoder, *arguments)
    ours = encoder(*arguments)
    torch.testing.assert_close(ours.cls, cls, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.tokens, tokens, atol=1e-5, rtol=0)


@torch.no_grad()
def test_another_grid_resizes_the_tables_bicubically() -> None:
    encoder = encoder_of("lemumo", 64, 64)
    fusion, positions = encoder._tables(2, 6)
    assert fusion.shape == (1, 12, 192)
    assert torch.equal(positions[0], encoder.positions[:, :1])
    table = encoder.positions[:, 17:33].reshape(1, 4, 4, 192).permute(0, 3, 1, 2)
    expected = functional.interpolate(table, (2, 6), mode="bicubic", align_corners=False)
    torch.testing.assert_close(positions[2], expected.flatten(2).transpose(1, 2))
    assert encoder(*inputs(encoder, 32, 96)).tokens.shape == (2, 12, 192)


@torch.no_grad()
def test_native_grid_is_used_as_it_is() -> None:
    encoder = encoder_of("lemumo", 64, 64)
    assert encoder._tables(4, 4)[0] is encoder.fusion_tokens


@pytest.mark.parametrize("preset", ["paper", "lemumo"])
@pytest.mark.parametrize("missing", [0, 1])
@torch.no_grad()
def test_content_of_an_absent_modality_has_no_influence(preset, missing) -> None:
    encoder = encoder_of(preset, 64, 64)
    image, companion, present = inputs(encoder, 64, 64)
    present[:, missing] = 0
    first = encoder(image, companion, present)
    garbage = [torch.zeros_like(image), torch.full_like(companion, float("nan"))][missing]
    second = encoder(*([garbage, companion] if missing == 0 else [image, garbage]), present)
    assert torch.equal(first.tokens, second.tokens) and torch.equal(first.cls, second.cls)


@torch.no_grad()
def test_absent_lidar_differs_from_no_returns_only_in_our_preset() -> None:
    for preset, same in (("paper", True), ("lemumo", False)):
        encoder = encoder_of(preset, 64, 64)
        image, companion, present = inputs(encoder, 64, 64)
        empty = torch.zeros_like(companion)
        absent = present * torch.tensor([1.0, 0.0])
        gap = (encoder(image, empty, present).cls - encoder(image, empty, absent).cls).abs().max()
        assert (gap == 0) == same


def test_stochastic_depth_acts_only_while_training() -> None:
    encoder = encoder_of("lemumo", 64, 64)
    arguments = inputs(encoder, 64, 64)
    with torch.no_grad():
        assert torch.equal(encoder(*arguments).cls, encoder(*arguments).cls)
        encoder.train()
        assert not torch.equal(encoder(*arguments).cls, encoder(*arguments).cls)
