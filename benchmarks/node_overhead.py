"""Measure what the node adds to the network's own time, at 1080p and 120k points.

    python -m benchmarks.node_overhead [--repeats 40]

Takes the messages through the node's own path (callbacks, convert, preprocess, infer, finish,
building every output message) and measures the network alone beside it, in turns. DDS itself is
not in it: see ``make demo`` for latencies over the wire.
"""

from __future__ import annotations

import argparse
import itertools
import time
from typing import Any

import numpy as np

from benchmarks._messages import sensor_messages
from benchmarks._package import untrained_package
from benchmarks._timing import machine, measure
from lemumo_core.frame import Frame, LidarScan
from lemumo_core.geometry.camera import Camera
from lemumo_core.inference.package import load_package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.preprocess import preprocess
from lemumo_core.streaming.camera_input import CameraInput
from lemumo_core.streaming.camera_options import CameraOptions
from lemumo_core.streaming.health import Health
from lemumo_core.streaming.outputs import BUILDERS, FROM_FRAME, Result
from lemumo_ros.publish.rclpy_builder import build

CAMERA = Camera(1920, 1080, 1200.0, 1200.0, 960.0, 540.0)
POINTS = 120_000
PERIOD_NS = 100_000_000
T_CAMERA_LIDAR = np.array([[0, -1, 0, 0.0], [0, 0, -1, -0.1], [1, 0, 0, -0.3], [0, 0, 0, 1]])


def build_outputs(perception: Any, manifest: Any) -> None:
    """Build every message but those that only a viewer asks for."""
    result = Result(perception, manifest, "camera", np.eye(4))
    for name, builder in BUILDERS.items():
        if name not in FROM_FRAME:
            builder(build, result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=40)
    args = parser.parse_args()
    pipeline = Pipeline(load_package(untrained_package()))
    manifest = pipeline.package.manifest
    image, info, cloud = sensor_messages(CAMERA, POINTS)
    options = CameraOptions(companion_deadline_ns=0, T_camera_companion=T_CAMERA_LIDAR)
    camera_input = CameraInput("c", "lidar", options, Health(), time.monotonic_ns)
    perceived = []

    stamps_ns = itertools.count(1_000_000_000, PERIOD_NS)  # one that repeats would be dropped

    def node_path() -> None:
        header = build.header(next(stamps_ns), "camera")
        image.header = info.header = cloud.header = header
        camera_input.on_camera_info(info)
        camera_input.on_companion(cloud)
        camera_input.on_image(image)
        (pair,) = camera_input.take()
        perception = pipeline(camera_input.to_frame(pair))
        build_outputs(perception, manifest)
        perceived.append(perception)

    scan = LidarScan(np.zeros((1, 3), np.float32), T_CAMERA_LIDAR, 1)
    pixels = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
    feed = preprocess(Frame(1, "c", CAMERA, pixels, scan), manifest.input)
    buffers = {n: np.empty(s.shape, s.dtype) for n, s in pipeline.backend.outputs.items()}
    node_path()
    medians = measure(
        {
            "node path": node_path,
            "network alone": lambda: pipeline.backend.infer(feed, buffers),
        },
        args.repeats,
    )
    overheads = []
    for _ in range(args.repeats):
        started = time.perf_counter()
        node_path()
        overheads.append(1e3 * (time.perf_counter() - started) - perceived[-1].timings_ms["infer"])
    print(f"{machine()}; 1920x1080 rgb8, {POINTS} points, median of {args.repeats}")
    for name, value in medians.items():
        print(f"{name:30}{value:10.2f} ms")
    print(f"ratio node path / network alone {medians['node path'] / medians['network alone']:.3f}")
    p50, p99 = np.percentile(overheads, [50, 99])
    print(f"added to infer: p50 {p50:.2f} ms, p99 {p99:.2f} ms")


if __name__ == "__main__":
    main()
