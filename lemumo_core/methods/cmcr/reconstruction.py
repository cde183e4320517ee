"""Masked image modelling, to which geometry lends what lies behind the mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.losses.loss import mean_of_valid
from lemumo_core.model.config import PATCH


class ImageDecoder(nn.Sequential):
    """Three 3 x 3 convolutions from features to RGB in [0, 1].

    Args:
        width: of the features.
    """

    def __init__(self, width: int):
        super().__init__(
            nn.Conv2d(width, width // 2, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width // 2, width // 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width // 4, 3, 3, padding=1),
            nn.Sigmoid(),
        )


def enlarged(features: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Enlarge a map (B, D, h, w) bilinearly to a view's size (H, W), divided by a stride."""
    target = size[0] // stride, size[1] // stride
    return functional.interpolate(features, size=target, mode="bilinear", align_corners=False)


def with_geometry(
    image_codes: Tensor, masked: Tensor, point_codes: Tensor, cell: Tensor, stride: int
) -> Tensor:
    """Replace the codes of masked cells by those of the points that project there.

    A cell takes the mean over its points; masked cells without points, and all others, stay as
    they are.

    Args:
        image_codes: (B, D, h, w).
        masked: bool (B, rows, columns), cells of 16 x 16 pixels.
        point_codes: (N, D), of returns in the view.
        cell: int64 (N,), the cell of each, counted through the batch row by row.
        stride: pixels of the view a pixel of ``image_codes``.

    Returns:
        (B, D, h, w).
    """
    width: int = point_codes.shape[1]
    sums = point_codes.new_zeros(masked.numel(), width).index_add(0, cell, point_codes)
    ones = torch.ones_like(cell, dtype=sums.dtype)
    counts = sums.new_zeros(masked.numel()).index_add(0, cell, ones)
    means = (sums / counts.clamp(min=1)[:, None]).view(*masked.shape, width).permute(0, 3, 1, 2)
    replaced = (masked & (counts.view(masked.shape) > 0))[:, None]
    return torch.where(_repeated(replaced, stride), _repeated(means, stride), image_codes)


def reconstruction_loss(predicted: Tensor, image: Tensor, present: Tensor) -> Tensor:
    """Return the mean square error over all pixels of the images that exist, on all ranks.

    Args:
        predicted: (B, 3, h, w).
        image: uint8 (B, H, W, 3); of several pixels the mean is predicted.
        present: bool (B,), which images exist.
    """
    target = image.permute(0, 3, 1, 2).to(predicted.dtype) / 255
    if target.shape != predicted.shape:
        target = functional.adaptive_avg_pool2d(target, (predicted.shape[2], predicted.shape[3]))
    errors = (predicted - target).square().flatten(1).mean(1)
    return mean_of_valid(errors, present)


def _repeated(cells: Tensor, stride: int) -> Tensor:
    times = PATCH // stride
    return cells.repeat_interleave(times, 2).repeat_interleave(times, 3)
