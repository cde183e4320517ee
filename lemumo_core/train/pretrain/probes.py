"""Linear probes: what depth and which classes the tokens of a method hold.

They learn online, while pretraining goes on, from detached tokens with an optimiser of their own,
and draw no random number, so that pretraining is bit for bit the same with and without them. After
a run they learn from frozen features, beside the same probes over the untrained method: two
``Probes`` of one seed start alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.data.samples import Batch
from lemumo_core.data.views import View, clean_view
from lemumo_core.distributed import mean_over_ranks
from lemumo_core.frame import UNLABELLED
from lemumo_core.methods.method import Method
from lemumo_core.metrics.depth import DepthMetric
from lemumo_core.metrics.segmentation import SegmentationMetric
from lemumo_core.model.config import PATCH
from lemumo_core.model.heads.segmentation import PaperSegmentationHead

LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-7
DEPTH_MAX_M = 80.0
"""Truth beyond it is neither learnt nor measured."""
START_DEPTH_LOG = 2.5
"""About 12 m."""
CELL = 4
"""Pixels a side that share one value; both probes are linear maps and a sub-pixel shuffle."""


class Probes(nn.Module):
    """A depth and a segmentation probe with their AdamW.

    Depth is learnt as log(1 + metres) by L1, against the mean of the known depths of each cell of
    4 x 4 pixels; the classes by cross-entropy on logits enlarged bilinearly to the labels' size.
    Unknown pixels do not count. On W ranks, W x B samples give the step of one rank's WB.

    Weights are in ``state_dict``, the optimiser's state in ``optimizer.state_dict()``.

    Args:
        token_dim: width of the tokens, ``ModelConfig.token_dim``.
        classes: of the segmentation.
        seed: of the first weights; torch's global generator is left as it was.
    """

    def __init__(self, token_dim: int, classes: int, seed: int = 0):
        super().__init__()
        self.classes = classes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            linear = nn.Conv2d(token_dim, CELL * CELL, 1)
            self.depth = nn.Sequential(linear, nn.PixelShuffle(CELL))
            self.segmentation = PaperSegmentationHead(token_dim, classes)
        nn.init.constant_(linear.bias, START_DEPTH_LOG)  # type: ignore[arg-type]
        self.optimizer = torch.optim.AdamW(
            self.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Predict.

        Args:
            tokens: (R, N, D), row by row over the patch grid. No gradient flows back to them.
            size: (h, w) of the view, pixels.

        Returns:
            log(1 + depth in metres), (R, h/4, w/4), and logits (R, classes, h, w), both float32.
        """
        with torch.autocast(tokens.device.type, enabled=False):
            grid = tokens.detach().float().transpose(1, 2)
            grid = grid.unflatten(2, (size[0] // PATCH, size[1] // PATCH))
            logits = functional.interpolate(self.segmentation(grid), size=size, mode="bilinear")
            return self.depth(grid)[:, 0], logits

    @torch.enable_grad()
    def step(self, tokens: Tensor, view: View) -> dict[str, Tensor]:
        """Learn from one batch.

        Args:
            tokens: (R, N, D) of the view, from any encoder in any mode.
            view: with labels.

        Returns:
            Losses before the step, detached scalars over all ranks: ``probe_depth`` and
            ``probe_segmentation``; 0 where the batch has no such truth.

        Raises:
            ValueError: the view has no labels.
        """
        depth_m, label_map = truth(view)
        log_depth, logits = self(tokens, label_map.shape[1:])
        known = ~depth_m.isnan()
        sums = torch.stack(
            [
                (log_depth - depth_m.nan_to_num().log1p()).abs()[known].sum(),
                functional.cross_entropy(
                    logits, label_map, ignore_index=UNLABELLED, reduction="sum"
                ),
            ]
        )
        # Of all ranks, so that the mean of the ranks' gradients is that of the whole batch.
        counts = torch.stack([known.sum(), (label_map != UNLABELLED).sum()])
        losses = sums / mean_over_ranks(counts.float()).clamp(min=1e-6)
        self.optimizer.zero_grad()
        losses.sum().backward()
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad = mean_over_ranks(parameter.grad)
        self.optimizer.step()
        depth, segmentation = mean_over_ranks(losses.detach())
        return {"probe_depth": depth, "probe_segmentation": segmentation}

    def learn(self, method: Method, batch: Batch) -> None:
        """Learn from the frozen ``fused`` features of one batch with labels."""
        self.step(fused_tokens(method, batch), clean_view(batch))

    @torch.no_grad()
    def evaluate(self, method: Method, batches: Iterable[Batch]) -> dict[str, float]:
        """Score the probes on validation samples; each rank for itself.

        Args:
            method: whose ``fused`` features are probed.
            batches: samples with labels.

        Returns:
            ``depth_mae_m``, the mean absolute error over all cells of known depth, metres, and
            ``miou``, from one confusion matrix of all pixels, over the classes that the truth
            has. Without such truth the key is missing.

        Raises:
            ValueError: a batch has no labels.
        """
        depth = DepthMetric()
        segmentation = SegmentationMetric([str(i) for i in range(self.classes)])
        for batch in batches:
            depth_m, label_map = truth(clean_view(batch))
            log_depth, logits = self(fused_tokens(method, batch), label_map.shape[1:])
            depth.add(log_depth.expm1().cpu().numpy(), depth_m.cpu().numpy())
            segmentation.add(logits.argmax(1).cpu().numpy(), label_map.cpu().numpy())
        scores = {"depth_mae_m": depth.scores().mae_m, "miou": segmentation.miou()}
        return {name: score for name, score in scores.items() if not math.isnan(score)}


def fused_tokens(method: Method, batch: Batch) -> Tensor:
    """Return the frozen ``fused`` tokens (B, N, D) of samples."""
    return method.features(batch, ("fused",))["fused"].tokens


def truth(view: View) -> tuple[Tensor, Tensor]:
    """Return depth of cells (R, h/4, w/4), metres, NaN = unknown, and label map int64 (R, h, w).

    Raises:
        ValueError: the view has no labels.
    """
    if view.labels is None:
        raise ValueError("probes need labels: give data.samples.sample() the detection classes")
    depth_m = view.labels.depth_m
    known = depth_m <= DEPTH_MAX_M  # false for NaN
    total = functional.avg_pool2d(torch.where(known, depth_m, 0.0), CELL)
    share = functional.avg_pool2d(known.float(), CELL)
    return total / share, view.labels.label_map.long()
