"""The assignment of rows to columns, such as of detections to tracks, by least cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lemumo_core.extras import install_line


def solver() -> Callable[..., Any]:
    """Return SciPy's ``linear_sum_assignment``.

    Raises:
        ImportError: SciPy is not installed; the message says how.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError(f"tracks need SciPy: {install_line('tracking')}") from error
    found: Callable[..., Any] = linear_sum_assignment
    return found


def assign(cost: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs that cost least in all, of the most pairs that can be allowed at once.

    This is Kuhn's problem (Naval Research Logistics 1955), solved by SciPy.

    Args:
        cost: float (N, M); what is not allowed may be NaN.
        allowed: bool (N, M).

    Returns:
        Rows int (P,), ascending, and their columns int (P,).

    Raises:
        ImportError: as ``solver``.
    """
    if (allowed.sum(axis=0) <= 1).all() and (allowed.sum(axis=1) <= 1).all():
        alone, its_only = np.nonzero(allowed)  # nothing to choose between
        return alone, its_only
    rows, columns = np.flatnonzero(allowed.any(axis=1)), np.flatnonzero(allowed.any(axis=0))
    inner = np.ix_(rows, columns)
    known, worth = allowed[inner], cost[inner]
    least, most = worth[known].min(), worth[known].max()
    # So much that no number of allowed pairs is as dear as one that is not.
    forbidden = 2.0 * (most - least + 1.0) * min(worth.shape)
    i, j = solver()(np.where(known, worth - least, forbidden))
    kept = known[i, j]
    return rows[i[kept]], columns[j[kept]]
