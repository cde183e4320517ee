"""Embedding and projector of LeJEPA, which pretraining has beside the encoder."""

from __future__ import annotations

from torch import Tensor, nn

from lemumo_core.distributed import BatchNorm1d

EMBEDDING = 512
HIDDEN = 2048
PROJECTION = 128


class Projector(nn.Module):
    """CLS to its embedding, and the embedding to its projection (arXiv 2603.24327).

    The batch norms take the statistics of one call over all ranks. Global and local views go
    through separate calls, as in the reference.

    Args:
        dim: width D' of CLS.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.embedding = nn.Linear(dim, EMBEDDING)
        self.layers = nn.Sequential(
            *(nn.Linear(EMBEDDING, HIDDEN), BatchNorm1d(HIDDEN), nn.ReLU()),
            *(nn.Linear(HIDDEN, HIDDEN), BatchNorm1d(HIDDEN), nn.ReLU()),
            nn.Linear(HIDDEN, PROJECTION),
        )

    def forward(self, cls: Tensor) -> tuple[Tensor, Tensor]:
        """Map CLS (R, D') to embeddings (R, 512) and projections (R, 128)."""
        embeddings = self.embedding(cls)
        return embeddings, self.layers(embeddings)
