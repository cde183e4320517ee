"""CenterNet 3D detection (arXiv 1904.07850; heads and decoding as in arXiv 2603.24327)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lemumo_core.distributed import BatchNorm2d
from lemumo_core.model.heads.depth_selection import MAX_LOG_DEPTH, DepthMixture, ObjectDepth
from lemumo_core.model.heads.layers import conv
from lemumo_core.model.heads.neck import SUGGESTIONS
from lemumo_core.model.heads.peaks import PeakDecoder

PRIOR_LOGIT = -2.19
"""Heatmap bias: every cell starts at a score of 0.1."""
START = (0.5, 0.5), (1.0, 0.5, 0.5), (0.0, 0.0)
"""Biases of what is regressed: in the middle of its cell, 2.7 x 1.6 x 1.6 m, no yaw yet."""
START_LOG_DEPTH = 3.0
"""Of ``probe``: 19 m away."""
MAX_LOG_SIZE = 4.0
WIDTH = 256


class RawDetections(NamedTuple):
    """What the head predicts in every cell, each (B, channels, h, w).

    heatmap: class logits (C). offset: of the centre in the cell, in cells (x, y). log_size: of
    (length, width, height) in metres. log_depth: log(1 + Z). rotation: sin, cos of the yaw.
    sure: probability that the depth is no more than ``REACH_M`` off, of the distribution ``depth``;
    ``probe`` has neither.
    """

    heatmap: Tensor
    offset: Tensor
    log_size: Tensor
    log_depth: Tensor
    rotation: Tensor
    sure: Tensor | None = None
    depth: DepthMixture | None = None

    @property
    def regressed(self) -> list[Tensor]:
        """What a decoder reads at the peaks."""
        return [self.offset, self.log_size, self.log_depth, self.rotation]


class CenterNetHead(nn.Module):
    """``probe``: the paper's, from tokens at 1/16 of the input to 1/8. ``deploy``: ours, on the
    features of a ``Neck`` at 1/4; how far an object is, it tells (``ObjectDepth``) from the neck's
    log depths and the ``DepthHead``'s."""

    def __init__(self, inputs: int, classes: int, preset: str):
        super().__init__()
        if preset == "probe":
            self.stride, width = 8, WIDTH
            self.trunk: nn.Module = nn.Sequential(
                *(nn.Conv2d(inputs, width, 3, padding=1), BatchNorm2d(width), nn.ReLU()),
                *(nn.ConvTranspose2d(width, width, 4, 2, 1), BatchNorm2d(width), nn.ReLU()),
            )
        else:
            self.stride, width = 4, inputs
            self.trunk = conv(width, width)
        self.heatmap = nn.Conv2d(width, classes, 1)
        self.heatmap.bias = nn.Parameter(torch.full((classes,), PRIOR_LOGIT))
        self.regress = nn.ModuleList(nn.Conv2d(width, len(start), 1) for start in START)
        for head, start in zip(self.regress, START, strict=True):
            head.bias = nn.Parameter(torch.tensor(start))
        if preset == "probe":
            self.log_depth: nn.Module = nn.Conv2d(width, 1, 1)
            self.log_depth.bias = nn.Parameter(torch.tensor([START_LOG_DEPTH]))
        else:
            self.log_depth = ObjectDepth(width, SUGGESTIONS + 1)

    def forward(self, maps: Tensor, log_depths: Tensor | None) -> RawDetections:
        """Predict.

        Args:
            maps: (B, inputs, h, w), tokens at 1/16 or those of a ``Neck``.
            log_depths: float32 (B, 28, h, w), the neck's and, last, that of the depth head; None
                for ``probe``.
        """
        x = self.trunk(maps)
        offset, log_size, rotation = (head(x) for head in self.regress)
        if log_depths is None:
            return RawDetections(self.heatmap(x), offset, log_size, self.log_depth(x), rotation)
        depth = self.log_depth(x, log_depths)
        depth_m, sure = depth.mode()
        log_depth = (1.0 + depth_m).log()
        return RawDetections(self.heatmap(x), offset, log_size, log_depth, rotation, sure, depth)


class CenterNetDecoder(PeakDecoder):
    """Raw predictions to metric boxes."""

    def forward(self, raw: RawDetections, intrinsics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pick the best K peaks and place them in space.

        Args:
            raw: the head's output.
            intrinsics: float32 (B, 3, 3) of the network's view.

        Returns:
            boxes float32 (B, K, 7) x, y, z, length, width, height, yaw in the camera optical
            frame (``lemumo_core.geometry.boxes``), scores float32 (B, K), class ids int64
            (B, K). Best score first. A score is the probability that an object is there times,
            where the head tells it, that of its depth.
        """
        scores, class_ids, u, v, values = self.peaks(raw.heatmap, raw.regressed, raw.sure)
        *log_size, log_depth, sin, cos = values.unbind(1)
        size = torch.stack(log_size, dim=-1).clamp(-MAX_LOG_SIZE, MAX_LOG_SIZE).exp()
        z = log_depth.clamp(0.0, MAX_LOG_DEPTH).exp() - 1.0
        fx, fy = intrinsics[:, 0, 0, None], intrinsics[:, 1, 1, None]
        cx, cy = intrinsics[:, 0, 2, None], intrinsics[:, 1, 2, None]
        center = torch.stack([(u - cx) / fx * z, (v - cy) / fy * z, z], dim=-1)
        yaw = angle(sin, cos).unsqueeze(-1)
        return torch.cat([center, size, yaw], dim=-1), scores, class_ids


def angle(sin: Tensor, cos: Tensor) -> Tensor:
    """atan2 from operators of ONNX opset 18, by the half-angle formula.

    tan(a / 2) = sin / (r + cos), or (r - cos) / sin where cos is negative, which loses no digits.
    """
    r = (sin * sin + cos * cos).sqrt().clamp(min=1e-12)
    sign = torch.where(sin < 0.0, -1.0, 1.0)
    ahead = sin / (r + cos).clamp(min=1e-12)
    behind = sign * (r - cos) / sin.abs().clamp(min=1e-12)
    return 2.0 * torch.where(cos >= 0.0, ahead, behind).atan()
