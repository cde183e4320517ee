"""Camera models from sensor_msgs/CameraInfo."""

from __future__ import annotations

import functools
import logging
import re
from typing import Any, Literal, NamedTuple

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T
from lemumo_core.messages.image_files import MAX_PIXELS

log = logging.getLogger(__name__)

ROTATION_TOLERANCE = 1e-3
"""How far R may be off a rotation."""

FOCAL_LENGTHS = (0.02, 100.0)
"""Shortest by the image's shorter side, longest by its longer: past any fisheye and telephoto."""


RECTIFIED_NAME = re.compile(r"(?<!non)(?<!not)[/_]rect(ified)?(?![a-z0-9])", re.I)
"""Topics of rectified images: image_rect, image_rect_color, rect/image, image_rectified."""

Rectified = bool | Literal["auto"]
"""Whether images are rectified ones; ``auto`` decides by topic, see ``images_are_rectified``."""


class ImageCamera(NamedTuple):
    """The model of a topic's images.

    Attributes:
        camera: model of their pixels.
        T_image_header: (4, 4), from the frame that the image's header names to the frame in which
            ``camera`` looks: the identity but for rectified images.
    """

    camera: Camera
    T_image_header: np.ndarray


def camera_of_images(msg: Any, topic: str, rectified: Rectified = "auto") -> ImageCamera:
    """Build the model of the images of a topic from the CameraInfo beside it.

    Node, replay and training all decide here whether images are rectified; ``auto`` is logged once
    a topic where it finds that they are.

    Args:
        msg: sensor_msgs/CameraInfo.
        topic: full name of the images' topic.
        rectified: see ``images_are_rectified``.

    Raises:
        Fault: ``bad_camera``, as ``camera_from_info`` and ``rectifying_transform``.
    """
    if not images_are_rectified(msg, topic, rectified):
        return ImageCamera(camera_from_info(msg), np.eye(4))
    if rectified == "auto":
        _log_rectified(topic)
    return ImageCamera(camera_from_info(msg, rectified=True), rectifying_transform(msg))


def images_are_rectified(msg: Any, topic: str, rectified: Rectified = "auto") -> bool:
    """Return whether the images of a topic are rectified, so that they follow P without D.

    A CameraInfo describes the raw images and their rectification at once; which of the two a topic
    carries is written in its name alone (``RECTIFIED_NAME``). Where a CameraInfo beside rectified
    images has neither P nor distortion, its K is already that of the rectified images.

    Args:
        msg: sensor_msgs/CameraInfo.
        topic: full name of the images' topic, transport suffix or not.
        rectified: True or False settle it; ``auto`` looks at the name and at ``msg``.
    """
    if rectified != "auto":
        return rectified
    described = bool(np.any(msg.p)) or bool(np.any(msg.d))
    return described and RECTIFIED_NAME.search(topic) is not None


@functools.cache
def _log_rectified(topic: str) -> None:
    log.warning(
        "%s: taken for rectified images by its name: P of camera_info holds, without distortion; "
        "set rectified to false where that is wrong",
        topic,
    )


