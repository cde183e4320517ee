"""Projection of thermal images into the view of a camera."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.frame import ThermalImage
from lemumo_core.geometry.camera import Camera

THERMAL_PERCENTILES = (1.0, 99.0)
"""A thermal image of 16 bits or of degrees has no fixed scale: this range of its own values becomes
[0, 1]."""
LEAST_RANGE = 1e-6
"""Range of a float32 thermal image that shows one temperature, in its own unit."""
THERMAL_TOLERANCE_PX = 1e-3
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
    u, v = _thermal_map(view, camera, thermal.T_camera_thermal[:3, :3].tobytes())
    value = cv2.remap(_normalize_thermal(image), u, v, cv2.INTER_LINEAR)
    e = THERMAL_TOLERANCE_PX
    valid = (u >= -e) & (u <= camera.width - 1 + e) & (v >= -e) & (v <= camera.height - 1 + e)
    companion = np.zeros((*value.shape, 2), np.float32)
    np.copyto(companion[..., 0], value, where=valid)
    companion[..., 1] = valid
    return companion


def _normalize_thermal(image: np.ndarray) -> np.ndarray:
    """Thermal counts to float32 in [0, 1]: 8 bit by 255, others by the image's own range."""
    if image.dtype == np.uint8:
        return image.astype(np.float32) / 255.0
    low, high = np.percentile(image, THERMAL_PERCENTILES)
    least = LEAST_RANGE if image.dtype == np.float32 else 1.0
    scaled = (image.astype(np.float32) - low) / max(high - low, least)
    return np.clip(scaled, 0.0, 1.0).astype(np.float32)


@functools.lru_cache(maxsize=8)
def _thermal_map(view: Camera, thermal: Camera, rotation: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of the view looks in the thermal image, float32 (H, W) each.

    Only the rotation between the cameras is used, as for objects at infinity.
    """
    R_camera_thermal = np.frombuffer(rotation).reshape(3, 3)
    v, u = np.mgrid[: view.height, : view.width]
    rays = view.unproject(np.stack([u.ravel(), v.ravel()], axis=1))
    uv, valid = thermal.project(rays @ R_camera_thermal)
    uv[~valid] = -1e6
    shape = (view.height, view.width)
    return uv[:, 0].reshape(shape).astype(np.float32), uv[:, 1].reshape(shape).astype(np.float32)
