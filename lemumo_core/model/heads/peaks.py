"""The peaks of a heatmap, of which CenterNet's decoders make boxes; part of the exported graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

TOP_K = 100


class Peaks(NamedTuple):
    """The best K peaks of B heatmaps, best first.

    Attributes:
        scores: float32 (B, K).
        class_ids: int64 (B, K).
        u: float32 (B, K), column in the network's view, pixels.
        v: float32 (B, K), row, pixels.
        values: float32 (B, channels, K), what is regressed there beside the offset.
    """

    scores: Tensor
    class_ids: Tensor
    u: Tensor
    v: Tensor
    values: Tensor


class PeakDecoder(nn.Module):
    """Base of the decoders.

    Class and cell of a flat index come from constant tables: integer division and modulo export
    badly to ONNX and TensorRT.

    Args:
        classes: their number.
        height, width: of the network's view, pixels.
        stride: pixels to a cell of the heatmap.
    """

    class_of: Tensor
    u_of: Tensor
    v_of: Tensor
    cell_of: Tensor

    def __init__(self, classes: int, height: int, width: int, stride: int):
        super().__init__()
        rows, columns = height // stride, width // stride
        self.stride = stride
        self.k = min(TOP_K, classes * rows * columns)
        index = torch.arange(classes * rows * columns)
        cell = index % (rows * columns)
        self.register_buffer("class_of", index // (rows * columns), False)
        self.register_buffer("cell_of", cell, False)
        self.register_buffer("u_of", (cell % columns).float(), False)
        self.register_buffer("v_of", (cell // columns).float(), False)

    def peaks(
        self, heatmap: Tensor, regressed: Mapping[str, Tensor], confidence: Tensor | None = None
    ) -> Peaks:
        """Find cells that are the largest of their 3 x 3.

        Args:
            heatmap: class logits (B, C, h, w).
            regressed: (B, channels, h, w) each, the first the offset in the cell, in cells (x, y).
            confidence: (B, 1, h, w), factor of the scores.
        """
        heat = heatmap.float().sigmoid()
        peak = functional.max_pool2d(heat, 3, 1, 1) == heat
        heat = heat * peak.float()
        if confidence is not None:
            heat = heat * confidence.float()
        scores, index = heat.flatten(1).topk(self.k, dim=1)
        maps = torch.cat(list(regressed.values()), dim=1).float()
        cell = self.cell_of[index].unsqueeze(1).expand(-1, maps.shape[1], -1)
        picked = maps.flatten(2).gather(2, cell)
        # Cell i covers [stride * i - 0.5, stride * (i + 1) - 0.5): pixel centres are integers.
        u = (self.u_of[index] + picked[:, 0]) * self.stride - 0.5
        v = (self.v_of[index] + picked[:, 1]) * self.stride - 0.5
        return Peaks(scores, self.class_of[index], u, v, picked[:, 2:])
