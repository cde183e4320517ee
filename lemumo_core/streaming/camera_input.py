"""Turn the messages of one camera and its companion into Frames.

The node subscribes these callbacks; the offline replay calls the very same ones from a bag. They
only store messages; conversion happens in ``to_frame``, for the frames that are really used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, LidarScan, Perception, ThermalImage
from lemumo_core.geometry.se3 import inverse
from lemumo_core.image_scaling import reduced
from lemumo_core.messages.camera_info import ImageCamera
from lemumo_core.messages.depth_images import depth_points
from lemumo_core.messages.images import image_to_rgb, thermal_to_array
from lemumo_core.messages.motion import compensate
from lemumo_core.messages.scans import merge_scans
from lemumo_core.messages.stamps import header_of, stamp_to_ns
from lemumo_core.messages.transforms import WAIT_NS, TransformBuffer
from lemumo_core.messages.video import VideoDecoder, VideoImage, is_video
from lemumo_core.preprocess import InputSpec, reduction
from lemumo_core.streaming.calibration import Calibration
from lemumo_core.streaming.camera_options import CameraOptions
from lemumo_core.streaming.companions import DepthImage, PointCloud, stamped_companion
from lemumo_core.streaming.empty_view import BlankImages, EmptyViews
from lemumo_core.streaming.health import Health
from lemumo_core.streaming.sync import Matcher, Pair, Stamped, has_waited

LONGEST_AWAITED_SWEEP_NS = 100_000_000
"""Time after its stamp for which the motion of a sweep is waited for."""
INFO_WAIT_NS = 20_000_000
"""Longest wait of an image for its own CameraInfo, where these arrive after their images."""


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
        self.calibration = Calibration("camera_info")
        self.matcher = Matcher(0, 0, sensors=max(1, len(options.lidars)))
        self.set_options(options)
        self._fallback_decoder = fallback_decoder
        self._video: VideoDecoder | None = None
        image_companion = "thermal" if companion == "thermal" else "depth"
        self.companion_calibration = Calibration(f"{image_companion}_info")
        self._awaiting_calibration: list[Pair] = []
        self._empty_views, self._blank_images = EmptyViews(), BlankImages()
        self._lock = threading.Lock()

    def set_options(self, options: CameraOptions) -> None:
        """Replace the options; they count from the next ``take`` on."""
        self.options = options
        self.matcher.tolerance_ns = options.sync_tolerance_ns
        self.matcher.deadline_ns = options.companion_deadline_ns
        self.matcher.offset_ns = options.companion_offset_ns
        self.health.companion_offset_ns = options.companion_offset_ns
        self.health.lidars = options.lidars
        self.calibration.given = options.camera_info

    def on_image(self, message: Any) -> None:
        """Queue an image of the colour camera; count a packet of a video that gives none."""
        try:
            for image in self.decoded(message):
                self.add_image(image)
        except Fault as fault:
            self.health.count_in("image", stamp_to_ns(header_of(message).stamp))
            self.health.count_drop(fault.reason, message=str(fault))

    def decoded(self, message: Any) -> list[Any]:
        """Return the images that a message brings: itself, but for a packet of a video.

        Raises:
            Fault: as ``VideoDecoder.decode``.
            ImportError: PyAV is not installed.
        """
        if not is_video(message):
            return [message]
        self._video = self._video or VideoDecoder()
        return list(self._video.decode(message))

    def rest_of_video(self) -> list[VideoImage]:
        """Return the images that the decoder of a video still holds, at its end."""
        return self._video.flush() if self._video else []

    def add_image(self, message: Any) -> None:
        """Queue an Image, a CompressedImage or a ``VideoImage``."""
        arrival_ns, clock_ns = self.clock(), self.health.stamp_clock_ns()
        stamped = Stamped(stamp_to_ns(message.header.stamp), arrival_ns, message, clock_ns)
        self.health.count_in("image", stamped.stamp_ns)
        with self._lock:
            reason = self.matcher.add_image(stamped)
            self.calibration.infos.count_image(stamped.stamp_ns)
        if reason:
            self.health.count_drop(reason)

    def on_companion(self, message: Any, sensor: int = 0) -> None:
        """Queue a point cloud or depth image, or a thermal image."""
        times_ns = self.clock(), self.health.stamp_clock_ns()
        self.add_companion(stamped_companion(self.companion, message, *times_ns), sensor)

    def add_companion(self, stamped: Stamped, sensor: int = 0) -> None:
        """Queue a companion, which may be a ``PointCloud`` that several cameras share.

        Args:
            stamped: the companion.
            sensor: which of ``CameraOptions.lidars`` it is of.
        """
        self.health.count_in(self.companion, stamped.stamp_ns)
        if self.options.lidars:
            self.health.count_in(self.options.lidars[sensor], stamped.stamp_ns)
        with self._lock:
            self.matcher.add_companion(stamped, sensor)

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

    def take(self, flush: bool = False, delivered: Callable[[], int] | None = None) -> list[Pair]:
        """Remove and return the pairs that are ready, oldest first.

        Args:
            flush: whether to release all.
            delivered: as for ``has_waited``, which decides how long an image waits for its
                companion, CameraInfo and transforms.
        """
        now_ns = self.clock()
        is_over = partial(has_waited, now_ns=now_ns, delivered=delivered)
        with self._lock:
            pairs = self._awaiting_calibration + self.matcher.take(now_ns, flush, delivered)
            ready = 0
            while ready < len(pairs) and (flush or self._is_calibrated(pairs[ready], is_over)):
                ready += 1
            self._awaiting_calibration = pairs[ready:]
        return pairs[:ready]

    def _is_calibrated(self, pair: Pair, is_over: Callable[[Stamped, int], bool]) -> bool:
        awaits_info = self.calibration.infos.is_awaited(pair.image.stamp_ns)
        if awaits_info and not is_over(pair.image, INFO_WAIT_NS):
            return False
        return self._has_transforms(pair, is_over)

    def _has_transforms(self, pair: Pair, is_over: Callable[[Stamped, int], bool]) -> bool:
        image, options = pair.image, self.options
        frame, awaited = image.message.header.frame_id, []  # those of is_ahead, and how long
        if options.tracking_frame:
            awaited.append((options.tracking_frame, frame, image.stamp_ns, WAIT_NS))
        for companion in pair.companions:
            other = companion.message.header.frame_id
            if options.fixed_frame and self.companion == "lidar":
                sweep_ns = LONGEST_AWAITED_SWEEP_NS
                end_ns = max(image.stamp_ns, companion.stamp_ns + sweep_ns)
                awaited.append((options.fixed_frame, other, end_ns, WAIT_NS + sweep_ns))
            if options.T_camera_companion is None:
                awaited.append((frame, other, image.stamp_ns, WAIT_NS))
        return all(
            not self.transforms.is_ahead(*lookup) or is_over(image, longest_ns)
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
        converted = [self._convert(pair.image, one, image_camera) for one in pair.companions]
        if converted:
            scans = [one for one in converted if isinstance(one, LidarScan)]
            companion = merge_scans(scans) if scans else converted[0]
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
        blank = self._blank_images.update(frame.image)
        self.health.count_out(perception, timings_ms, cause, blank)
        return cause

    def _pose(self, image: Stamped, image_camera: ImageCamera) -> np.ndarray | None:
        """Return the pose of the camera in the frame in which objects are tracked."""
        frame, own = self.options.tracking_frame, image.message.header.frame_id
        if frame is None:
            return None
        T_frame_header = self.transforms.lookup(frame or own, own, image.stamp_ns)
        return T_frame_header @ inverse(image_camera.T_image_header)

    def _convert(
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
                cloud = stamped.cloud
                points = compensate(points, cloud, stamp_ns, self.transforms, fixed, moment_ns)
            return LidarScan(points, T_camera_companion, stamp_ns)
        with self._lock:
            own = self.companion_calibration.model(stamped)
        T_camera_companion = T_camera_companion @ inverse(own.T_image_header)
        if isinstance(stamped, DepthImage):
            points = depth_points(stamped.depth_m, own.camera)
            return LidarScan(points, T_camera_companion, stamp_ns)
        return ThermalImage(thermal_to_array(message), own.camera, T_camera_companion, stamp_ns)
