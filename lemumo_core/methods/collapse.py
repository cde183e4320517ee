"""Signs of collapse of an embedding, for the log."""

from __future__ import annotations

import logging

import numpy as np

from lemumo_core.metrics.collapse import embedding_std, rankme

LEAST_RANKME = 1.5
LEAST_STD = 0.02
"""Below either the embedding counts as collapsed. A constant encoder has a RankMe of 1 and no
spread; embeddings that are learning were seen at 3.7 and 0.21 and above (tiny encoder, 16 samples
in a batch, first 60 steps on the synthetic world)."""

log = logging.getLogger(__name__)


class CollapseWatch:
    """Measures of collapse of one embedding; warns at each onset.

    Args:
        cure: what the warning advises.
    """

    def __init__(self, cure: str):
        self.cure, self.collapsed = cure, False

    def observe(self, step: int, embeddings: np.ndarray) -> dict[str, float]:
        """Compute the scalars of one step.

        Args:
            step: of training.
            embeddings: (N, D), over all ranks.

        Returns:
            ``rankme`` and ``embedding_std`` (``metrics.collapse``), and ``collapsed``: 1 below
            ``LEAST_RANKME`` or ``LEAST_STD``, else 0.

        Raises:
            ValueError: embeddings are not finite.
        """
        rank, std = rankme(embeddings), embedding_std(embeddings)
        before, self.collapsed = self.collapsed, rank < LEAST_RANKME or std < LEAST_STD
        if self.collapsed and not before:
            log.warning(
                "collapse at step %d: RankMe %.3g (least %g), embedding std %.3g (least %g). The "
                "encoder maps every input to nearly the same embedding. %s",
                *(step, rank, LEAST_RANKME, std, LEAST_STD, self.cure),
            )
        return {"rankme": rank, "embedding_std": std, "collapsed": float(self.collapsed)}
