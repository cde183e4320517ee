"""How well objects are tracked on rendered drives whose truth is known, and what it costs.

    python -m benchmarks.tracking [--drives 1] [--frames 40]

Drives of the synthetic street are rendered at 10 images a second and written as bags with the
vehicle's motion on /tf. They are replayed twice: with a detector made of the truth (noise of
0.15 m, and of 1.5 % of the distance along the line of sight; 15 % of the boxes dropped, one false
box in two images), and with a model. Beside the tracker stands the trivial one, which takes the
nearest object of the last image and knows no motion. Prints the scores, and the CPU time of a
frame.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from lemumo_core.bags.message_builder import RosbagsBuilder
from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.writer import BASE, T_BASE_CAMERA, write_bag
from lemumo_core.cli import main as cli
from lemumo_core.command_line import run_function
from lemumo_core.data.shard_writer import write_shards
from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.data.sources.truth_by_stamp import truth_of_source
from lemumo_core.frame import Frame, LidarScan
from lemumo_core.geometry.se3 import inverse
from lemumo_core.replay.image_events import image_events
from lemumo_core.replay.settings import Settings
from lemumo_core.replay.tracks import BagTracks
from lemumo_core.streaming.tracks import TrackedCameras
from lemumo_core.taxonomy import Taxonomy
from tests.helpers.noisy_tracks import CAMERA, Noise, perception, score_tracks

MODEL = Path("models/lemumo-tiny")
RATE_HZ = 10.0
DROPPED_FRAMES = 0.3
MANIFEST: Any = SimpleNamespace(classes=Taxonomy(), numbers_of_box=7, name="made of the truth")
SHOWN = ("amota", "amotp_m", "mota", "recall", "id_switches", "false_positives", "misses")
SHOWN += ("velocity_error_mps", "speed_mps", "objects", "frames")


class Drive(SyntheticStreet):
    """A rendered drive, whose points are those of the image's own time, as they come from it."""

    def __getitem__(self, index: int) -> Frame:
        frame = super().__getitem__(index)
        scan = frame.companion
        assert isinstance(scan, LidarScan)
        return replace(frame, companion=replace(scan, stamp_ns=frame.stamp_ns))


def tracking(
    *, drives: int = 1, frames: int = 40, model: Path = MODEL, out: Path = Path("out/tracking")
) -> None:
    """Print scores and cost.

    Args:
        drives: how many, each a bag of its own.
        frames: images of each.
        model: package to replay them with.
        out: folder of the bags, which are rendered where they are missing.
    """
    bags = [made_bag(out, seed, frames) for seed in range(drives)]
    for name, options in {
        "in odom": {},
        f"in odom, {DROPPED_FRAMES:.0%} of the images dropped": {"dropped": DROPPED_FRAMES},
        "in the camera's frame": {"fixed_frame": ""},
    }.items():
        for bag in bags:
            report(f"truth with noise, {name}, {bag.name}", noisy(bag, model, **options))
    for name, words in {
        "in odom": ("--fixed_frame", "odom"),
        "in the camera's frame": (),
    }.items():
        for bag in bags:
            results = out / f"results-{bag.name}-{len(words)}"
            truth = "--truth", "shards", "--truth_options.root", shards_of(bag)
            fixed = "--model", model, "--out", results, "--overwrite", "--backend", "onnxruntime"
            cli.main(["replay", *map(str, (bag, *fixed, *truth, "--tracking", *words))])
            found = json.loads((results / "metrics.json").read_text())
            report(f"{found['model']}, {name}, {bag.name}", found["tracking"])
    for count in (50, 200):
        print(f"{count} objects: {cost_ms(count):.2f} ms of CPU time a frame")


