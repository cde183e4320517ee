"""Online probes: what the tokens of a method tell of depth and classes while it learns.

They learn from detached tokens with an optimiser of their own, and draw no random number, so that
pretraining is bit for bit the same with and without them. They follow moving tokens and never
converge: their losses show a trend, and ``probing`` scores what was learnt.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.data.views import View
from lemumo_core.distributed import mean_over_ranks
from lemumo_core.frame import UNLABELLED
from lemumo_core.model.config import PATCH
from lemumo_core.model.heads.segmentation import PaperSegmentationHead
from lemumo_core.train.pretrain.probe_truth import CELL, START_DEPTH_LOG, truth

LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-7


class OnlineProbes(nn.Module):
    """A depth and a segmentation probe with their AdamW.

    Both are linear maps of a token and a sub-pixel shuffle. Depth is learnt as log(1 + metres) by
    L1, against the mean of the known depths of each cell of 4 x 4 pixels; the classes by
    cross-entropy on logits enlarged bilinearly to the labels' size. Unknown pixels do not count. On
    W ranks, W x B samples give the step of one rank's WB.

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
                torch.where(known, (log_depth - depth_m.nan_to_num().log1p()).abs(), 0).sum(),
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
