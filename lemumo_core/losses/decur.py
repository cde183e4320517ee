"""The loss of DeCUR (arXiv 2309.05300): common and unique dimensions by cross-correlation."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from lemumo_core.distributed import gather_rows, mean_over_ranks, world_size
from lemumo_core.losses.loss import Loss

EPSILON = 1e-5
"""Added to the variance under the root, that of torch's batch norm."""


@dataclass(frozen=True)
class TermWeights:
    """Weights of the four terms of DeCUR.

    Attributes:
        image, companion: of the terms within one modality, over all dimensions.
        common, unique: of the terms between the modalities, over these dimensions.

    Raises:
        ValueError: a negative weight, or none that is positive.
    """

    image: float = 1 / 3
    companion: float = 1 / 3
    common: float = 1 / 6
    unique: float = 1 / 6

    def __post_init__(self) -> None:
        values = asdict(self).values()
        if min(values) < 0 or max(values) == 0:
            raise ValueError(f"weights of DeCUR's terms must not be negative, nor all 0: {self}")


REPO_WEIGHTS = TermWeights()
"""Those of the reference code: half for the terms between the modalities, then a third."""
SUM_WEIGHTS = TermWeights(1.0, 1.0, 1.0, 1.0)
"""The plain sum, as the paper's figure has the terms."""


@dataclass(frozen=True)
class DecurLoss:
    """Cross-correlation of two views within each modality, and of one view between them.

    C(a, b) is the correlation of the dimensions of a with those of b over the batch of all ranks.
    A term is sum_i (C_ii - t)^2 + off_diagonal * sum_(i != j) C_ij^2: within a modality over all
    dimensions with t = 1; between the first views of the modalities with t = 1 over the common
    dimensions, which are the first ones, and with t = 0 over the unique rest. The correlations
    of common with unique dimensions are in no term.

    Attributes:
        common: share of the dimensions that are common.
        off_diagonal: weight of the entries off the diagonal, lambda.
        weights: of the terms.
        gram: never build the K x K matrices but the N x N ones of samples, whose products have the
            same sums (N samples over all ranks); by default where N < K. The result is the same.
        repo_grad_scale: divide the gradient by the number of ranks, which the reference code's
            all-reduce without gradient amounts to.

    Raises:
        ValueError: for anything outside its range.
    """

    common: float = 0.875
    off_diagonal: float = 0.0051
    weights: TermWeights = REPO_WEIGHTS
    gram: bool | None = None
    repo_grad_scale: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.common <= 1:
            raise ValueError(f"common is {self.common}, a share of dimensions lies in [0, 1]")
        if self.off_diagonal < 0:
            raise ValueError(f"off_diagonal is {self.off_diagonal}, must not be negative")

    def common_dims(self, dims: int) -> int:
        """Return how many of the dimensions are common; they are the first ones."""
        return round(self.common * dims)

    def __call__(self, embeddings: Tensor, present: Tensor | None = None) -> Loss:
        """Compute the loss of a step, the same on every rank.

        Args:
            embeddings: (2, 2, B, K) of this rank: image and companion, two views, samples.
            present: (B, 2), which of image and companion a sample has; all by default. A term
                counts the samples that have what it compares.

        Returns:
            Terms ``image``, ``companion``, ``common``, ``unique``, and ``above_floor``: the total
            without ``rank_floor`` of the terms within a modality.

        Raises:
            ValueError: for embeddings of the wrong shape, or fewer than two samples.
        """
        shape = tuple(embeddings.shape)
        if len(shape) != 4 or shape[:2] != (2, 2) or 0 in shape:
            raise ValueError(f"embeddings have shape {shape}, expected (2, 2, batch, dimensions)")
        samples, dims = shape[2] * world_size(), shape[3]
        if samples < 2:
            raise ValueError("DeCUR needs a batch of at least 2 samples, got 1")
        with torch.autocast(embeddings.device.type, enabled=False):
            x = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
            exists = x.new_ones(shape[2], 2) if present is None else present.to(x.dtype)
            both = exists.prod(1, keepdim=True)
            counts = mean_over_ranks(torch.cat([exists, both], dim=1).sum(0)) * world_size()
            z = standardized(x, exists.T[:, None, :, None])
            gram = samples < dims if self.gram is None else self.gram
            if gram:
                z = gather_rows(z.movedim(2, 0)).movedim(0, 2)
            (image, image_2), (companion, companion_2) = z
            n_image, n_companion, n_both = counts.clamp(min=1).unbind()
            c = self.common_dims(dims)

            def term(a: Tensor, b: Tensor, count: Tensor, target: float) -> Tensor:
                diagonal, rest = (by_gram if gram else by_dimensions)(a, b, count)
                return (diagonal - target).square().sum() + self.off_diagonal * rest

            terms = {
                "image": term(image, image_2, n_image, 1.0),
                "companion": term(companion, companion_2, n_companion, 1.0),
                "common": term(image[:, :c], companion[:, :c], n_both, 1.0),
                "unique": term(image[:, c:], companion[:, c:], n_both, 0.0),
            }
            weights = self.weights
            parts = [getattr(weights, name) * value for name, value in terms.items()]
            total = torch.stack(parts).sum()
            floor = weights.image * rank_floor(n_image, dims, self.off_diagonal)
            floor = floor + weights.companion * rank_floor(n_companion, dims, self.off_diagonal)
            terms["above_floor"] = total - floor
            if self.repo_grad_scale:
                total = total / world_size() + (total - total / world_size()).detach()
        return Loss(total, {name: value.detach() for name, value in terms.items()})


