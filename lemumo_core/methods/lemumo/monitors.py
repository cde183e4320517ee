"""Signs of collapse and shares of the modalities, for the log."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lemumo_core.data.views import View
from lemumo_core.distributed import gather_rows, mean_over_ranks
from lemumo_core.methods.collapse import CollapseWatch
from lemumo_core.methods.lemumo.projector import Projector
from lemumo_core.methods.method import evaluating
from lemumo_core.metrics.collapse import gaussian_p_values
from lemumo_core.model.config import MODALITIES
from lemumo_core.model.encoder import Encoder

CURE = "Lower the learning rate, enlarge the batch or raise the weight of SIGReg."
LEVEL = 0.05
"""Significance at which a slice is rejected; a healthy batch has this share of rejected ones."""


class Monitors:
    """Collapse and modality shares of one encoder; warns at each onset of a collapse.

    Args:
        encoder, projector: the bare modules, not a DDP wrapper's.
        global_views: views of a sample in the batches to come.
    """

    def __init__(self, encoder: Encoder, projector: Projector, global_views: int = 2):
        self.encoder, self.projector, self.global_views = encoder, projector, global_views
        self.watch = CollapseWatch(CURE)

    @torch.no_grad()
    def observe(
        self, step: int, view: View, embeddings: Tensor, projections: Tensor
    ) -> dict[str, float]:
        """Compute the scalars of one step. All ranks call this together and get the same ones.

        Nothing of the training changes: no weight, statistic, mode or random number.

        Args:
            step: of training; seeds the slices of the SIGReg test.
            view: the batch of global views, R = global_views x B rows.
            embeddings: (R, 512) of these rows.
            projections: (R, 128) or (global_views, B, 128) of them, as the objective saw them.

        Returns:
            What ``CollapseWatch`` gives of the embeddings.
            ``sigreg_p_median`` and ``sigreg_rejected``: of the p-values of SIGReg's test over
            slices and views the median, and the share below 0.05; 0.5 and 0.05 where projections
            are N(0, I). Further what ``modality_shares`` returns.

        Raises:
            ValueError: embeddings or projections are not finite.
        """
        scalars = self.watch.observe(step, _of_all_ranks(embeddings))
        samples = projections.reshape(self.global_views, -1, projections.shape[-1]).transpose(0, 1)
        views = _of_all_ranks(samples).swapaxes(0, 1)
        p_values = np.concatenate([gaussian_p_values(x, seed=step) for x in views])
        scalars["sigreg_p_median"] = float(np.median(p_values))
        scalars["sigreg_rejected"] = float((p_values < LEVEL).mean())
        shares = modality_shares(self.encoder, self.projector, view, self.global_views)
        return {**scalars, **shares}


@torch.no_grad()
def modality_shares(
    encoder: Encoder, projector: Projector, view: View, global_views: int
) -> dict[str, float]:
    """Measure each modality's contribution: the rise of the invariance loss without it.

    All passes are in evaluation mode, over the samples that have both modalities. The centre of a
    sample is the mean of its global views' projections, as in the objective; ``rise_m`` is the
    mean square distance to it of the projections without modality m, less that of those with
    both. ``share_m`` is rise_m over the sum of both, a negative rise counted as 0.

    Args:
        encoder: the bare module; its mode is kept.
        projector: the bare module; its mode is kept.
        view: R = global_views x B rows, row v * B + b being view v of sample b.
        global_views: views of a sample.

    Returns:
        ``rise_image``, ``rise_companion``, ``share_image``, ``share_companion``, over all ranks.
        Empty where no sample has both; no shares where neither rise is positive.
    """
    both = (view.present > 0.5).all(1)

    def projected(present: Tensor) -> Tensor:
        cls = encoder(view.inputs._replace(present=present), dense=False).cls
        projections: Tensor = projector(cls)[1].float()
        return projections

    with evaluating(encoder), evaluating(projector):
        joint = projected(view.present)
        without = []
        for column in range(len(MODALITIES)):
            present = view.present.clone()
            present[:, column] = 0.0
            without.append(projected(present))
    center = joint.unflatten(0, (global_views, -1)).mean(0).repeat(global_views, 1)
    distances = torch.stack([(p - center).square().mean(1) for p in (joint, *without)])
    sums = torch.cat([distances[:, both].sum(1), both.sum()[None]])
    with_both, *withheld, count = mean_over_ranks(sums).tolist()
    if count == 0:
        return {}
    rises = {m: (d - with_both) / count for m, d in zip(MODALITIES, withheld, strict=True)}
    scalars = {f"rise_{m}": rise for m, rise in rises.items()}
    total = sum(max(rise, 0.0) for rise in rises.values())
    if total > 0.0:
        scalars |= {f"share_{m}": max(rise, 0.0) / total for m, rise in rises.items()}
    return scalars


def _of_all_ranks(x: Tensor) -> np.ndarray:
    """Rows (B, ...) of every rank, one after the other, (W B, ...)."""
    return gather_rows(x.detach().float()).cpu().numpy()
