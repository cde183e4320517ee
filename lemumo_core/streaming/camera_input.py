"""Messages of one camera and its companion in, Frames out.

The node subscribes these callbacks; the offline replay calls the very same ones from a bag. They
only store; conversion happens in ``to_frame``, for the frames that are really used.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, LidarScan, ThermalImage
from lemumo_core.geometry.camera import Camera
from lemumo_core.messages.camera_info import camera_from_info
from lemumo_core.messages.images import image_to_rgb, thermal_to_array
from lemumo_core.messages.points import points_to_array
from lemumo_core.messages.stamps import stamp_to_ns
from lemumo_core.messages.transforms import TransformBuffer
from lemumo_core.preprocess import InputSpec, reduced, reduction
from lemumo_core.streaming.health import Health
from lemumo_core.streaming.sync import Matcher, Pair, Stamped
from lemumo_ros.cv_bridge_images import through_cv_bridge


class PointCloud(Stamped):
    """A PointCloud2; however many cameras it is for, it is converted once."""

    @functools.cached_property
    def points(self) -> np.ndarray:
        """As ``points_to_array``."""
        return points_to_array(self.message)


class CameraInput:
    """Collects the inputs of one camera.

    Args:
        camera_name: for the Frames.
        companion: ``lidar`` or ``thermal``, from the model's manifest.
        tolerance_ns, deadline_ns, offset_ns: as in ``Matcher``.
        health: drops are counted there.
        clock: now, ns, on any steady clock (the bag's own time in a replay).
        extrinsics: (4, 4) T_camera_companion, or None to take it from tf.
        transforms: where frames are, shared by the cameras of a node; None: one of its own.
        thermal_window: what of the image the thermal one covers (``Camera.of_window``), where the
            two are not calibrated; empty where they are.
    """

    def __init__(
        self,
        camera_name: str,
        companion: str,
        tolerance_ns: int,
        deadline_ns: int,
        health: Health,
        clock: Callable[[], int],
        extrinsics: np.ndarray | None = None,
        offset_ns: int = 0,
        transforms: TransformBuffer | None = None,
        thermal_window: Sequence[float] = (),
    ):
        self.camera_name = camera_name
        self.companion = companion
        self.health = health
        self.clock = clock
        self.extrinsics = extrinsics
        self.thermal_window = thermal_window
        self.transforms = transforms or TransformBuffer()
        self.matcher = Matcher(tolerance_ns, deadline_ns, offset_ns)
        self._camera_info: Any = None
        self._thermal_info: Any = None
        self._cameras: dict[str, tuple[Any, Camera]] = {}
        self._lock = threading.Lock()

    def on_image(self, message: Any) -> None:
        """Image or CompressedImage of the colour camera."""
        stamped = Stamped(stamp_to_ns(message.header.stamp), self.clock(), message)
        self.health.count_in("image", stamped.stamp_ns)
        with self._lock:
            reason = self.matcher.add_image(stamped)
        if reason:
            self.health.count_drop(reason)

    def on_companion(self, message: Any) -> None:
        """PointCloud2, or thermal Image or CompressedImage."""
        kind = PointCloud if self.companion == "lidar" else Stamped
        self.add_companion(kind(stamp_to_ns(message.header.stamp), self.clock(), message))

    def add_companion(self, stamped: Stamped) -> None:
        """The same, where several cameras share one ``PointCloud``."""
        self.health.count_in(self.companion, stamped.stamp_ns)
        with self._lock:
            self.matcher.add_companion(stamped)

    def on_camera_info(self, message: Any) -> None:
        """CameraInfo of the colour camera."""
        self._camera_info = message

    def on_thermal_info(self, message: Any) -> None:
        """CameraInfo of the thermal camera."""
        self._thermal_info = message

    def on_transforms(self, message: Any, moving: bool = False) -> None:
        """TFMessage of ``/tf_static``, or of ``/tf``, whose frames move."""
        try:
            self.transforms.add(message, moving)
        except Fault as fault:
            self.health.count_drop(fault.reason, message=str(fault))

    def take(self, flush: bool = False) -> list[Pair]:
        """Pairs that are ready, oldest first."""
        with self._lock:
            return self.matcher.take(self.clock(), flush)

    def to_frame(self, pair: Pair, spec: InputSpec | None = None) -> Frame:
        """Convert a pair.

        Args:
            pair: from ``take``.
            spec: what the frame is for. A JPEG of twice its width or more is decoded at a half,
                a quarter or an eighth, and the frame's image is that small; None: at full size.

        Raises:
            Fault: naming what is wrong with the messages, or which input is still missing.
        """
        message = pair.image.message
        camera = self._camera("camera", "camera_info", self._camera_info)
        companion: LidarScan | ThermalImage | None = None
        if pair.companion is not None:
            companion = self._convert_companion(pair.image, pair.companion, camera)
        factor = reduction(camera, spec) if spec and hasattr(message, "format") else 1
        image = image_to_rgb(message, through_cv_bridge, factor)
        height, width = image.shape[:2]
        whole = camera.height, camera.width
        if (height, width) not in (whole, reduced(whole, factor)):
            raise Fault(
                "camera_info_mismatch",
                f"the image is {width}x{height}, its camera_info says {camera.width}x"
                f"{camera.height}: publish the calibration of this resolution",
            )
        return Frame(pair.image.stamp_ns, self.camera_name, camera, image, companion)

    def _convert_companion(
        self, image: Stamped, stamped: Stamped, image_camera: Camera
    ) -> LidarScan | ThermalImage:
        message = stamped.message
        if self.thermal_window and not isinstance(stamped, PointCloud):
            thermal = thermal_to_array(message)
            height, width = thermal.shape
            camera = image_camera.of_window(self.thermal_window, width, height)
            return ThermalImage(thermal, camera, np.eye(4), stamped.stamp_ns)
        T_camera_companion = self.extrinsics
        if T_camera_companion is None:
            frames = image.message.header.frame_id, message.header.frame_id
            T_camera_companion = self.transforms.lookup(*frames, image.stamp_ns)
        if isinstance(stamped, PointCloud):
            return LidarScan(stamped.points, T_camera_companion, stamped.stamp_ns)
        camera = self._camera("thermal", "thermal_info", self._thermal_info)
        thermal = thermal_to_array(message)
        return ThermalImage(thermal, camera, T_camera_companion, stamped.stamp_ns)

    def _camera(self, key: str, topic: str, info: Any) -> Camera:
        """The camera model of the newest info. All that is computed from it, the maps of
        preprocessing too, is kept by its value: it is made anew when a number changes, and only
        then."""
        if info is None:
            raise Fault(
                "no_camera_info",
                f"no message yet on ~/input/{topic}: publish the calibration or remap the topic",
            )
        cached = self._cameras.get(key)
        if cached is None or cached[0] is not info:
            cached = (info, camera_from_info(info))
            self._cameras[key] = cached
        return cached[1]
