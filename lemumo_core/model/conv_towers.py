"""Encoders of both modalities side by side that are ResNets or Mix Transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle, pixel_unshuffle

from lemumo_core.model.config import MODALITIES, PATCH, ModelConfig
from lemumo_core.model.encoder import Encoding
from lemumo_core.model.external_weights import load_by_name, read_state_dict
from lemumo_core.model.mit import MitConfig, MixTransformer
from lemumo_core.model.patch_embed import IMAGENET_MEAN, IMAGENET_STD
from lemumo_core.model.resnet import ResNet, ResNetConfig
from lemumo_core.model.towers import LateEncoder
from lemumo_core.model.transformer import Block
from lemumo_core.model.vit_weights import load_vit
from lemumo_core.preprocess import Inputs

RESNETS = {
    "resnet18": ResNetConfig((2, 2, 2, 2), bottleneck=False),
    "resnet50": ResNetConfig(),
    "resnet50_rda": ResNetConfig(attention=True),
}
MITS = {"mit_b2": MitConfig(), "mit_b5": MitConfig(blocks=(3, 6, 40, 3))}
MIT_POOLED = 2048
"""Width that DeCUR maps the pooled features of a Mix Transformer to."""
CELLS = 2
"""Cells a side of stride 8 in a patch."""


class ConvTower(nn.Module):
    """A ResNet or Mix Transformer of one modality.

    Its pooled features are the mean of the last stage. Its tokens hold the last three stages, of
    strides 8, 16 and 32, on the patch grid: four cells of the first a token, and the last one
    repeated (``stages_of`` undoes this).

    Args:
        backbone: key of ``RESNETS`` or ``MITS``.
        channels: of the input.
        size: (h, w) of the input.
        mapped: whether a Mix Transformer's pooled features are mapped to 2048, as in DeCUR.
    """

    def __init__(self, backbone: str, channels: int, size: tuple[int, int], mapped: bool = True):
        super().__init__()
        self.backbone: nn.Module
        self.head: nn.Module = nn.Identity()
        if backbone in RESNETS:
            config = RESNETS[backbone]
            self.backbone, stages = ResNet(config, channels, size), config.dims
            self.pooled_dim = stages[-1]
        else:
            mit = MITS[backbone]
            self.backbone, stages = MixTransformer(mit, channels), mit.dims
            self.pooled_dim = stages[-1]
            if mapped:
                self.head, self.pooled_dim = nn.Linear(stages[-1], MIT_POOLED), MIT_POOLED
        self.token_dim = CELLS**2 * stages[1] + stages[2] + stages[3]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, in which a tower takes its input."""
        return next(self.backbone.parameters()).dtype

    def forward(self, x: Tensor, dense: bool = True) -> tuple[Tensor, Tensor]:
        """Encode (B, C, h, w): pooled (B, D) and tokens (B, N, D'), no rows unless dense."""
        _, second, third, fourth = self.backbone(x)
        pooled = self.head(fourth.mean((2, 3)))
        if not dense:
            return pooled, x.new_zeros(len(x), 0, self.token_dim)
        grid = x.shape[2] // PATCH, x.shape[3] // PATCH
        maps = [pixel_unshuffle(second, CELLS), third, interpolate(fourth, size=grid)]
        return pooled, torch.cat(maps, dim=1).flatten(2).mT


def stages_of(maps: Tensor, dims: tuple[int, int, int]) -> list[Tensor]:
    """Return the last three stages of a tower, strides 8, 16 and 32, that its tokens hold.

    Args:
        maps: (B, D', H/16, W/16) of the tokens.
        dims: channels of the stages.
    """
    widths = [CELLS**2 * dims[0], dims[1], dims[2]]
    second, third, fourth = maps.split(widths, dim=1)
    return [pixel_shuffle(second, CELLS), third, fourth[..., ::2, ::2]]


class ConvTowers(nn.Module):
    """A ``ConvTower`` a modality; one that is absent is zeros.

    Args:
        backbone: key of ``RESNETS`` or ``MITS``.
        model: gives the companion's channels.
        size: of the views.
        mapped: see ``ConvTower``.
    """

    modalities = MODALITIES
    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: str, model: ModelConfig, size: tuple[int, int], mapped: bool = True
    ):
        super().__init__()
        self.channels = model.companion_channels
        channels = {"image": 3, "companion": self.channels}
        self.towers = nn.ModuleDict(
            {name: ConvTower(backbone, channels[name], size, mapped) for name in MODALITIES}
        )
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN) * 255, False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD) * 255, False)

    def forward(self, inputs: Inputs, dense: bool = True) -> Encoding:
        """Encode views whose sides are multiples of 16 pixels; arguments as of ``Encoder``."""
        image = (inputs.image.float() - self.mean) / self.std
        given = image, inputs.companion[..., : self.channels]
        pooled, tokens = [], []
        for tower, x, exists in zip(
            self.children_by_modality(), given, inputs.present.unbind(1), strict=True
        ):
            x = torch.where(exists[:, None, None, None] > 0.5, x, 0.0)
            one, found = tower(x.permute(0, 3, 1, 2).to(tower.dtype), dense)
            pooled.append(one)
            tokens.append(found)
        return Encoding(torch.cat(pooled, dim=-1), torch.cat(tokens, dim=-1))

    def children_by_modality(self) -> list[ConvTower]:
        """Return the towers of image and companion."""
        return [tower for tower in self.towers.values() if isinstance(tower, ConvTower)]

    def units(self) -> list[Block]:
        """Return no blocks: a convolutional encoder is sharded and recomputed as a whole."""
        return []


def load_tower(module: LateEncoder | ConvTowers, modality: str, path: Path) -> None:
    """Start the encoder of a modality from weights of timm, torchvision, TorchGeo or SegFormer.

    Raises:
        Fault: ``wrong_weights`` for those of another backbone.
        FileNotFoundError: nothing there.
    """
    if isinstance(module, LateEncoder):
        load_vit(module, modality, path)
        return
    backbone = module.children_by_modality()[MODALITIES.index(modality)].backbone
    load_by_name(backbone, read_state_dict(path), path, own=("attention.",))
