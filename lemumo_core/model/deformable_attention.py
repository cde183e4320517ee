"""Attention to a few points of a feature map that each image chooses (DAT, arXiv 2201.00520)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

HEAD_DIM = 128
GROUP_DIM = 256


class ChannelNorm(nn.Module):
    """Layer normalisation of a map (B, C, h, w) over its channels."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, h, w)."""
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


class DeformableAttention(nn.Module):
    """Every pixel of a map attends to keys sampled at positions that the map itself decides.

    As DeCUR has it after stages 3 and 4 of ResNet-50: offsets per group of 256 channels, without a
    limit but that of the map's border; heads of 128 channels; a table of biases for the distance
    of pixel and key, read bilinearly. Names of weights are the reference's.

    Args:
        channels: C.
        size: (h, w) of the maps that the table is made for; maps of other sizes read it
            at distances relative to their own.
        kernel: of the convolution that finds the offsets.
        stride: keys are a grid of h / stride by w / stride.
        head_dim: channels a head.
        group_dim: channels a group of offsets.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        kernel: int,
        stride: int,
        head_dim: int = HEAD_DIM,
        group_dim: int = GROUP_DIM,
    ):
        super().__init__()
        self.heads, self.groups = channels // head_dim, channels // group_dim
        self.conv_offset = nn.Sequential(
            nn.Conv2d(group_dim, group_dim, kernel, stride, kernel // 2, groups=group_dim),
            ChannelNorm(group_dim),
            nn.GELU(),
            nn.Conv2d(group_dim, 2, 1, bias=False),
        )
        for name in ("proj_q", "proj_k", "proj_v", "proj_out"):
            self.add_module(name, nn.Conv2d(channels, channels, 1))
        table = torch.empty(self.heads, 2 * size[0] - 1, 2 * size[1] - 1)
        self.rpe_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.01))

    def forward(self, x: Tensor) -> Tensor:
        """Attend: (B, C, h, w) to the same shape, to be added to it."""
        batch, channels, height, width = x.shape
        q = self.get_submodule("proj_q")(x)
        position = self.positions(q)  # (B groups, h', w', 2), rows first
        grouped = x.reshape(batch * self.groups, -1, height, width)
        at = position.flip(-1).to(x.dtype)
        sampled = grid_sample(grouped, at, align_corners=True).reshape(batch, channels, 1, -1)
        keys, values = (self.get_submodule(name)(sampled) for name in ("proj_k", "proj_v"))
        bias = self.biases(position, (height, width))
        q, keys, values = (
            part.reshape(batch, self.heads, channels // self.heads, -1).mT
            for part in (q, keys, values)
        )
        scores = q @ keys.mT * (channels // self.heads) ** -0.5 + bias
        attended = scores.softmax(-1).to(values.dtype) @ values  # (B, heads, h w, d)
        return self.get_submodule("proj_out")(attended.mT.reshape(x.shape))

    def positions(self, q: Tensor) -> Tensor:
        """Return where keys are sampled, (B groups, h', w', 2), row and column in [-1, 1]."""
        grouped = q.reshape(q.shape[0] * self.groups, -1, *q.shape[2:])
        offset = self.conv_offset(grouped).movedim(1, -1)
        offset = offset.to(torch.promote_types(offset.dtype, torch.float32))
        return (offset + _grid(offset.shape[1:3], 0.5, offset)).clamp(-1.0, 1.0)

    def biases(self, position: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the bias of each pixel of a map and each key, (B, heads, h w, keys)."""
        pixels = _grid(size, 0.0, position).flatten(0, 1)  # (h w, 2)
        distance = (pixels[:, None] - position.flatten(1, 2)[:, None]) * 0.5
        groups = position.shape[0]  # not len(), which an export would take for a constant
        table = self.rpe_table.unflatten(0, (self.groups, -1))
        table = table.repeat(groups // self.groups, 1, 1, 1).to(distance.dtype)
        bias = grid_sample(table, distance.flip(-1), align_corners=True)
        return bias.reshape(groups // self.groups, self.heads, *bias.shape[2:])


def _grid(size: tuple[int, int] | torch.Size, shift: float, like: Tensor) -> Tensor:
    """Return rows and columns (h, w, 2) of pixels, -1 at the first and 1 at the last for shift 0.

    The reference's keys lie half a pixel further.
    """
    axes = [
        (torch.arange(n, dtype=like.dtype, device=like.device) + shift) / max(n - 1, 1) * 2 - 1
        for n in size
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
