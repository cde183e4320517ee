"""What the deploy heads read: tokens brought to 1/4 of the input's resolution, and its details."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.model.config import MODALITIES, ModelConfig
from lemumo_core.model.heads.layers import conv
from lemumo_core.model.stems import PatchStems

WIDTH = 64
DETAIL_WIDTH = 32
DETAIL_PATCH = 4


class Neck(nn.Module):
    """Tokens at 1/16 to features at 1/4, by two stages of sub-pixel doubling.

    A token has to tell of 16 x 16 pixels, and cannot hold where in them an edge or a return lies.
    So a small convolutional branch looks at the inputs once more, at 1/4, and is added. It also
    sees ``cell_means`` of the companion, for a linear map of a patch confuses how far its returns
    are with how many there are.

    Args:
        config: of the model.
        modalities: which inputs the model sees.
    """

    def __init__(self, config: ModelConfig, modalities: tuple[str, ...] = MODALITIES):
        super().__init__()
        self.grid = config.grid
        # Heads say log depth, so that is what they are told.
        self.log_scale = config.input_spec.depth_max_m if config.companion == "lidar" else None
        self.enter = nn.Conv2d(config.token_dim, 4 * WIDTH, 1)
        self.refine8 = conv(WIDTH, WIDTH)
        self.widen = nn.Conv2d(WIDTH, 4 * WIDTH, 1)
        self.shuffle = nn.PixelShuffle(2)
        self.stems = PatchStems(config, modalities, DETAIL_PATCH, DETAIL_WIDTH)
        self.sees_companion = "companion" in modalities
        width = DETAIL_WIDTH + 2 * self.sees_companion
        self.details = nn.Sequential(conv(width, DETAIL_WIDTH), conv(DETAIL_WIDTH, WIDTH))
        self.refine4 = conv(WIDTH, WIDTH)

    def forward(self, tokens: Tensor, image: Tensor, companion: Tensor, present: Tensor) -> Tensor:
        """Features (B, 64, H/4, W/4) of tokens (B, N, D') and the encoder's inputs."""
        x = tokens.transpose(1, 2).unflatten(2, self.grid)
        x = self.shuffle(self.widen(self.refine8(self.shuffle(self.enter(x)))))
        patches = torch.stack(self.stems(image, companion, present)).sum(0)
        details = patches.transpose(1, 2).unflatten(2, x.shape[2:])
        if self.sees_companion:
            exists = present[:, 1].view(-1, 1, 1, 1) > 0.5
            means = cell_means(torch.where(exists, companion, 0.0), self.log_scale)
            details = torch.cat([details, means.to(details.dtype)], dim=1)
        return self.refine4(x + self.details(details))


def cell_means(companion: Tensor, log_scale: float | None) -> Tensor:
    """Of each cell of 4 x 4 pixels the mean of what is known, and the share that is known.

    Args:
        companion: float32 (B, H, W, C), value and, for C = 2, validity; else 0 is unknown.
        log_scale: the mean is that of log(1 + log_scale * value); None: of the value itself.

    Returns:
        float32 (B, 2, H/4, W/4), 0 where nothing is known.
    """
    value, valid = companion[..., 0], companion[..., -1]
    valid = (valid > 0).float()
    if log_scale is not None:
        value = (1.0 + log_scale * value).log()
    means = functional.avg_pool2d(torch.stack([value * valid, valid], dim=1), DETAIL_PATCH)
    total, share = means.split(1, dim=1)
    return torch.cat([total / share.clamp(min=DETAIL_PATCH**-2), share], dim=1)
