"""A linear probe that is trained to convergence on frozen tokens: how much they tell linearly.

One affine map of a token, standardised by the statistics of the tokens that it learns from, gives
log depth and class logits of the 4 x 4 cells of its patch. Without standardisation, or in a hundred
steps, the scale of a network's output decides its score, not what it holds.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.frame import UNLABELLED
from lemumo_core.metrics.depth import DepthMetric
from lemumo_core.metrics.segmentation import SegmentationMetric
from lemumo_core.model.config import PATCH
from lemumo_core.progress import track
from lemumo_core.train.pretrain.probe_truth import CELL, DEPTH_MAX_M, START_DEPTH_LOG

STEPS = 600
"""Scores of tiny encoders change little beyond (benchmarks/RESULTS.md)."""
TOKENS_A_STEP = 1024
LEARNING_RATE = 0.1
"""At a tenth of it, 600 steps leave mIoU .006 to .014 below what more steps reach."""
WEIGHT_DECAY = 1e-4
LEAST_SPREAD = 1e-3
"""Least spread of a dimension, relative to the widest: one that hardly varies is not blown up."""
SCORED_AT_ONCE = 32
CELLS = (PATCH // CELL) ** 2
"""Cells of a patch."""


class FrozenTokens(NamedTuple):
    """Tokens of S samples, with what is true of them.

    Attributes:
        tokens: float32 (S, N, D), row by row over the patch grid.
        valid: bool (S, N), as of ``ModalityFeatures``.
        depth_m: float32 (S, h/4, w/4), metres, NaN = unknown (``probe_truth.truth``).
        label_map: uint8 (S, h, w), 255 = unknown.
    """

    tokens: Tensor
    valid: Tensor
    depth_m: Tensor
    label_map: Tensor


class LinearProbe(nn.Module):
    """An affine map of standardised tokens.

    Args:
        frozen: the tokens to learn from, whose statistics standardise all others.
        classes: of the segmentation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, frozen: FrozenTokens, classes: int):
        super().__init__()
        self.classes = classes
        seen = frozen.tokens[frozen.valid] if frozen.valid.any() else frozen.tokens.flatten(0, 1)
        spread = seen.std(0)
        self.register_buffer("mean", seen.mean(0))
        self.register_buffer("std", spread.clamp(min=LEAST_SPREAD * float(spread.max()) + 1e-9))
        outputs = CELLS * (1 + classes)
        self.linear = nn.utils.skip_init(nn.Linear, seen.shape[1], outputs, device=seen.device)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        with torch.no_grad():
            self.linear.bias[:CELLS] = START_DEPTH_LOG

    def standardize(self, frozen: FrozenTokens) -> Tensor:
        """Return the tokens (S, N, D) standardised; those that are not valid are the mean token."""
        return torch.where(frozen.valid[..., None], (frozen.tokens - self.mean) / self.std, 0.0)

    def forward(self, standardized: Tensor) -> tuple[Tensor, Tensor]:
        """Predict.

        Args:
            standardized: tokens (..., D).

        Returns:
            log(1 + depth in metres) (..., 16) and logits (..., 16, classes) of the patches' cells.
        """
        out = self.linear(standardized)
        return out[..., :CELLS], out[..., CELLS:].unflatten(-1, (CELLS, self.classes))


@torch.enable_grad()
def fit(
    frozen: FrozenTokens, classes: int, steps: int = STEPS, label: str = "probe"
) -> LinearProbe:
    """Train a probe by AdamW with a cosine, on random tokens; torch's generator stays as it is.

    Depth is learnt by L1 on log(1 + metres), the classes by cross-entropy on the label at the
    centre of each cell. Unknown cells do not count.

    Args:
        frozen: what it learns from.
        classes: of the segmentation.
        steps: of ``TOKENS_A_STEP`` tokens.
        label: of its progress.
    """
    probe = LinearProbe(frozen, classes)
    x = probe.standardize(frozen).flatten(0, 1)
    log_depth = _by_patch(frozen.depth_m).flatten(0, 1).log1p()
    known = ~log_depth.isnan()
    log_depth = log_depth.nan_to_num()
    centers = frozen.label_map[:, CELL // 2 :: CELL, CELL // 2 :: CELL]
    labels = _by_patch(centers).flatten(0, 1)
    optimizer = torch.optim.AdamW(
        probe.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draw = torch.Generator().manual_seed(0)
    for _ in track(range(steps), label):
        rows = torch.randint(len(x), (TOKENS_A_STEP,), generator=draw).to(x.device)
        depth, logits = probe(x[rows])
        error = (depth - log_depth[rows]).abs() * known[rows]
        truth = labels[rows].long().flatten()
        nll = functional.cross_entropy(
            logits.flatten(0, 1), truth, ignore_index=UNLABELLED, reduction="sum"
        )
        loss = error.sum() / known[rows].sum().clamp(min=1)
        loss = loss + nll / (truth != UNLABELLED).sum().clamp(min=1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return probe


@torch.no_grad()
def score(probe: LinearProbe, frozen: FrozenTokens) -> dict[str, float]:
    """Score a probe on samples that it did not learn from.

    Returns:
        ``depth_mae_m``, the mean absolute error over all cells of known depth, metres, and
        ``miou``, from one confusion matrix of all pixels, over the classes that the truth has; the
        logits of cells are enlarged bilinearly. Without such truth the key is missing.
    """
    depth = DepthMetric()
    segmentation = SegmentationMetric([str(i) for i in range(probe.classes)])
    size = frozen.label_map.shape[1:]
    grid = size[0] // PATCH, size[1] // PATCH
    for start in range(0, len(frozen.tokens), SCORED_AT_ONCE):
        some = FrozenTokens(*(x[start : start + SCORED_AT_ONCE] for x in frozen))
        log_depth, logits = probe(probe.standardize(some))
        predicted_m = _map(log_depth, grid)[:, 0].expm1().clamp(0.0, DEPTH_MAX_M)
        depth.add(predicted_m.cpu().numpy(), some.depth_m.cpu().numpy())
        maps = _map(logits.transpose(2, 3).flatten(2), grid)
        found = functional.interpolate(maps, size=size, mode="bilinear").argmax(1)
        segmentation.add(found.cpu().numpy(), some.label_map.cpu().numpy())
    scores = {"depth_mae_m": depth.scores().mae_m, "miou": segmentation.miou()}
    return {name: value for name, value in scores.items() if not math.isnan(value)}


def _by_patch(maps: Tensor) -> Tensor:
    """Maps of cells (S, h/4, w/4) as (S, N, 16), row by row over the patches and in them."""
    side = PATCH // CELL
    rows = maps.unflatten(1, (-1, side)).unflatten(3, (-1, side)).transpose(2, 3)
    return rows.flatten(3).flatten(1, 2)


def _map(cells: Tensor, grid: tuple[int, int]) -> Tensor:
    """Undo ``_by_patch``: channels of cells (S, N, C 16) to maps (S, C, h/4, w/4)."""
    return functional.pixel_shuffle(cells.transpose(1, 2).unflatten(2, grid), PATCH // CELL)
