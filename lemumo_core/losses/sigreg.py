"""SIGReg: sketched isotropic Gaussian regularisation (LeJEPA, arXiv 2511.08544)."""

from __future__ import annotations

import torch
from torch import Tensor

from lemumo_core.data.pinned import to_device
from lemumo_core.distributed import mean_over_ranks, world_size

SLICES = 256
KNOTS = 17
T_MAX = 3.0


def sigreg(projections: Tensor, step: int | Tensor) -> Tensor:
    """Distance of each view's projections from N(0, I): the Epps-Pulley test on random slices.

    With x = a . P[v, b] along a random unit direction a, n the batch over all ranks and
    phi(t) = exp(-t^2 / 2), the characteristic function of N(0, 1), the statistic of a slice is

        n * integral over [-3, 3] of phi(t) |mean_b exp(i t x) - phi(t)|^2 dt,

    by the trapezoid rule on 17 knots of the half-line [0, 3], doubled. SIGReg is its mean over
    slices and views. It is 1.0525 on average for samples of N(0, I), 0.40205 n for a collapse to
    the origin. Its batch statistics are all-reduced (``lemumo_core.distributed``).

    Args:
        projections: (V, B, d), computed in at least float32 under any autocast.
        step: seeds the 256 directions, drawn on the CPU: the same on every rank and device.
            A tensor on the CPU, of no dimension, stays a variable of a compiled graph.

    Returns:
        Scalar, the same on every rank.
    """
    with torch.autocast(projections.device.type, enabled=False):
        x = projections.to(torch.promote_types(projections.dtype, torch.float32))
        t = torch.linspace(0.0, T_MAX, KNOTS, dtype=x.dtype, device=x.device)
        phi = torch.exp(-t.square() / 2)
        step_width = 2 * T_MAX / (KNOTS - 1)
        weights = torch.where(t.remainder(T_MAX) == 0, step_width / 2, step_width)  # both ends
        slices = directions_like(x, step)
        angles = (x @ slices).unsqueeze(-1) * t
        moments = mean_over_ranks(torch.stack([angles.cos().mean(1), angles.sin().mean(1)]))
        error = (moments[0] - phi).square() + moments[1].square()
        samples = projections.shape[1] * world_size()
        return samples * (error @ (weights * phi)).mean()


def directions_like(x: Tensor, step: int | Tensor) -> Tensor:
    """Return the ``directions`` of a step for x (..., d), of its dtype and on its device."""
    drawn: Tensor = _directions_like(x.detach(), torch.as_tensor(step))
    return drawn


@torch.library.custom_op("lemumo::directions_like", mutates_args=())
def _directions_like(x: Tensor, step: Tensor) -> Tensor:
    """Draw in an operator, which a compiler takes as it is."""
    return to_device(directions(x.shape[-1], int(step)).to(x.dtype), x.device)


@_directions_like.register_fake
def _(x: Tensor, step: Tensor) -> Tensor:
    return x.new_empty(x.shape[-1], SLICES)


def directions(dimensions: int, step: int) -> Tensor:
    """Random unit directions of a step, float64 (d, SLICES), uniform on the sphere."""
    generator = torch.Generator().manual_seed(step)
    normal = torch.randn(dimensions, SLICES, generator=generator, dtype=torch.float64)
    lengths: Tensor = normal.norm(dim=0)
    return normal / lengths
