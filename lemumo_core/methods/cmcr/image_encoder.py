"""The frozen image encoder whose features the 3D network is taught."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.faults import Fault
from lemumo_core.model.config import PATCH, ModelConfig
from lemumo_core.model.external_weights import read_state_dict
from lemumo_core.model.resnet import ResNet, ResNetConfig
from lemumo_core.model.sparse.norm import RowNorm
from lemumo_core.model.variants import build_encoder
from lemumo_core.preprocess import Inputs

log = logging.getLogger(__name__)

ImageEncoderName = Literal["lemumo", "resnet50"]
RANDOM = "random"
"""In place of a path: an encoder that was taught nothing, to compare with."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FILES = ("weights.safetensors", "model.safetensors")
"""Weights of a package have the first name, those of a run or a checkpoint the second."""
MOCO = ("encoder_q.", "encoder.")
"""Files of MoCo put one of these before torchvision's names."""


class FrozenImageEncoder(nn.Module):
    """An image encoder in evaluation mode for ever, without gradient.

    Args:
        name: ``lemumo``, the encoder of the run's model with the image alone, or ``resnet50``.
        model: of the run.

    Attributes:
        channels: width of its map.
        stride: pixels that a cell of its map is wide.
    """

    def __init__(self, name: ImageEncoderName, model: ModelConfig):
        super().__init__()
        self.name, self.companion_channels = name, model.input_spec.companion_channels
        self.network: nn.Module
        if name == "lemumo":
            self.network, self.channels, self.stride = build_encoder(model), model.token_dim, PATCH
        else:
            config = ResNetConfig()
            size = model.height, model.width
            self.network, self.channels = ResNet(config, 3, size), config.dims[-1]
            self.stride = 2 * PATCH
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> FrozenImageEncoder:
        """Stay in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Encode images.

        Args:
            image: uint8 (B, H, W, 3) RGB; sides are multiples of the stride.

        Returns:
            Map (B, C, h, w).
        """
        if self.name == "lemumo":
            rows, height, width = image.shape[:3]
            blank = torch.zeros(rows, height, width, self.companion_channels, device=image.device)
            present = torch.eye(2, device=image.device)[:1].expand(rows, 2)
            eye = torch.eye(3, device=image.device).expand(rows, 3, 3)
            tokens = self.network(Inputs(image, blank, eye, present)).tokens
            return cast(Tensor, tokens.transpose(1, 2).unflatten(2, (height // PATCH, -1)))
        x = image.permute(0, 3, 1, 2).float() / 255
        mean, std = (x.new_tensor(one)[:, None, None] for one in (IMAGENET_MEAN, IMAGENET_STD))
        found: Tensor = self.network((x - mean) / std)[-1]
        return found

    def load(self, weights: str) -> None:
        """Load weights of a file, or of the folder of a package, run or checkpoint.

        Args:
            weights: the path, or ``random``, which keeps the random ones.

        Raises:
            FileNotFoundError: nothing there.
            Fault: ``wrong_weights`` for another architecture's, or a file of none.
        """
        if weights == RANDOM:
            log.warning("the image encoder is random: the 3D network is taught nothing of images")
            return
        tensors = read_state_dict(_file_of(Path(weights)))
        own = self.network.state_dict()
        prefixes = ("encoder.", "") if self.name == "lemumo" else ("", *MOCO)
        for prefix in prefixes:
            found = {
                name: tensors[f"{prefix}{name}"] for name in own if f"{prefix}{name}" in tensors
            }
            if len(found) == len(own) and all(found[n].shape == own[n].shape for n in own):
                self.network.load_state_dict(found)
                return
        raise Fault(
            "wrong_weights",
            f"{weights} does not hold the weights of this {self.name} encoder: give --model.size, "
            "--model.variant, --model.height and --model.width of the run they come from, or "
            "another --method.image_encoder",
        )


class ImageHeads(nn.Module):
    """Shared and specific features of each cell of the image encoder's map.

    Args:
        channels: of the map.
        width: of the features.
        standardize: normalise the map's channels by the statistics of the batch first. Cells of a
            transformer's map differ little from their mean (their cosines are about .95), and
            contrast then hardly begins to learn.
    """

    def __init__(self, channels: int, width: int, standardize: bool):
        super().__init__()
        self.norm = RowNorm(channels) if standardize else None
        self.shared, self.specific = nn.Conv2d(channels, width, 1), nn.Conv2d(channels, width, 1)

    def forward(self, image_map: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, C, h, w) to two maps (B, D, h, w), neither of unit length."""
        if self.norm is not None:
            batch, channels, *size = image_map.shape
            rows = self.norm(image_map.permute(0, 2, 3, 1).reshape(-1, channels))
            image_map = rows.view(batch, *size, channels).permute(0, 3, 1, 2)
        return self.shared(image_map), self.specific(image_map)


def sample_map(features: Tensor, row: Tensor, column: Tensor, size: tuple[int, int]) -> Tensor:
    """Sample a map bilinearly at pixels, as if it had been enlarged to the view's size.

    Args:
        features: (B, D, h, w).
        row: (B, P), of pixels of the view.
        column: (B, P), of the same.
        size: (H, W) of the view.

    Returns:
        (B, P, D).
    """
    (height, width) = size
    x, y = (column + 0.5) / width * 2 - 1, (row + 0.5) / height * 2 - 1
    at = torch.stack([x, y], -1)[:, :, None].to(features.dtype)
    found = functional.grid_sample(features, at, padding_mode="border", align_corners=False)
    return found[..., 0].transpose(1, 2)


def _file_of(path: Path) -> Path:
    if path.is_file():
        return path
    candidates = [path / name for name in FILES]
    candidates += sorted(path.glob("checkpoints/*/model.safetensors"))[::-1]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"{path} is no file of weights, package, run or checkpoint")
