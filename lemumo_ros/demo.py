"""The demo: a player and the node in separate processes, connected over real DDS.

Writes ``summary.json``, overlay pictures and an ``index.html`` that shows them.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import find_topics
from lemumo_core.command_line import run_function
from lemumo_core.faults import Fault
from lemumo_core.inference.measure import processor
from lemumo_core.inference.package import Package, load_package
from lemumo_core.progress import Progress
from lemumo_ros.demo_bag import MODEL, NODE_NAME, default_bag, node_command
from lemumo_ros.demo_report import Summary, write_report
from lemumo_ros.model_path import model_folder
from lemumo_ros.transport import select_transport

OVERLAY = "overlay/compressed"
DRAIN_S = 3.0
STOP_S = 10.0
LOADING_S = 600.0
"""A node that measures backends on a busy machine, or builds an engine, takes minutes."""


def isolate_dds() -> None:
    """Restrict DDS to this machine, a domain of its own and our transports, also for children."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(40 + os.getpid() % 50))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    select_transport()


class Watcher:
    """Subscribes to all outputs of the node, and collects counts, pictures and diagnostics."""

    def __init__(self, overlays: Path):
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import QoSProfile
        from vision_msgs.msg import LabelInfo

        from lemumo_ros.publish.publisher import LATCHED_QOS, TOPICS

        self.counts: Counter[str] = Counter()
        self.values: dict[str, str] = {}
        self.overlays = overlays
        self.last_output_s = time.monotonic()
        rclpy.init()
        self.node = rclpy.create_node("lemumo_demo")
        for name in TOPICS.keys() - {"overlay"}:  # the same picture as overlay/compressed
            topic = f"/{NODE_NAME}/output/{name}"
            self.node.create_subscription(
                TOPICS[name], topic, self._counter(name), QoSProfile(depth=50)
            )
        topic = f"/{NODE_NAME}/output/label_info"
        self.node.create_subscription(LabelInfo, topic, self._counter("label_info"), LATCHED_QOS)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnose, 10)

    def spin(self, seconds: float) -> None:
        """Process messages for about this long."""
        import rclpy

        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            rclpy.spin_once(self.node, timeout_sec=left)

    def close(self) -> None:
        """Destroy the rclpy node and shut rclpy down."""
        import rclpy

        self.node.destroy_node()
        rclpy.try_shutdown()

    def _counter(self, name: str) -> Any:
        def count(message: Any) -> None:
            self.counts[name] += 1
            self.last_output_s = time.monotonic()
            if name == OVERLAY:
                self._save(message)

        return count

    def _save(self, message: Any) -> None:
        picture = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        stamp = message.header.stamp
        cv2.imwrite(str(self.overlays / f"{stamp.sec}_{stamp.nanosec:09d}.png"), picture)

    def _diagnose(self, message: Any) -> None:
        for status in message.status:
            if status.name.startswith(f"{NODE_NAME}:"):
                self.values |= {pair.key: pair.value for pair in status.values}


