"""What the deploy heads read: tokens brought to 1/4 of the input's resolution, and its details."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lemumo_core.model.config import MODALITIES, ModelConfig
from lemumo_core.model.heads.layers import conv
from lemumo_core.model.stems import PatchStems

WIDTH = 64
DETAIL_WIDTH = 32
DETAIL_PATCH = 4


class Neck(nn.Module):
    """Tokens at 1/16 to features at 1/4, by two stages of sub-pixel doubling.

    A token has to tell of 16 x 16 pixels, and cannot hold where in them an edge or a return lies.
    So a small convolutional branch looks at the inputs once more, at 1/4, and is added.

    Args:
        config: of the model.
        modalities: which inputs the model sees.
    """

    def __init__(self, config: ModelConfig, modalities: tuple[str, ...] = MODALITIES):
        super().__init__()
        self.grid = config.grid
        self.enter = nn.Conv2d(config.token_dim, 4 * WIDTH, 1)
        self.refine8 = conv(WIDTH, WIDTH)
        self.widen = nn.Conv2d(WIDTH, 4 * WIDTH, 1)
        self.shuffle = nn.PixelShuffle(2)
        self.stems = PatchStems(config, modalities, DETAIL_PATCH, DETAIL_WIDTH)
        self.details = nn.Sequential(conv(DETAIL_WIDTH, DETAIL_WIDTH), conv(DETAIL_WIDTH, WIDTH))
        self.refine4 = conv(WIDTH, WIDTH)

    def forward(self, tokens: Tensor, image: Tensor, companion: Tensor, present: Tensor) -> Tensor:
        """Features (B, 64, H/4, W/4) of tokens (B, N, D') and the encoder's inputs."""
        x = tokens.transpose(1, 2).unflatten(2, self.grid)
        x = self.shuffle(self.widen(self.refine8(self.shuffle(self.enter(x)))))
        patches = torch.stack(self.stems(image, companion, present)).sum(0)
        return self.refine4(x + self.details(patches.transpose(1, 2).unflatten(2, x.shape[2:])))
