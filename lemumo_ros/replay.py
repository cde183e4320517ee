"""Replay bags: offline through the node's own callbacks, or live over DDS.

Offline is lossless and deterministic and needs no ROS: every frame is processed, waits are
measured on the bag's clock, and two runs write the same bytes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lemumo_core.data.sources.bag_reader import BagReader
from lemumo_core.data.sources.bag_topics import BagTopics, find_topics
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, Perception
from lemumo_core.geometry.se3 import check_rigid
from lemumo_core.inference.package import Manifest, load_package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.progress import Progress
from lemumo_ros.camera_input import CameraInput
from lemumo_ros.health import Health
from lemumo_ros.overlay import draw_overlay
from lemumo_ros.player import play
from lemumo_ros.sync import Pair

MM_PER_M = 1000.0


def replay(
    reader: BagReader, topics: BagTopics, pipeline: Pipeline, camera_input: CameraInput
) -> Iterator[tuple[Frame, Perception]]:
    """Feed a bag to a camera's callbacks and perceive every frame that comes of it.

    Args:
        reader, topics: the bag, and which of its topics are which input.
        pipeline: the model.
        camera_input: fresh; its clock must be ``BagClock`` of this replay. Faulty frames are
            counted in its health and skipped.
    """
    clock = camera_input.clock
    assert isinstance(clock, BagClock)
    callbacks: dict[str | None, Callable[[Any], None]] = {
        topics.image: camera_input.on_image,
        topics.camera_info: camera_input.on_camera_info,
        topics.thermal_info: camera_input.on_thermal_info,
        topics.points: camera_input.on_companion,
        topics.thermal: camera_input.on_companion,
        "/tf_static": camera_input.on_transforms,
        "/tf": partial(camera_input.on_transforms, moving=True),
    }
    if camera_input.companion == "lidar":
        callbacks.pop(topics.thermal, None)
    else:
        callbacks.pop(topics.points, None)
    callbacks.pop(None, None)
    known = {topic.name for topic in reader.topics}
    wanted = [topic for topic in callbacks if topic in known]
    for message in reader.messages(wanted):
        clock.now_ns = message.stamp_ns
        callbacks[message.topic](message.msg)
        yield from _perceive(camera_input.take(), pipeline, camera_input)
    yield from _perceive(camera_input.take(flush=True), pipeline, camera_input)


class BagClock:
    """The log time of the message being replayed, ns."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def _perceive(
    pairs: list[Pair], pipeline: Pipeline, camera_input: CameraInput
) -> Iterator[tuple[Frame, Perception]]:
    for pair in pairs:
        try:
            frame = camera_input.to_frame(pair, pipeline.package.manifest.input)
            perception = pipeline(frame)
        except Fault as fault:
            camera_input.health.count_drop(fault.reason, message=str(fault))
            continue
        camera_input.health.count_out(perception, perception.timings_ms)
        yield frame, perception


