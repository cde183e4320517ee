"""Projection of thermal images and rasters into the view of a camera."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.frame import RasterImage, ThermalImage
from lemumo_core.geometry.camera import Camera

PERCENTILES = (1.0, 99.0)
"""Numbers that are not of 8 bits have no fixed scale: this range of a picture's own values becomes
[0, 1]."""
LEAST_RANGE = 1e-6
"""Range of a float32 picture that shows one value, in its own unit."""
TOLERANCE_PX = 1e-3
"""Between equal cameras the border's pixels map onto themselves only up to rounding."""


def thermal_in_view(thermal: ThermalImage, view: Camera) -> np.ndarray:
    """Thermal companion, float32 (H, W, 2): intensity in [0, 1], 0 where unseen, and validity.

    Raises:
        Fault: ``bad_image``.
    """
    image, camera = thermal.image, thermal.camera
    kinds = np.uint8, np.uint16, np.float32
    if image.shape != (camera.height, camera.width) or image.dtype not in kinds:
        raise Fault(
            "bad_image",
            f"the thermal image is {image.dtype} {image.shape}, its camera model says "
            f"{(camera.height, camera.width)}",
        )
    return _in_view(_normalize(image)[..., None], camera, thermal.T_camera_thermal, view)


def raster_in_view(raster: RasterImage, view: Camera) -> np.ndarray:
    """Render a raster companion: float32 (H, W, C + 1), its bands in [0, 1], and validity.

    Each band has its own scale, as a thermal image (``PERCENTILES``).

    Raises:
        Fault: ``bad_image``.
    """
    bands, camera = raster.bands, raster.camera
    kinds = np.uint8, np.uint16, np.float32
    if bands.ndim != 3 or bands.shape[:2] != (camera.height, camera.width):
        raise Fault("bad_image", f"the raster is {bands.shape}, its camera model says otherwise")
    if bands.dtype not in kinds:
        raise Fault("bad_image", f"the raster is {bands.dtype}, not of 8 or 16 bits or float32")
    known = np.isfinite(bands).all(axis=-1)
    values = np.zeros(bands.shape, np.float32)
    if known.any():
        for i in range(bands.shape[-1]):
            values[known, i] = _normalize(bands[known, i])
    return _in_view(values, camera, np.eye(4), view, known)


def _in_view(
    values: np.ndarray,
    camera: Camera,
    T_view_picture: np.ndarray,
    view: Camera,
    known: np.ndarray | None = None,
) -> np.ndarray:
    """Render values (h, w, C) of a picture: float32 (H, W, C + 1), 0 where unknown, and validity.

    Args:
        values: in [0, 1].
        camera: of the picture.
        T_view_picture: only its rotation is used.
        view: of the network.
        known: bool (h, w), which pixels of the picture are; all by default.
    """
    u, v = _look_up_map(view, camera, T_view_picture[:3, :3].tobytes())
    e = TOLERANCE_PX
    valid = (u >= -e) & (u <= camera.width - 1 + e) & (v >= -e) & (v <= camera.height - 1 + e)
    if known is not None:
        share = cv2.remap(known.astype(np.float32), u, v, cv2.INTER_LINEAR)
        valid &= share > 1 - 1e-3  # no value beside an unknown one is mixed with it
    bands = values.shape[-1]
    companion = np.zeros((*u.shape, bands + 1), np.float32)
    for i in range(bands):
        value = cv2.remap(np.ascontiguousarray(values[..., i]), u, v, cv2.INTER_LINEAR)
        np.copyto(companion[..., i], value, where=valid)
    companion[..., bands] = valid
    return companion


def _normalize(image: np.ndarray) -> np.ndarray:
    """Scale counts of any shape to float32 in [0, 1]: 8 bit by 255, others by their own range."""
    if image.dtype == np.uint8:
        return image.astype(np.float32) / 255.0
    low, high = np.percentile(image, PERCENTILES)
    least = LEAST_RANGE if image.dtype == np.float32 else 1.0
    scaled = (image.astype(np.float32) - low) / max(high - low, least)
    return np.clip(scaled, 0.0, 1.0).astype(np.float32)


@functools.lru_cache(maxsize=8)
def _look_up_map(view: Camera, picture: Camera, rotation: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return where each pixel of the view looks in the picture, float32 (H, W) each.

    Only the rotation between the cameras is used, as for objects at infinity.
    """
    R_view_picture = np.frombuffer(rotation).reshape(3, 3)
    v, u = np.mgrid[: view.height, : view.width]
    rays = view.unproject(np.stack([u.ravel(), v.ravel()], axis=1))
    uv, valid = picture.project(rays @ R_view_picture)
    uv[~valid] = -1e6
    shape = (view.height, view.width)
    return uv[:, 0].reshape(shape).astype(np.float32), uv[:, 1].reshape(shape).astype(np.float32)
