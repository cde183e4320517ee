"""Runs the real node and the real player in processes of their own, for tests."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile

from lemumo_ros.publish.publisher import TOPICS
from tests.helpers.paths import ROOT

NODE = ("-m", "lemumo_ros.node")
INPUTS = {"image": "/camera/image_raw", "camera_info": "/camera/camera_info"}
INPUTS |= {"image/compressed": "/camera/image_raw/compressed", "points": "/lidar/points"}


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
        for name, kind in TOPICS.items():
            callback = self.messages[name].append
            topic = f"/lemumo/output/{name}"
            self.node.create_subscription(kind, topic, callback, QoSProfile(depth=50))
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnose, 10)

    def start(self) -> None:
        """Start the process, again where there was one before; its log begins anew."""
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

    def spin_until(self, condition: Any, timeout_s: float = 30.0, pause_s: float = 0.05) -> None:
        """Spin until the condition holds; fail with the node's log if it never does."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, f"the node died:\n{self.log.read_text()}"
            assert time.monotonic() < end, f"timed out:\n{self.values}\n{self.log.read_text()}"
            self.spin(pause_s)

    def play(self, bag: Path, rate: float) -> None:
        """Play a bag to its end from another process."""
        command = [sys.executable, "-m", "lemumo_core.cli.replay", str(bag), "--live"]
        with subprocess.Popen([*command, "--rate", str(rate)]) as player:
            while player.poll() is None:
                self.spin(0.1)
        assert player.returncode == 0

    def close(self) -> int:
        """SIGINT the node, if it runs; returns its exit code."""
        self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(10.0)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self.node.destroy_node()
            rclpy.try_shutdown()
        return code


@functools.cache
def free_domain() -> int:
    """A ROS domain that no other test process on this machine has, kept to this one's end."""
    for domain in range(1, 40):
        file = (Path(tempfile.gettempdir()) / f"lemumo_ros_domain_{domain}").open("w")
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _held.append(file)
            return domain
        file.close()
    raise RuntimeError("all ROS domains are taken by tests")


_held: list[Any] = []


def isolate_dds(monkeypatch: Any) -> None:
    """This machine only, a domain of this test process, our transports."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain()))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", str(ROOT / "config" / "fastdds.xml"))
