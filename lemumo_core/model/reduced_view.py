"""A view at a smaller size: what an encoder sees of inputs that only depth needs at full size."""

from __future__ import annotations

import torch
from torch import Tensor

from lemumo_core.preprocess import Inputs


def reduced(inputs: Inputs, factor: int) -> Inputs:
    """Reduce views of a LiDAR as if they had been made smaller.

    The image takes the mean of ``factor`` x ``factor`` pixels, the companion the nearest return of
    these, as ``depth_projection`` does; where in its pixel a return lies is left out.

    Args:
        inputs: of size (H, W), multiples of the factor.
        factor: at least 1, which changes nothing.

    Returns:
        Inputs of size (H / factor, W / factor), the image in float32, two companion channels.
    """
    if factor == 1:
        return inputs
    image = _blocks(inputs.image.float(), factor).mean((2, 4))
    value, valid = (_blocks(inputs.companion[..., i : i + 1], factor) for i in (0, 1))
    nearest = torch.where(valid > 0, value, torch.inf).amin((2, 4))
    valid = valid.amax((2, 4))
    companion = torch.cat([torch.where(valid > 0, nearest, 0.0), valid], dim=-1)
    return Inputs(image, companion, _reduced_intrinsics(inputs.intrinsics, factor), inputs.present)


def _blocks(rows: Tensor, factor: int) -> Tensor:
    """View maps (B, H, W, C) as (B, H / factor, factor, W / factor, factor, C)."""
    return rows.unflatten(2, (-1, factor)).unflatten(1, (-1, factor))


def _reduced_intrinsics(intrinsics: Tensor, factor: int) -> Tensor:
    """Return intrinsics (B, 3, 3) of the smaller view; pixel (0, 0) is the centre of the first."""
    columns, centers = (intrinsics[:, :2] / factor).split([2, 1], dim=2)
    centers = centers + (1 - factor) / (2 * factor)
    return torch.cat([torch.cat([columns, centers], dim=2), intrinsics[:, 2:]], dim=1)
