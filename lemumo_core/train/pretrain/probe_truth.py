"""Truth of linear probes: depth of cells of 4 x 4 pixels, and the classes of pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lemumo_core.data.views import View

DEPTH_MAX_M = 80.0
"""Truth beyond it is neither learnt nor measured."""
START_DEPTH_LOG = 2.5
"""About 12 m, where the probes for log(1 + metres) begin."""
CELL = 4
"""Pixels a side that share one depth."""


def truth(view: View) -> tuple[Tensor, Tensor]:
    """Return depth of cells (R, h/4, w/4), metres, NaN = unknown, and label map int64 (R, h, w).

    The depth of a cell is the mean of those that are known in it.

    Raises:
        ValueError: the view has no labels.
    """
    if view.labels is None:
        raise ValueError("probes need labels: give data.samples.sample() the classes")
    depth_m = view.labels.depth_m
    known = depth_m <= DEPTH_MAX_M  # false for NaN
    total = functional.avg_pool2d(torch.where(known, depth_m, 0.0), CELL)
    share = functional.avg_pool2d(known.float(), CELL)
    return total / share, view.labels.label_map.long()
