"""What slices of embeddings tell linearly of their frames: how far it is, and what is there."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lemumo_core.data.samples import Batch
from lemumo_core.frame import UNLABELLED
from lemumo_core.model.config import MODALITIES

RIDGE = 1e-2
LEAST_VARIATION = 1e-6


def frame_truth(batch: Batch, classes: int) -> np.ndarray:
    """Return what is in each frame: mean log depth, and the share of each class.

    Depth is that of the labels, or of the LiDAR's returns where these have none.

    Args:
        batch: B samples.
        classes: of the segmentation.

    Returns:
        float64 (B, 1 + classes), NaN where nothing is known.
    """
    found = np.full((len(batch), 1 + classes), np.nan)
    for i, row in enumerate(found):
        depth_m = batch.returns[i, :, 2].cpu().numpy()
        if batch.labels is not None:
            dense_m = batch.labels.depth_m[i].cpu().numpy()
            depth_m = dense_m if (dense_m > 0).any() else depth_m
            ids = batch.labels.label_map[i].cpu().numpy()
            if (known := ids[ids != UNLABELLED]).size:
                row[1:] = np.bincount(known, minlength=classes)[:classes] / known.size
        seen_m = depth_m[(depth_m > 0) & np.isfinite(depth_m)]
        if seen_m.size:
            row[0] = np.log(seen_m).mean()
    return found


def slices_of(embeddings: np.ndarray, common: int) -> dict[str, np.ndarray]:
    """Return slices (N, K') of embeddings (2, N, K) of image and companion, by name."""
    parts = {"": slice(None), ", common": slice(0, common), ", unique": slice(common, None)}
    found = {"both": np.concatenate(list(embeddings), axis=1)}
    for name, own in zip(MODALITIES, embeddings, strict=True):
        found |= {f"{name}{part}": own[:, where] for part, where in parts.items()}
    return {name: part for name, part in found.items() if part.shape[1]}


def scores(slices: Mapping[str, np.ndarray], truth: np.ndarray) -> dict[str, tuple[float, float]]:
    """Return, by slice, mean R^2 over what varies in a truth, and that of shuffled frames.

    A ridge regression is fitted to every other frame, and the rest is scored; 0 is what the mean
    scores. Nothing where no truth varies.

    Args:
        slices: of N frames.
        truth: (N, targets), NaN where unknown: such targets are left out.
    """
    truth = truth[:, np.isfinite(truth).all(axis=0)]
    varies = np.minimum(truth[::2].var(0), truth[1::2].var(0)) > LEAST_VARIATION
    if not varies.any():
        return {}
    y = truth[:, varies]
    shuffled = y[np.random.default_rng(0).permutation(len(y))]
    return {name: (ridge_r2(x, y), ridge_r2(x, shuffled)) for name, x in slices.items()}


def ridge_r2(x: np.ndarray, y: np.ndarray) -> float:
    """Fit a ridge regression from x (N, D) to y (N, T) on even rows; mean R^2 on odd ones."""
    x = x.astype(np.float64)
    x = (x - x[::2].mean(0)) / (x[::2].std(0) + 1e-6) / np.sqrt(x.shape[1])
    given, asked, mean = x[::2], x[1::2], y[::2].mean(0)
    gram = given @ given.T + RIDGE * np.eye(len(given))
    predicted = mean + asked @ (given.T @ np.linalg.solve(gram, y[::2] - mean))
    residual, total = ((y[1::2] - predicted) ** 2).sum(0), ((y[1::2] - mean) ** 2).sum(0)
    return float(np.mean(1 - residual / total))
