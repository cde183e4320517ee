"""ResNet, deformable attention and Mix Transformer: sizes, known answers, weights of others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate, pixel_unshuffle

from lemumo_core.faults import Fault
from lemumo_core.inference.inputs import random_inputs
from lemumo_core.methods.decur.method import DeCUR
from lemumo_core.methods.decur.views import CropConfig
from lemumo_core.methods.masked_modeling.method import MaskedModeling
from lemumo_core.model.config import BACKBONES, ModelConfig
from lemumo_core.model.conv_towers import (
    MITS,
    RESNETS,
    ConvTower,
    ConvTowers,
    load_tower,
    stages_of,
)
from lemumo_core.model.deformable_attention import DeformableAttention
from lemumo_core.model.heads.segmentation import FcnSegmentationHead
from lemumo_core.model.mit import MitConfig, MixTransformer
from lemumo_core.model.perception import PerceptionModel
from lemumo_core.model.resnet import ResNet, ResNetConfig
from lemumo_core.model.towers import LateEncoder
from lemumo_core.preprocess import Inputs
from lemumo_core.train.finetune import weights as finetune_weights
from lemumo_core.train.finetune.class_rows import for_other_classes
from lemumo_core.train.finetune.learner import layer_rate

SMALL_RESNET = ResNetConfig((1, 1, 1, 1), width=4, attention=True, head_dim=16, group_dim=32)
SMALL_MIT = MitConfig((1, 1, 1, 1), dims=(8, 16, 16, 32), heads=(1, 2, 2, 4))
MODEL = ModelConfig(height=64, width=96, variant="late")


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "count"),
    [
        # torchvision's counts less those of the classifiers of 1000 classes
        ("resnet18", 11_689_512 - 513_000),
        ("resnet50", 25_557_032 - 2_049_000),
        ("resnet50_rda", 25_557_032 - 2_049_000 + 4_211_912 + 16_791_696),
        # SegFormer's encoders without a classifier, and two norms whose maps it adds
        ("mit_b2", 24_196_288),
        ("mit_b5", 81_443_008),
    ],
)
def test_parameters_are_those_of_the_papers(name, count) -> None:
    with torch.device("meta"):
        assert parameters(ConvTower(name, 3, (224, 224)).backbone) == count


def test_tokens_hold_the_stages(monkeypatch) -> None:
    size = 48, 80
    monkeypatch.setitem(RESNETS, "resnet50_rda", SMALL_RESNET)
    tower = ConvTower("resnet50_rda", 3, size).eval()
    x = torch.rand(2, 3, *size)
    pooled, tokens = tower(x)
    assert tokens.shape == (2, 15, tower.token_dim) and pooled.shape == (2, tower.pooled_dim)
    assert torch.equal(tower(x, dense=False)[0], pooled)
    found = stages_of(tokens.mT.unflatten(2, (3, 5)), SMALL_RESNET.dims[1:])
    for stage, expected in zip(found, tower.backbone(x)[1:], strict=True):
        assert torch.equal(stage, expected)


@pytest.mark.parametrize("name", [*RESNETS, *MITS])
def test_a_models_token_width_is_that_of_its_towers(name) -> None:
    with torch.device("meta"):
        tower = ConvTower(name, 3, (64, 64))
    assert 2 * tower.token_dim == ModelConfig(variant="late", backbone=name).token_dim
    stages = (RESNETS | MITS)[name].dims
    assert stages == BACKBONES[name]


@pytest.mark.parametrize("name", ["resnet50_rda", "mit_b2"])
def test_pretrained_towers_are_finetuned_at_another_size(name, monkeypatch) -> None:
    """With the heads for detection, depth and labels; a ResNet's stages with FCN heads."""
    small = {"resnet50_rda": SMALL_RESNET, "mit_b2": SMALL_MIT}[name]
    monkeypatch.setitem(RESNETS if name in RESNETS else MITS, name, small)
    monkeypatch.setitem(BACKBONES, name, small.dims)
    options = DeCUR(backbone=name, dimensions=16, crops=CropConfig((32, 48)))
    model = ModelConfig(height=64, width=96)
    method = options.build(model, model.input_spec)
    exported, weights = method.exported()
    heads = "fcn" if name in RESNETS else "deploy"
    perception = PerceptionModel(replace(exported, head_preset=heads)).eval()
    monkeypatch.setattr(finetune_weights, "read_weights", lambda path: (dict(weights), None))
    finetune_weights.load_perception(perception, Path("run"))
    own = perception.encoder.state_dict()
    for part, tensor in weights.items():
        loaded = own[part.removeprefix("encoder.")]
        assert torch.equal(loaded, tensor) or part.endswith("rpe_table")
        if part.endswith("rpe_table"):
            corners = [loaded[:, i, j] for i in (0, -1) for j in (0, -1)]
            expected = [tensor[:, i, j] for i in (0, -1) for j in (0, -1)]
            torch.testing.assert_close(corners, expected)
    raw = perception.raw(random_view(perception.config))
    assert raw.segmentation.shape == (1, len(model.segmentation_classes), 16, 24)
    raw.segmentation.sum().backward()
    learning = [p.grad is not None for p in perception.segmentation.parameters()]
    assert all(learning)
    rates = {n.split(".", 4)[-1]: layer_rate(n, perception.config, 0.5) for n in weights}
    assert {0.5, 0.25, 0.125, 0.0625} <= set(rates.values())


