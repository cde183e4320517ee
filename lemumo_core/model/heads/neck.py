"""Neck of the deploy heads: tokens brought to 1/4 of the input's resolution, and its details."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lemumo_core.model.config import MODALITIES, ModelConfig
from lemumo_core.model.heads.depth_hypotheses import (
    CELL,
    cell_returns,
    depth_hypotheses,
    neighbors,
)
from lemumo_core.model.heads.layers import Features, conv
from lemumo_core.model.patch_embed import PatchEmbed
from lemumo_core.preprocess import Inputs

WIDTH = 64
DETAIL_WIDTH = 32
START_HEIGHT_M = 5.5
"""Without returns the hypotheses lie where the view is that high. An object's size in the image
gives its depth in focal lengths only, so what is learnt of one camera fits another."""
HYPOTHESES = 27
"""Depth hypotheses of a cell: three of each of the 3 x 3 cells around it."""


class Neck(nn.Module):
    """Tokens at 1/16 to features at 1/4, by two stages of sub-pixel doubling.

    A token stands for 16 x 16 pixels, and cannot hold where in them an edge or a return lies. So a
    small convolutional branch looks at the inputs once more, at 1/4, and is added. It also sees
    each cell's ray, of which the encoder knows nothing, and of LiDAR ``cell_returns``, for a linear
    map of a patch confuses how far its returns are with how many there are.

    Args:
        config: of the model.
        modalities: which inputs the model sees.
    """

    def __init__(self, config: ModelConfig, modalities: tuple[str, ...] = MODALITIES):
        super().__init__()
        self.grid, self.height, self.width = config.grid, config.height, WIDTH
        self.depth_max_m = config.input_spec.depth_max_m
        self.sees_depth = "companion" in modalities and config.companion == "lidar"
        self.enter = nn.Conv2d(config.token_dim, 4 * WIDTH, 1)
        self.refine8 = conv(WIDTH, WIDTH)
        self.widen = nn.Conv2d(WIDTH, 4 * WIDTH, 1)
        self.shuffle = nn.PixelShuffle(2)
        self.patch_embed = PatchEmbed(config, modalities, CELL, DETAIL_WIDTH)
        width = DETAIL_WIDTH + 3 + 4 * self.sees_depth
        self.details = nn.Sequential(conv(width, DETAIL_WIDTH), conv(DETAIL_WIDTH, WIDTH))
        self.refine4 = conv(WIDTH, WIDTH)

    def forward(self, tokens: Tensor, inputs: Inputs) -> Features:
        """Return the features of the encoder's tokens (B, N, D') and the network's inputs."""
        x = tokens.transpose(1, 2).unflatten(2, self.grid)
        x = self.shuffle(self.widen(self.refine8(self.shuffle(self.enter(x)))))
        patches = torch.stack(self.patch_embed(inputs)).sum(0)
        details = patches.transpose(1, 2).unflatten(2, x.shape[2:])
        seen = [rays(inputs.intrinsics, self.height, x.shape[2], x.shape[3])]
        focal = inputs.intrinsics[:, 1, 1].view(-1, 1, 1, 1) / self.height
        start = (1.0 + START_HEIGHT_M * focal).log()
        log_depths = start.expand(-1, 3, *x.shape[2:])
        if self.sees_depth:
            exists = inputs.present[:, 1].view(-1, 1, 1, 1) > 0.5
            returns = cell_returns(torch.where(exists, inputs.companion, 0.0), self.depth_max_m)
            log_depths = depth_hypotheses(returns, start)
            nearest, farthest, mean = log_depths.split(1, dim=1)
            seen += [mean, nearest - mean, farthest - mean, returns.share]
        details = torch.cat([details, *(x.to(details.dtype) for x in seen)], dim=1)
        return Features(self.refine4(x + self.details(details)), neighbors(log_depths))


def rays(intrinsics: Tensor, height: int, rows: int, columns: int) -> Tensor:
    """Compute rays through the centres of cells of 4 x 4 pixels.

    Args:
        intrinsics: float32 (B, 3, 3) of the views.
        height: of the views, pixels.
        rows: of cells, h.
        columns: of cells, w.

    Returns:
        float32 (B, 3, h, w): X / Z, Y / Z, and the log of the focal length in heights of the view.
    """
    fx, fy = intrinsics[:, 0, :1], intrinsics[:, 1, 1:2]
    cx, cy = intrinsics[:, 0, 2:], intrinsics[:, 1, 2:]
    half = (CELL - 1) / 2
    u, v = (CELL * torch.arange(n, device=fx.device) + half for n in (columns, rows))
    x = ((u - cx) / fx)[:, None, None, :].expand(-1, 1, rows, -1)
    y = ((v - cy) / fy)[:, None, :, None].expand(-1, 1, -1, columns)
    focal = (fy / height).log()[:, :, None, None].expand(-1, 1, rows, columns)
    return torch.cat([x, y, focal], dim=1)
