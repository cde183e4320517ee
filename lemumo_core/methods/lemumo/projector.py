"""Embedding and projector of LeJEPA, which pretraining has beside the encoder."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from lemumo_core.data.views import transpose_rows
from lemumo_core.distributed import BatchNorm1d
from lemumo_core.model.encoder import Encoding

EMBEDDING = 512
HIDDEN = 2048
PROJECTION = 128


class Encoded(NamedTuple):
    """V views of B samples, row v * B + b as in ``View``; N = 0 unless tokens are asked for.

    projections (V, B, 128), embeddings (V B, 512), tokens (V B, N, D').
    """

    projections: Tensor
    embeddings: Tensor
    tokens: Tensor


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

    def encoded(self, encoding: Encoding, batch: int) -> Encoded:
        """Project what an encoder gave for views of ``batch`` samples, sample by sample."""
        embeddings, projections = self(encoding.cls)
        projections, embeddings, tokens = (
            transpose_rows(x, len(x) // batch) for x in (projections, embeddings, encoding.tokens)
        )
        return Encoded(projections.unflatten(0, (-1, batch)), embeddings, tokens)
