"""Signs of collapse, and how far common and unique dimensions are what they shall be."""

from __future__ import annotations

import torch
from torch import Tensor

from lemumo_core.distributed import gather_rows
from lemumo_core.losses.decur import standardized
from lemumo_core.methods.collapse import CollapseWatch
from lemumo_core.metrics.collapse import rankme
from lemumo_core.model.config import MODALITIES

CURE = "Lower the learning rate, enlarge the batch or raise the weights of image and companion."


class Monitors:
    """Collapse of each tower and correlation of the embeddings' blocks.

    Args:
        common: number of common dimensions.
    """

    def __init__(self, common: int):
        self.common, self.watch = common, CollapseWatch(CURE)

    @torch.no_grad()
    def observe(
        self, step: int, present: Tensor, pooled: Tensor, embeddings: Tensor
    ) -> dict[str, float]:
        """Compute the scalars of one step. All ranks call this together and get the same ones.

        Args:
            step: of training.
            present: (B, 2), which of image and companion a sample has.
            pooled: (2, B, D) of the first view.
            embeddings: (2, 2, B, K) of two views.

        Returns:
            What ``CollapseWatch`` gives of both towers' features side by side;
            ``rankme_image`` and ``rankme_companion`` of each; ``agreement_image`` and
            ``agreement_companion``, the mean correlation of a dimension between two views;
            ``agreement_common``, likewise between the modalities; ``agreement_unique``, the mean
            absolute correlation of a unique dimension between them. A part without dimensions is
            left out.

        Raises:
            ValueError: features are not finite.
        """
        rows = gather_rows(pooled.float().transpose(0, 1))
        scalars = self.watch.observe(step, rows.flatten(1).cpu().numpy())
        for name, own in zip(MODALITIES, rows.unbind(1), strict=True):
            scalars[f"rankme_{name}"] = rankme(own.cpu().numpy())
        z = standardized(embeddings.float(), present.T[:, None, :, None])
        z = gather_rows(z.movedim(2, 0)).movedim(0, 2)
        exists = gather_rows(present)
        for name, (one, other), count in zip(MODALITIES, z, exists.sum(0), strict=True):
            scalars[f"agreement_{name}"] = float((one * other).sum(0).mean() / count.clamp(min=1))
        between = (z[0, 0] * z[1, 0]).sum(0) / exists.prod(1).sum().clamp(min=1)
        parts = {"common": between[: self.common], "unique": between[self.common :].abs()}
        return scalars | {f"agreement_{k}": float(v.mean()) for k, v in parts.items() if len(v)}
