"""The LeJEPA objective (arXiv 2511.08544), as Le MuMo JEPA uses it (arXiv 2603.24327)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lemumo_core.distributed import mean_over_ranks
from lemumo_core.losses.loss import Loss, checked, invariance
from lemumo_core.losses.sigreg import sigreg
from lemumo_core.losses.visreg import visreg

MODALITIES = ("image", "companion")
REGULARIZERS = {"sigreg": sigreg, "visreg": visreg}


@dataclass(frozen=True)
class LeJepa:
    """weight * SIGReg + (1 - weight) * invariance to the mean of the global views.

    VISReg may take SIGReg's place; terms keep its name. Nothing is detached: the gradient flows
    through that mean as well.

    Attributes:
        weight: lambda of the papers.
        aux_unimodal: add weight / 3 * (SIGReg of the joint projections + those of the two
            unimodal passes), as the reference code does by default and its paper does not say.
        global_views: how many of the views, the first ones, are global.
        regularizer: ``sigreg`` or ``visreg``.

    Raises:
        ValueError: for a weight outside [0, 1] or no global view.
    """

    weight: float = 0.1
    aux_unimodal: bool = False
    global_views: int = 2
    regularizer: Literal["sigreg", "visreg"] = "sigreg"

    def __post_init__(self) -> None:
        if not 0.0 <= self.weight <= 1.0:
            raise ValueError(f"weight of SIGReg is {self.weight}, must be within [0, 1]")
        if self.global_views < 1:
            raise ValueError(f"global_views is {self.global_views}, must be at least 1")

    def __call__(
        self, projections: Tensor, step: int | Tensor, unimodal: Sequence[Tensor] = ()
    ) -> Loss:
        """Loss of one step, the same on every rank.

        Args:
            projections: (V, B, d) of this rank, global views first.
            step: seeds the slices of SIGReg, as in ``sigreg``.
            unimodal: projections (V, B, d) of the same views, once with only the image present
                and once with only the companion; empty unless ``aux_unimodal``.

        Returns:
            Terms ``sigreg`` and ``invariance``; ``sigreg_image`` and ``sigreg_companion``
            with ``aux_unimodal``.

        Raises:
            ValueError: for projections of the wrong shape, or unimodal ones that are missing or
                not asked for.
        """
        if len(unimodal) != (2 if self.aux_unimodal else 0):
            raise ValueError(
                f"{len(unimodal)} unimodal passes given; {self} needs "
                + ("two, image and companion" if self.aux_unimodal else "none")
            )
        projections, *unimodal = (checked(p, self.global_views) for p in (projections, *unimodal))
        regularize = REGULARIZERS[self.regularizer]
        center = projections[: self.global_views].mean(0)
        terms = {
            "sigreg": regularize(projections, step),
            "invariance": mean_over_ranks(invariance(projections, center)),
        }
        total = self.weight * terms["sigreg"] + (1.0 - self.weight) * terms["invariance"]
        if self.aux_unimodal:
            for name, p in zip(MODALITIES, unimodal, strict=True):
                terms[f"sigreg_{name}"] = regularize(p, step)
            parts = [value for name, value in terms.items() if name.startswith("sigreg")]
            total = total + self.weight * torch.stack(parts).mean()
        return Loss(total, {name: value.detach() for name, value in terms.items()})
