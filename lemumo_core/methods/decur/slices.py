"""Linear scores of slices of embeddings: how far away a frame's scene is, and what is there."""

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

    A ridge regression is fitted to every other frame, and the rest is scored; 0 is what the
    mean of the fitted ones scores. Nothing where no truth varies.

    Args:
        slices: of N frames.
        truth: (N, targets), NaN where unknown: such targets are left out.
    """
    fitted = np.arange(len(truth)) % 2 == 0
    y = varying(truth, fitted)
    if not y.shape[1]:
        return {}
    shuffled = y[np.random.default_rng(0).permutation(len(y))]
    return {n: (ridge_r2(x, y, fitted), ridge_r2(x, shuffled, fitted)) for n, x in slices.items()}


def varying(truth: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """Return the targets that are known of all frames and vary in both parts of them.

    Args:
        truth: (N, targets), NaN where unknown.
        fitted: bool (N,), which frames a regression is fitted to.
    """
    truth = truth[:, np.isfinite(truth).all(axis=0)]
    return truth[:, np.minimum(truth[fitted].var(0), truth[~fitted].var(0)) > LEAST_VARIATION]


def ridge_r2(x: np.ndarray, y: np.ndarray, fitted: np.ndarray) -> float:
    """Fit a ridge regression from x (N, D) to y (N, T) on some frames; mean R^2 on the others."""
    x = x.astype(np.float64)
    given, asked = x[fitted], x[~fitted]
    scale = (given.std(0) + 1e-6) * np.sqrt(x.shape[1])
    given, asked = (given - given.mean(0)) / scale, (asked - given.mean(0)) / scale
    mean, true = y[fitted].mean(0), y[~fitted]
    gram = given @ given.T + RIDGE * np.eye(len(given))
    predicted = mean + asked @ (given.T @ np.linalg.solve(gram, y[fitted] - mean))
    residual, total = ((true - predicted) ** 2).sum(0), ((true - mean) ** 2).sum(0)
    return float(np.mean(1 - residual / total))
