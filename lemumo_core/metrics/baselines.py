"""Depth that needs no network: the trivial answers that a model's depth stands beside.

A figure of depth says little by itself: where LiDAR returns are dense, copying the nearest one is
hard to beat. Each baseline sees the returns that the model was shown, and is judged on the very
pixels that the model is judged on. Where there are no returns, the answer is what is usual in a row
of the image.
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
ROWS = "rows"
"""The baseline of frames without returns: the mean depth of the pixel's row in street scenes."""
ROW_DEPTH_M = np.array(
    [25.9, 26.1, 25.8, 26.1, 26.8, 28.4, 29.6, 29.0, 23.4, 17.0, 12.8, 9.8, 7.9, 6.6, 5.6, 4.9],
    np.float32,
)
"""Mean depth below 80 m, metres, of bands of rows of equal height, from the top of an image to its
bottom, of 48 rendered streets to train on, 352 x 192, seed 3, one frame of each drive."""
STRIDE = 16
"""Distance, in pixels of a column, of those whose nearest return is searched first."""


@functools.lru_cache(maxsize=1)
def frame_baselines(frame: Frame) -> dict[str, np.ndarray]:
    """Predict the depth of the pixels of a frame whose true depth is known.

    The result is kept for the frame of the last call, since a model is judged several times on one
    frame, with either sensor and with both.

    Args:
        frame: with ``labels.depth_m``. Its scan holds the returns that the model was shown; those
            behind others are left out.

    Returns:
        float32 (M,) metres by the names of ``BASELINES``, without a LiDAR or a return in the image
        by ``ROWS``, of the pixels of positive depth, row by row; empty without true depth.
    """
    scan, labels = frame.companion, frame.labels
    if labels is None or labels.depth_m is None:
        return {}
    v, u = np.nonzero(labels.depth_m > 0)
    if isinstance(scan, LidarScan):
        shown = visible_returns(scan, frame.camera)
        if len(shown.u):
            return baseline_depth(shown, u, v)
    return {ROWS: ROW_DEPTH_M[v * len(ROW_DEPTH_M) // len(labels.depth_m)]}


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
    from scipy.spatial import QhullError

    places, asked = np.stack([shown.u, shown.v], axis=1), np.stack([u, v], axis=1)
    nearest = shown.depth_m[_nearest(places, asked)].astype(np.float32)
    linear = nearest
    try:
        inverse = LinearNDInterpolator(places, 1.0 / shown.depth_m.astype(np.float64))(asked)
        known = np.isfinite(inverse)
        linear = np.where(known, 1.0 / np.where(known, inverse, 1.0), nearest).astype(np.float32)
    except QhullError:  # fewer than three returns, or all on a line: there is no triangle
        pass
    mean = np.full(len(u), shown.depth_m.mean(), np.float32)
    return dict(zip(BASELINES, (nearest, linear, mean), strict=True))


def _nearest(places: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return which of the places (N, 2) is nearest to each of the pixels (M, 2) u, v: intp (M,).

    What is nearest to one place is convex: where it is nearest to two pixels of a column, it is to
    all between. So most pixels of a dense map need no search.
    """
    from scipy.spatial import cKDTree

    tree, order = cKDTree(places), np.lexsort(asked.T[::-1])
    down = asked[order].astype(np.float64)
    found = np.full(len(down), -1)
    found[::STRIDE] = tree.query(down[::STRIDE])[1]
    half = STRIDE // 2
    while half:
        middle = np.arange(half, len(down), 2 * half)
        above, below = middle - half, np.minimum(middle + half, len(down) - 1)
        between = (found[above] == found[below]) & (down[above, 0] == down[below, 0])
        found[middle] = found[above]
        searched = middle[~between]
        found[searched] = tree.query(down[searched])[1]
        half //= 2
    at = np.empty_like(found)
    at[order] = found
    return at