def report(title: str, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the scores of each tracker."""
    print(f"== {title}")
    for name, one in results.items():
        values = (
            f"{key} {value:.3f}" if isinstance(value := one[key], float) else f"{key} {value}"
            for key in SHOWN
        )
        print(f"   {name:26}", ", ".join(values), flush=True)


def noisy(
    bag: Path, model: Path, dropped: float = 0.0, fixed_frame: str = "odom"
) -> dict[str, dict[str, Any]]:
    """Return the scores of tracks of the noisy truth of a bag, by tracker."""
    rng = np.random.default_rng(0)
    settings = Settings(model, fixed_frame=fixed_frame, tracking=True)
    truth = truth_of_source("shards", {"root": shards_of(bag)}, 1_000_000)

    def labelled() -> Iterator[Frame]:
        for event in image_events([bag], settings, "lidar"):
            if event.frame is not None and rng.random() >= dropped:
                yield replace(event.frame, labels=truth.labels(event.stamp_ns))

    return score_tracks(BagTracks(MANIFEST, is_fixed=True), labelled(), Noise(), rng)


def made_bag(out: Path, seed: int, frames: int) -> Path:
    """Return the bag of a drive with odometry, made with its labels where it is missing."""
    bag = out / f"drive-{seed}-{frames}"
    if bag.is_dir():
        return bag
    out.mkdir(parents=True, exist_ok=True)
    source = Drive(seed, frames, split="test", rate_hz=RATE_HZ, frames_per_drive=frames)
    rendered = Rendered([source[i] for i in range(frames)], source.describe())
    write_shards(rendered, shards_of(bag), workers=1)
    bare = bag.with_suffix(".bare")
    write_bag(rendered, bare)
    poses = {frame.stamp_ns: frame.T_fixed_camera for frame in rendered}
    build, connections = RosbagsBuilder(), {}
    with (
        BagReader(bare) as reader,
        Writer(bag, version=8, storage_plugin=StoragePlugin.MCAP) as writer,
    ):
        for topic in reader.topics:
            connections[topic.name] = writer.add_connection(
                topic.name, topic.type, typestore=reader.typestore
            )
        odometry = writer.add_connection("/tf", "tf2_msgs/msg/TFMessage", typestore=build.typestore)
        for stamp_ns, T_odom_camera in poses.items():
            assert T_odom_camera is not None
            pose = {BASE: T_odom_camera @ inverse(T_BASE_CAMERA)}
            message = build.transforms(pose, build.header(stamp_ns, "odom"))
            writer.write(odometry, stamp_ns - 1_000_000, build.serialize(message))
        for raw in reader.raw_messages():
            writer.write(connections[raw.topic], raw.stamp_ns, raw.data)
    return bag


class Rendered(list[Frame]):
    """Frames in memory, as a source."""

    def __init__(self, frames: list[Frame], described: dict[str, Any]):
        super().__init__(frames)
        self._described = described

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return self._described


def shards_of(bag: Path) -> Path:
    """Return the folder of a bag's labels."""
    return bag.with_name(f"{bag.name}-labels")


def cost_ms(count: int, frames: int = 200) -> float:
    """Return the CPU time of tracking one frame of so many objects."""
    rng = np.random.default_rng(0)
    places = np.column_stack([rng.uniform(-25, 25, count), np.zeros(count), np.full(count, 40.0)])
    places[:, 2] += rng.uniform(-15, 25, count)
    speeds = rng.normal(0, 3, (count, 3)) * (1, 0, 1)
    results = []
    for i in range(frames):
        boxes = np.zeros((count, 7), np.float32)
        boxes[:, :3] = places + 0.1 * (i % 20) * speeds + rng.normal(0, 0.15, places.shape)
        boxes[:, 3:6] = 2.0
        found = np.full(count, 0.9, np.float32), np.zeros(count, np.int64)
        results.append(perception(Frame(100_000_000 * i, "front", CAMERA), boxes, *found))
    cameras = TrackedCameras(MANIFEST)
    begin_s = time.process_time()  # once: where it is a system call, it costs more than a frame
    for result in results:
        cameras.update(result, np.eye(4), "odom")
    return 1e3 * (time.process_time() - begin_s) / frames


if __name__ == "__main__":
    sys.exit(run_function("benchmarks.tracking", tracking, sys.argv[1:], __doc__))
