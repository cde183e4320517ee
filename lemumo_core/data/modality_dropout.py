"""Modality dropout: one encoder learns to serve fused, camera-only and companion-only input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lemumo_core.data.pinned import to_device
from lemumo_core.data.views import View


def modality_dropout(present: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Withhold one of the two modalities, each as often, from some samples that have both.

    Args:
        present: float32 (B, 2), 1 where image, companion exist.
        rate: probability that a sample loses one.
        generator: of the B uniform numbers drawn.

    Returns:
        A new ``present``.

    Raises:
        ValueError: for a rate outside [0, 1].
    """
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"modality dropout rate is {rate}, must be within [0, 1]")
    draw = torch.rand(len(present), generator=generator, device=generator.device)
    draw = draw.to(present.device)
    no_image, no_companion = draw < rate / 2, (draw >= rate / 2) & (draw < rate)
    lost = torch.stack([no_image, no_companion], dim=1) & (present > 0.5).all(1, keepdim=True)
    return present.masked_fill(lost, 0.0)


def drop_modalities(
    views: Sequence[View],
    batch: int,
    rate: float,
    generator: torch.Generator,
    rank: int = 0,
    world: int = 1,
) -> tuple[View, ...]:
    """Apply modality dropout to every view by itself.

    Args:
        views: of ``batch`` samples, row v * batch + b being view v of sample b.
        batch: samples of this rank, B.
        rate: probability that a view loses its image or its companion.
        generator: on the CPU. The draws are those of the whole batch of world x B samples.
        rank: which share of that batch this is.
        world: number of shares.

    Returns:
        The views, with a new ``present``.
    """
    samples = torch.arange(world * batch).view(world, -1)[rank]

    def dropped(view: View) -> View:
        shape = len(view.image) // batch, world * batch, 2
        kept = modality_dropout(torch.ones(shape).flatten(0, 1), rate, generator)
        kept = to_device(kept.view(shape)[:, samples].flatten(0, 1), view.present.device)
        both = (view.present > 0.5).all(1, keepdim=True)
        return replace(view, present=torch.where(both, kept, view.present))

    return tuple(dropped(view) for view in views)
