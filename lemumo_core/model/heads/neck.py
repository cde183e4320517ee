"""What the deploy heads read: tokens brought to 1/4 of the input's resolution, and its details."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.model.config import MODALITIES, ModelConfig
from lemumo_core.model.heads.layers import conv
from lemumo_core.model.patch_embed import PatchStems
from lemumo_core.preprocess import Inputs

WIDTH = 64
DETAIL_WIDTH = 32
DETAIL_PATCH = 4
START_HEIGHT_M = 5.5
"""Where no return tells of depth the heads begin where the view is that high. An object's size in
the image tells its depth in focal lengths only, so what is learnt of one camera fits another."""
SUGGESTIONS = 27
"""Log depths of a cell: three of each of the 3 x 3 cells around it."""
FARTHEST_LOG = 8.0
"""More than the log(1 + metres) of any return."""


class Features(NamedTuple):
    """What the deploy heads read.

    Attributes:
        maps: (B, 64, H/4, W/4).
        log_depths: float32 (B, 27, H/4, W/4), log(1 + metres): how far a cell may be, as the
            returns in it and around it suggest (``suggested``). Heads choose (``ChosenDepth``).
    """

    maps: Tensor
    log_depths: Tensor


class Neck(nn.Module):
    """Tokens at 1/16 to features at 1/4, by two stages of sub-pixel doubling.

    A token has to tell of 16 x 16 pixels, and cannot hold where in them an edge or a return lies.
    So a small convolutional branch looks at the inputs once more, at 1/4, and is added. It also
    sees each cell's ray, of which the encoder knows nothing, and of LiDAR ``cell_returns``, for a
    linear map of a patch confuses how far its returns are with how many there are.

    Args:
        config: of the model.
        modalities: which inputs the model sees.
    """

    def __init__(self, config: ModelConfig, modalities: tuple[str, ...] = MODALITIES):
        super().__init__()
        self.grid, self.height = config.grid, config.height
        self.depth_max_m = config.input_spec.depth_max_m
        self.sees_depth = "companion" in modalities and config.companion == "lidar"
        self.enter = nn.Conv2d(config.token_dim, 4 * WIDTH, 1)
        self.refine8 = conv(WIDTH, WIDTH)
        self.widen = nn.Conv2d(WIDTH, 4 * WIDTH, 1)
        self.shuffle = nn.PixelShuffle(2)
        self.stems = PatchStems(config, modalities, DETAIL_PATCH, DETAIL_WIDTH)
        width = DETAIL_WIDTH + 3 + 4 * self.sees_depth
        self.details = nn.Sequential(conv(width, DETAIL_WIDTH), conv(DETAIL_WIDTH, WIDTH))
        self.refine4 = conv(WIDTH, WIDTH)

    def forward(self, tokens: Tensor, inputs: Inputs) -> Features:
        """Return the features of the encoder's tokens (B, N, D') and the network's inputs."""
        x = tokens.transpose(1, 2).unflatten(2, self.grid)
        x = self.shuffle(self.widen(self.refine8(self.shuffle(self.enter(x)))))
        patches = torch.stack(self.stems(inputs)).sum(0)
        details = patches.transpose(1, 2).unflatten(2, x.shape[2:])
        seen = [rays(inputs.intrinsics, self.height, x.shape[2], x.shape[3])]
        focal = inputs.intrinsics[:, 1, 1].view(-1, 1, 1, 1) / self.height
        start = (1.0 + START_HEIGHT_M * focal).log()
        log_depths = start.expand(-1, 3, *x.shape[2:])
        if self.sees_depth:
            exists = inputs.present[:, 1].view(-1, 1, 1, 1) > 0.5
            returns = cell_returns(torch.where(exists, inputs.companion, 0.0), self.depth_max_m)
            log_depths = suggested(returns, start)
            nearest, farthest, mean = log_depths.split(1, dim=1)
            seen += [mean, nearest - mean, farthest - mean, returns.share]
        details = torch.cat([details, *(x.to(details.dtype) for x in seen)], dim=1)
        return Features(self.refine4(x + self.details(details)), neighbors(log_depths))


def rays(intrinsics: Tensor, height: int, rows: int, columns: int) -> Tensor:
    """Rays through the centres of cells of 4 x 4 pixels, float32 (B, 3, h, w): X / Z, Y / Z, and
    the log of the focal length in heights of the view.

    Args:
        intrinsics: float32 (B, 3, 3) of views ``height`` pixels high.
        rows, columns: h, w.
    """
    fx, fy = intrinsics[:, 0, :1], intrinsics[:, 1, 1:2]
    cx, cy = intrinsics[:, 0, 2:], intrinsics[:, 1, 2:]
    half = (DETAIL_PATCH - 1) / 2
    u, v = (DETAIL_PATCH * torch.arange(n, device=fx.device) + half for n in (columns, rows))
    x = ((u - cx) / fx)[:, None, None, :].expand(-1, 1, rows, -1)
    y = ((v - cy) / fy)[:, None, :, None].expand(-1, 1, -1, columns)
    focal = (fy / height).log()[:, :, None, None].expand(-1, 1, rows, columns)
    return torch.cat([x, y, focal], dim=1)


