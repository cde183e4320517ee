"""Depth that needs no network: the trivial answers that a model's depth stands beside.

A figure of depth says little by itself: where LiDAR returns are dense, copying the nearest one is
hard to beat. Each baseline sees the returns that the model was shown, and is judged on the very
pixels that the model is judged on.
"""

from __future__ import annotations

import functools

import numpy as np

from lemumo_core.depth_projection import Returns
from lemumo_core.frame import Frame, LidarScan
from lemumo_core.metrics.masked_returns import visible_returns

BASELINES = ("nearest", "linear", "mean")
"""``nearest`` copies the return that is nearest in the image. ``linear`` interpolates inverse depth
over the Delaunay triangles of the returns, and is ``nearest`` outside of their hull. ``mean`` is
the mean depth of the returns."""


@functools.lru_cache(maxsize=1)
def frame_baselines(frame: Frame) -> dict[str, np.ndarray]:
    """Predict the depth of the pixels of a frame whose true depth is known.

    The result is kept for the frame of the last call, since a model is judged several times on one
    frame, with either sensor and with both.

    Args:
        frame: with ``labels.depth_m``. Its scan holds the returns that the model was shown; those
            behind others are left out.

    Returns:
        float32 (M,) metres by the names of ``BASELINES``, of the pixels of positive depth, row by
        row; empty without a LiDAR or without a return in the image.
    """
    scan, labels = frame.companion, frame.labels
    if not isinstance(scan, LidarScan) or labels is None or labels.depth_m is None:
        return {}
    shown = visible_returns(scan, frame.camera)
    v, u = np.nonzero(labels.depth_m > 0)
    return baseline_depth(shown, u, v) if len(shown.u) else {}


def baseline_depth(shown: Returns, u: np.ndarray, v: np.ndarray) -> dict[str, np.ndarray]:
    """Predict depth at pixels from the returns around them.

    Args:
        shown: at least one return.
        u: float (M,), columns of pixels of the image.
        v: float (M,), their rows.

    Returns:
        float32 (M,) metres by the names of ``BASELINES``.
    """
    # Not above: scipy takes a while to import, and only evaluation needs it.
    from scipy.interpolate import LinearNDInterpolator
    from scipy.spatial import QhullError, cKDTree

    places, asked = np.stack([shown.u, shown.v], axis=1), np.stack([u, v], axis=1)
    _, at = cKDTree(places).query(asked)
    nearest = shown.depth_m[at].astype(np.float32)
    linear = nearest
    try:
        inverse = LinearNDInterpolator(places, 1.0 / shown.depth_m.astype(np.float64))(asked)
        known = np.isfinite(inverse)
        linear = np.where(known, 1.0 / np.where(known, inverse, 1.0), nearest).astype(np.float32)
    except QhullError:  # fewer than three returns, or all on a line: there is no triangle
        pass
    mean = np.full(len(u), shown.depth_m.mean(), np.float32)
    return dict(zip(BASELINES, (nearest, linear, mean), strict=True))
