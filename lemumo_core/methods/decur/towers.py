"""The encoders of both modalities side by side: ViTs, ResNets or Mix Transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from lemumo_core.methods.method import Units
from lemumo_core.model.config import MODALITIES, PATCH, ModelConfig
from lemumo_core.model.encoder import Encoding
from lemumo_core.model.external_weights import load_by_name, read_state_dict, vit_names
from lemumo_core.model.mit import MitConfig, MixTransformer
from lemumo_core.model.patch_embed import IMAGENET_MEAN, IMAGENET_STD
from lemumo_core.model.resnet import ResNet, ResNetConfig
from lemumo_core.model.towers import LateEncoder
from lemumo_core.preprocess import Inputs

Backbone = Literal["vit", "resnet18", "resnet50", "resnet50_rda", "mit_b2", "mit_b5"]
RESNETS = {
    "resnet18": ResNetConfig((2, 2, 2, 2), bottleneck=False),
    "resnet50": ResNetConfig(),
    "resnet50_rda": ResNetConfig(attention=True),
}
MITS = {"mit_b2": MitConfig(), "mit_b5": MitConfig(blocks=(3, 6, 40, 3))}
MIT_POOLED = 2048
"""Width that DeCUR maps the pooled features of a Mix Transformer to."""


class Towers(NamedTuple):
    """Encoders of both modalities.

    Attributes:
        module: from ``Inputs`` to an ``Encoding`` whose ``cls`` and ``tokens`` are those of the
            image and of the companion, concatenated.
        pooled_dim: width of one modality's ``cls``.
        token_dim: width of both modalities' tokens together.
    """

    module: LateEncoder | ConvTowers
    pooled_dim: int
    token_dim: int

    @property
    def units(self) -> Units:
        """Parts for sharding, recomputation and compilation."""
        blocks = self.module.units() if isinstance(self.module, LateEncoder) else ()
        return Units(blocks, (self.module,))


def build_towers(backbone: str, model: ModelConfig, size: tuple[int, int]) -> Towers:
    """Build the encoders with random weights.

    Args:
        backbone: name of both.
        model: of variant ``late``, which ``vit`` is.
        size: (height, width) of the views, pixels.
    """
    if backbone == "vit":
        return Towers(LateEncoder(model), model.dim, model.token_dim)
    module = ConvTowers(backbone, model, size)
    first, _ = (tower.dims for tower in module.children_by_modality())
    return Towers(module, first[0], 2 * first[1])


class ConvTower(nn.Module):
    """A ResNet or Mix Transformer of one modality.

    Its pooled features are the mean of the last stage, of a Mix Transformer mapped to 2048. Its
    tokens are the last two stages, of strides 16 and 32, on the patch grid.
    """

    def __init__(self, backbone: str, channels: int, size: tuple[int, int]):
        super().__init__()
        self.backbone: nn.Module
        self.head: nn.Module = nn.Identity()
        if backbone in RESNETS:
            config = RESNETS[backbone]
            self.backbone, stages = ResNet(config, channels, size), config.dims
            pooled = stages[-1]
        else:
            mit = MITS[backbone]
            self.backbone, stages = MixTransformer(mit, channels), mit.dims
            self.head, pooled = nn.Linear(stages[-1], MIT_POOLED), MIT_POOLED
        self.dims = pooled, stages[2] + stages[3]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, C, h, w): pooled (B, D) and tokens (B, N, D')."""
        *_, third, fourth = self.backbone(x)
        grid = x.shape[2] // PATCH, x.shape[3] // PATCH
        tokens = torch.cat([interpolate(one, size=grid) for one in (third, fourth)], dim=1)
        return self.head(fourth.mean((2, 3))), tokens.flatten(2).mT


class ConvTowers(nn.Module):
    """A ``ConvTower`` a modality; one that is absent is zeros.

    Args:
        backbone: key of ``RESNETS`` or ``MITS``.
        model: gives the companion's channels.
        size: of the views.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str, model: ModelConfig, size: tuple[int, int]):
        super().__init__()
        channels = {"image": 3, "companion": model.input_spec.companion_channels}
        self.towers = nn.ModuleDict(
            {name: ConvTower(backbone, channels[name], size) for name in MODALITIES}
        )
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN) * 255, False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD) * 255, False)

    def forward(self, inputs: Inputs, dense: bool = True) -> Encoding:
        """Encode views whose sides are multiples of 16 pixels; arguments as of ``Encoder``."""
        given = (inputs.image.float() - self.mean) / self.std, inputs.companion
        pooled, tokens = [], []
        for tower, x, exists in zip(
            self.children_by_modality(), given, inputs.present.unbind(1), strict=True
        ):
            x = torch.where(exists[:, None, None, None] > 0.5, x, 0.0)
            one, dense_tokens = tower(x.permute(0, 3, 1, 2))
            pooled.append(one)
            tokens.append(dense_tokens if dense else dense_tokens[:, :0])
        return Encoding(torch.cat(pooled, dim=-1), torch.cat(tokens, dim=-1))

    def children_by_modality(self) -> list[ConvTower]:
        """Return the towers of image and companion."""
        return [tower for tower in self.towers.values() if isinstance(tower, ConvTower)]


def load_tower(towers: Towers, modality: str, path: Path) -> None:
    """Start the encoder of a modality from weights of timm, torchvision, TorchGeo or SegFormer.

    Raises:
        Fault: ``wrong_weights`` for those of another backbone.
        FileNotFoundError: nothing there.
    """
    tensors, module = read_state_dict(path), towers.module
    if isinstance(module, ConvTowers):
        backbone = module.children_by_modality()[MODALITIES.index(modality)].backbone
        load_by_name(backbone, tensors, path, own=("attention.",))
        return
    others = tuple(f"towers.{name}." for name in MODALITIES if name != modality)
    named = vit_names(tensors, modality, module.grid)
    load_by_name(module, named, path, own=("patch_embed.", *others))
    # Theirs knows one modality, and no embedding of it.
    with torch.no_grad():
        module.patch_embed.modality[MODALITIES.index(modality)] = 0.0
