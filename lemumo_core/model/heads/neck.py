"""What the deploy heads read: tokens brought to 1/4 of the input's resolution, and its details."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.model.config import MODALITIES, ModelConfig
from lemumo_core.model.heads.layers import conv
from lemumo_core.model.stems import PatchStems

WIDTH = 64
DETAIL_WIDTH = 32
DETAIL_PATCH = 4
START_DEPTH_LOG = 2.5
"""Where no return tells of depth the heads begin at about 12 m."""


class Features(NamedTuple):
    """What the deploy heads read.

    Attributes:
        maps: (B, 64, H/4, W/4).
        log_depth: float32 (B, 1, H/4, W/4), log(1 + metres) as the returns suggest it
            (``filled``); heads say how far they are from it.
    """

    maps: Tensor
    log_depth: Tensor


class Neck(nn.Module):
    """Tokens at 1/16 to features at 1/4, by two stages of sub-pixel doubling.

    A token has to tell of 16 x 16 pixels, and cannot hold where in them an edge or a return lies.
    So a small convolutional branch looks at the inputs once more, at 1/4, and is added. Of LiDAR it
    also sees ``cell_means``, for a linear map of a patch confuses how far its returns are with how
    many there are.

    Args:
        config: of the model.
        modalities: which inputs the model sees.
    """

    def __init__(self, config: ModelConfig, modalities: tuple[str, ...] = MODALITIES):
        super().__init__()
        self.grid = config.grid
        self.depth_max_m = config.input_spec.depth_max_m
        self.sees_depth = "companion" in modalities and config.companion == "lidar"
        self.enter = nn.Conv2d(config.token_dim, 4 * WIDTH, 1)
        self.refine8 = conv(WIDTH, WIDTH)
        self.widen = nn.Conv2d(WIDTH, 4 * WIDTH, 1)
        self.shuffle = nn.PixelShuffle(2)
        self.stems = PatchStems(config, modalities, DETAIL_PATCH, DETAIL_WIDTH)
        width = DETAIL_WIDTH + 2 * self.sees_depth
        self.details = nn.Sequential(conv(width, DETAIL_WIDTH), conv(DETAIL_WIDTH, WIDTH))
        self.refine4 = conv(WIDTH, WIDTH)

    def forward(
        self, tokens: Tensor, image: Tensor, companion: Tensor, present: Tensor
    ) -> Features:
        """Features of tokens (B, N, D') and the encoder's inputs."""
        x = tokens.transpose(1, 2).unflatten(2, self.grid)
        x = self.shuffle(self.widen(self.refine8(self.shuffle(self.enter(x)))))
        patches = torch.stack(self.stems(image, companion, present)).sum(0)
        details = patches.transpose(1, 2).unflatten(2, x.shape[2:])
        log_depth = torch.full_like(x[:, :1], START_DEPTH_LOG, dtype=torch.float32)
        if self.sees_depth:
            exists = present[:, 1].view(-1, 1, 1, 1) > 0.5
            mean, share = cell_means(torch.where(exists, companion, 0.0), self.depth_max_m)
            log_depth = filled(mean, share)
            details = torch.cat([details, torch.cat([log_depth, share], 1).to(details.dtype)], 1)
        return Features(self.refine4(x + self.details(details)), log_depth)


def cell_means(companion: Tensor, depth_max_m: float) -> tuple[Tensor, Tensor]:
    """Mean log depth of the returns in each cell of 4 x 4 pixels, and the share of pixels that
    have one.

    Args:
        companion: float32 (B, H, W, C), depth / ``depth_max_m`` and, for C = 2, validity; else 0 is
            unknown.
        depth_max_m: of the input.

    Returns:
        log(1 + metres) and share, float32 (B, 1, H/4, W/4) each, 0 where there is no return.
    """
    valid = (companion[..., -1] > 0).float()
    log_depth = (1.0 + depth_max_m * companion[..., 0]).log()
    sums = functional.avg_pool2d(torch.stack([log_depth * valid, valid], dim=1), DETAIL_PATCH)
    total, share = sums.split(1, dim=1)
    return total / share.clamp(min=DETAIL_PATCH**-2), share


def filled(mean: Tensor, share: Tensor) -> Tensor:
    """Means (B, 1, h, w) with holes filled from ever larger surroundings.

    A cell with no return takes the mean over the 2 x 2 cells that it lies in, or else over 4 x 4,
    and so on up to the whole map; ``START_DEPTH_LOG`` where the map is empty.

    Args:
        mean: of each cell.
        share: its weight, 0 for a hole.
    """
    cells = [torch.cat([mean * share, share], dim=1)]
    while max(cells[-1].shape[2:]) > 1:
        rows, columns = cells[-1].shape[2:]
        even = functional.pad(cells[-1], (0, columns % 2, 0, rows % 2))
        cells.append(functional.avg_pool2d(even, 2))
    least = 0.25 ** len(cells) * DETAIL_PATCH**-2
    found = torch.full_like(mean[:, :, :1, :1], START_DEPTH_LOG)
    for level in reversed(cells):
        total, weight = level.split(1, dim=1)
        rows, columns = level.shape[2:]
        wider = functional.interpolate(found, scale_factor=2.0)[:, :, :rows, :columns]
        found = torch.where(weight > 0, total / weight.clamp(min=least), wider)
    return found
