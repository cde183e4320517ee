"""The node's parameters: names, defaults, ranges and descriptions. Knows nothing of rclpy."""

from __future__ import annotations

import functools
import re
from dataclasses import Field, dataclass, field, fields
from typing import Any

import numpy as np

from lemumo_core.frame import PUBLISHED_SCORE
from lemumo_core.geometry.se3 import check_rigid
from lemumo_core.messages.calibration_file import CalibrationInfo, read_calibration
from lemumo_core.messages.camera_info import Rectified
from lemumo_core.streaming.camera_options import CameraOptions
from lemumo_ros.share import resolve

LIVE, ON_LOAD, ON_CONFIGURE = "at once", "with ~/load_model or configure", "with configure"
"""When a new value takes effect."""
CHOICES: dict[str, tuple[Any, ...]] = {
    "image_transport": ("raw", "compressed", "ffmpeg", "foxglove"),
    "points_transport": ("raw", "draco", "zlib", "zstd", "livox"),
    "companion_source": ("points", "depth_image", "compressed_depth"),
    "publish_depth_as": ("32FC1", "16UC1"),
    "rectified": ("auto", True, False, "true", "false"),
}
MAX_CELLS = 1000
"""From the robot to the border of the occupancy grid: a grid of 4 MB."""
SENSOR_NAME = re.compile("[A-Za-z][A-Za-z0-9_]*")
"""Names that may be part of a topic's name."""


def _parameter(
    default: Any,
    text: str,
    low: float | None = None,
    high: float | None = None,
    effective: str = ON_CONFIGURE,
) -> Any:
    return field(
        default=default, metadata={"text": text, "low": low, "high": high, "effective": effective}
    )


@dataclass(frozen=True)
class CameraParameters:
    """Parameters of one camera.

    With several cameras, NAME.image_transport and so on override these for the camera NAME.

    Raises:
        ValueError: naming the parameter that is invalid.
    """

    image_transport: str = _parameter(
        "raw",
        "raw or compressed, or for H.264 and H.265 ffmpeg (FFMPEGPacket) or foxglove "
        "(CompressedVideo)",
    )
    camera_info_url: str = _parameter(
        "",
        "calibration file of camera_calibration to use instead of camera_info: a path, file:// or "
        "package://",
    )
    companion_source: str = _parameter(
        "points",
        "what a model for LiDAR takes: points, or the depth_image or compressed_depth of a camera",
    )
    rectified: bool | str = _parameter(
        "auto",
        "whether images are rectified, so that P of camera_info holds: true, false, or auto, by "
        "the topic's name",
        effective=LIVE,
    )
    extrinsics: tuple[float, ...] = _parameter(
        (), "T_camera_companion, 16 numbers by row, instead of tf"
    )
    thermal_window: tuple[float, ...] = _parameter(
        (),
        "left, top, width and height, shares of the image, that the thermal image covers, instead "
        "of its calibration and the extrinsics",
    )
    companion_offset: float = _parameter(
        0.0, "seconds by which the companion's stamps are ahead of the image's", -1e10, 1e10, LIVE
    )

    def __post_init__(self) -> None:
        for entry in parameter_fields(type(self)):
            value, low, high = getattr(self, entry.name), *range_of(entry)
            if low is not None and not low <= value <= high:  # NaN is not in any range
                raise ValueError(f"{entry.name} is {value}, must be from {low} to {high}")
            if entry.name in CHOICES and value not in CHOICES[entry.name]:
                raise ValueError(f"{entry.name} is '{value}', must be one of {CHOICES[entry.name]}")
        _ = self.T_camera_companion, self.camera_info  # checks them
        window = self.thermal_window
        if window and not (len(window) == 4 and min(window[2:]) > 0):
            raise ValueError(
                f"thermal_window is {window}, must be left, top, and a width and height above 0"
            )

    @property
    def images_rectified(self) -> Rectified:
        """``rectified`` as ``camera_of_images`` takes it."""
        return "auto" if self.rectified == "auto" else self.rectified in (True, "true")

    @functools.cached_property
    def camera_info(self) -> CalibrationInfo | None:
        """The calibration that ``camera_info_url`` names, or None."""
        if not self.camera_info_url:
            return None
        return read_calibration(resolve(self.camera_info_url))

    @property
    def T_camera_companion(self) -> np.ndarray | None:
        """The extrinsics as a (4, 4) matrix, or None."""
        if not self.extrinsics:
            return None
        return check_rigid(np.array(self.extrinsics), "extrinsics")


