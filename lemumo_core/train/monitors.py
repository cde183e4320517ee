"""Is pretraining healthy? Scalars for the log, and a warning when the embedding collapses."""

from __future__ import annotations

from torch import Tensor

from lemumo_core.data.views import View
from lemumo_core.model.encoder import Encoder


class Monitors:
    """Watches one encoder.

    Args:
        encoder: the bare module, not its DDP wrapper.
        global_views: views of a sample in the batches to come.
    """

    def __init__(self, encoder: Encoder, global_views: int = 2):
        self.encoder, self.global_views = encoder, global_views

    def observe(
        self, step: int, view: View, embeddings: Tensor, projections: Tensor
    ) -> dict[str, float]:
        """Look at one step. All ranks call this together and get the same answer.

        Args:
            step: of training; seeds the slices of the SIGReg test.
            view: the batch of global views, R = global_views x B rows.
            embeddings: (R, 512) of these rows, ``encoder.project(cls)[0]``.
            projections: (global_views, B, 128) or (R, 128), as the objective saw them.

        Returns:
            ``rankme``, ``embedding_std``, ``sigreg_p_median``, ``sigreg_rejected``, ``collapsed``
            (0 or 1), and where some sample has both modalities ``share_image``,
            ``share_companion``. Definitions: ``lemumo_core.metrics.collapse``,
            ``modality_shares``.
        """
        raise NotImplementedError
