"""A page about common and unique embeddings: correlations, principal components, linear R^2."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from lemumo_core import plots, web_page
from lemumo_core.methods.decur.slices import scores, slices_of
from lemumo_core.model.config import MODALITIES

LEAST_SAMPLES = 16
COMPONENTS = 16
PIXELS = 512
LEGEND = (
    "Red is 1, white 0, blue -1; the lines part common (first) from unique dimensions. When all is "
    "learnt, the first two pictures are white but for a red diagonal, and the third one has that "
    "diagonal among the common dimensions and is white among the unique ones."
)
LARGEST = 512
"""Dimensions of a picture of correlations; of more, evenly spaced ones are shown."""


def report(embeddings: np.ndarray, common: int, truth: np.ndarray) -> list[str]:
    """Return parts of a page.

    Args:
        embeddings: (2, N, K) of image and companion, common dimensions first.
        common: number of common dimensions.
        truth: (N, targets) of the frames (``slices.frame_truth``).
    """
    image, companion = (standardized(one) for one in embeddings)
    shown = evenly_chosen(embeddings.shape[2], common)
    edge = int((shown < common).sum())
    pictures = [
        web_page.figure(picture(correlation(a[:, shown], b[:, shown]), edge), caption)
        for a, b, caption in (
            (image, image, "image with image"),
            (companion, companion, "companion with companion"),
            (image, companion, "image (down) with companion (across)"),
        )
    ]
    slices = {"common": slice(0, common), "unique": slice(common, None)}
    used = {k: v for k, v in slices.items() if embeddings[:, :, v].size}
    planes = [
        plots.scatter(
            f"{name}, {explained:.0%} of the variance",
            dict(zip(MODALITIES, plane, strict=True)),
            "first and second principal component of both modalities",
        )
        for name, part in used.items()
        for plane, explained in [principal_plane(np.stack([image, companion])[:, :, part])]
    ]
    rows = []
    for name, part in used.items():
        for a, b, words in (
            (image, companion, "companion from image"),
            (companion, image, "image from companion"),
        ):
            scores = linear_r2(a[:, part], b[:, part])
            rows.append([f"{name}: {words}", *(f"{score:.3f}" for score in scores)])
    return [
        f"<p>{len(image)} samples, {common} common dimensions of {embeddings.shape[2]}.</p>",
        "<h2>Correlations of dimensions</h2>",
        f"<p>{LEGEND}</p>",
        f'<div class="grid">{"".join(pictures)}</div>',
        "<h2>Principal components</h2>",
        f'<div class="row">{"".join(planes)}</div>',
        "<h2>One modality from the other</h2>",
        web_page.table(
            "linear R² on samples that were not fitted",
            rows,
            ("embedding", "R²", "shuffled pairs"),
        ),
        *_frame_scores(embeddings, common, truth),
    ]


def _frame_scores(embeddings: np.ndarray, common: int, truth: np.ndarray) -> list[str]:
    """Return what slices tell of the frames, where a truth varies."""
    found = scores(slices_of(embeddings, common), truth)
    if not found:
        return []
    rows = [[name, *(f"{score:.3f}" for score in pair)] for name, pair in found.items()]
    caption = (
        "mean R² for mean log depth and the shares of the classes in a frame, by ridge regression, "
        "on samples that were not fitted"
    )
    head = ("embedding", "R²", "shuffled frames")
    return ["<h2>What slices tell of the frame</h2>", web_page.table(caption, rows, head)]


def standardized(x: np.ndarray) -> np.ndarray:
    """Return (N, K) with mean 0 and variance 1 of each dimension, 0 where it is constant."""
    x = x.astype(np.float64)
    std = x.std(0)
    return np.asarray((x - x.mean(0)) / np.where(std > 1e-8, std, np.inf))


def evenly_chosen(dims: int, common: int) -> np.ndarray:
    """Return which dimensions are shown, of common and unique ones alike."""
    step = max(1, -(-dims // LARGEST))
    return np.concatenate([np.arange(0, common, step), np.arange(common, dims, step)])


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the correlations (K, K') of the dimensions of a with those of b."""
    return np.asarray(a.T @ b / len(a))


def picture(matrix: np.ndarray, edge: int) -> np.ndarray:
    """Draw a matrix in [-1, 1] as uint8 (PIXELS, PIXELS, 3), with lines at an index."""
    value = np.clip(matrix, -1.0, 1.0)[..., None]
    red, blue = np.array([178, 24, 43.0]), np.array([33, 102, 172.0])
    color = 255 + np.where(value > 0, value * (red - 255), -value * (blue - 255))
    size = (PIXELS, PIXELS)
    drawn = cv2.resize(color.astype(np.uint8), size, interpolation=cv2.INTER_AREA)
    at = round(edge / len(matrix) * PIXELS)
    if 0 < at < PIXELS:
        drawn[at], drawn[:, at] = 0, 0
    return np.asarray(drawn)


def principal_plane(x: np.ndarray) -> tuple[np.ndarray, float]:
    """Project (2, N, D) on the first two principal components of both: (2, N, 2), and their share.

    The share is of the variance.
    """
    both = x.reshape(-1, x.shape[2])
    both = both - both.mean(0)
    u, s, _ = np.linalg.svd(both, full_matrices=False)
    plane = np.zeros((len(both), 2))
    count = min(2, len(s))
    plane[:, :count] = u[:, :count] * s[:count]
    return plane.reshape(2, -1, 2), float((s[:2] ** 2).sum() / max((s**2).sum(), 1e-12))


def linear_r2(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Score a linear map from x (N, D) to y (N, D'), and one of shuffled pairs.

    Both are first reduced to their principal components, at most a quarter as many as the samples
    to fit; every other sample is fitted, the rest is scored, over all components together.
    """
    fitted, scored = np.arange(0, len(x), 2), np.arange(1, len(x), 2)
    count = max(1, min(COMPONENTS, len(fitted) // 4))
    x, y = (_components(one, fitted, count) for one in (x, y))

    def score(order: Callable[[np.ndarray], np.ndarray]) -> float:
        given = np.c_[x, np.ones(len(x))]
        weights = np.linalg.lstsq(given[fitted], y[order(fitted)], rcond=None)[0]
        truth = y[order(scored)]
        residual = ((truth - given[scored] @ weights) ** 2).sum()
        return float(1 - residual / max(((truth - y[fitted].mean(0)) ** 2).sum(), 1e-12))

    rng = np.random.default_rng(0)
    return score(lambda rows: rows), score(rng.permutation)


def _components(x: np.ndarray, fitted: np.ndarray, count: int) -> np.ndarray:
    """Return the first principal components (N, count) of x, of the fitted rows."""
    mean = x[fitted].mean(0)
    _, _, axes = np.linalg.svd(x[fitted] - mean, full_matrices=False)
    return np.asarray((x - mean) @ axes[:count].T)
