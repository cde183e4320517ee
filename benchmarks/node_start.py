"""Measure what a node costs from its start to its first result, stage by stage.

    python -m benchmarks.node_start [--backends onnxruntime openvino] [--repeats 3]

Each start is a process of its own, on a cache of its own: the first start of a backend prepares the
graph and keeps it, later ones read it. Python keeps its bytecode. The cost is processor time of the
whole process, its least of all repeats; the first frame's messages are handed to the callbacks as
rclpy would.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._timing import machine

MODEL = Path("models/lemumo-tiny")
LIMIT_S = 60.0
OWN = "the benchmark's own"
FIRST, LATER = "first start", "later starts"


def start(backend: str, model: Path) -> dict[str, float]:
    """Start a node in this process; returns seconds of CPU by stage."""
    marks = [("Python", 0.0), ("imports", time.process_time())]
    import rclpy

    from benchmarks.node_overhead import CAMERA, POINTS, T_CAMERA_LIDAR
    from lemumo_ros.node import PerceptionNode

    marks.append(("node", time.process_time()))
    extrinsics = ", ".join(map(str, T_CAMERA_LIDAR.ravel().astype(float).tolist()))
    values = {"model": model, "backend": backend, "extrinsics": f"[{extrinsics}]"}
    parameters = [word for key, value in values.items() for word in ("-p", f"{key}:={value}")]
    rclpy.init(args=["--ros-args", *parameters])
    node = PerceptionNode()
    marks.append(("configure", time.process_time()))
    if not node.start_by_itself():
        raise SystemExit(node.diagnostics.fault)
    marks.append((OWN, time.process_time()))
    from benchmarks._messages import sensor_messages
    from lemumo_ros.publish.publisher import TOPICS

    key = "detections_3d"  # without a listener nothing is computed
    listener = rclpy.create_node("listener")
    listener.create_subscription(TOPICS[key], f"/perception/output/{key}", lambda _: None, 1)
    time.sleep(2.0)  # discovery
    image, info, cloud = sensor_messages(CAMERA, POINTS)
    marks.append(("first result", time.process_time()))

    (camera,) = node._worker.cameras.inputs.values()
    stamp = node.get_clock().now().to_msg()
    image.header.stamp = info.header.stamp = cloud.header.stamp = stamp
    camera.on_camera_info(info)
    node._worker.cameras.notifying(node._worker.cameras.on_points)(cloud)
    node._worker.cameras.notifying(camera.on_image)(image)
    deadline = time.monotonic() + LIMIT_S
    while not camera.health.frames_out and time.monotonic() < deadline:
        time.sleep(1e-3)
    marks.append(("", time.process_time()))
    node.close()
    rclpy.shutdown()
    if not camera.health.frames_out:
        raise SystemExit(f"no result in {LIMIT_S:.0f} s: {dict(camera.health.drops)}")
    stages = {name: ended - began for (name, began), (_, ended) in itertools.pairwise(marks)}
    return {name: spent_s for name, spent_s in stages.items() if name != OWN}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backends", nargs="+", default=["onnxruntime", "openvino"])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(start(args.one, args.model)))
        return
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(args.repeats):
        for backend in args.backends:
            with tempfile.TemporaryDirectory() as cache:
                for kind in (FIRST, LATER):
                    command = [sys.executable, "-m", "benchmarks.node_start", "--one", backend]
                    command += ["--model", str(args.model)]
                    environment = os.environ | {"LEMUMO_CACHE": cache}
                    environment.pop("PYTHONDONTWRITEBYTECODE", None)
                    said = subprocess.run(
                        command, check=True, stdout=subprocess.PIPE, text=True, env=environment
                    ).stdout
                    found.setdefault((backend, kind), []).append(json.loads(said.splitlines()[-1]))
    print(f"{machine()}; seconds of CPU, least of {args.repeats}")
    stages = list(next(iter(found.values()))[0])
    print(f"| | {' | '.join(stages)} | all |\n| --- |{' ---: |' * (len(stages) + 1)}")
    for (backend, kind), runs in found.items():
        least = min(runs, key=lambda one: sum(one.values()))
        cells = [f"{least[stage]:.2f}" for stage in stages] + [f"{sum(least.values()):.2f}"]
        print(f"| {backend}, {kind} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
