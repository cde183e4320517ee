"""The encoders against the paper's parameter counts and naive masked implementations."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from torch.nn import functional

from lemumo_core.distributed import BatchNorm1d
from lemumo_core.methods.lemumo.projector import Projector
from lemumo_core.model.config import VARIANTS, ModelConfig
from lemumo_core.model.encoder import Encoder
from lemumo_core.model.perception import PerceptionModel
from lemumo_core.model.transformer import resize_tables
from lemumo_core.model.variants import ENCODERS, build_encoder
from lemumo_core.preprocess import Inputs

FUSION = ("pruned", "persistent", "full")


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


@functools.cache
def encoder_of(preset: str, height: int, width: int, variant: str = "pruned") -> Encoder:
    """One for all tests, since its random weights take a second: copy it to change it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return build_encoder(ModelConfig(preset, "tiny", height, width, variant=variant)).eval()


def inputs(preset: str, height: int, width: int, batch: int = 2) -> Inputs:
    generator = torch.Generator().manual_seed(2)
    channels = ModelConfig(preset).input_spec.companion_channels
    image = torch.randint(0, 256, (batch, height, width, 3), generator=generator).byte()
    companion = torch.rand(batch, height, width, channels, generator=generator)
    return Inputs(image, companion, torch.eye(3).expand(batch, 3, 3), torch.ones(batch, 2))


def test_parameter_counts_are_the_papers() -> None:
    """Spec section 2; the reference's total less timm's 273,152 dead parameters."""
    encoder = build_encoder(ModelConfig("paper", "small", 224, 224))
    assert [count(block) for block in encoder.blocks] == [1_774_464] * 12
    assert count(encoder.norm) == 768
    assert count(encoder.patch_embed.image) == 295_296
    assert count(encoder.patch_embed.companion) == 98_688
    assert encoder.fusion_tokens.numel() == 75_264
    assert encoder.positions.numel() == 226_176
    assert encoder.patch_embed.modality.numel() == 768
    assert encoder.cls_token.numel() == 384
    projector = Projector(384)
    assert count(projector.embedding) == 197_120
    assert count(projector.layers) == 5_517_440
    assert sum(isinstance(module, BatchNorm1d) for module in projector.layers) == 2
    assert count(encoder) + count(projector) == 27_978_624 - 273_152


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        ("tiny", 5_524_416),
        ("small", 21_665_664),
        ("base", 85_798_656),
        ("large", 303_301_632),
    ],
)
def test_sizes_are_those_of_vit(size, parameters) -> None:
    """timm's vit_*_patch16_224 with num_classes=0; ours adds one modality embedding."""
    with torch.device("meta"):
        config = ModelConfig("paper", size, 224, 224, variant="camera_only")
        encoder = build_encoder(config)
    assert count(encoder.patch_embed) + count(encoder.tower) == parameters + config.dim


def block_outputs(block, x, allowed):
    """One transformer block under a dense mask, written from the definition."""
    heads = block.attn.heads
    q, k, v = block.attn.qkv(block.norm1(x)).chunk(3, dim=-1)
    q, k, v = (t.reshape(*t.shape[:2], heads, -1).transpose(1, 2) for t in (q, k, v))
    scores = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(~allowed, float("-inf"))
    x = x + block.attn.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape))
    return x + block.mlp.fc2(functional.gelu(block.mlp.fc1(block.norm2(x))))