def standardized(x: Tensor, exists: Tensor) -> Tensor:
    """Standardise each dimension over the samples of all ranks, by the biased variance.

    Args:
        x: (..., B, K).
        exists: which samples count, 1 or 0, that broadcasts to (..., B, 1).

    Returns:
        (..., B, K), zero where a sample does not count.
    """
    count = mean_over_ranks(exists.sum(-2, keepdim=True)).clamp(min=1e-6)
    # torch.where, not a product: what a sample without the modality gives may be anything.
    x = torch.where(exists > 0.5, x, 0.0)
    mean = mean_over_ranks(x.sum(-2, keepdim=True)) / count
    centered = (x - mean) * exists
    variance = mean_over_ranks(centered.square().sum(-2, keepdim=True)) / count
    return centered * (variance + EPSILON).rsqrt()


def by_dimensions(a: Tensor, b: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Compute what a term needs of C(a, b) from the K x K matrix itself.

    Args:
        a: (B, K), standardised, of this rank.
        b: likewise.
        count: number of samples over all ranks.

    Returns:
        The diagonal (K,) and the sum of the squares off it.
    """
    correlation = mean_over_ranks(a.T @ b) * (world_size() / count)
    diagonal = correlation.diagonal()
    return diagonal, correlation.square().sum() - diagonal.square().sum()


def by_gram(a: Tensor, b: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the same from the N x N matrices of samples: |a'b|^2 = sum of (aa') * (bb').

    Args:
        a: (N, K), standardised, of all ranks.
        b: likewise.
        count: number of samples over all ranks that count.

    Returns:
        As ``by_dimensions``.
    """
    diagonal = (a * b).sum(0) / count
    squares = ((a @ a.T) * (b @ b.T)).sum() / count.square()
    return diagonal, squares - diagonal.square().sum()


def rank_floor(samples: Tensor, dims: int, off_diagonal: float) -> Tensor:
    """Return the least value of a term within a modality whose two views agree.

    Correlations of N samples have at most rank N - 1, so that K > N - 1 dimensions of unit
    variance cannot all be uncorrelated: the squares off the diagonal sum to K^2 / (N - 1) - K at
    least.

    Args:
        samples: N, a scalar.
        dims: K.
        off_diagonal: their weight.
    """
    return off_diagonal * (dims**2 / (samples - 1).clamp(min=1) - dims).clamp(min=0)