@dataclass(frozen=True)
class Parameters(CameraParameters):
    """Values of all parameters, checked together.

    Attributes:
        by_camera: parameters of each camera by name; a single camera has its ``camera_name``.
    """

    model: str = _parameter(
        "",
        "folder of the model package, which may begin with ~ or package://NAME, or the name of one "
        "that comes with lemumo",
        effective=ON_LOAD,
    )
    public_key: str = _parameter(
        "", "PEM file; packages it did not sign are refused", effective=ON_LOAD
    )
    backend: str = _parameter(
        "auto", "auto, or RUNTIME[:PRECISION], e.g. tensorrt:fp16", effective=ON_LOAD
    )
    points_model: str = _parameter(
        "",
        "run of lemumo finetune --task points, whose 3D network labels points_labeled; empty: the "
        "label map does. Needs PyTorch",
    )
    cameras: tuple[str, ...] = _parameter((), "names of the cameras; none: one, on plain topics")
    lidars: tuple[str, ...] = _parameter(
        (), "names of several LiDARs, whose points are merged by tf; none: one, on plain topics"
    )
    points_transport: str = _parameter(
        "raw", "raw, draco, zlib or zstd of point_cloud_transport, or livox for its CustomMsg"
    )
    camera_name: str = _parameter("camera", "name in diagnostics of the one that has plain topics")
    score_threshold: float = _parameter(
        PUBLISHED_SCORE, "least score of a published detection", 0.0, 1.0, LIVE
    )
    output_frame: str = _parameter("", "frame of the boxes; empty: the camera's", effective=LIVE)
    fixed_frame: str = _parameter(
        "", "frame such as odom, by whose /tf LiDAR points move to the image's time", effective=LIVE
    )
    tracking: bool = _parameter(
        False, "follow objects over frames, in fixed_frame or else output_frame: ids and velocities"
    )
    sync_tolerance_ms: float = _parameter(60.0, "most between a pair's stamps", 0.0, 1e4, LIVE)
    companion_deadline_ms: float = _parameter(
        100.0, "longest wait of an image for its companion", 0.0, 1e4, LIVE
    )
    max_age_ms: float = _parameter(2000.0, "images older than this are dropped", 1.0, 1e6, LIVE)
    overlay_rate_hz: float = _parameter(5.0, "overlays per second, 0: none", 0.0, 1e4, LIVE)
    occupancy_resolution_m: float = _parameter(
        0.2, "side of a cell of the occupancy grid", 0.02, 10.0, LIVE
    )
    occupancy_reach_m: float = _parameter(
        20.0, "distance from the robot to each border of the grid", 1.0, 500.0, LIVE
    )
    publish_depth_as: str = _parameter(
        "32FC1", "32FC1 (metres) or 16UC1 (millimetres)", effective=LIVE
    )
    autostart: bool = _parameter(True, "configure and activate at start")
    autostart_retry_s: float = _parameter(
        0.0, "seconds after which a start that failed is tried again, 0: never", 0.0, 1e6
    )
    strict_parameters: bool = _parameter(
        False, "refuse to configure with parameters that do not exist, instead of a warning"
    )
    by_camera: dict[str, CameraParameters] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for kind, names in (("cameras", self.cameras), ("lidars", self.lidars)):
            for name in names:
                if not SENSOR_NAME.fullmatch(name) or names.count(name) > 1:
                    raise ValueError(f"{kind}: '{name}' must be one word, and there once")
        if self.occupancy_reach_m / self.occupancy_resolution_m > MAX_CELLS:
            raise ValueError(
                f"occupancy_reach_m {self.occupancy_reach_m} is more than {MAX_CELLS} cells of "
                f"occupancy_resolution_m {self.occupancy_resolution_m}"
            )
        for name in ("extrinsics", "camera_info_url"):
            if self.cameras and getattr(self, name):
                raise ValueError(f"{name} must name its camera: set {self.cameras[0]}.{name}")
        if self.lidars and any(camera.extrinsics for camera in (self, *self.by_camera.values())):
            raise ValueError("extrinsics are of one LiDAR: publish the transforms of lidars on tf")

    def camera_options(self) -> dict[str, CameraOptions]:
        """Return the options of each camera's input, by camera name."""
        return {
            name: CameraOptions(
                sync_tolerance_ns=int(self.sync_tolerance_ms * 1e6),
                companion_deadline_ns=int(self.companion_deadline_ms * 1e6),
                companion_offset_ns=round(camera.companion_offset * 1e9),
                T_camera_companion=camera.T_camera_companion,
                thermal_window=camera.thermal_window,
                rectified=camera.images_rectified,
                fixed_frame=self.fixed_frame,
                tracking_frame=self.tracking_frame if self.tracking else None,
                camera_info=camera.camera_info,
                lidars=self.lidars if camera.companion_source == "points" else (),
            )
            for name, camera in self.by_camera.items()
        }

    @property
    def tracking_frame(self) -> str:
        """The frame in which objects are tracked; empty: that of each camera."""
        return self.fixed_frame or self.output_frame

    @property
    def tracking_warning(self) -> str:
        """What to say of tracks in a frame that may move; empty where there is nothing to say."""
        if not self.tracking or self.fixed_frame:
            return ""
        frame = self.output_frame or "the frame of the camera"
        text = f"objects are tracked in {frame}, and their velocities are relative to it"
        if len(self.cameras) > 1 and not self.output_frame:
            text += "; an object that two cameras see has two ids"
        return f"{text}: set fixed_frame to one that does not move, e.g. odom"

    def topics(self, name: str) -> str:
        """Return the prefix of a camera's topics, below ``~/input/`` and ``~/output/``."""
        return f"{name}/" if self.cameras else ""


def parameter_fields(kind: type) -> list[Field]:
    """Return the fields of a class that are parameters."""
    return [entry for entry in fields(kind) if "text" in entry.metadata]


def range_of(entry: Field) -> tuple[float | None, float | None]:
    """Return the least and the largest value of a parameter, None where there is no bound."""
    return entry.metadata["low"], entry.metadata["high"]


def names(effective: str) -> list[str]:
    """Return the names of the parameters whose new values take effect then."""
    return [e.name for e in parameter_fields(Parameters) if e.metadata["effective"] == effective]
