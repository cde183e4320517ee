"""The thread that turns frames into published results."""

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
from lemumo_ros.diagnostics import DebugTimes
from lemumo_ros.parameters import Parameters
from lemumo_ros.publish.publisher import Outputs

POLL_S = 0.01
"""How often it is looked for an image that is past its companion's deadline."""


@dataclass(frozen=True)
class Taken:
    """A frame in hand.

    Attributes:
        due: where it comes from.
        wanted: outputs that someone listens to.
        frame: the converted messages.
        convert_ms: what that took.
    """

    due: ReadyPair
    wanted: set[str]
    frame: Frame
    convert_ms: float


class Worker:
    """Takes the newest frames that are ready, perceives and publishes them, again and again.

    Args:
        node: gives clock and log.
        cameras: the inputs.
        outputs: by camera.
        pipeline: the model; the worker closes it.
        settings: may be set anew at any time, and count from the next frames on.
    """

    def __init__(
        self,
        node: Any,
        cameras: Cameras,
        outputs: dict[str, Outputs],
        pipeline: Pipeline,
        settings: Parameters,
    ):
        self.cameras = cameras
        self.outputs = outputs
        self.pipeline = pipeline
        self.settings = settings
        self._node = node
        self._lock = threading.Lock()  # held while the pipeline is in use
        self._handing_over = False
        self._debug_times = {
            name: DebugTimes(node, settings.topics(name)) for name in cameras.inputs
        }
        self._last_result_ns: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin. What came before is old, and is forgotten."""
        self.cameras.clear()
        self._last_result_ns = dict.fromkeys(self.cameras.inputs, time.monotonic_ns())
        self._stop.clear()
        self.publish_label_info()
        self._thread = threading.Thread(target=self._run, name="perception")
        self._thread.start()

    def stop(self) -> None:
        """End after the frames in hand. Safe in any state."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """Stop, and free the model and the publishers."""
        self.stop()
        with self._lock:
            self.pipeline.close()
        for name, outputs in self.outputs.items():
            outputs.close()
            self._debug_times[name].close()

    def replace(self, pipeline: Pipeline) -> None:
        """Put another model in the place of the one in use, between two inferences."""
        self._handing_over = True
        with self._lock:
            old, self.pipeline = self.pipeline, pipeline
        self._handing_over = False
        old.close()
        self.publish_label_info()

    def publish_label_info(self) -> None:
        """For those who listen later too."""
        for outputs in self.outputs.values():
            outputs.publish_label_info(self.pipeline.package.manifest, self.settings)

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._handing_over:  # a lock alone would be taken again before others wake up
                time.sleep(POLL_S)
                continue
            with self._lock:
                due = self.cameras.take(self.pipeline.batch)
                if due:
                    self._process(due)
            if not due:
                self.cameras.arrived.wait(POLL_S)
                self.cameras.arrived.clear()

    def _process(self, due: list[ReadyPair]) -> None:
        started_ns = time.monotonic_ns()
        taken = []
        for camera, pair in due:
            wanted = self.outputs[camera.camera_name].wanted()
            if not wanted:
                camera.health.count_drop("unwatched")
                continue
            with self._counting(camera):
                begin = time.perf_counter()
                self._check_age(pair.image.stamp_ns)
                frame = camera.to_frame(pair, self.pipeline.package.manifest.input)
                convert_ms = 1e3 * (time.perf_counter() - begin)
                taken.append(Taken(ReadyPair(camera, pair), wanted, frame, convert_ms))
        results: list[Perception | Fault] = []
        with self._counting(*(one.due.camera for one in taken)):
            self.pipeline.score_threshold = self.settings.score_threshold
            results = self.pipeline.perceive([one.frame for one in taken])
        for one, result in zip(taken, results, strict=False):  # none, if the network failed
            with self._counting(one.due.camera):
                if isinstance(result, Fault):
                    raise result
                self._publish(one, result, started_ns)

    def _publish(self, one: Taken, perception: Perception, started_ns: int) -> None:
        camera, image = one.due.camera, one.due.pair.image
        name = camera.camera_name
        begin = time.perf_counter()
        self.outputs[name].publish(
            one.wanted,
            one.frame,
            perception,
            image.message.header,
            camera.transforms,
            self.pipeline.package.manifest,
            self.settings,
        )
        now_ns = time.monotonic_ns()
        timings_ms = {
            "wait": (started_ns - image.arrival_ns) / 1e6,
            "convert": one.convert_ms,
            **perception.timings_ms,
            "publish": 1e3 * (time.perf_counter() - begin),
            "processing": (now_ns - started_ns) / 1e6,
            "total": (now_ns - image.arrival_ns) / 1e6,
            "cyclic": (now_ns - self._last_result_ns[name]) / 1e6,
        }
        self._last_result_ns[name] = now_ns
        camera.health.count_out(perception, timings_ms)
        self._debug_times[name].publish(timings_ms)

    @contextlib.contextmanager
    def _counting(self, *cameras: CameraInput) -> Iterator[None]:
        """Count what goes wrong inside for these cameras, and go on."""
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
                "or set use_sim_time when a bag is played",
            )