class ResultWriter:
    """Results of a replay as files that hold nothing but what the model said.

    ``detections.jsonl`` has a line per frame; ``depth/STAMP.png`` is 16-bit millimetres, 0 =
    unknown; ``labels/STAMP.png`` holds label ids; ``overlays/STAMP.png`` shows them.
    """

    def __init__(self, out: Path, manifest: Manifest, overlays: bool):
        self.out, self.manifest, self.overlays = out, manifest, overlays
        for name in ("depth", "labels", *(("overlays",) if overlays else ())):
            (out / name).mkdir(parents=True, exist_ok=True)
        self._lines = (out / "detections.jsonl").open("w")

    def write(self, frame: Frame, perception: Perception) -> None:
        """Append one frame's results."""
        found = perception.detections
        record = {
            "stamp_ns": perception.stamp_ns,
            "camera": perception.camera_name,
            "modalities": perception.modalities,
            "detections": [
                {
                    "class": self.manifest.detection_classes[found.class_ids[i]],
                    "score": float(found.scores[i]),
                    "box_3d": found.boxes_3d[i].tolist() if len(found.boxes_3d) else None,
                    "box_2d": found.boxes_2d[i].tolist(),
                }
                for i in range(len(found.scores))
            ],
        }
        self._lines.write(json.dumps(record) + "\n")
        depth_mm = np.nan_to_num(perception.depth_m * MM_PER_M, nan=0.0)
        depth_mm = np.where(depth_mm < 2**16, depth_mm, 0).astype(np.uint16)
        name = f"{perception.stamp_ns}.png"
        cv2.imwrite(str(self.out / "depth" / name), depth_mm)
        cv2.imwrite(str(self.out / "labels" / name), perception.labels)
        if self.overlays:
            picture = draw_overlay(frame, perception, self.manifest)
            bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(self.out / "overlays" / name), bgr)

    def close(self) -> None:
        """Flush to disk."""
        self._lines.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lemumo replay``."""
    parser.add_argument("bags", nargs="+", metavar="BAG", help="bag folder or file")
    parser.add_argument("--model", help="model package (offline)")
    parser.add_argument("--out", type=Path, help="folder for results; without it only a report")
    parser.add_argument("--overlays", action="store_true", help="write overlay pictures too")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--score-threshold", type=float, default=0.3)
    parser.add_argument("--sync-tolerance-ms", type=float, default=60.0)
    parser.add_argument("--companion-deadline-ms", type=float, default=100.0)
    parser.add_argument(
        "--extrinsics", type=float, nargs=16, metavar="T", help="T_camera_companion by row"
    )
    for name in ("image", "camera-info", "points", "thermal", "thermal-info"):
        parser.add_argument(f"--{name}", metavar="TOPIC", help="where the bag leaves a choice")
    parser.add_argument("--live", action="store_true", help="publish over DDS with /clock instead")
    parser.add_argument("--rate", type=float, default=1.0, help="speed of --live")


def run(args: argparse.Namespace) -> int:
    """``lemumo replay``. Returns 0, 1 on a fault of bag or model, 2 if no frame came out."""
    try:
        with BagReader(args.bags) as reader:
            if args.live:
                return play(reader, args.rate)
            if not args.model:
                raise Fault("bad_package", "offline replay needs --model PACKAGE (or use --live)")
            return _run_offline(reader, args)
    except (Fault, OSError, ImportError) as error:
        print(f"lemumo replay: {error}", file=sys.stderr)
        return 1


def _run_offline(reader: BagReader, args: argparse.Namespace) -> int:
    names = ("image", "camera_info", "points", "thermal", "thermal_info")
    topics = find_topics(reader, **{name: getattr(args, name) for name in names})
    package = load_package(args.model)
    pipeline = Pipeline(package, args.backend, args.score_threshold)
    extrinsics = None
    if args.extrinsics:
        extrinsics = check_rigid(np.reshape(args.extrinsics, (4, 4)), "--extrinsics")
    health = Health()
    camera_input = CameraInput(
        "camera",
        package.manifest.input.companion,
        int(args.sync_tolerance_ms * 1e6),
        int(args.companion_deadline_ms * 1e6),
        health,
        BagClock(),
        extrinsics,
    )
    writer = ResultWriter(args.out, package.manifest, args.overlays) if args.out else None
    total = next(t.count for t in reader.topics if t.name == topics.image)
    started = time.monotonic()
    progress = Progress("replay", total)
    for frame, perception in replay(reader, topics, pipeline, camera_input):
        if writer:
            writer.write(frame, perception)
        progress.update(health.frames_out)
    progress.finish()
    seconds = time.monotonic() - started
    summary: dict[str, Any] = {
        "bag": [str(bag) for bag in args.bags],
        "model": package.manifest.name,
        "trained": package.manifest.trained,
        "backend": pipeline.backend.name,
        "frames_in": health.received["image"],
        "frames_out": health.frames_out,
        "modalities": dict(health.modalities),
        "drops": dict(health.drops),
    }
    if writer:
        writer.close()
        (args.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    for key, value in summary.items():
        print(f"{key:12} {value}")
    for stage, percentiles in health.latency_ms().items():
        print(f"{stage:12} p50 {percentiles['p50']:.1f} ms  p99 {percentiles['p99']:.1f} ms")
    print(f"{health.frames_out / seconds:.1f} frames/s")
    if health.last_fault:
        print(f"last fault: {health.last_fault}")
    return 0 if health.frames_out else 2


def without_ros_arguments(arguments: list[str]) -> list[str]:
    """Drop what ``ros2 run`` and launch append: ``--ros-args`` and all after it."""
    if "--ros-args" in arguments:
        return arguments[: arguments.index("--ros-args")]
    return arguments


def main() -> None:
    """Entry point of the ``replay`` executable."""
    parser = argparse.ArgumentParser(prog="replay", description=__doc__)
    add_arguments(parser)
    sys.exit(run(parser.parse_args(without_ros_arguments(sys.argv[1:]))))


if __name__ == "__main__":
    main()
