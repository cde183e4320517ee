"""Health and timings as messages: ``/diagnostics`` and ``~/debug/*``."""

from __future__ import annotations

import functools
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from std_msgs.msg import Float64

from lemumo_core.inference.backends import RUNTIMES
from lemumo_core.inference.cuda_driver import find_gpu
from lemumo_core.inference.manifest import model_file
from lemumo_core.inference.measure import processor, resident_mb
from lemumo_core.inference.package import Package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.inference.recovery import RecoveringBackend
from lemumo_core.streaming.health import Health, Level
from lemumo_ros.topic_diagnosis import diagnose_topic

PERIOD_S = 1.0
CHECK_S = 0.02
"""Periods of publishing ``/diagnostics``, and of checking whether to publish at once."""
EXPLAIN_AFTER_NS = 2_000_000_000
"""Time without an image after which its topic is diagnosed."""
LOG_AFTER_NS = 2_000_000_000
"""Time after which a diagnosis that stays the same is logged: what starts has a publisher first."""

DEBUG_TOPICS = {
    "processing": "processing_time_ms",
    "preprocess": "processing_time/preprocess_ms",
    "infer": "processing_time/inference_ms",
    "finish": "processing_time/postprocess_ms",
    "total": "pipeline_latency_ms",
    "cyclic": "cyclic_time_ms",
}
"""Stage to its topic below ``~/debug/``, named as in Autoware's nodes."""


@functools.lru_cache(maxsize=8)
def _device(runtime: str) -> str:
    return find_gpu().name if RUNTIMES[runtime].gpu else processor()


def engine_facts(package: Package, backend: str) -> dict[str, str]:
    """Return the model, backend and device in use, as diagnostic values.

    Args:
        package: model package.
        backend: ``RUNTIME:PRECISION`` of the loaded backend.
    """
    runtime, _, precision = backend.partition(":")
    manifest = package.manifest
    return {
        "model": manifest.name,
        "version": manifest.version,
        "sha256": manifest.files.get(model_file(precision), ""),
        "trained": str(manifest.trained),
        "backend": backend,
        "device": _device(runtime),
    }


class Diagnostics:
    """Publishes ``/diagnostics`` every ``PERIOD_S``, and at once when a camera's status changes.

    Timers use the steady clock, so that health is published even while a bag's /clock stands
    still. There is a status ``NODE: NAME`` for every camera (see ``Health.verdict``; OK while the
    node is not active), and ``NODE: engine`` with the model and device in use: WARN after the
    engine had to be loaded again, ERROR with the reason why none is loaded. NODE is the node's name
    with its namespace, as diagnostic_updater has it and aggregators filter by.

    Attributes:
        state: lifecycle state: unconfigured, inactive or active.
        pipeline: loaded model, None while there is none.
        fault: reason why no model is loaded, else empty.
    """

    def __init__(self, node: Any):
        self.state = "unconfigured"
        self.pipeline: Pipeline | None = None
        self.fault = ""
        self._node = node
        self._prefix = node.get_fully_qualified_name().lstrip("/")
        self._cameras: dict[str, tuple[Health, Any]] = {}
        self._levels: dict[str, Level] = {}
        self._hints: dict[str, tuple[str, int, bool]] = {}
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(PERIOD_S, self.publish, clock=steady)
        node.create_timer(CHECK_S, self._check, clock=steady)

    def watch(self, cameras: dict[str, tuple[Health, Any]]) -> None:
        """Replace the cameras to report, by name: health and subscription of the image."""
        self._cameras, self._levels, self._hints = cameras, {}, {}

    def publish(self) -> None:
        """Publish the current status of engine and cameras."""
        statuses = [self._engine_status()]
        statuses += [self._camera_status(name, *camera) for name, camera in self._cameras.items()]
        array = DiagnosticArray(status=statuses)
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)

    def _check(self) -> None:
        levels = {name: health.verdict()[0] for name, (health, _) in self._cameras.items()}
        if levels != self._levels:
            self._levels = levels
            self.publish()

    def _engine_status(self) -> DiagnosticStatus:
        level, message = Level.OK, self.state
        values = {"lifecycle": self.state, "memory_mb": f"{resident_mb():.1f}"}
        if self.pipeline is not None:
            values = engine_facts(self.pipeline.package, self.pipeline.backend.name) | values
            values["backend_reason"] = self.pipeline.backend_reason
            backend = self.pipeline.backend
            if isinstance(backend, RecoveringBackend) and backend.trouble:
                level, message = Level.WARN, backend.trouble
        if self.fault:
            level, message = Level.ERROR, self.fault
        return self._status("engine", level, message, values)

    def _camera_status(self, name: str, health: Health, subscription: Any) -> DiagnosticStatus:
        level, message = Level.OK, self.state
        if self.state == "active":
            level, message = health.verdict()
            if hint := self._explain(name, health, subscription):
                message = f"{message}: {hint}"
        return self._status(name, level, message, health.values())

    def _explain(self, name: str, health: Health, subscription: Any) -> str:
        """Return why no image arrives, and log it once it stays; empty where images arrive."""
        silent_ns = health.since_image_ns()
        if silent_ns <= EXPLAIN_AFTER_NS:
            self._hints.pop(name, None)
            return ""
        hint = diagnose_topic(self._node, subscription, bool(health.received["image"]))
        former, first_ns, is_logged = self._hints.get(name, ("", 0, False))
        if hint != former:
            first_ns, is_logged = silent_ns, False
        if not is_logged and silent_ns - first_ns >= LOG_AFTER_NS:
            self._node.get_logger().warning(f"{name}: no image arrives: {hint}")
            is_logged = True
        self._hints[name] = hint, first_ns, is_logged
        return hint

    def _status(self, name: str, level: Level, message: str, values: dict) -> DiagnosticStatus:
        hardware_id = self.pipeline.package.manifest.name if self.pipeline else ""
        status = DiagnosticStatus(name=f"{self._prefix}: {name}", message=message)
        status.hardware_id = hardware_id
        status.level = bytes([level])
        status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
        return status


class DebugTimes:
    """Publishers of the stages' times, std_msgs/Float64, ms, where there are subscribers."""

    def __init__(self, node: Any, topics: str = ""):
        """Create the publishers; ``topics`` is the prefix of their names below ``~/debug/``."""
        self._publishers = {
            stage: node.create_publisher(Float64, f"~/debug/{topics}{topic}", 1)
            for stage, topic in DEBUG_TOPICS.items()
        }
        self._node = node

    def subscribed(self) -> bool:
        """Return whether anything listens."""
        return any(publisher.get_subscription_count() for publisher in self._publishers.values())

    def publish(self, timings_ms: dict[str, float]) -> None:
        """Publish one result's times by stage; stages that ``DEBUG_TOPICS`` lacks are left out."""
        for stage, publisher in self._publishers.items():
            if stage in timings_ms and publisher.get_subscription_count():
                publisher.publish(Float64(data=timings_ms[stage]))

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
