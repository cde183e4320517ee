"""The perception node: a managed (lifecycle) node that runs the pipeline.

Callbacks only store messages; the worker's thread processes them.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from typing import Any

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, State, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from std_srvs.srv import Trigger

from lemumo_core.extras import missing_package
from lemumo_core.faults import Fault
from lemumo_core.inference.package import load_package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.inference.provenance import rendered_note
from lemumo_core.inference.recovery import RecoveringBackend
from lemumo_core.streaming.cameras import Cameras
from lemumo_core.streaming.tracks import TrackedCameras
from lemumo_core.wording import count_of
from lemumo_ros.command_line import check_words
from lemumo_ros.cv_bridge_images import through_cv_bridge
from lemumo_ros.diagnostics import Diagnostics
from lemumo_ros.model_path import model_folder, point_labeler
from lemumo_ros.parameter_server import ParameterServer
from lemumo_ros.parameters import ON_LOAD, Parameters, names
from lemumo_ros.publish.publisher import ResultPublisher
from lemumo_ros.shared_memory import clean_shared_memory
from lemumo_ros.subscriptions import image_topic, subscribe
from lemumo_ros.transport import keep_large_blocks, select_transport
from lemumo_ros.worker import Worker

SPIN_TIMEOUT_S = 0.2


class PerceptionNode(LifecycleNode):
    """Subscribes to cameras and their companions, publishes detections, depth and labels."""

    def __init__(self, name: str = "perception") -> None:
        super().__init__(name)
        self.parameters = ParameterServer(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.create_service(Trigger, "~/load_model", self._on_load_model)
        self.diagnostics = Diagnostics(self)
        self._worker: Worker | None = None  # there is one while the node is configured
        self._loading = False

    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Read parameters, verify and warm up the model, create publishers and subscriptions."""
        try:
            settings = self.parameters.read()
            self._check_unknown(settings)
            pipeline = load_model(settings)
            tracks = TrackedCameras(pipeline.package.manifest) if settings.tracking else None
            labeler = point_labeler(settings.points_model)
        except (ValueError, ImportError, OSError) as error:
            reason = missing_package(error) if isinstance(error, ImportError) else error
            self.diagnostics.fault = f"cannot configure: {reason}"
            self.get_logger().error(self.diagnostics.fault)
            return TransitionCallbackReturn.FAILURE
        companion = pipeline.package.manifest.input.companion
        cameras = Cameras(
            settings.camera_options(), companion, time.monotonic_ns, self._now_ns, through_cv_bridge
        )
        publishers = {
            name: ResultPublisher(
                self, cameras.transforms, settings.topics(name), settings.tracking, labeler
            )
            for name in cameras.inputs
        }
        self._worker = Worker(self, cameras, publishers, pipeline, settings, tracks)
        if settings.tracking_warning:
            self.get_logger().warning(settings.tracking_warning)
        self._inputs = subscribe(self, settings, cameras, companion)
        self.diagnostics.watch(
            {
                name: (camera.health, self._inputs[image_topic(settings, name)])
                for name, camera in cameras.inputs.items()
            }
        )
        self.diagnostics.state = "inactive"
        self._report_model(settings, pipeline)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Start the worker."""
        assert self._worker is not None
        result = super().on_activate(state)
        self._worker.start()
        self.diagnostics.state = "active"
        return result

    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Stop the worker after the frames in flight."""
        assert self._worker is not None
        self._worker.stop()
        self.diagnostics.publish()
        self.diagnostics.state = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Destroy publishers and subscriptions, and free the model."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: State) -> TransitionCallbackReturn:
        """Deactivate and clean up, from any state."""
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """Stop the worker, publish the last diagnostics, free everything. Safe in any state."""
        if self._worker is not None:
            self._worker.stop()
        self.diagnostics.publish()
        self._release()

    def _release(self) -> None:
        if self._worker is None:
            return
        for subscription in self._inputs.values():
            self.destroy_subscription(subscription)
        self._worker.close()
        self._worker = None
        self.diagnostics.watch({})
        self.diagnostics.pipeline, self.diagnostics.state = None, "unconfigured"

    def start_by_itself(self) -> bool:
        """Configure and activate; return whether both succeeded."""
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    def _check_unknown(self, settings: Parameters) -> None:
        unknown = self.parameters.unknown()
        if unknown and settings.strict_parameters:
            raise ValueError("; ".join(unknown))
        for text in unknown:
            self.get_logger().warning(text)

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        """Accept all changes or none; those that apply at once do so from the next frame on."""
        try:
            settings = self.parameters.changed(changes, configured=self._worker is not None)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if settings and self._worker:
            self._worker.settings = settings
            self._worker.cameras.set_options(settings.camera_options())
            self._worker.publish_label_info()  # it names the score threshold
        return SetParametersResult(successful=True)

    async def _on_load_model(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        """Switch to the model that the parameters name, while the one in use keeps running."""
        worker, in_use = self._worker, self._model_in_use
        if worker is None or self._loading:
            response.message = "loading already" if worker else "configure first"
            return response
        self._loading = True
        settings = self.parameters.read()
        loaded: Future[Any] = Future(executor=self.executor)
        threading.Thread(target=_load_beside, args=(settings, loaded), name="load_model").start()
        result: Any = await loaded
        self._loading = False
        try:
            self._swap(worker, result)
        except Exception as error:  # whatever is wrong with the new model, the node keeps running
            response.message = f"the model in use was kept: {error}"
            self.get_logger().error(f"load_model: {response.message}")
            self.set_parameters([Parameter(name, value=was) for name, was in in_use.items()])
            return response
        self._report_model(settings, worker.pipeline)
        response.success, response.message = True, f"runs {worker.pipeline.package.manifest.name}"
        return response

    def _swap(self, worker: Worker, loaded: Pipeline | Exception) -> None:
        if isinstance(loaded, Exception):
            raise loaded
        companion = loaded.package.manifest.input.companion
        fits = companion == worker.pipeline.package.manifest.input.companion
        if self._worker is not worker or not fits:
            loaded.close()
            raise Fault(
                "wrong_companion",
                f"the node is not configured for a model that takes {companion}: clean it up and "
                "configure it",
            )
        worker.replace(loaded)

    def _report_model(self, settings: Parameters, pipeline: Pipeline) -> None:
        manifest, backend = pipeline.package.manifest, pipeline.backend.name
        self._model_in_use = {name: getattr(settings, name) for name in names(ON_LOAD)}
        self.diagnostics.pipeline, self.diagnostics.fault = pipeline, ""
        trained = "" if manifest.trained else "; its weights are UNTRAINED"
        self.get_logger().info(
            f"model {manifest.name} {manifest.version} on {backend}, "
            f"{count_of(pipeline.batch, 'frame')} in one inference{trained}"
        )
        if note := rendered_note(manifest):
            self.get_logger().warning(note)


def load_model(settings: Parameters) -> Pipeline:
    """Load, verify and warm up the model that the parameters name.

    Raises:
        ValueError, ImportError, OSError: naming what is wrong with it or must be installed.
    """
    package = load_package(model_folder(settings.model), settings.public_key)
    batch = len(settings.by_camera)
    threshold = settings.score_threshold
    pipeline = Pipeline(package, settings.backend, threshold, batch, load=RecoveringBackend)
    pipeline.warm_up()
    return pipeline


def _load_beside(settings: Parameters, loaded: Future[Any]) -> None:
    """Run ``load_model`` in a thread; the future receives the pipeline, or the exception."""
    try:
        loaded.set_result(load_model(settings))
    except Exception as error:  # of any kind, because the caller waits for it
        loaded.set_result(error)


def make_executor() -> Executor:
    """Return the events executor where rclpy has it (from Jazzy on): half the CPU per message."""
    try:
        from rclpy.experimental.events_executor import EventsExecutor
    except ImportError:
        return SingleThreadedExecutor()
    return EventsExecutor()


def main(arguments: list[str] | None = None) -> None:
    """Run ``lemumo node``, which is the ``perception`` executable of ``ros2 run``.

    Args:
        arguments: with ``--ros-args``; by default those of this process.
    """
    check_words(sys.argv if arguments is None else arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    keep_large_blocks()
    select_transport()
    clean_shared_memory()
    # Our own handlers: a KeyboardInterrupt inside the events executor's C++ aborts the process.
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        node = PerceptionNode()
    except (ParameterException, ValueError) as error:
        sys.exit(f"perception: {error}")
    executor = make_executor()
    executor.add_node(node)
    started = not node.get_parameter("autostart").value or node.start_by_itself()
    retry_s = node.get_parameter("autostart_retry_s").value
    tried_s = time.monotonic()
    # Not spin(): the events executor's burns a whole core without a timeout.
    while not stop.is_set():
        executor.spin_once(timeout_sec=SPIN_TIMEOUT_S)
        if not started and retry_s and time.monotonic() - tried_s > retry_s:
            started, tried_s = node.start_by_itself(), time.monotonic()
    node.close()
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