def masks(variant: str, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Who (row) sees whom (column) in block 0 and later; tokens in the paper's order CLS, fusion,
    image, companion (spec section 2)."""
    first, later = (torch.zeros(1 + 3 * n, 1 + 3 * n, dtype=torch.bool) for _ in range(2))
    fusion = list(range(1, 1 + n))
    patches = list(range(1 + n, 1 + 3 * n))
    for query in [0, *patches]:
        first[query, [0, *patches]] = True
    for query in patches:
        later[query, patches] = True
    later[0, [0, *fusion]] = True
    for i in range(n):
        first[1 + i, [1 + i, 1 + n + i, 1 + 2 * n + i]] = True
        later[1 + i, [0, *fusion, 1 + n + i, 1 + 2 * n + i]] = True
    if variant == "pruned":
        later[:] = False
        later[: 1 + n, : 1 + n] = True
        later[1 + n :, 1 + n :] = True  # dropped tokens: anything but an empty softmax
    if variant == "full":
        first[:] = later[:] = True
    return first, later


def naive(encoder, variant, arguments):
    """All 1 + 3N tokens through all blocks under dense masks."""
    rgb, other = encoder.patch_embed(arguments)
    batch, n, _ = rgb.shape
    fusion = encoder.fusion_tokens.expand(batch, -1, -1)
    x = torch.cat([encoder.cls_token.expand(batch, -1, -1), fusion, rgb, other], dim=1)
    x = x + encoder.positions
    first, later = masks(variant, n)
    for index, block in enumerate(encoder.blocks):
        x = block_outputs(block, x, first if index == 0 else later)
    x = encoder.norm(x[:, : 1 + n])
    return x[:, 0], x[:, 1:]


@pytest.mark.parametrize("variant", FUSION)
@pytest.mark.parametrize(
    ("preset", "size"), [("paper", (64, 64)), ("lemumo", (48, 112)), ("lemumo", (64, 64))]
)
@torch.no_grad()
def test_fusion_equals_a_naive_masked_encoder(variant, preset, size) -> None:
    encoder = encoder_of(preset, *size, variant)
    arguments = inputs(preset, *size)
    cls, tokens = naive(encoder, variant, arguments)
    ours = encoder(arguments)
    torch.testing.assert_close(ours.cls, cls, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.tokens, tokens, atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", FUSION)
def test_gradients_equal_those_of_a_naive_masked_encoder(variant) -> None:
    encoder = encoder_of("paper", 64, 64, variant)
    arguments = inputs("paper", 64, 64)
    weights = torch.randn(2, 17, 192, generator=torch.Generator().manual_seed(4))
    gradients = []
    for cls, tokens in (naive(encoder, variant, arguments), encoder(arguments)):
        encoder.zero_grad()
        (torch.cat([cls[:, None], tokens], dim=1) * weights).sum().backward()
        gradients.append(
            {k: p.grad.clone() for k, p in encoder.named_parameters() if p.grad is not None}
        )
    for name, expected in gradients[0].items():
        torch.testing.assert_close(
            gradients[1][name], expected, atol=1e-4 * expected.abs().max().item(), rtol=1e-4
        )
    assert gradients[0].keys() == gradients[1].keys()


def vit_by_torch(tower, tokens):
    """CLS and tokens of a plain ViT, by torch's own encoder layer."""
    cls = tower.cls_token.expand(len(tokens), -1, -1)
    x = torch.cat([cls, tokens], dim=1) + tower.positions
    for block in tower.blocks:
        layer = torch.nn.TransformerEncoderLayer(
            *(x.shape[-1], block.attn.heads, 4 * x.shape[-1], 0.0, functional.gelu, 1e-6),
            batch_first=True,
            norm_first=True,
        ).eval()
        own = block.state_dict()
        names = {
            "self_attn.in_proj_": "attn.qkv.",
            "self_attn.out_proj.": "attn.proj.",
            "linear1.": "mlp.fc1.",
            "linear2.": "mlp.fc2.",
            "norm1.": "norm1.",
            "norm2.": "norm2.",
        }
        layer.load_state_dict(
            {a + kind: own[b + kind] for a, b in names.items() for kind in ("weight", "bias")}
        )
        x = layer(x)
    x = tower.norm(x)
    return x[:, 0], x[:, 1:]


@pytest.mark.parametrize("variant", ["camera_only", "companion_only"])
@torch.no_grad()
def test_one_modality_is_a_plain_vit(variant) -> None:
    encoder = encoder_of("paper", 64, 64, variant)
    arguments = inputs("paper", 64, 64)
    (tokens,) = encoder.patch_embed(arguments)
    cls, tokens = vit_by_torch(encoder.tower, tokens)
    ours = encoder(arguments)
    torch.testing.assert_close(ours.cls, cls, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.tokens, tokens, atol=1e-5, rtol=0)
    embedded = {name for name, _ in encoder.patch_embed.named_children()}
    assert embedded == {"image" if variant == "camera_only" else "companion"}


@torch.no_grad()
def test_early_is_one_patch_embedding_of_stacked_channels() -> None:
    encoder = encoder_of("lemumo", 64, 64, "early")
    arguments, embed = inputs("lemumo", 64, 64), encoder.patch_embed
    pixels = (arguments.image.permute(0, 3, 1, 2) - embed.mean) / embed.std
    rgbd = torch.cat([pixels, arguments.companion.permute(0, 3, 1, 2)], dim=1)
    weight = torch.cat([embed.image.weight, embed.companion.weight], dim=1)
    bias = embed.image.bias + embed.companion.bias + embed.modality.sum(0)
    tokens = functional.conv2d(rgbd, weight, bias, stride=16).flatten(2).transpose(1, 2)
    cls, tokens = vit_by_torch(encoder.tower, tokens)
    ours = encoder(arguments)
    torch.testing.assert_close(ours.cls, cls, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.tokens, tokens, atol=1e-5, rtol=0)


@torch.no_grad()
def test_late_gives_both_modalities_tokens() -> None:
    encoder = encoder_of("lemumo", 64, 64, "late")
    arguments = inputs("lemumo", 64, 64)
    ours = encoder(arguments)
    assert ours.cls.shape == (2, 384) and ours.tokens.shape == (2, 16, 384)
    both = zip(encoder.towers.values(), encoder.patch_embed(arguments), strict=True)
    parts = [vit_by_torch(tower, tokens) for tower, tokens in both]
    for i, result in enumerate(ours):
        expected = torch.cat([part[i] for part in parts], dim=-1)
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_cls_alone_is_the_same_cls(variant) -> None:
    encoder = encoder_of("lemumo", 64, 64, variant)
    for size in ((64, 64), (32, 48)):
        arguments = inputs("lemumo", *size)
        alone = encoder(arguments, dense=False)
        assert alone.tokens.shape[1] == 0
        torch.testing.assert_close(alone.cls, encoder(arguments).cls, atol=1e-5, rtol=0)


def test_every_variant_has_an_encoder() -> None:
    assert tuple(ENCODERS) == VARIANTS


@pytest.mark.parametrize("variant", VARIANTS)
def test_heads_fit_every_variant(variant) -> None:
    config = ModelConfig("lemumo", "small", 64, 96, variant=variant)
    with torch.device("meta"):
        model = PerceptionModel(config).eval()
        spec = config.input_spec
        image = torch.empty(1, spec.height, spec.width, 3, dtype=torch.uint8)
        companion = torch.empty(1, spec.height, spec.width, spec.companion_channels)
        raw = model.raw(Inputs(image, companion, torch.empty(1, 3, 3), torch.empty(1, 2)))
    assert raw.depth_m.shape == (1, 16, 24)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns_from_the_cls(variant) -> None:
    """DDP waits for the gradient of every parameter; a dead one would hang it."""
    encoder = copy.deepcopy(encoder_of("lemumo", 64, 64, variant)).train()
    arguments = inputs("lemumo", 32, 32, batch=3)
    arguments.present[1:] = torch.eye(2)
    cls = encoder(arguments, dense=False).cls
    (cls * torch.randn(cls.shape, generator=torch.Generator().manual_seed(6))).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_another_grid_resizes_the_tables_bicubically() -> None:
    generator = torch.Generator().manual_seed(0)
    tables = torch.randn(2, 16, 8, generator=generator, requires_grad=True)
    weights = torch.randn(2, 12, 8, generator=generator)
    maps = tables.reshape(2, 4, 4, 8).permute(0, 3, 1, 2)
    expected = functional.interpolate(maps, (2, 6), mode="bicubic", align_corners=False)
    expected = expected.flatten(2).transpose(1, 2)
    resized = resize_tables(tables, (4, 4), (2, 6))
    torch.testing.assert_close(resized, expected)
    of_resized, of_expected = (
        torch.autograd.grad((x * weights).sum(), tables)[0] for x in (resized, expected)
    )
    torch.testing.assert_close(of_resized, of_expected)
    assert resize_tables(tables, (4, 4), (4, 4)) is tables


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_a_crop_sees_the_resized_tables(variant) -> None:
    """An encoder built for the crop's size from the resized tables gives the same."""
    encoder = encoder_of("lemumo", 64, 64, variant)
    small = copy.deepcopy(encoder)
    for module in small.modules():
        if hasattr(module, "positions"):
            cls, grids = module.positions[:, :1], module.positions[0, 1:].unflatten(0, (-1, 16))
            grids = resize_tables(grids, (4, 4), (2, 6)).flatten(0, 1)[None]
            module.positions = torch.nn.Parameter(torch.cat([cls, grids], dim=1))
            module.grid = (2, 6)
        if hasattr(module, "fusion_tokens"):
            tokens = resize_tables(module.fusion_tokens, (4, 4), (2, 6))
            module.fusion_tokens = torch.nn.Parameter(tokens)
    arguments = inputs("lemumo", 32, 96)
    ours, expected = encoder(arguments), small(arguments)
    torch.testing.assert_close(ours.cls, expected.cls, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.tokens, expected.tokens, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("preset", "variant"),
    [("paper", "pruned"), ("lemumo", "pruned"), ("lemumo", "early"), ("lemumo", "late")],
)
@pytest.mark.parametrize("missing", [0, 1])
@torch.no_grad()
def test_content_of_an_absent_modality_has_no_influence(preset, variant, missing) -> None:
    encoder = encoder_of(preset, 64, 64, variant)
    arguments = inputs(preset, 64, 64)
    arguments.present[:, missing] = 0
    first = encoder(arguments)
    if missing == 0:
        garbage = arguments._replace(image=torch.zeros_like(arguments.image))
    else:
        nan = torch.full_like(arguments.companion, float("nan"))
        garbage = arguments._replace(companion=nan)
    second = encoder(garbage)
    assert torch.equal(first.tokens, second.tokens) and torch.equal(first.cls, second.cls)


@torch.no_grad()
def test_absent_lidar_differs_from_no_returns_only_in_our_preset() -> None:
    for preset, same in (("paper", True), ("lemumo", False)):
        encoder = encoder_of(preset, 64, 64)
        arguments = inputs(preset, 64, 64)
        empty = arguments._replace(companion=torch.zeros_like(arguments.companion))
        absent = empty._replace(present=empty.present * torch.tensor([1.0, 0.0]))
        gap = (encoder(empty).cls - encoder(absent).cls).abs().max()
        assert (gap == 0) == same


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_stochastic_depth_acts_only_while_training_and_follows_the_seed(variant) -> None:
    encoder = copy.deepcopy(encoder_of("lemumo", 64, 64, variant))
    arguments = inputs("lemumo", 32, 32, batch=8)
    assert torch.equal(encoder(arguments).cls, encoder(arguments).cls)
    encoder.train()
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(encoder(arguments).cls)
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_cells_can_be_left_out_between_embedding_and_encoding(variant) -> None:
    """What is left is encoded as if there were nothing else, in any order, cells by sample."""
    encoder = encoder_of("lemumo", 64, 64, variant)
    embedded = encoder.embed(inputs("lemumo", 64, 64))
    kept = torch.tensor([[9, 2, 5, 14], [0, 11, 7, 3]])

    def only(tokens: torch.Tensor) -> torch.Tensor:
        rows = kept if tokens.shape[1] else kept[:, :0]
        return tokens.expand(2, -1, -1).gather(1, rows[..., None].expand(-1, -1, tokens.shape[2]))

    patches = tuple(map(only, embedded.patches))
    part = encoder.encode(embedded._replace(cells=only(embedded.cells), patches=patches))
    assert part.tokens.shape == (2, 4, encoder(inputs("lemumo", 64, 64)).tokens.shape[2])
    for row in range(2):
        order = kept[row].sort().indices
        cells = embedded.cells[:, kept[row].sort().values] if embedded.cells.shape[1] else None
        alone = embedded._replace(
            cells=embedded.cells if cells is None else cells,
            patches=tuple(x[row : row + 1, kept[row].sort().values] for x in embedded.patches),
        )
        expected = encoder.encode(alone)
        torch.testing.assert_close(part.cls[row], expected.cls[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(part.tokens[row, order], expected.tokens[0], atol=1e-5, rtol=0)