def random_view(config: ModelConfig) -> Inputs:
    return Inputs(*(torch.from_numpy(x) for x in random_inputs(config.input_spec)))


def test_fcn_heads_keep_what_they_learnt_of_a_class_that_stays() -> None:
    names = "a", "b", "c"
    there = ModelConfig(
        variant="late", backbone="resnet18", head_preset="fcn", segmentation_classes=names
    )
    here = replace(there, segmentation_classes=("b", "new"))
    rows = {f"segmentation.stages.{i}.4.bias": torch.arange(3.0) + i for i in range(3)}
    initial = {name: torch.full((2,), -1.0) for name in rows}
    found = for_other_classes(rows, there, initial, here)
    for i, name in enumerate(rows):
        assert found[name].tolist() == [1.0 + i, -1.0]


def test_fcn_heads_sum_enlarged_logits_of_stages() -> None:
    """Against the stages' own maps, one after the other."""
    head = FcnSegmentationHead(2 * 10 * 8, 3).eval()
    dims = 8, 16, 32
    sides = 4, 2, 1
    stages = [[torch.randn(1, d, s, s) for d, s in zip(dims, sides, strict=True)] for _ in (0, 1)]
    maps = [
        torch.cat([pixel_unshuffle(a, 2), b, c.repeat_interleave(2, 2).repeat_interleave(2, 3)], 1)
        for a, b, c in stages
    ]
    expected = sum(
        interpolate(layers(torch.cat([one, other], 1)), (8, 8), mode="bilinear")
        for layers, one, other in zip(head.stages, *stages, strict=True)
    )
    torch.testing.assert_close(head(torch.cat(maps, 1)), expected)
    assert [layers[0].weight.shape[:2] for layers in head.stages] == [(2, 16), (4, 32), (8, 64)]


def test_backbones_fit_their_variant() -> None:
    with pytest.raises(ValueError, match="resnet50 needs variant late, not pruned"):
        ModelConfig(backbone="resnet50")
    with pytest.raises(ValueError, match="fcn needs a ResNet, and backbone is mit_b2"):
        ModelConfig(backbone="mit_b2", variant="late", head_preset="fcn")
    model = ModelConfig(backbone="resnet18", variant="late")
    with pytest.raises(ValueError, match=r"model\.backbone is resnet18, which DeCUR pretrains"):
        MaskedModeling(size=(32, 32)).build(model, model.input_spec)
    with pytest.raises(ValueError, match=r"resnet18 and method\.backbone mit_b2: DeCUR takes"):
        DeCUR(backbone="mit_b2", dimensions=8).build(model, model.input_spec)


