"""Dense depth at the view's resolution, chosen among hypotheses that the LiDAR's returns give."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.distributed import BatchNorm2d
from lemumo_core.model.heads.layers import conv
from lemumo_core.model.heads.pixel_hypotheses import (
    HYPOTHESES,
    ReturnsAround,
    hypotheses_at,
    returns_around,
)
from lemumo_core.preprocess import Inputs

WIDTH = 24
PRIOR = (1.0, 1.0, 0.0, 0.0, -1.0, -1.0, 0.0, -1.0)
"""Logits of the hypotheses before training: nearest and linear lead."""
LOGIT_SCALE = 3.0
"""Scale of learnt logits."""
MEDIAN_SOFTNESS = 0.02
"""Log metres of expected error within which hypotheses share the choice. It keeps the depth
continuous where two are equally good: runtimes that round differently would differ by metres."""
MAX_RESIDUAL = 0.25
FREE_DEG = 0.15
"""There is no residual as near as this to a return, and nearly all of it a degree farther."""
COPY_DEG, COPY_SOFT_DEG = 0.12, 0.05
ALONG_BEAM, ACROSS_BEAM = 0.25, 2.0
"""The nearest return is copied where one lies nearer than this along the beam, but for the last
bit. Sideways a degree counts a quarter, since neighbours on a beam see the same surface, up and
down double. Real surfaces are rougher than rendered ones: copying is hard to beat there."""
COARSE_DEG, COARSE_SOFT_DEG = 0.75, 0.25
"""The coarse depth is no hypothesis where a return is nearer than this, and a full one from a bit
farther away on: it is learnt from images, which look different on another camera."""
LEAST_WEIGHT = 1e-12
CLOSE_LOG = 2.0
NO_RETURN_DEG = 90.0
DENSE = 5.0
"""Returns to a degree where a scan is dense: distances are compared with it."""


class RefinedDepth(NamedTuple):
    """Refined depth of B views, and what its loss needs.

    Attributes:
        depth_m: float32 (B, H, W), metres.
        confidence: float32 (B, H, W), learnt probability that the depth is within a factor of 1.25.
        log_weights: float32 (B, 8, H, W), of the hypotheses.
        residual: float32 (B, 1, H, W), log of metres.
        around: the returns that the hypotheses are made of.
        coarse_m: float32 (B, 1, H, W), metres.
    """

    depth_m: Tensor
    confidence: Tensor
    log_weights: Tensor
    residual: Tensor
    around: ReturnsAround
    coarse_m: Tensor

    def log_depths(self, u: Tensor, v: Tensor) -> Tensor:
        """Return the hypotheses (B, 8, H, W), log of metres, of a place in each pixel.

        Arguments as of ``hypotheses_at``.
        """
        return hypotheses_at(self.around, self.coarse_m, u, v)


class DepthRefinement(nn.Module):
    """A small U-Net that chooses each pixel's depth among hypotheses, and adds a bounded residual.

    It never regresses depth freely: where returns are dense it copies them. Near returns it looks
    at them and their geometry alone, so that an image from another camera cannot make depth worse;
    what the image says enters by the coarse depth, the last hypothesis, which is there for places
    far from returns, and alone where there are none.

    Args:
        depth_max_m: of the companion, metres.
    """

    def __init__(self, depth_max_m: float):
        super().__init__()
        self.depth_max_m = depth_max_m
        c = WIDTH
        self.enter = conv(4 * (HYPOTHESES + 9), c)
        self.down = nn.ModuleList(
            nn.Sequential(_halving(a, b), conv(b, b))
            for a, b in ((c, 2 * c), (2 * c, 3 * c), (3 * c, 3 * c))
        )
        self.up = nn.ModuleList(
            conv(a + b, b) for a, b in ((3 * c, 3 * c), (3 * c, 2 * c), (2 * c, c))
        )
        self.leave = nn.Conv2d(c, 4 * (HYPOTHESES + 2), 1)
        nn.init.zeros_(self.leave.weight)
        self.leave.bias = nn.Parameter(torch.zeros(4 * (HYPOTHESES + 2)))
        self.shuffle = nn.PixelShuffle(2)
        self.register_buffer("prior", torch.tensor(PRIOR).view(1, -1, 1, 1), persistent=False)
        nearest = torch.eye(HYPOTHESES)[0].view(1, -1, 1, 1)
        self.register_buffer("nearest", nearest, persistent=False)

    prior: Tensor
    nearest: Tensor

    def forward(self, inputs: Inputs, coarse_m: Tensor, coarse_confidence: Tensor) -> RefinedDepth:
        """Refine the depth of B views.

        Args:
            inputs: with a companion of four channels.
            coarse_m: float32 (B, h, w), metres, at 1/4 of the view's resolution.
            coarse_confidence: float32 (B, h, w).
        """
        size = inputs.companion.shape[1:3]
        exists = inputs.present[:, 1].view(-1, 1, 1, 1) > 0.5
        companion = torch.where(exists, inputs.companion.permute(0, 3, 1, 2), 0.0)
        value, valid, u, v = companion.split(1, dim=1)
        depth_m = self.depth_max_m * value
        around = returns_around(depth_m, valid, u, v)
        # A cell's confidence is that of its pixels; its depth is smoothed in the logarithm.
        coarse_m, coarse_confidence = coarse_m.detach().float(), coarse_confidence.detach().float()
        coarse = torch.stack([coarse_m.log1p(), coarse_confidence], dim=1)
        coarse = functional.interpolate(coarse, size, mode="bilinear", align_corners=False)
        coarse_m, confidence = coarse[:, :1].exp() - 1.0, coarse[:, 1:]
        center = torch.zeros_like(value[:1, :, :1, :1])
        log_depths = hypotheses_at(around, coarse_m, center, center)
        away_deg = _away_deg(around, inputs.intrinsics)
        gap_deg = away_deg.amin(1, keepdim=True)
        far = ((gap_deg - COARSE_DEG) / COARSE_SOFT_DEG).clamp(0.0, 1.0)
        coarse_far = [far * (log_depths[:, -1:] - log_depths[:, :1]), far * confidence]
        features = _features(log_depths, away_deg, inputs.intrinsics, coarse_far)
        logits, residual, certain = self._choose(features).split([HYPOTHESES, 1, 1], dim=1)
        any_known = around.known.amax(1, keepdim=True)
        freedom = any_known * (1.0 - (-(gap_deg - FREE_DEG).clamp(min=0.0)).exp())
        residual = MAX_RESIDUAL * residual.tanh() * freedom
        weights = _weights(LOGIT_SCALE * logits + self.prior, far)
        beside_deg = _away_deg(around, inputs.intrinsics, ALONG_BEAM, ACROSS_BEAM)
        beside_deg = beside_deg.amin(1, keepdim=True)
        copied = ((COPY_DEG - beside_deg) / COPY_SOFT_DEG).clamp(0.0, 1.0)
        weights = (1.0 - copied) * weights + copied * self.nearest
        log_weights = weights.clamp(min=LEAST_WEIGHT).log()
        log_depth = soft_median(log_depths, weights) + residual
        confidence = torch.where(any_known > 0, certain.sigmoid(), confidence)
        return RefinedDepth(
            log_depth[:, 0].exp(), confidence[:, 0], log_weights, residual, around, coarse_m
        )

    def _choose(self, features: Tensor) -> Tensor:
        """Return logits, residual and confidence (B, 10, H, W), float32, for features.

        The layers compute in the precision of their weights, all that is around them in float32.
        """
        features = features.to(self.leave.weight.dtype)
        x = self.enter(functional.pixel_unshuffle(features, 2))
        skipped = []
        for down in self.down:
            skipped.append(x)
            x = down(x)
        for up, skip in zip(self.up, reversed(skipped), strict=True):
            x = functional.interpolate(x, skip.shape[2:], mode="bilinear", align_corners=False)
            x = up(torch.cat([x, skip], dim=1))
        chosen: Tensor = self.shuffle(self.leave(x)).float()
        return chosen


def _away_deg(
    around: ReturnsAround, intrinsics: Tensor, sideways: float = 1.0, upright: float = 1.0
) -> Tensor:
    """Return how far from each pixel's centre its returns are, degrees, (B, 5, H, W).

    Args:
        around: the returns.
        intrinsics: (B, 3, 3) of the view.
        sideways: how much a degree to the left or right counts.
        upright: how much one up or down does.
    """
    away = ((sideways * around.u).square() + (upright * around.v).square()).sqrt() * 57.3
    away = away / intrinsics[:, 0, 0].view(-1, 1, 1, 1)
    return torch.where(around.known > 0, away, NO_RETURN_DEG)


def _features(
    log_depths: Tensor, away_deg: Tensor, intrinsics: Tensor, coarse: list[Tensor]
) -> Tensor:
    """Return maps (B, 17, H, W): hypotheses, distances of returns, the coarse depth, and rays."""
    rows, columns = log_depths.shape[2:]
    nearest = log_depths[:, :1]
    others = torch.cat([log_depths[:, 1:-1] - nearest, coarse[0]], dim=1)
    own = (away_deg[:, :1] < NO_RETURN_DEG).float()
    fx, fy, cx, cy = (
        intrinsics[:, i, j].view(-1, 1, 1, 1) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2))
    )
    x = torch.arange(columns, device=fx.device).view(1, 1, 1, -1)
    y = torch.arange(rows, device=fx.device).view(1, 1, -1, 1)
    rays = [ray.expand(-1, 1, rows, columns) for ray in ((x - cx) / fx, (y - cy) / fy)]
    others = 4.0 * others.clamp(-CLOSE_LOG, CLOSE_LOG)
    maps = [others, nearest - 2.5, (DENSE * away_deg).log1p(), coarse[1], *rays, own]
    return torch.cat(maps, dim=1)


def soft_median(values: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted median of values (B, K, H, W), smoothed: (B, 1, H, W).

    The median is the value with the least expected distance from the others, each as probable as
    its weight; values within ``MEDIAN_SOFTNESS`` of the least share.
    """
    costs = [
        (weights * (values - value).abs()).sum(1, keepdim=True) for value in values.split(1, dim=1)
    ]
    cost = torch.cat(costs, dim=1)
    # A softmax written out: ONNX Runtime's own takes seven times as long over channels.
    share = ((cost.amin(1, keepdim=True) - cost) / MEDIAN_SOFTNESS).exp()
    return (share * values).sum(1, keepdim=True) / share.sum(1, keepdim=True)


def _weights(logits: Tensor, far: Tensor) -> Tensor:
    """Return weights of the hypotheses (B, 8, H, W), the last one's at most ``far`` (B, 1, H, W).

    Whatever its logit: one that is only lowered where it must not be chosen is learnt to be high
    there, since nothing holds it down as long as it is not high enough.
    """
    others, coarse = logits[:, :-1], logits[:, -1:]
    highest = others.amax(1, keepdim=True)
    exp = (others - highest).exp()
    total = exp.sum(1, keepdim=True)
    share = far * (coarse - highest - total.log()).sigmoid()
    return torch.cat([(1.0 - share) / total * exp, share], dim=1)


def _halving(inputs: int, outputs: int) -> nn.Sequential:
    """Build a 3x3 convolution of stride 2 with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), BatchNorm2d(outputs), nn.ReLU()
    )
