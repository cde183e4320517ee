"""Turn the messages of one camera and its companion into Frames.

The node subscribes these callbacks; the offline replay calls the very same ones from a bag. They
only store messages; conversion happens in ``to_frame``, for the frames that are really used.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, LidarScan, Perception, ThermalImage
from lemumo_core.geometry.se3 import inverse
from lemumo_core.messages.camera_info import ImageCamera, Rectified
from lemumo_core.messages.depth_images import depth_points, depth_to_array
from lemumo_core.messages.images import image_to_rgb, thermal_to_array
from lemumo_core.messages.motion import compensate
from lemumo_core.messages.points import points_to_array
from lemumo_core.messages.stamps import stamp_to_ns
from lemumo_core.messages.transforms import WAIT_NS, TransformBuffer
from lemumo_core.preprocess import InputSpec, reduced, reduction
from lemumo_core.streaming.calibration import Calibration
from lemumo_core.streaming.empty_view import EmptyViews
from lemumo_core.streaming.health import Health
from lemumo_core.streaming.sync import Matcher, Pair, Stamped

LONGEST_AWAITED_SWEEP_NS = 100_000_000
"""Time after its stamp for which the motion of a sweep is waited for."""
INFO_WAIT_NS = 20_000_000
"""Longest wait of an image for its own CameraInfo, where these arrive after their images."""


class PointCloud(Stamped):
    """A PointCloud2, which is converted once, however many cameras use it."""

    @functools.cached_property
    def points(self) -> np.ndarray:
        """Points as ``points_to_array`` returns them: float32 (N, >= 3), metres, LiDAR frame."""
        return points_to_array(self.message)


class DepthImage(Stamped):
    """The Image or CompressedImage of a depth camera."""

    @functools.cached_property
    def depth_m(self) -> np.ndarray:
        """Depth as ``depth_to_array`` returns it: float32 (H, W), metres, NaN unknown."""
        return depth_to_array(self.message)


@dataclass(frozen=True, eq=False)
class CameraOptions:
    """Options of one camera's input.

    Attributes:
        sync_tolerance_ns: largest difference of stamps in a pair, as in ``Matcher``.
        companion_deadline_ns: longest wait of an image for its companion, as in ``Matcher``.
        companion_offset_ns: stamp of the companion minus stamp of the image when both show the
            same moment.
        T_camera_companion: (4, 4) extrinsics; None takes them from tf.
        thermal_window: left, top, width and height of the part of the image that the thermal
            image covers, as fractions (``Camera.of_window``); empty where both are calibrated.
        rectified: whether the images are rectified ones, as for ``camera_of_images``.
        fixed_frame: frame, such as ``odom``, in which the motion of a LiDAR is known, by which its
            points are brought to the time of the image (``compensate``); empty: they are not.
        tracking_frame: frame in which objects are tracked, best one that does not move; empty: that
            of the image; None: they are not.
    """

    sync_tolerance_ns: int = 60_000_000
    companion_deadline_ns: int = 100_000_000
    companion_offset_ns: int = 0
    T_camera_companion: np.ndarray | None = None
    thermal_window: Sequence[float] = ()
    rectified: Rectified = "auto"
    fixed_frame: str = ""
    tracking_frame: str | None = None


class CameraInput:
    """Collects the inputs of one camera.

    Args:
        camera_name: name of the camera in its Frames.
        companion: ``lidar`` or ``thermal``, from the model's manifest.
        options: may be replaced at any time by ``set_options``.
        health: counts arrivals and drops.
        clock: returns the time, ns, of any steady clock (the bag's own time in a replay).
        transforms: buffer shared by the cameras of a node; None creates one.
        fallback_decoder: turns images of encodings that ``image_to_rgb`` does not know into uint8
            (H, W, 3) RGB, as cv_bridge can; None refuses them.

    Attributes:
        calibration: CameraInfos of the images.
        companion_calibration: CameraInfos of thermal or depth images.
    """

    def __init__(
        self,
        camera_name: str,
        companion: str,
        options: CameraOptions,
        health: Health,
        clock: Callable[[], int],
        transforms: TransformBuffer | None = None,
        fallback_decoder: Callable[[Any], np.ndarray] | None = None,
    ):
        self.camera_name = camera_name
        self.companion = companion
        self.health = health
        self.clock = clock
        self.transforms = transforms or TransformBuffer()
        self.matcher = Matcher(0, 0)
        self.set_options(options)
        self._fallback_decoder = fallback_decoder
        self.calibration = Calibration("camera_info")
        image_companion = "thermal" if companion == "thermal" else "depth"
        self.companion_calibration = Calibration(f"{image_companion}_info")
        self._awaiting_calibration: list[Pair] = []
        self._empty_views = EmptyViews()
        self._lock = threading.Lock()

    def set_options(self, options: CameraOptions) -> None:
        """Replace the options; they count from the next ``take`` on."""
        self.options = options
        self.matcher.tolerance_ns = options.sync_tolerance_ns
        self.matcher.deadline_ns = options.companion_deadline_ns
        self.matcher.offset_ns = options.companion_offset_ns
        self.health.companion_offset_ns = options.companion_offset_ns

    def on_image(self, message: Any) -> None:
        """Queue an Image or CompressedImage of the colour camera."""
        stamped = Stamped(stamp_to_ns(message.header.stamp), self.clock(), message)
        self.health.count_in("image", stamped.stamp_ns)
        with self._lock:
            reason = self.matcher.add_image(stamped)
            self.calibration.infos.count_image(stamped.stamp_ns)
        if reason:
            self.health.count_drop(reason)

    def on_companion(self, message: Any) -> None:
        """Queue a PointCloud2 or depth image, or a thermal image."""
        kind = Stamped
        if self.companion == "lidar":
            kind = PointCloud if hasattr(message, "fields") else DepthImage
        self.add_companion(kind(stamp_to_ns(message.header.stamp), self.clock(), message))

    def add_companion(self, stamped: Stamped) -> None:
        """Queue a companion, which may be a ``PointCloud`` that several cameras share."""
        self.health.count_in(self.companion, stamped.stamp_ns)
        with self._lock:
            self.matcher.add_companion(stamped)

    def on_camera_info(self, message: Any) -> None:
        """Add a CameraInfo of the colour camera."""
        with self._lock:
            self.calibration.infos.add(message, self.clock())

    def on_companion_info(self, message: Any) -> None:
        """Add a CameraInfo of the thermal or depth camera."""
        with self._lock:
            self.companion_calibration.infos.add(message, self.clock())

    def on_transforms(self, message: Any, moving: bool = False) -> None:
        """Add a TFMessage of ``/tf_static``, or of ``/tf``, whose frames move."""
        try:
            self.transforms.add(message, moving)
        except Fault as fault:
            self.health.count_drop(fault.reason, message=str(fault))

    def take(self, flush: bool = False) -> list[Pair]:
        """Remove and return the pairs that are ready, oldest first; ``flush`` releases all."""
        now_ns = self.clock()
        with self._lock:
            pairs = self._awaiting_calibration + self.matcher.take(now_ns, flush)
            ready = 0
            while ready < len(pairs) and (flush or self._is_calibrated(pairs[ready], now_ns)):
                ready += 1
            self._awaiting_calibration = pairs[ready:]
        return pairs[:ready]

    def _is_calibrated(self, pair: Pair, now_ns: int) -> bool:
        is_new = 0 <= now_ns - pair.image.arrival_ns < INFO_WAIT_NS
        awaits_info = is_new and self.calibration.infos.is_awaited(pair.image.stamp_ns)
        return not awaits_info and self._has_transforms(pair, now_ns)

    def _has_transforms(self, pair: Pair, now_ns: int) -> bool:
        image, companion, options = pair.image, pair.companion, self.options
        frame, awaited = image.message.header.frame_id, []  # those of is_ahead, and how long
        if options.tracking_frame:
            awaited.append((options.tracking_frame, frame, image.stamp_ns, WAIT_NS))
        if companion is not None:
            other = companion.message.header.frame_id
            if options.fixed_frame and self.companion == "lidar":
                sweep_ns = LONGEST_AWAITED_SWEEP_NS
                end_ns = max(image.stamp_ns, companion.stamp_ns + sweep_ns)
                awaited.append((options.fixed_frame, other, end_ns, WAIT_NS + sweep_ns))
            if options.T_camera_companion is None:
                awaited.append((frame, other, image.stamp_ns, WAIT_NS))
        waited_ns = now_ns - image.arrival_ns
        return not any(
            0 <= waited_ns < longest_ns and self.transforms.is_ahead(*lookup)
            for *lookup, longest_ns in awaited
        )

    def to_frame(self, pair: Pair, spec: InputSpec | None = None) -> Frame:
        """Convert a pair.

        Args:
            pair: from ``take``.
            spec: input of the network. A JPEG of twice its width or more is decoded at a half, a
                quarter or an eighth of its size, and so is the Frame's image; None decodes at full
                size.

        Raises:
            Fault: naming what is wrong with the messages, or which input is still missing.
        """
        message = pair.image.message
        with self._lock:
            image_camera = self.calibration.model(pair.image, self.options.rectified)
        camera = image_camera.camera
        companion: LidarScan | ThermalImage | None = None
        if pair.companion is not None:
            companion = self._convert_companion(pair.image, pair.companion, image_camera)
        factor = reduction(camera, spec) if spec and hasattr(message, "format") else 1
        image = image_to_rgb(message, self._fallback_decoder, factor)
        height, width = image.shape[:2]
        whole = camera.height, camera.width
        if (height, width) not in (whole, reduced(whole, factor)):
            raise Fault(
                "camera_info_mismatch",
                f"the image is {width}x{height}, its camera_info says {camera.width}x"
                f"{camera.height}: publish the calibration of this resolution",
            )
        return Frame(
            pair.image.stamp_ns,
            self.camera_name,
            camera,
            image,
            companion,
            T_camera_header=image_camera.T_image_header,
            T_fixed_camera=self._pose(pair.image, image_camera),
        )

    def count_result(
        self, frame: Frame, perception: Perception, timings_ms: dict[str, float]
    ) -> str:
        """Count a published result of a frame.

        Returns:
            Why no LiDAR return has been in view for some frames; empty where there were some.
        """
        cause = self._empty_views.update(frame, perception)
        self.health.count_out(perception, timings_ms, cause)
        return cause

    def _pose(self, image: Stamped, image_camera: ImageCamera) -> np.ndarray | None:
        """Return the pose of the camera in the frame in which objects are tracked."""
        frame, own = self.options.tracking_frame, image.message.header.frame_id
        if frame is None:
            return None
        T_frame_header = self.transforms.lookup(frame or own, own, image.stamp_ns)
        return T_frame_header @ inverse(image_camera.T_image_header)

    def _convert_companion(
        self, image: Stamped, stamped: Stamped, image_camera: ImageCamera
    ) -> LidarScan | ThermalImage:
        message = stamped.message
        stamp_ns = stamped.stamp_ns - self.options.companion_offset_ns
        window = self.options.thermal_window
        if window and self.companion == "thermal":
            thermal = thermal_to_array(message)
            height, width = thermal.shape
            camera = image_camera.camera.of_window(window, width, height)
            return ThermalImage(thermal, camera, np.eye(4), stamp_ns)
        T_camera_companion = self.options.T_camera_companion
        if T_camera_companion is None:
            frames = image.message.header.frame_id, message.header.frame_id
            T_camera_companion = self.transforms.lookup(*frames, image.stamp_ns)
        T_camera_companion = image_camera.T_image_header @ T_camera_companion
        if isinstance(stamped, PointCloud):
            points = stamped.points
            if fixed := self.options.fixed_frame:
                moment_ns = image.stamp_ns
                points = compensate(points, message, stamp_ns, self.transforms, fixed, moment_ns)
            return LidarScan(points, T_camera_companion, stamp_ns)
        with self._lock:
            own = self.companion_calibration.model(stamped)
        T_camera_companion = T_camera_companion @ inverse(own.T_image_header)
        if isinstance(stamped, DepthImage):
            points = depth_points(stamped.depth_m, own.camera)
            return LidarScan(points, T_camera_companion, stamp_ns)
        return ThermalImage(thermal_to_array(message), own.camera, T_camera_companion, stamp_ns)