def camera_from_info(msg: Any, rectified: bool = False) -> Camera:
    """Build the model of the images that a CameraInfo describes.

    Calibration is of the full sensor; the region of interest is cut out of it, then binned. A
    binned pixel lies at the mean of its pixels, so the principal point moves as in
    ``Camera.scaled`` (image_geometry divides it, which is up to half a binned pixel off).

    Args:
        msg: sensor_msgs/CameraInfo.
        rectified: the images are rectified ones (``image_rect``): take P's left 3x3 and no
            distortion. They live in the rectified frame: see ``rectifying_transform``.

    Raises:
        Fault: ``bad_camera`` for a camera that is not calibrated or as none is built, an unknown
            distortion model, a wrong number of coefficients, or a region or binning that does not
            fit the sensor.
    """
    width, height = int(msg.width), int(msg.height)
    if width * height > MAX_PIXELS:
        raise Fault("bad_camera", f"camera size {width}x{height} is above {MAX_PIXELS} pixels")
    if rectified:
        K = _projection(msg)[:, :3]
        camera = Camera.from_calibration(width, height, K, "pinhole", ())
    else:
        camera = Camera.from_calibration(width, height, msg.k, msg.distortion_model, msg.d)
    _check_plausible(camera)
    roi = msg.roi
    x, y, w, h = (int(v) for v in (roi.x_offset, roi.y_offset, roi.width, roi.height))
    if not (x or y or w or h):
        w, h = width, height
    binning_x, binning_y = int(msg.binning_x) or 1, int(msg.binning_y) or 1
    inside = 0 <= x <= width - w and 0 <= y <= height - h
    if not inside or not 0 < binning_x <= w or not 0 < binning_y <= h:
        raise Fault(
            "bad_camera",
            f"region of interest {w}x{h} at ({x}, {y}), binned {binning_x}x{binning_y}, "
            f"does not fit the {width}x{height} sensor",
        )
    w, h = w // binning_x, h // binning_y
    return camera.cropped(x, y, w * binning_x, h * binning_y).scaled(w, h)


def _check_plausible(camera: Camera) -> None:
    """Reject numbers that are no calibration: of another resolution, or not in pixels."""
    shorter, longer = sorted((camera.width, camera.height))
    low, high = FOCAL_LENGTHS[0] * shorter, FOCAL_LENGTHS[1] * longer
    in_image = -longer < camera.cx < 2 * longer and -longer < camera.cy < 2 * longer
    if not (low <= camera.fx <= high and low <= camera.fy <= high and in_image):
        raise Fault(
            "bad_camera",
            f"fx={camera.fx:.6g}, fy={camera.fy:.6g}, cx={camera.cx:.6g}, cy={camera.cy:.6g} are "
            f"no calibration of {camera.width}x{camera.height} pixels: is it of another "
            "resolution, or not in pixels?",
        )


def rectifying_transform(msg: Any) -> np.ndarray:
    """Return the transform from the optical frame to that of the rectified images.

    CameraInfo's R turns the camera; the fourth column of P shifts the second camera of a stereo
    pair, whose messages carry the first one's frame. For one camera it is the identity.

    Args:
        msg: sensor_msgs/CameraInfo.

    Returns:
        float64 (4, 4) T_rectified_camera, such that projecting with ``camera_from_info(msg,
        rectified=True)`` after it equals K_rectified^-1 P [R X; 1]. An R of zeros was never set
        and counts as the identity.

    Raises:
        Fault: ``bad_camera`` for a P or R that is no projection or no rotation.
    """
    P = _projection(msg)
    R = _matrix(msg.r, 3, "R")
    if not R.any():
        R = np.eye(3)
    # The bound comes first: products of the numbers in a corrupt message overflow.
    if not np.abs(R).max() < 1.1 or not np.allclose(R @ R.T, np.eye(3), atol=ROTATION_TOLERANCE):
        raise Fault("bad_camera", f"R of the CameraInfo is not a rotation:\n{R}")
    K = Camera.from_calibration(msg.width, msg.height, P[:, :3], "pinhole", ()).K
    t = np.linalg.solve(K, P[:, 3])
    if not np.array_equal(K, P[:, :3]) or not np.isfinite(t).all():
        raise Fault("bad_camera", f"P of the CameraInfo is not [K | t]:\n{P}")
    return make_T(R, t)


def _projection(msg: Any) -> np.ndarray:
    P = _matrix(msg.p, 4, "P")
    if not P.any():
        raise Fault(
            "bad_camera",
            "P of the CameraInfo is zero, and rectified images need it: calibrate the camera, or "
            "set rectified to false where its images are raw",
        )
    return P


def _matrix(numbers: Any, columns: int, name: str) -> np.ndarray:
    if len(numbers) != 3 * columns:
        raise Fault("bad_camera", f"{name} must hold {3 * columns} numbers, got {len(numbers)}")
    return np.asarray(numbers, np.float64).reshape(3, columns)
