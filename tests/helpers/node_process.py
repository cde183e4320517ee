"""Runs the real node and the real player in processes of their own, for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile

from lemumo_core.streaming.outputs import OVERLAYS
from lemumo_ros.publish.publisher import TOPICS
from tests.helpers.waiting import LIMIT_S, wait_until

NODE = ("-m", "lemumo_ros.node")
INPUTS = {"image": "/camera/image_raw", "camera_info": "/camera/camera_info"}
INPUTS |= {"image/compressed": "/camera/image_raw/compressed", "points": "/lidar/points"}
INPUTS |= {"image/foxglove": "/camera/image_raw/foxglove"}
INPUTS |= {"top/points": "/lidar/points", "rear/points": "/rear/points"}


class NodeUnderTest:
    """A node process, and an rclpy node here that collects all it publishes.

    Args:
        log: file for what it prints.
        program: arguments of Python.
        environment: added to ours.
        parameters: of the node.
    """

    def __init__(
        self,
        log: Path,
        program: Sequence[str] = NODE,
        environment: dict[str, str] | None = None,
        **parameters: Any,
    ):
        self.command = [sys.executable, *program, "--ros-args", "-r", "__node:=lemumo"]
        for name, topic in INPUTS.items():
            self.command += ["-r", f"~/input/{name}:={topic}"]
        for key, value in parameters.items():
            self.command += ["-p", f"{key}:={value}"]
        self.log = log
        self.environment = {**os.environ, **(environment or {})}
        self.start()
        rclpy.init()
        self.node = rclpy.create_node("lemumo_test")
        self.messages: dict[str, list[Any]] = defaultdict(list)
        self.values: dict[str, str] = {}
        self.statuses: dict[str, tuple[int, str, dict[str, str]]] = {}
        for name in TOPICS.keys() - OVERLAYS:
            callback = self.messages[name].append
            topic = f"/lemumo/output/{name}"
            self.node.create_subscription(TOPICS[name], topic, callback, QoSProfile(depth=50))
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnose, 10)

    def start(self) -> None:
        """Start the process, again where there was one before; its log begins again."""
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                self.command, stdout=file, stderr=subprocess.STDOUT, env=self.environment
            )

    def _diagnose(self, message: DiagnosticArray) -> None:
        """Level, message and values of each status; ``values`` are those of all together."""
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            level = int.from_bytes(status.level, "little")
            self.statuses[status.name] = (level, status.message, values)
            self.values |= values

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            rclpy.spin_once(self.node, timeout_sec=left)

    def spin_until(self, condition: Any, timeout_s: float = LIMIT_S, pause_s: float = 0.05) -> None:
        """Spin until the condition holds; fail with the node's log if it never does."""

        def step() -> None:
            assert self.process.poll() is None, f"the node died:\n{self.log.read_text()}"
            self.spin(pause_s)

        try:
            wait_until(condition, step=step, limit_s=timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.values}\n{self.log.read_text()}") from None

    def play(self, bag: Path, rate: float) -> None:
        """Play a bag to its end from another process."""
        command = [sys.executable, "-m", "lemumo_core.cli.main", "replay", str(bag), "--live"]
        with subprocess.Popen([*command, "--rate", str(rate)]) as player:
            while player.poll() is None:
                self.spin(0.1)
        assert player.returncode == 0

    def close(self) -> int:
        """SIGINT the node, if it runs; returns its exit code."""
        self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(LIMIT_S)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self.node.destroy_node()
            rclpy.try_shutdown()
        return code
