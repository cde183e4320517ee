"""Public ViTs in our encoders: the same answers where ours is a ViT, the same weights elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from lemumo_core.faults import Fault
from lemumo_core.methods.dino.method import DINO
from lemumo_core.model.config import SIZES, ModelConfig
from lemumo_core.model.patch_embed import IMAGENET_MEAN, IMAGENET_STD
from lemumo_core.model.variants import build_encoder
from lemumo_core.model.vit_weights import load_vit, resize_patches
from lemumo_core.preprocess import Inputs

WIDTH, HEADS, BLOCKS, SIDE = 24, 3, 2, 3


class PublicViT(nn.Module):
    """A ViT with the parameters of DINOv2's, by their names, and with its forward pass."""

    def __init__(self, patch: int = 16, side: int = SIDE):
        super().__init__()

        def norm() -> nn.Module:
            return nn.LayerNorm(WIDTH, eps=1e-6)

        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + side**2, WIDTH))
        self.mask_token = nn.Parameter(torch.zeros(1, WIDTH))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, WIDTH, patch, patch)})
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": norm(),
                    "attn": nn.ModuleDict(
                        {"qkv": nn.Linear(WIDTH, 3 * WIDTH), "proj": nn.Linear(WIDTH, WIDTH)}
                    ),
                    "ls1": nn.ParameterDict({"gamma": nn.Parameter(torch.ones(WIDTH))}),
                    "norm2": norm(),
                    "mlp": nn.ModuleDict(
                        {"fc1": nn.Linear(WIDTH, 4 * WIDTH), "fc2": nn.Linear(4 * WIDTH, WIDTH)}
                    ),
                    "ls2": nn.ParameterDict({"gamma": nn.Parameter(torch.ones(WIDTH))}),
                }
            )
            for _ in range(BLOCKS)
        )
        self.norm = norm()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)

    @torch.no_grad()
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Normalised images (B, 3, H, W) to tokens (B, 1 + N, D), CLS first."""
        x = self.patch_embed["proj"](image).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for block in self.blocks:
            qkv = block["attn"]["qkv"](block["norm1"](x))
            q, k, v = qkv.reshape(*x.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4)
            attention = (q @ k.mT / (WIDTH / HEADS) ** 0.5).softmax(-1)
            found = (attention @ v).transpose(1, 2).reshape(x.shape)
            x = x + block["ls1"]["gamma"] * block["attn"]["proj"](found)
            hidden = functional.gelu(block["mlp"]["fc1"](block["norm2"](x)))
            x = x + block["ls2"]["gamma"] * block["mlp"]["fc2"](hidden)
        return self.norm(x)


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    monkeypatch.setitem(SIZES, "nano", (WIDTH, HEADS, BLOCKS))


def saved(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    torch.save(tensors, tmp_path / "vit.pth")
    return tmp_path / "vit.pth"


def encoder_of(variant: str, side: int = SIDE):
    torch.manual_seed(1)
    model = ModelConfig(size="nano", height=16 * side, width=16 * side, variant=variant)
    return build_encoder(model).eval()


def camera_alone(rows: int = 2) -> Inputs:
    size = rows, 16 * SIDE, 16 * SIDE
    generator = torch.Generator().manual_seed(3)
    return Inputs(
        torch.randint(0, 256, (*size, 3), generator=generator, dtype=torch.uint8),
        torch.rand(*size, 2, generator=generator),
        torch.eye(3).expand(rows, -1, -1),
        torch.tensor([[1.0, 0.0]]).expand(rows, -1),
    )


@pytest.mark.parametrize("variant", ["camera_only", "early", "late"])
def test_where_ours_is_a_vit_it_answers_as_theirs(variant, tmp_path) -> None:
    theirs, ours, inputs = PublicViT(), encoder_of(variant), camera_alone()
    load_vit(ours, "image", saved(tmp_path, theirs.state_dict()))
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
    expected = theirs((inputs.image.permute(0, 3, 1, 2) / 255 - mean) / std)
    with torch.no_grad():
        cls, tokens = ours(inputs)
    torch.testing.assert_close(cls[:, :WIDTH], expected[:, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(tokens[..., :WIDTH], expected[:, 1:], rtol=1e-4, atol=1e-4)


def test_fusion_tokens_take_the_place_of_patches(tmp_path) -> None:
    theirs, ours = PublicViT().state_dict(), encoder_of("pruned")
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    path = tmp_path / "vit.safetensors"
    save_file(theirs, path)
    load_vit(ours, "image", path)
    after, cells = ours.state_dict(), SIDE**2
    for name in ("fusion_tokens", "patch_embed.companion.weight", "patch_embed.absent"):
        assert torch.equal(after[name], before[name])
    positions = after["positions"]
    assert torch.equal(positions[:, : 1 + cells], theirs["pos_embed"])
    assert torch.equal(positions[:, 1 + cells : 1 + 2 * cells], theirs["pos_embed"][:, 1:])
    assert torch.equal(positions[:, 1 + 2 * cells :], before["positions"][:, 1 + 2 * cells :])
    assert torch.equal(after["patch_embed.image.weight"], theirs["patch_embed.proj.weight"])
    assert not after["patch_embed.modality"][0].any()
    for scale, linear in (("ls1", "attn.proj"), ("ls2", "mlp.fc2")):
        name = f"blocks.1.{linear}"
        y = torch.rand(5, theirs[f"{name}.weight"].shape[1])
        expected = functional.linear(y, theirs[f"{name}.weight"], theirs[f"{name}.bias"])
        found = functional.linear(y, after[f"{name}.weight"], after[f"{name}.bias"])
        torch.testing.assert_close(found, expected * theirs[f"blocks.1.{scale}.gamma"])
    for name in ("blocks.0.attn.qkv.weight", "blocks.1.norm2.bias", "norm.weight", "cls_token"):
        assert torch.equal(after[name], theirs[name])


def test_patches_of_14_pixels_answer_alike_to_enlarged_pictures() -> None:
    weight = torch.randn(5, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    patch = torch.rand(4, 3, 14, 14, generator=torch.Generator().manual_seed(1))
    enlarged = functional.interpolate(patch, (16, 16), mode="bicubic")
    expected = functional.conv2d(patch, weight)
    found = functional.conv2d(enlarged, resize_patches(weight, 16))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_other_grids_take_resized_positions(tmp_path) -> None:
    theirs, ours = PublicViT(14, 5).state_dict(), encoder_of("camera_only", 4)
    load_vit(ours, "image", saved(tmp_path, theirs))
    maps = theirs["pos_embed"][0, 1:].T.view(1, WIDTH, 5, 5)
    expected = functional.interpolate(maps, (4, 4), mode="bicubic").flatten(2).mT
    torch.testing.assert_close(ours.tower.positions[:, 1:], expected)
    assert ours.patch_embed.image.weight.shape == (WIDTH, 3, 16, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_embed.periods": torch.ones(4)}, "rotary positions, as of DINOv3 and EUPE"),
        ({"register_tokens": torch.ones(1, 4, WIDTH)}, "register_tokens, and the encoder has no"),
        ({"pos_embed": torch.ones(1, 10, 48)}, "width 48, and the encoder's is 24"),
        ({"blocks.2.norm1.weight": torch.ones(WIDTH)}, "3 blocks, and the encoder has 2"),
        ({"pos_embed": torch.ones(1, 9, WIDTH)}, "pos_embed has 9 rows"),
        ({"blocks.1.mlp.fc1.weight": torch.ones(64, WIDTH)}, r"fc1.weight is \(64, 24\), not"),
    ],
)
def test_what_the_encoder_cannot_hold_is_named(changes, message, tmp_path) -> None:
    path = saved(tmp_path, PublicViT().state_dict() | changes)
    with pytest.raises(Fault, match=f"vit.pth.*{message}"):
        load_vit(encoder_of("pruned"), "image", path)


def test_an_encoder_without_a_camera_is_refused(tmp_path) -> None:
    path = saved(tmp_path, PublicViT().state_dict())
    with pytest.raises(Fault, match="sees no image"):
        load_vit(encoder_of("companion_only"), "image", path)


def test_a_run_begins_with_them_and_so_does_the_teacher(tmp_path) -> None:
    theirs = PublicViT().state_dict()
    model = ModelConfig(size="nano", height=48, width=48)
    path = str(saved(tmp_path, theirs))
    method = DINO(image_weights=path, prototypes=4, hidden=8).build(model, model.input_spec)
    method.initialize()
    for encoder in (method.encoder, method.exported_encoder):
        assert torch.equal(encoder.cls_token, theirs["cls_token"])
    assert method.encoder.cls_token.requires_grad
