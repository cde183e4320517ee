"""Image and companion to patch tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lemumo_core.model.config import PATCH, ModelConfig

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class PatchStems(nn.Module):
    """One linear patch embedding per modality, plus its modality embedding.

    A modality that is absent becomes zeros before the stem (preset ``paper``) or, after it, one
    learned token in every cell (preset ``lemumo``), so that it differs from "no returns".
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig):
        super().__init__()
        channels = config.input_spec.companion_channels
        self.image = nn.Conv2d(3, config.dim, PATCH, PATCH)
        self.companion = nn.Conv2d(channels, config.dim, PATCH, PATCH)
        # Rows: image, companion.
        self.modality = nn.Parameter(torch.randn(2, config.dim) * 0.02)
        self.absent = (
            nn.Parameter(torch.randn(2, config.dim) * 0.02) if config.preset == "lemumo" else None
        )
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255, False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1) * 255, False)

    def forward(self, image: Tensor, companion: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Embed both modalities.

        Args:
            image: uint8 or float (B, H, W, 3) RGB, 0 to 255.
            companion: float32 (B, H, W, C).
            present: float32 (B, 2), 1 where image, companion exist.

        Returns:
            Image and companion tokens, each (B, N, D), with modality embeddings.
        """
        # Cast first: TensorRT lets a uint8 tensor feed nothing but a Cast.
        pixels = (image.float().permute(0, 3, 1, 2) - self.mean) / self.std
        return (
            self._tokens(self.image, pixels, present[:, 0], 0),
            self._tokens(self.companion, companion.permute(0, 3, 1, 2), present[:, 1], 1),
        )

    def _tokens(self, stem: nn.Conv2d, x: Tensor, present: Tensor, row: int) -> Tensor:
        # torch.where, not a product: content of an absent input may be NaN.
        exists = present.view(-1, 1, 1, 1) > 0.5
        tokens = stem(torch.where(exists, x, 0.0)).flatten(2).transpose(1, 2)
        if self.absent is not None:
            tokens = torch.where(exists[:, 0], tokens, self.absent[row])
        return tokens + self.modality[row]
