"""Reading of rasters of any number of bands: NPY, PNG, JPEG and (Geo)TIFF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from lemumo_core.data.sources.files import existing
from lemumo_core.faults import Fault

TIFF = (".tif", ".tiff")
DTYPES = (np.uint8, np.uint16, np.float32)


def read_bands(path: Path) -> np.ndarray:
    """Read a raster with its bands in the order of the file.

    Of an array in an NPY file the shortest axis is that of the bands. TIFFs of several bands are
    read by tifffile (``pip install '.[rasters]'``), since OpenCV mixes up bands that are stored one
    after the other.

    Returns:
        uint8, uint16 or float32 (H, W, C); other numbers become float32.

    Raises:
        FileNotFoundError: there is no such file.
        Fault: ``bad_image``.
        ModuleNotFoundError: tifffile is needed and missing.
    """
    data = np.frombuffer(existing(path, "a raster").read_bytes(), np.uint8)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        bands = _last_axis(np.load(path, allow_pickle=False), path)
    else:
        flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
        found = _quietly_decoded(data, flags) if len(data) else None
        if suffix in TIFF and (found is None or found.ndim == 3):
            found = _read_tiff(path)
        elif found is not None and found.ndim == 3:
            order = [2, 1, 0, 3] if found.shape[2] == 4 else [2, 1, 0]  # OpenCV's is BGR(A)
            found = found[..., order]
        if found is None:
            raise Fault("bad_image", f"{path} is not an image that OpenCV can decode")
        bands = found.reshape(*found.shape[:2], -1)
    if bands.dtype not in DTYPES:
        bands = bands.astype(np.float32)
    return np.ascontiguousarray(bands)


def stack_bands(paths: Sequence[Path]) -> np.ndarray:
    """Read rasters, one after the other, as the bands of one, of the size of the largest.

    Satellites record bands at several resolutions: coarser ones are enlarged bilinearly.

    Returns:
        As ``read_bands``; float32 where the files hold different types.
    """
    found = [read_bands(path) for path in paths]
    height, width = max(one.shape[:2] for one in found)
    if len({one.dtype for one in found}) > 1:
        found = [one.astype(np.float32) for one in found]
    grown = [
        cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, -1)
        for one in found
    ]
    return np.concatenate(grown, axis=-1)


def rescaled(bands: np.ndarray, low: np.ndarray | float, high: np.ndarray | float) -> np.ndarray:
    """Clip bands (H, W, C) to a range, of all or of each, that becomes [0, 1]: float32."""
    scaled = (bands.astype(np.float32) - low) / (np.asarray(high) - low)
    return np.clip(scaled, 0.0, 1.0).astype(np.float32)


def _last_axis(values: np.ndarray, path: Path) -> np.ndarray:
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or 0 in values.shape:
        raise Fault("bad_image", f"{path} is {values.shape}, expected (H, W), or with bands")
    return np.moveaxis(values, int(np.argmin(values.shape)), -1)


def _quietly_decoded(data: np.ndarray, flags: int) -> np.ndarray | None:
    """Decode, without OpenCV's lines about TIFFs that it does not read."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.imdecode(data, flags)
    finally:
        cv2.utils.logging.setLogLevel(level)


def _read_tiff(path: Path) -> np.ndarray:
    """Read the samples of the first page of a TIFF; further ones are overviews and masks."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            first = file.pages.first
            bands = first.asarray()
            separate = first.planarconfig == tifffile.PLANARCONFIG.SEPARATE
            return np.moveaxis(bands, 0, -1) if separate else bands
    except (ValueError, IndexError, tifffile.TiffFileError) as error:
        raise Fault("bad_image", f"{path} is no TIFF that tifffile can read: {error}") from error