def run(
    bag: Path,
    package: Package,
    out: Path,
    rate: float,
    image: str | None = None,
    points: str | None = None,
) -> Summary:
    """Play a bag to the node and collect its outputs.

    Args:
        bag: folder or file.
        package: model to run.
        out: folder for pictures and logs.
        rate: speed of playing.
        image: as for ``find_topics``.
        points: likewise.

    Raises:
        Fault: ``node_died`` or ``player_failed`` with the end of its log; faults of bag or model.
    """
    manifest = package.manifest
    with BagReader(bag) as reader:
        topics = find_topics(reader, image=image, points=points)
        by_name = {topic.name: topic for topic in reader.topics}
        frames = by_name[topics.image].count
        kinds = {topic.name: topic.type for topic in reader.topics}
    if not manifest.trained:
        print(
            f"demo: the weights of {manifest.name} are UNTRAINED: what it detects means nothing, "
            "the way from bag to result is real",
            flush=True,
        )
    overlays = out / "overlays"
    overlays.mkdir(parents=True, exist_ok=True)
    for old in overlays.glob("*.png"):
        old.unlink()
    isolate_dds()
    started = time.monotonic()
    watcher = Watcher(overlays)
    player_command = [sys.executable, "-m", "lemumo_core.cli.main", "replay", str(bag), "--live"]
    node = _start(node_command(package.path, topics, kinds), out / "node.log")
    try:
        _wait_until_active(node, watcher, out / "node.log")
        player = _start([*player_command, "--rate", str(rate)], out / "player.log")
        progress = Progress("demo", frames)
        try:
            while player.poll() is None or time.monotonic() - watcher.last_output_s < DRAIN_S:
                watcher.spin(0.2)
                progress.update(watcher.counts[OVERLAY])
                if node.poll() is not None:
                    raise _died("node_died", "the node", out / "node.log")
        finally:
            _stop(player)
        progress.finish()
        if player.returncode:
            raise _died("player_failed", "the player", out / "player.log")
        watcher.spin(1.5)  # one more round of diagnostics, which come every second
    finally:
        _stop(node)
        watcher.close()
    values = watcher.values
    drops = {k.split("/", 1)[1]: int(v) for k, v in values.items() if k.startswith("drops/")}
    latency: dict[str, dict[str, float]] = {}
    for key, value in values.items():
        if key.startswith("latency_ms/"):
            _, stage, percentile = key.split("/")
            latency.setdefault(stage, {})[percentile] = float(value)
    return Summary(
        frames_in=int(values.get("frames_in", 0)),
        frames_in_bag=frames,
        messages_out=dict(watcher.counts),
        drops=drops,
        latency_ms=latency,
        model=manifest.name,
        trained=manifest.trained,
        backend=values.get("backend", ""),
        bag=str(bag),
        seconds=round(time.monotonic() - started, 1),
        machine=f"{processor()}, Python {platform.python_version()}",
    )


def _start(command: list[str], log: Path) -> subprocess.Popen:
    with log.open("w") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)


def _wait_until_active(node: subprocess.Popen, watcher: Watcher, log: Path) -> None:
    """Wait for the label names, which an active node publishes first, and show what it logs.

    Raises:
        Fault: ``node_died``, also where it is still loading after ``LOADING_S``.
    """
    print(f"demo: the node loads the model, log in {log}", flush=True)
    deadline = time.monotonic() + LOADING_S
    with log.open() as lines:
        while not watcher.counts["label_info"]:
            watcher.spin(0.2)
            new = lines.read()
            print(new, end="", flush=True)
            if node.poll() is not None or "cannot configure" in new:
                raise _died("node_died", "the node", log)
            if time.monotonic() > deadline:
                raise Fault("node_died", f"the node still loads after {LOADING_S:.0f} s, see {log}")


def _stop(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            print(f"demo: process {process.pid} ignored SIGINT, killing it", file=sys.stderr)
            process.kill()
            process.wait()


def _died(reason: str, what: str, log: Path) -> Fault:
    tail = "\n".join(log.read_text().splitlines()[-15:])
    return Fault(reason, f"{what} did not run; the end of {log}:\n{tail}")


def demo(
    *,
    bag: Path | None = None,
    model: str = MODEL,
    out: Path = Path("out/demo"),
    rate: float = 0.4,
    image: str | None = None,
    points: str | None = None,
) -> int:
    """Play a bag to the node in processes of their own, and write what came out.

    Args:
        bag: to play at its own speed; by default one that is rendered, with the companion that the
            model takes.
        model: package to run, as the node takes it: a folder, or one that comes with lemumo.
        out: folder for pictures, summary.json and index.html.
        rate: speed of the rendered bag.
        image: topic of the images, where the bag leaves a choice.
        points: topic of the point clouds, where the bag leaves a choice; several, joined by commas,
            are merged.

    Returns:
        The exit code: 1 where no detection message came out.
    """
    speed = rate if bag is None else 1.0
    package = load_package(model_folder(model))
    summary = run(bag or default_bag(package.path), package, out, speed, image, points)
    (out / "summary.json").write_text(json.dumps(asdict(summary), indent=2) + "\n")
    write_report(summary, package.manifest, out)
    print(json.dumps(asdict(summary), indent=2))
    print(f"demo: open {out / 'index.html'}")
    if not summary.messages_out.get("detections_3d"):
        print(f"demo: nothing came out; see {out / 'node.log'}", file=sys.stderr)
        return 1
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run ``lemumo demo``; return its exit code."""
    return run_function("lemumo demo", demo, sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
