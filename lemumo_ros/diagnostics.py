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
from lemumo_ros.topic_diagnosis import why_silent

PERIOD_S = 1.0
CHECK_S = 0.02
"""How often ``/diagnostics`` is published, and how often it is looked whether to do so at once."""
EXPLAIN_AFTER_NS = 2_000_000_000
"""After so long without an image it is looked for the reason."""

DEBUG_TOPICS = {
    "processing": "processing_time_ms",
    "preprocess": "processing_time/preprocess_ms",
    "infer": "processing_time/inference_ms",
    "finish": "processing_time/postprocess_ms",
    "total": "pipeline_latency_ms",
    "cyclic": "cyclic_time_ms",
}
"""Stage to its topic below ``~/debug/``, as Autoware's nodes name them."""


@functools.lru_cache(maxsize=8)
def _device(runtime: str) -> str:
    return find_gpu().name if RUNTIMES[runtime].gpu else processor()


def engine_facts(package: Package, backend: str) -> dict[str, str]:
    """What runs, and on what.

    Args:
        package: the model.
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
    """Publishes ``/diagnostics``: every ``PERIOD_S``, and at once when the verdict on a camera
    changes. On the steady clock, for health must be told even while a bag's /clock stands still.

    A status ``lemumo: NAME`` for every camera (see ``Health.verdict``; OK while the node is not
    active), and ``lemumo: engine``: what runs where, WARN after the engine had to be loaded anew,
    or ERROR with the reason why nothing runs.

    Attributes:
        state: of the lifecycle: unconfigured, inactive or active.
        pipeline: what runs, None while nothing is loaded.
        fault: why nothing is loaded; empty where all is well.
    """

    def __init__(self, node: Any):
        self.state = "unconfigured"
        self.pipeline: Pipeline | None = None
        self.fault = ""
        self._node = node
        self._cameras: dict[str, tuple[Health, Any]] = {}
        self._levels: dict[str, Level] = {}
        self._hints: dict[str, str] = {}
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(PERIOD_S, self.publish, clock=steady)
        node.create_timer(CHECK_S, self._check, clock=steady)

    def watch(self, cameras: dict[str, tuple[Health, Any]]) -> None:
        """From now on tell of these cameras: by name, the health and the image's subscription."""
        self._cameras, self._levels, self._hints = cameras, {}, {}

    def publish(self) -> None:
        """Publish the state of things now."""
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
        """Why no image arrives, logged when it changes; empty where there are some."""
        silent = health.image_silence_ns() > EXPLAIN_AFTER_NS
        ever = bool(health.received["image"])
        hint = why_silent(self._node, subscription, ever) if silent else ""
        if hint != self._hints.get(name, ""):
            self._hints[name] = hint
            if hint:
                self._node.get_logger().warning(f"{name}: no image arrives: {hint}")
        return hint

    def _status(self, name: str, level: Level, message: str, values: dict) -> DiagnosticStatus:
        hardware_id = self.pipeline.package.manifest.name if self.pipeline else ""
        status = DiagnosticStatus(name=f"lemumo: {name}", hardware_id=hardware_id, message=message)
        status.level = bytes([level])
        status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
        return status


class DebugTimes:
    """Publishers of the stages' times, std_msgs/Float64, ms; nothing is sent to nobody."""

    def __init__(self, node: Any, topics: str = ""):
        """``topics``: what the names begin with, below ``~/debug/``."""
        self._publishers = {
            stage: node.create_publisher(Float64, f"~/debug/{topics}{topic}", 1)
            for stage, topic in DEBUG_TOPICS.items()
        }
        self._node = node

    def publish(self, timings_ms: dict[str, float]) -> None:
        """One result's times by stage; others than ``DEBUG_TOPICS`` are left out."""
        for stage, publisher in self._publishers.items():
            if stage in timings_ms and publisher.get_subscription_count():
                publisher.publish(Float64(data=timings_ms[stage]))

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
