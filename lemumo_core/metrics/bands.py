"""Bands of depth by which metrics are broken down."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

BAND_EDGES_M = (0.0, 20.0, 40.0, 80.0)
"""Band i holds depths in [edge i, edge i + 1); the last one holds its far edge too."""


def band_of(depth_m: np.ndarray, edges_m: tuple[float, ...]) -> np.ndarray:
    """Return the index of the band of each depth, int; -1 for NaN and depths outside all bands."""
    depth_m = np.asarray(depth_m)
    band = np.full(depth_m.shape, -1, np.intp)
    for edge_m in edges_m[:-1]:  # far faster than a search, for a few edges
        band += depth_m >= edge_m
    band[depth_m > edges_m[-1]] = -1
    return band


def band_names(edges_m: tuple[float, ...]) -> tuple[str, ...]:
    """Return the names of the bands, e.g. ("0-20 m", "20-40 m")."""
    return tuple(f"{a:g}-{b:g} m" for a, b in pairwise(edges_m))


def checked_edges(edges_m: tuple[float, ...]) -> tuple[float, ...]:
    """Return the edges as a tuple, once they are found valid.

    Raises:
        ValueError: unless there are two or more, none negative, rising.
    """
    if len(edges_m) < 2 or edges_m[0] < 0 or (np.diff(edges_m) <= 0).any():
        raise ValueError(f"band edges {edges_m} must be two or more rising depths in metres")
    return tuple(edges_m)