@pytest.mark.parametrize("size", [(64, 96), (48, 80)])
def test_stages_halve_the_map(size) -> None:
    x = torch.rand(2, 3, *size)
    for module in (ResNet(SMALL_RESNET, 3, (64, 96)), MixTransformer(SMALL_MIT, 3)):
        maps = module.eval()(x)
        for i, (one, dim) in enumerate(zip(maps, module.dims, strict=True)):
            stride = 4 * 2**i
            assert one.shape == (2, dim, -(-size[0] // stride), -(-size[1] // stride))


def attention(stride: int, seed: int = 0) -> DeformableAttention:
    torch.manual_seed(seed)
    module = DeformableAttention(64, (6, 6), 3, stride, head_dim=16, group_dim=32).double()
    nn.init.normal_(module.rpe_table)
    return module


@pytest.mark.parametrize(("kernel", "stride", "side"), [(5, 2, 14), (3, 1, 7)])
def test_the_reference_attends_to_49_keys(kernel, stride, side) -> None:
    module = DeformableAttention(512, (side, side), kernel, stride)
    assert module.positions(torch.zeros(1, 512, side, side)).shape == (2, 7, 7, 2)


def bilinear(maps: torch.Tensor, row: float, column: float) -> torch.Tensor:
    """Read maps (C, h, w) at a position in pixels; zero outside."""
    value = torch.zeros(len(maps), dtype=maps.dtype)
    for i in (int(row // 1), int(row // 1) + 1):
        for j in (int(column // 1), int(column // 1) + 1):
            if 0 <= i < maps.shape[1] and 0 <= j < maps.shape[2]:
                value += (1 - abs(row - i)) * (1 - abs(column - j)) * maps[:, i, j]
    return value


@pytest.mark.parametrize("stride", [1, 2])
def test_deformable_attention_in_loops(stride) -> None:
    """Against sums over one pixel, head and key at a time, at positions that offsets move."""
    module = attention(stride)
    x = torch.randn(1, 64, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        found = module(x)[0]
        q = module.get_submodule("proj_q")(x)
        at = module.positions(q)[:, :, :, :]
        offset = module.conv_offset(q.reshape(2, 32, 6, 6))
        keys = at.shape[1]
        for g in range(2):
            for i in range(keys):
                for axis in (0, 1):
                    index = (i, 0) if axis == 0 else (0, i)
                    shift = offset[g, axis][index]
                    expected = ((i + 0.5) / (keys - 1) * 2 - 1 + shift).clamp(-1, 1)
                    assert at[(g, *index, axis)] == pytest.approx(expected.item(), abs=1e-6)
        sampled = torch.zeros(64, keys, keys, dtype=torch.float64)
        for g in range(2):
            for i in range(keys):
                for j in range(keys):
                    row, column = ((at[g, i, j] + 1) / 2 * 5).tolist()
                    sampled[32 * g : 32 * g + 32, i, j] = bilinear(
                        x[0, 32 * g : 32 * g + 32], row, column
                    )
        k, v = (module.get_submodule(n)(sampled[None])[0].flatten(1) for n in ("proj_k", "proj_v"))
        out = torch.zeros(64, 6, 6, dtype=torch.float64)
        for pixel in ((0, 0), (2, 5), (4, 1)):
            for head in range(4):
                own = slice(16 * head, 16 * head + 16)
                scores = []
                for n in range(keys * keys):
                    spot = at[head // 2, n // keys, n % keys]
                    apart = [
                        (p / 5 * 2 - 1 - s.item()) / 2 for p, s in zip(pixel, spot, strict=True)
                    ]
                    row, column = ((a + 1) / 2 * 10 for a in apart)
                    bias = bilinear(module.rpe_table[head : head + 1], row, column)
                    scores.append(q[0, own][:, pixel[0], pixel[1]] @ k[own, n] / 4 + bias[0])
                weights = torch.stack(scores).softmax(0)
                out[own, pixel[0], pixel[1]] = v[own] @ weights
        expected = module.get_submodule("proj_out")(out[None])[0]
        for pixel in ((0, 0), (2, 5), (4, 1)):
            index = (slice(None), *pixel)
            torch.testing.assert_close(found[index], expected[index], atol=1e-5, rtol=1e-5)


def test_without_its_last_layer_attention_adds_nothing() -> None:
    torch.manual_seed(0)
    net = ResNet(SMALL_RESNET, 3, (64, 96)).eval()
    x = torch.rand(1, 3, 64, 96)
    before = net(x)[-1]
    for module in net.attention.values():
        for parameter in module.get_submodule("proj_out").parameters():
            nn.init.zeros_(parameter)
    silent = net(x)[-1]
    net.attention.clear()
    assert torch.equal(net(x)[-1], silent) and not torch.allclose(before, silent)


def towers_of(name: str, monkeypatch) -> ConvTowers:
    monkeypatch.setitem(RESNETS, "resnet50_rda", SMALL_RESNET)
    monkeypatch.setitem(MITS, "mit_b2", SMALL_MIT)
    torch.manual_seed(1)
    return ConvTowers(name, MODEL, (64, 96))


def test_a_resnet_of_others_starts_a_tower(monkeypatch, tmp_path: Path) -> None:
    """As torchvision and timm write it: with a classifier, without counters of batches."""
    torch.manual_seed(0)
    theirs = ResNet(SMALL_RESNET, 3, (64, 96)).eval()
    tensors = {n: t for n, t in theirs.state_dict().items() if not n.startswith("attention.")}
    tensors = {f"module.{n}": t for n, t in tensors.items() if "num_batches" not in n}
    torch.save(
        {"state_dict": tensors | {"module.fc.weight": torch.zeros(10, 128)}}, tmp_path / "r.pth"
    )
    towers = towers_of("resnet50_rda", monkeypatch)
    for modality in ("image", "companion"):
        load_tower(towers, modality, tmp_path / "r.pth")
    image, companion = (tower.backbone for tower in towers.children_by_modality())
    x = torch.rand(1, 3, 64, 96)
    theirs.attention, image.attention = nn.ModuleDict(), nn.ModuleDict()
    assert torch.equal(image.eval()(x)[-1], theirs(x)[-1])
    # Two channels that are alike answer as three of the same.
    gray = torch.rand(1, 1, 64, 96)
    torch.testing.assert_close(
        companion.conv1(gray.expand(-1, 2, -1, -1)), theirs.conv1(gray.expand(-1, 3, -1, -1))
    )


def test_segformers_weights_start_a_tower(monkeypatch, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = MixTransformer(SMALL_MIT, 3)
    torch.save(theirs.state_dict() | {"head.weight": torch.zeros(1000, 32)}, tmp_path / "m.pth")
    towers = towers_of("mit_b2", monkeypatch)
    load_tower(towers, "image", tmp_path / "m.pth")
    x = torch.rand(1, 3, 64, 96)
    ours = towers.children_by_modality()[0].backbone
    assert torch.equal(ours.eval()(x)[-1], theirs.eval()(x)[-1])


def timm_vit() -> dict[str, torch.Tensor]:
    """A state dict with the names and shapes of timm's ``vit_tiny_patch16_224``."""
    g = torch.Generator().manual_seed(0)
    shapes = {
        "cls_token": (1, 1, 192),
        "pos_embed": (1, 197, 192),
        "patch_embed.proj.weight": (192, 3, 16, 16),
        "patch_embed.proj.bias": (192,),
        "norm.weight": (192,),
        "norm.bias": (192,),
        "head.weight": (1000, 192),
        "head.bias": (1000,),
    }
    for i in range(12):
        for name, out, given in (
            *(("attn.qkv", 576, 192), ("attn.proj", 192, 192)),
            *(("mlp.fc1", 768, 192), ("mlp.fc2", 192, 768)),
        ):
            shapes |= {f"blocks.{i}.{name}.weight": (out, given), f"blocks.{i}.{name}.bias": (out,)}
        for name in ("norm1", "norm2"):
            shapes |= {f"blocks.{i}.{name}.{kind}": (192,) for kind in ("weight", "bias")}
    return {name: torch.randn(shape, generator=g) * 0.02 for name, shape in shapes.items()}


def test_timms_vit_starts_a_tower(tmp_path: Path) -> None:
    theirs = timm_vit()
    torch.save(theirs, tmp_path / "v.pth")
    towers = LateEncoder(ModelConfig(height=224, width=224, variant="late"))
    load_tower(towers, "companion", tmp_path / "v.pth")
    ours = towers.state_dict()
    assert torch.equal(ours["towers.companion.positions"], theirs["pos_embed"])
    assert torch.equal(
        ours["towers.companion.blocks.11.mlp.fc2.bias"], theirs["blocks.11.mlp.fc2.bias"]
    )
    assert not torch.equal(ours["towers.image.cls_token"], theirs["cls_token"])
    weight = theirs["patch_embed.proj.weight"].sum(1)
    torch.testing.assert_close(ours["patch_embed.companion.weight"].sum(1), weight)


def test_weights_that_do_not_fit_are_named(monkeypatch, tmp_path: Path) -> None:
    torch.save(timm_vit(), tmp_path / "v.pth")
    with pytest.raises(Fault, match=r"v.pth does not fit .*missing conv1.weight"):
        load_tower(towers_of("resnet50_rda", monkeypatch), "image", tmp_path / "v.pth")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "r.pth")
    with pytest.raises(Fault, match="no ViT of timm"):
        load_tower(LateEncoder(MODEL), "image", tmp_path / "r.pth")
    (tmp_path / "x.pth").write_text("nothing")
    with pytest.raises(Fault, match=r"x.pth is no file of weights"):
        load_tower(LateEncoder(MODEL), "image", tmp_path / "x.pth")
