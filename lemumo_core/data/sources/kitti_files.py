"""Parsers of KITTI's calibration files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lemumo_core.data.sources.files import read_text
from lemumo_core.faults import Fault

ROTATION_TOLERANCE = 1e-2
"""R R^T may differ so much from the identity: files are rounded, and some are measured by hand."""


def read_calibration(path: Path) -> dict[str, np.ndarray]:
    """Read the ``KEY: numbers`` lines of a KITTI calibration file as float64 vectors.

    Other lines (dates) are skipped.

    Raises:
        FileNotFoundError: there is no such file.
    """
    values = {}
    for line in read_text(path, "a KITTI calibration file").splitlines():
        key, _, numbers = line.partition(":")
        try:
            values[key.strip()] = np.array(numbers.split(), np.float64)
        except ValueError:
            continue
    return values


def baseline(P: np.ndarray) -> np.ndarray:
    """Return the offset K^-1 p4 (3,) that takes points of rectified camera 0 to P's own camera."""
    return np.linalg.solve(P[:, :3], P[:, 3])


def matrix(
    values: dict[str, np.ndarray], key: str, shape: tuple[int, ...], path: Path
) -> np.ndarray:
    """Return one entry of ``read_calibration(path)`` in its shape.

    Raises:
        Fault: ``bad_calibration``: it is missing, holds another count of numbers, or some that are
            not finite.
    """
    if key not in values:
        raise Fault(
            "bad_calibration", f"{path} has no {key}; it has {', '.join(values) or 'nothing'}"
        )
    if values[key].size != np.prod(shape):
        raise Fault("bad_calibration", f"{path}: {key} must hold {np.prod(shape)} numbers")
    if not np.isfinite(values[key]).all():
        raise Fault("bad_calibration", f"{path}: {key} holds numbers that are not finite")
    return values[key].reshape(shape)


def rotation(
    values: dict[str, np.ndarray], key: str, path: Path, shape: tuple[int, ...] = (3, 3)
) -> np.ndarray:
    """Return one entry whose first three columns are a rotation, as ``matrix`` does.

    Raises:
        Fault: ``bad_calibration``, also where they are none, e.g. zeros.
    """
    found = matrix(values, key, shape, path)
    R = found[:, :3]
    if np.abs(R @ R.T - np.eye(3)).max() > ROTATION_TOLERANCE or np.linalg.det(R) < 0:
        raise Fault("bad_calibration", f"{path}: {key} holds no rotation: {R.tolist()}")
    return found
