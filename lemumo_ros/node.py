"""The perception node: a managed (lifecycle) node around the pipeline.

Callbacks only store messages. One worker thread converts, infers and publishes; it always takes
the newest frame that is ready and counts the ones it passes over as ``busy``.
"""

from __future__ import annotations

import ctypes
import logging
import signal
import sys
import threading
import time
from typing import Any

import rclpy
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, State, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from tf2_msgs.msg import TFMessage

from lemumo_core.faults import Fault
from lemumo_core.inference.package import load_package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.inference.recovery import RecoveringBackend
from lemumo_ros import parameters
from lemumo_ros.camera_input import CameraInput
from lemumo_ros.diagnostics import DebugTimes, Diagnostics
from lemumo_ros.health import Health
from lemumo_ros.outputs import Outputs
from lemumo_ros.sync import Pair
from lemumo_ros.transport import select_transport

SENSOR_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED_QOS = QoSProfile(
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
POLL_S = 0.01
SPIN_TIMEOUT_S = 0.2


class PerceptionNode(LifecycleNode):
    """One camera and its companion in; detections, depth and labels out."""

    def __init__(self, name: str = "perception") -> None:
        super().__init__(name)
        parameters.declare(self)
        self.diagnostics = Diagnostics(self)
        self._pipeline: Pipeline | None = None
        self._worker: threading.Thread | None = None
        self._stop = threading.Event()

    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Read parameters, verify and warm up the model, open the topics."""
        try:
            self.settings = parameters.read(self)
            package = load_package(self.settings.model, self.settings.public_key)
            threshold = self.settings.score_threshold
            pipeline = Pipeline(package, self.settings.backend, threshold, load=RecoveringBackend)
            pipeline.warm_up()
        except (ValueError, ImportError, OSError) as error:
            self.diagnostics.fault = f"cannot configure: {error}"
            self.get_logger().error(self.diagnostics.fault)
            return TransitionCallbackReturn.FAILURE
        self._pipeline = pipeline
        manifest = package.manifest
        self.diagnostics.fault, self.diagnostics.pipeline = "", pipeline
        self.health = Health(
            companion=manifest.input.companion,
            stamp_clock=lambda: self.get_clock().now().nanoseconds,
        )
        self.input = CameraInput(
            self.settings.camera_name,
            manifest.input.companion,
            int(self.settings.sync_tolerance_ms * 1e6),
            int(self.settings.companion_deadline_ms * 1e6),
            self.health,
            time.monotonic_ns,
            self.settings.T_camera_companion,
        )
        self._subscribe(manifest.input.companion)
        self.diagnostics.watch(
            {self.settings.camera_name: (self.health, self._subscriptions_made[0])}
        )
        self.outputs = Outputs(self, manifest, self.settings)
        self.debug_times = DebugTimes(self)
        self.diagnostics.state = "inactive"
        trained = "" if manifest.trained else "; its weights are UNTRAINED"
        self.get_logger().info(
            f"configured: model {manifest.name} {manifest.version} on {pipeline.backend.name}"
            f"{trained}"
        )
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Start the worker."""
        result = super().on_activate(state)
        self.input.take(flush=True)  # what came while inactive is old
        self.outputs.publish_label_info()
        self._stop.clear()
        self._last_result_ns = time.monotonic_ns()
        self._worker = threading.Thread(target=self._work, name="perception")
        self._worker.start()
        self.diagnostics.state = "active"
        return result

    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Stop the worker after the frame it has in hand."""
        self._join_worker()
        self.diagnostics.publish()
        self.diagnostics.state = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Close the topics and free the model."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: State) -> TransitionCallbackReturn:
        """As deactivate and cleanup, from any state."""
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """Stop the worker, tell the last counts, free everything. Safe in any state."""
        self._join_worker()
        self.diagnostics.publish()
        self._release()

    def _subscribe(self, companion: str) -> None:
        compressed = self.settings.image_transport == "compressed"
        image = (
            (CompressedImage, "~/input/image/compressed")
            if compressed
            else (Image, "~/input/image")
        )
        topics: list[tuple[Any, str, Any, QoSProfile]] = [
            (*image, self.input.on_image, SENSOR_QOS),
            (CameraInfo, "~/input/camera_info", self.input.on_camera_info, SENSOR_QOS),
            (TFMessage, "/tf_static", self.input.on_transforms, LATCHED_QOS),
        ]
        if companion == "lidar":
            topics += [(PointCloud2, "~/input/points", self.input.on_companion, SENSOR_QOS)]
        else:
            info = self.input.on_thermal_info
            topics += [
                (Image, "~/input/thermal", self.input.on_companion, SENSOR_QOS),
                (CameraInfo, "~/input/thermal_info", info, SENSOR_QOS),
            ]
        self._subscriptions_made = [
            self.create_subscription(
                kind, topic, callback, qos, qos_overriding_options=self._overridable(topic)
            )
            for kind, topic, callback, qos in topics
        ]

    @staticmethod
    def _overridable(topic: str) -> QoSOverridingOptions | None:
        """QoS of the sensor inputs may be overridden by ``qos_overrides`` parameters."""
        return QoSOverridingOptions.with_default_policies() if topic.startswith("~") else None

    def _work(self) -> None:
        """The worker: newest ready frame, again and again."""
        while not self._stop.is_set():
            pairs = self.input.take()
            if not pairs:
                self._stop.wait(POLL_S)
                continue
            self.health.count_drop("busy", len(pairs) - 1)
            try:
                self._process(pairs[-1])
            except Fault as fault:
                self.health.count_drop(fault.reason, message=str(fault))
                self.get_logger().warning(
                    f"dropped a frame ({fault.reason}): {fault}", throttle_duration_sec=5.0
                )
            except Exception as error:  # the node must outlive a bug; it is named and counted
                self.health.count_drop("internal_error", message=repr(error))
                self.get_logger().error(f"internal error, please report it: {error!r}")

    def _process(self, pair: Pair) -> None:
        assert self._pipeline is not None
        self._check_age(pair.image.stamp_ns)
        started = time.perf_counter()
        frame = self.input.to_frame(pair)
        converted = time.perf_counter()
        perception = self._pipeline(frame)
        inferred = time.perf_counter()
        frame_id = pair.image.message.header.frame_id
        self.outputs.publish(frame, perception, frame_id, self.input.transforms)
        done = time.perf_counter()
        now_ns = time.monotonic_ns()
        timings_ms = {
            "wait": (now_ns - pair.image.arrival_ns) / 1e6 - 1e3 * (done - started),
            "convert": 1e3 * (converted - started),
            **perception.timings_ms,
            "publish": 1e3 * (done - inferred),
            "processing": 1e3 * (done - started),
            "total": (now_ns - pair.image.arrival_ns) / 1e6,
            "cyclic": (now_ns - self._last_result_ns) / 1e6,
        }
        self._last_result_ns = now_ns
        self.health.count_out(perception, timings_ms)
        self.debug_times.publish(timings_ms)

    def _check_age(self, stamp_ns: int) -> None:
        age_ms = (self.get_clock().now().nanoseconds - stamp_ns) / 1e6
        if abs(age_ms) > self.settings.max_age_ms:
            reason, word = ("too_old", "old") if age_ms > 0 else ("future_stamp", "in the future")
            raise Fault(
                reason,
                f"the image's stamp is {abs(age_ms) / 1e3:.1f} s {word}: synchronise the clocks, "
                "or set use_sim_time when a bag is played",
            )

    def _join_worker(self) -> None:
        self._stop.set()
        if self._worker is not None:
            self._worker.join()
            self._worker = None

    def _release(self) -> None:
        if self._pipeline is None:
            return
        for subscription in self._subscriptions_made:
            self.destroy_subscription(subscription)
        self.outputs.close()
        self.debug_times.close()
        self.diagnostics.watch({})
        self.diagnostics.pipeline, self.diagnostics.state = None, "unconfigured"
        self._pipeline.close()
        self._pipeline = None


def keep_large_blocks() -> None:
    """Let malloc keep megabyte buffers instead of mapping each message anew (glibc only).

    Cuts the cost of receiving a 7 MB image to a quarter; see mallopt(3) for the three options.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            for option, value in ((-3, 32 << 20), (-1, 512 << 20), (-2, 64 << 20)):
                libc.mallopt(option, value)


def make_executor() -> Executor:
    """The events executor where rclpy has it (Jazzy and later): half the CPU per message."""
    try:
        from rclpy.experimental.events_executor import EventsExecutor
    except ImportError:
        return SingleThreadedExecutor()
    return EventsExecutor()


def main() -> None:
    """Entry point of the ``perception`` executable."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    keep_large_blocks()
    select_transport()
    # Our own handlers: a KeyboardInterrupt inside the events executor's C++ aborts the process.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    node = PerceptionNode()
    executor = make_executor()
    executor.add_node(node)
    if (
        node.get_parameter("autostart").value
        and node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    ):
        node.trigger_activate()
    # Not spin(): the events executor's burns a whole core without a timeout.
    while not stop.is_set():
        executor.spin_once(timeout_sec=SPIN_TIMEOUT_S)
    node.close()
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