class CellReturns(NamedTuple):
    """Returns in cells of 4 x 4 pixels, float32 (B, 1, H/4, W/4) each, 0 where there is none.

    nearest, farthest, mean: log(1 + metres). share: of the cell's pixels that have one.
    """

    nearest: Tensor
    farthest: Tensor
    mean: Tensor
    share: Tensor


def cell_returns(companion: Tensor, depth_max_m: float) -> CellReturns:
    """What LiDAR says of each cell.

    Args:
        companion: float32 (B, H, W, C), depth / ``depth_max_m`` and, for C = 2, validity; else 0 is
            unknown.
        depth_max_m: of the input.
    """
    valid = (companion[..., -1] > 0).float()
    log_depth = (1.0 + depth_max_m * companion[..., 0]).log() * valid
    closeness = (FARTHEST_LOG - log_depth) * valid
    most = functional.max_pool2d(torch.stack([closeness, log_depth], dim=1), DETAIL_PATCH)
    sums = functional.avg_pool2d(torch.stack([log_depth, valid], dim=1), DETAIL_PATCH)
    total, share = sums.split(1, dim=1)
    nearest = torch.where(share > 0, FARTHEST_LOG - most[:, :1], 0.0)
    return CellReturns(nearest, most[:, 1:], total / share.clamp(min=DETAIL_PATCH**-2), share)


def suggested(returns: CellReturns, start: Tensor) -> Tensor:
    """Log depths (B, 3, h, w) of each cell: that of its nearest and its farthest return, and their
    mean.

    A cell without returns takes the nearest of the first cell below it that has one (the foot of
    what stands there), the farthest of the first one above (what lies behind), and the mean of its
    surroundings (``filled``), which also helps where there is none below or above.

    Args:
        returns: of all cells.
        start: (B, 1, 1, 1), log depth of a map without returns.
    """
    mean = filled(returns.mean, returns.share, start)
    known = (returns.share > 0).float()
    maps = []
    for values, upwards in ((returns.nearest, True), (returns.farthest, False)):
        carried, reached = _carried(values, known, upwards)
        maps.append(torch.where(reached > 0, carried, mean))
    return torch.cat([*maps, mean], dim=1)


def _carried(values: Tensor, known: Tensor, upwards: bool) -> tuple[Tensor, Tensor]:
    """Known values carried along columns into the cells that have none, in doubling steps."""
    rows, step = values.shape[2], 1
    while step < rows:
        border = (0, 0, 0, step) if upwards else (0, 0, step, 0)
        rest = slice(step, None) if upwards else slice(None, -step)
        moved, moved_known = (functional.pad(x[:, :, rest], border) for x in (values, known))
        values = torch.where(known > 0, values, moved)
        known = torch.maximum(known, moved_known)
        step *= 2
    return values, known


def neighbors(maps: Tensor) -> Tensor:
    """Maps (B, C, h, w) in the 3 x 3 cells around each cell, (B, 9 C, h, w); itself last. Borders
    repeat."""
    for dim in (2, 3):
        first, last = maps.narrow(dim, 0, 1), maps.narrow(dim, maps.shape[dim] - 1, 1)
        maps = torch.cat([first, maps, last], dim=dim)
    rows, columns = maps.shape[2] - 2, maps.shape[3] - 2
    around = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    places = [*around, (1, 1)]
    return torch.cat([maps[:, :, y : y + rows, x : x + columns] for y, x in places], dim=1)


def filled(mean: Tensor, share: Tensor, start: Tensor) -> Tensor:
    """Means (B, 1, h, w) with holes filled from ever larger surroundings.

    A cell with no return takes the mean over the 2 x 2 cells that it lies in, or else over 4 x 4,
    and so on up to the whole map; ``start`` where the map is empty.

    Args:
        mean: of each cell.
        share: its weight, 0 for a hole.
        start: (B, 1, 1, 1).
    """
    cells = [torch.cat([mean * share, share], dim=1)]
    while max(cells[-1].shape[2:]) > 1:
        rows, columns = cells[-1].shape[2:]
        even = functional.pad(cells[-1], (0, columns % 2, 0, rows % 2))
        cells.append(functional.avg_pool2d(even, 2))
    least = 0.25 ** len(cells) * DETAIL_PATCH**-2
    found = start
    for level in reversed(cells):
        total, weight = level.split(1, dim=1)
        rows, columns = level.shape[2:]
        wider = functional.interpolate(found, scale_factor=2.0)[:, :, :rows, :columns]
        found = torch.where(weight > 0, total / weight.clamp(min=least), wider)
    return found
