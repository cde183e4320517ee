"""The thread that perceives frames and publishes the results."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, Perception
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.streaming.camera_input import CameraInput
from lemumo_core.streaming.cameras import Cameras, ReadyPair
from lemumo_core.streaming.sync import Stamped
from lemumo_core.streaming.tracks import TrackedCameras
from lemumo_ros.delivery import DeliveryClock
from lemumo_ros.diagnostics import DebugTimes
from lemumo_ros.newest_jobs import NewestJobs
from lemumo_ros.parameters import Parameters
from lemumo_ros.publish.publisher import ResultPublisher

POLL_S = 0.01
"""Period of looking for images that are past their companion's deadline."""


@dataclass(frozen=True)
class InFlight:
    """A frame that is being processed.

    Attributes:
        camera: input that the frame comes from.
        image: image message, with its stamps.
        outputs: names of the outputs that have subscribers.
        frame: Frame converted from the messages.
        convert_ms: time that the conversion took.
    """

    camera: CameraInput
    image: Stamped
    outputs: set[str]
    frame: Frame
    convert_ms: float


class Worker:
    """Processes the newest frames that are ready, in a loop: convert, perceive, publish.

    What is drawn for people is built and published in a thread of its own.

    Args:
        node: rclpy node, for its clock and logger.
        cameras: inputs.
        publishers: publishers by camera name.
        pipeline: model, which the worker closes.
        settings: may be replaced at any time, and count from the next frames on.
        tracks: those of the cameras' objects, or None.
    """

    def __init__(
        self,
        node: Any,
        cameras: Cameras,
        publishers: dict[str, ResultPublisher],
        pipeline: Pipeline,
        settings: Parameters,
        tracks: TrackedCameras | None = None,
    ):
        self.cameras = cameras
        self.publishers = publishers
        self.pipeline = pipeline
        self.settings = settings
        self.tracks = tracks
        self._node = node
        self._delivered = DeliveryClock(node)
        self._lock = threading.Lock()  # held while the pipeline is in use
        self._handing_over = False
        self._debug_times = {
            name: DebugTimes(node, settings.topics(name)) for name in cameras.inputs
        }
        self._last_result_ns: dict[str, int] = {}
        self._drawing = NewestJobs("drawing", self._warn_of_drawing)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread. Frames that came before are dropped as old."""
        self.cameras.clear()
        self._last_result_ns.clear()
        self._stop.clear()
        self.publish_label_info()
        self._drawing.start()
        self._thread = threading.Thread(target=self._run, name="perception")
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread after the frames in flight. Safe in any state."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._drawing.stop()

    def close(self) -> None:
        """Stop the thread, and free the model and the publishers."""
        self.stop()
        with self._lock:
            self.pipeline.close()
        for name, publisher in self.publishers.items():
            publisher.close()
            self._debug_times[name].close()

    def replace(self, pipeline: Pipeline) -> None:
        """Replace the model in use by another one, between two inferences.

        Raises:
            Fault: ``no_boxes_3d`` where its objects cannot be tracked, as they should be; the
                model in use is kept.
        """
        self._handing_over = True
        with self._lock:
            try:
                if self.tracks is not None:
                    self.tracks.set_model(pipeline.package.manifest)
            except Fault:
                self._handing_over = False
                pipeline.close()
                raise
            old, self.pipeline = self.pipeline, pipeline
        self._handing_over = False
        old.close()
        self.publish_label_info()

    def publish_label_info(self) -> None:
        """Publish the label names of all cameras, latched for later subscribers."""
        for publisher in self.publishers.values():
            publisher.publish_label_info(self.pipeline.package.manifest, self.settings)

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._handing_over:  # a lock alone would be taken again before others wake up
                time.sleep(POLL_S)
                continue
            with self._lock:
                ready = self.cameras.take(self.pipeline.batch, self._delivered)
                if ready:
                    self._process(ready)
            if not ready:
                self.cameras.arrived.wait(POLL_S)
                self.cameras.arrived.clear()

    def _process(self, ready: list[ReadyPair]) -> None:
        started_ns = time.monotonic_ns()
        in_flight = []
        for camera, pair in ready:
            name = camera.camera_name
            subscribed = self.publishers[name].subscribed()
            if not subscribed and not self._debug_times[name].subscribed():
                camera.health.count_drop("unwatched")
                self._last_result_ns.pop(name, None)  # the pause is no time between two results
                continue
            with self._counting(camera):
                begin = time.perf_counter()
                self._check_age(pair.image.stamp_ns)
                frame = camera.to_frame(pair, self.pipeline.package.manifest.input)
                convert_ms = 1e3 * (time.perf_counter() - begin)
                in_flight.append(InFlight(camera, pair.image, subscribed, frame, convert_ms))
        results: list[Perception | Fault] = []
        with self._counting(*(item.camera for item in in_flight)):
            self.pipeline.score_threshold = self.settings.score_threshold
            results = self.pipeline.perceive([item.frame for item in in_flight])
        for item, result in zip(in_flight, results, strict=False):  # none, if the network failed
            with self._counting(item.camera):
                if isinstance(result, Fault):
                    raise result
                self._publish(item, self._tracked(item, result), started_ns)

    def _tracked(self, item: InFlight, perception: Perception) -> Perception:
        """Return a result with the tracks of its detections, where objects are tracked."""
        T_fixed_camera = item.frame.T_fixed_camera
        if self.tracks is None or T_fixed_camera is None:
            return perception
        begin = time.perf_counter()
        frame_name = self.settings.tracking_frame or f"of {item.camera.camera_name}"
        tracked = self.tracks.update(perception, T_fixed_camera, frame_name)
        tracked.timings_ms["track"] = 1e3 * (time.perf_counter() - begin)
        return tracked

    def _publish(self, item: InFlight, perception: Perception, started_ns: int) -> None:
        camera, image = item.camera, item.image
        name = camera.camera_name
        begin = time.perf_counter()
        draw = self.publishers[name].publish(
            item.outputs,
            item.frame,
            perception,
            image.message.header,
            self.pipeline.package.manifest,
            self.settings,
        )
        if draw is not None:
            self._drawing.submit(name, draw)
        now_ns = time.monotonic_ns()
        timings_ms = {
            "wait": (started_ns - image.arrival_ns) / 1e6,
            "convert": item.convert_ms,
            **perception.timings_ms,
            "publish": 1e3 * (time.perf_counter() - begin),
            "processing": (now_ns - started_ns) / 1e6,
            "total": (now_ns - image.arrival_ns) / 1e6,
        }
        if name in self._last_result_ns:
            timings_ms["cyclic"] = (now_ns - self._last_result_ns[name]) / 1e6
        self._last_result_ns[name] = now_ns
        if cause := camera.count_result(item.frame, perception, timings_ms):
            self._node.get_logger().warning(f"{name}: {cause}", throttle_duration_sec=5.0)
        self._debug_times[name].publish(timings_ms)

    def _warn_of_drawing(self, error: Exception) -> None:
        self._node.get_logger().warning(
            f"nothing was drawn of a result: {error!r}", throttle_duration_sec=5.0
        )

    @contextlib.contextmanager
    def _counting(self, *cameras: CameraInput) -> Iterator[None]:
        """Turn any exception inside into a drop that is counted for these cameras."""
        try:
            yield
        except Exception as error:  # the node must outlive a bug; it is named and counted
            fault = error if isinstance(error, Fault) else Fault("internal_error", repr(error))
            for camera in cameras:
                camera.health.count_drop(fault.reason, message=str(fault))
            self._node.get_logger().warning(
                f"dropped a frame ({fault.reason}): {fault}", throttle_duration_sec=5.0
            )

    def _check_age(self, stamp_ns: int) -> None:
        age_ms = (self._node.get_clock().now().nanoseconds - stamp_ns) / 1e6
        if abs(age_ms) > self.settings.max_age_ms:
            reason, word = ("too_old", "old") if age_ms > 0 else ("future_stamp", "in the future")
            raise Fault(
                reason,
                f"the image's stamp is {abs(age_ms) / 1e3:.1f} s {word}: synchronise the clocks, "
                "or start the node with use_sim_time:=true when a bag is played",
            )
