"""Measure what the node itself costs a frame, stage by stage, at 1080p and 120 000 points.

    python -m benchmarks.node_overhead [--repeats 100]

The messages take the node's own path: callbacks, conversion, preprocessing, a network that is a
stub, decoding, building of the messages. DDS is not in it (``benchmarks.node_cost``), nor is what
a thread of its own draws for people, which is listed below. The cost is processor time of the
whole process; sizes and kinds of input take turns. ``places`` are where in their pixels returns
lie, and which of them the camera sees, as depth hypotheses at the view's resolution need them.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from benchmarks._messages import sensor_messages
from benchmarks._stub import stub_pipeline
from benchmarks._timing import machine
from lemumo_core.geometry.camera import Camera
from lemumo_core.preprocess import InputSpec, preprocess
from lemumo_core.streaming.camera_input import CameraInput
from lemumo_core.streaming.camera_options import CameraOptions
from lemumo_core.streaming.health import Health
from lemumo_core.streaming.outputs import BUILDERS, DRAWN, FROM_FRAME, Result
from lemumo_ros.publish.rclpy_builder import build

CAMERA = Camera(1920, 1080, 1200.0, 1200.0, 960.0, 540.0)
POINTS = 120_000
PERIOD_NS = 100_000_000
T_CAMERA_LIDAR = np.array([[0, -1, 0, 0.0], [0, 0, -1, -0.1], [1, 0, 0, -0.3], [0, 0, 0, 1]])
SIZES_AND_BUDGETS_MS = {(128, 352): 2.5, (256, 704): 3.0}


class Node:
    """The node's path of one camera, with a timer of every stage.

    Args:
        spec: input of the network.
        points: of a cloud.
    """

    def __init__(self, spec: InputSpec, points: int = POINTS):
        self.pipeline = stub_pipeline(spec)
        self.image, self.info, self.cloud = sensor_messages(CAMERA, points)
        options = CameraOptions(companion_deadline_ns=0, T_camera_companion=T_CAMERA_LIDAR)
        self.input = CameraInput("c", "lidar", options, Health(), time.monotonic_ns)
        self.stamps_ns = itertools.count(1_000_000_000, PERIOD_NS)  # repeated ones are dropped
        self.costs_ms: dict[str, list[float]] = {}

    def timed(self, stage: str, action: Callable[..., Any], *arguments: Any) -> Any:
        """Call something, and keep its processor time."""
        began = time.process_time_ns()
        found = action(*arguments)
        spent_ms = (time.process_time_ns() - began) / 1e6
        self.costs_ms.setdefault(stage, []).append(spent_ms)
        return found

    def frame(self) -> None:
        """Take one frame from messages to messages."""
        header = build.header(next(self.stamps_ns), "camera")
        self.image.header = self.info.header = self.cloud.header = header
        pair = self.timed("receive and match", self._receive)
        frame = self.timed("convert", self.input.to_frame, pair)
        spec = self.pipeline.package.manifest.input
        inputs = self.timed("preprocess", preprocess, frame, spec)
        self.pipeline._infer([inputs])
        perception = self.timed("decode", self.pipeline._finish, frame, 0)
        result = Result(perception, self.pipeline.package.manifest, "camera", np.eye(4))
        needed = [name for name in BUILDERS if name not in (*DRAWN, *FROM_FRAME)]
        drawn = [name for name in DRAWN if name not in FROM_FRAME]
        for stage, names in (("messages", needed), ("markers and colours (drawn)", drawn)):
            self.timed(stage, self._build, names, result)

    def _receive(self) -> Any:
        self.input.on_camera_info(self.info)
        self.input.on_companion(self.cloud)
        self.input.on_image(self.image)
        (pair,) = self.input.take()
        return pair

    def _build(self, names: list[str], result: Result) -> None:
        for name in names:
            BUILDERS[name](build, result)

    def stages(self) -> dict[str, float]:
        """Return the tenth percentile of every stage, and their sum without what is drawn."""
        found = {name: float(np.percentile(costs, 10)) for name, costs in self.costs_ms.items()}
        own = sum(cost for name, cost in found.items() if not name.endswith("(drawn)"))
        return {**found, "the node's own": own}


def main() -> None:
    """Print a table by stage."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=100)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    kinds = {2: "", 4: ", places"}
    nodes = {
        f"{height} x {width}{kinds[channels]}": Node(InputSpec(height, width, "lidar", channels))
        for channels in kinds
        for height, width in SIZES_AND_BUDGETS_MS
    }
    for node in nodes.values():
        node.frame()
        node.costs_ms.clear()
    for _ in range(args.repeats):
        for node in nodes.values():
            node.frame()
    print(f"{machine()}; 1920x1080 rgb8, {POINTS} points, {args.repeats} frames; ms of CPU")
    stages = {name: node.stages() for name, node in nodes.items()}
    print(f"| stage | {' | '.join(nodes)} |\n| --- |{' ---: |' * len(nodes)}")
    for stage in next(iter(stages.values())):
        print(f"| {stage} | {' | '.join(f'{costs[stage]:.2f}' for costs in stages.values())} |")
    for (height, width), budget in SIZES_AND_BUDGETS_MS.items():
        own = stages[f"{height} x {width}"]["the node's own"]
        print(f"{height} x {width}: {own:.2f} ms of at most {budget}")


if __name__ == "__main__":
    main()
