"""Frame to network input; the only place where that happens."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lemumo_core.depth_projection import nearest_returns
from lemumo_core.faults import Fault
from lemumo_core.frame import (
    COMPANIONS,
    Frame,
    LidarScan,
    RasterImage,
    ThermalImage,
    companion_kind,
)
from lemumo_core.geometry.camera import Camera
from lemumo_core.image_scaling import reduced, shrunk
from lemumo_core.picture_projection import raster_in_view, thermal_in_view

log = logging.getLogger(__name__)

MAX_ASPECT = 16
"""Height by width of the tallest image: scaled to the view's width, a thread one pixel wide would
fill the memory."""
MAX_REDUCTION = 8


@dataclass(frozen=True)
class InputSpec:
    """Specification of the network's input, as the model's manifest stores it.

    Attributes:
        height, width: of the view, pixels, multiples of 16.
        companion: ``lidar``, ``thermal`` or ``raster``.
        companion_channels: 1 (value), 2 (value, validity), or of LiDAR 4 (and how far right of its
            pixel's centre the return lies, and how far below, in pixels); of a raster 2 or more,
            its bands and their validity.
        depth_min_m: LiDAR returns at this depth or nearer are dropped: they lie on the camera
            itself. What is dropped gets the depth of what is behind it.
        depth_max_m: depth that maps to 1; farther returns stay, as 1.
        whole_image: the view holds the whole image, padded where its aspect differs; otherwise the
            image is as wide as the view, and what is too high is cut off at the top.

    Raises:
        ValueError: for anything else.
    """

    height: int
    width: int
    companion: str
    companion_channels: int
    depth_min_m: float = 0.2
    depth_max_m: float = 80.0
    whole_image: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.height, int) or not isinstance(self.width, int):
            raise ValueError(f"height {self.height!r} and width {self.width!r} must be integers")
        if self.height <= 0 or self.width <= 0 or self.height % 16 or self.width % 16:
            raise ValueError(f"input {self.height}x{self.width}: both must be multiples of 16")
        if self.companion not in COMPANIONS:
            raise ValueError(f"companion '{self.companion}' is none of {COMPANIONS}")
        channels = self.companion_channels
        if self.companion == "raster":
            if channels < 2:
                raise ValueError(f"companion_channels is {channels}, a raster has at least 2")
            return
        allowed = (1, 2, 4) if self.companion == "lidar" else (1, 2)
        if channels not in allowed:
            raise ValueError(f"companion_channels is {channels}, must be one of {allowed}")

    @property
    def has_subpixel(self) -> bool:
        """Whether the companion says where in its pixel a return lies."""
        return self.companion == "lidar" and self.companion_channels == 4

    @property
    def bands(self) -> int:
        """Number of the companion's channels that are values, which are the first ones."""
        return self.companion_channels - 1 if self.companion == "raster" else 1


class Inputs(NamedTuple):
    """Inputs of the network, numpy arrays or torch tensors, in the order of its graphs.

    Attributes:
        image: uint8 (B, H, W, 3) RGB.
        companion: float32 (B, H, W, C): values in [0, 1], then their validity and what else
            ``InputSpec.companion_channels`` names.
        intrinsics: float32 (B, 3, 3) of the (H, W) view, pixels.
        present: float32 (B, 2), 1 where image, companion exist.
    """

    image: Any
    companion: Any
    intrinsics: Any
    present: Any


def preprocess(frame: Frame, spec: InputSpec) -> Inputs:
    """Bring a frame to the network's resolution, as a batch of one numpy sample.

    The image is scaled, its aspect kept, and lies in the middle at the bottom of the view, which is
    padded with zeros. By ``InputSpec.whole_image`` all of it is there; without, it is as wide as
    the view, which may cut off its top rows (a driving camera's are sky): ``network_view``. The
    companion is rendered into that view, so nothing ever resamples a sparse map.

    Raises:
        Fault: ``no_input`` if the frame has neither image nor companion, ``bad_image`` if the
            image is not the size of its camera (or of its ``reduction``) or not uint8 RGB,
            ``bad_camera`` if it is more than ``MAX_ASPECT`` times as high as wide,
            ``wrong_companion`` if the companion is not of the model's kind.
    """
    check_input(frame, spec)
    view = network_view(frame.camera, spec)
    returns_in_view = False
    if isinstance(frame.companion, LidarScan):
        companion, returns_in_view = _lidar_in_view(frame.companion, view, spec)
    elif isinstance(frame.companion, ThermalImage):
        companion = thermal_in_view(frame.companion, view)
    elif isinstance(frame.companion, RasterImage):
        companion = raster_in_view(frame.companion, view)
    else:
        companion = np.zeros((spec.height, spec.width, spec.companion_channels), np.float32)
    return Inputs(
        image_in_view(frame, spec)[None],
        np.ascontiguousarray(companion[None, ..., : spec.companion_channels]),
        view.K.astype(np.float32)[None],
        modalities_present(frame, returns_in_view)[None],
    )


def check_input(frame: Frame, spec: InputSpec) -> None:
    """Raise the Faults ``no_input`` and ``wrong_companion`` of ``preprocess``."""
    if frame.image is None and frame.companion is None:
        raise Fault("no_input", f"frame of {frame.camera_name} has neither image nor companion")
    if frame.companion is not None:
        kind = companion_kind(frame.companion)
        if kind != spec.companion:
            raise Fault("wrong_companion", f"the model takes {spec.companion}, not {kind}")
    if isinstance(frame.companion, RasterImage):
        bands = frame.companion.bands.shape[-1]
        if bands != spec.bands:
            raise Fault(
                "wrong_companion",
                f"the model takes rasters of {spec.bands} bands, not {bands}: a model is trained "
                f"for so many by --model.companion_bands {bands}",
            )


def modalities_present(frame: Frame, returns_in_view: bool) -> np.ndarray:
    """Return which of image and companion the network is given of a frame, float32 (2,).

    A LiDAR without any return in view is none, unless there is no image either.
    """
    image, companion = frame.image is not None, frame.companion is not None
    if image and isinstance(frame.companion, LidarScan):
        companion = returns_in_view
    return np.array([image, companion], np.float32)


@functools.lru_cache(maxsize=64)
def network_view(camera: Camera, spec: InputSpec) -> Camera:
    """The camera model of the network's (H, W) view of a camera's full image."""
    width, height = _scaled_size(camera, spec)
    lost = max(0, height - spec.height) / height
    if lost > 0.4:
        log.warning(
            "the network's %dx%d view leaves out the top %.0f %% of the %dx%d image; export the "
            "model with --height %d to keep it",
            *(spec.width, spec.height, 100 * lost, camera.width, camera.height),
            -(-height // 16) * 16,
        )
    left, top = _corner(width, height, spec)
    return camera.scaled(width, height).cropped(left, top, spec.width, spec.height)


def _scaled_size(camera: Camera, spec: InputSpec) -> tuple[int, int]:
    if camera.height > MAX_ASPECT * camera.width:
        raise Fault(
            "bad_camera",
            f"a {camera.width}x{camera.height} image is more than {MAX_ASPECT} times as high as "
            "wide: this is no camera's",
        )
    height = camera.height * spec.width / camera.width
    if spec.whole_image and height > spec.height:
        return max(1, round(camera.width * spec.height / camera.height)), spec.height
    return spec.width, max(1, round(height))


def _corner(width: int, height: int, spec: InputSpec) -> tuple[int, int]:
    """The view's left and top edge in the scaled image; negative where the view is padded."""
    return (width - spec.width) // 2, height - spec.height


def reduction(camera: Camera, spec: InputSpec) -> int:
    """Return by which factor, 1, 2, 4 or 8, an image may be smaller than its camera.

    A JPEG decodes sooner to a smaller size, and ``image_in_view`` halves the image by this factor
    anyway.
    """
    width, height = _scaled_size(camera, spec)
    factor, size = 1, (camera.height, camera.width)
    while factor < MAX_REDUCTION and size[0] >= 2 * height and size[1] >= 2 * width:
        factor *= 2
        size = reduced((camera.height, camera.width), factor)
    return factor


def image_in_view(frame: Frame, spec: InputSpec) -> np.ndarray:
    """The frame's image in its ``network_view``: uint8 (H, W, 3), zeros where there is none.

    Raises:
        Fault: ``bad_image``.
    """
    if frame.image is None:
        return np.zeros((spec.height, spec.width, 3), np.uint8)
    whole = frame.camera.height, frame.camera.width
    sizes = [whole, reduced(whole, reduction(frame.camera, spec))]
    shape = frame.image.shape
    if shape not in [(*size, 3) for size in sizes] or frame.image.dtype != np.uint8:
        is_size = shape in [(*size, 3) for size in sizes]
        why = "give bytes" if is_size else "the camera_info belongs to another resolution"
        raise Fault(
            "bad_image",
            f"the image is {frame.image.dtype} {shape}, its camera model says uint8 "
            f"{(*whole, 3)}: {why}",
        )
    width, height = _scaled_size(frame.camera, spec)
    return _in_view(shrunk(frame.image, width, height, spec.height), spec, 0)


def labels_in_view(
    label_map: np.ndarray, camera: Camera, spec: InputSpec, unknown: float
) -> np.ndarray:
    """Render a map of labels or depths in the ``network_view``; pixels take the nearest value.

    Args:
        label_map: (camera.height, camera.width), any dtype.
        camera: model of the full image.
        spec: size of the view.
        unknown: value of what lies outside the image.

    Raises:
        Fault: ``bad_labels`` if the map is not the size of the image.
    """
    if label_map.shape != (camera.height, camera.width):
        raise Fault(
            "bad_labels",
            f"the label map is {label_map.shape}, the image {(camera.height, camera.width)}",
        )
    width, height = _scaled_size(camera, spec)
    rows = (2 * np.arange(height) + 1) * camera.height // (2 * height)
    columns = (2 * np.arange(width) + 1) * camera.width // (2 * width)
    return _in_view(label_map[rows[:, None], columns], spec, unknown)


def _in_view(scaled: np.ndarray, spec: InputSpec, padding: float) -> np.ndarray:
    """The scaled image, which is at most as wide as the view, in the view."""
    height, width = scaled.shape[:2]
    left, top = _corner(width, height, spec)
    if not left and top >= 0:
        return scaled[top:]
    view = np.full((spec.height, spec.width, *scaled.shape[2:]), padding, scaled.dtype)
    view[max(0, -top) :, -left : width - left] = scaled[max(0, top) :]
    return view


def _lidar_in_view(scan: LidarScan, view: Camera, spec: InputSpec) -> tuple[np.ndarray, bool]:
    """Render the LiDAR companion, and say whether any return is in view.

    It is float32 (H, W, C): depth in [0, 1], validity, and place in the pixel. With places, only
    returns that the camera sees too are there.
    """
    companion = np.zeros((view.height, view.width, spec.companion_channels), np.float32)
    nearest = nearest_returns(
        scan.points, scan.T_camera_lidar, view, spec.depth_min_m, spec.has_subpixel
    )
    pixels = companion.reshape(-1, spec.companion_channels)
    pixels[nearest.pixel, 0] = np.minimum(nearest.depth_m / spec.depth_max_m, 1.0)
    if spec.companion_channels > 1:
        pixels[nearest.pixel, 1] = 1.0
    if nearest.places is not None:
        pixels[nearest.pixel, 2:] = nearest.places
    return companion, len(nearest.pixel) > 0
