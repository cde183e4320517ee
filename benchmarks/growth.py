"""How cost grows with points, cameras, bags and ranks: it should do so linearly.

    python -m benchmarks.growth [--out out/growth]

Processor time, which other work on the machine disturbs little, at four or five sizes each (points
and cameras: sizes in turns):

- points: a frame of 1080p through the node, from messages to messages, by points of its cloud
- cameras: 100 ms of the node with DDS, by cameras of 1600 x 900, one LiDAR
- bags: ``lemumo replay`` of bags of one or two small frames, one process
- ranks: a step of pretraining, of all ranks together, eight samples each (gloo)

The line is a least-squares fit with a constant; ``off`` is how far a size lies from it, and the
last column how steep the last stretch is beside the whole line: 1 is linear, 2 about quadratic.
Writes a page with curves.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rclpy
import torch
from torch import distributed, multiprocessing

from benchmarks._timing import machine
from benchmarks.fleet import write_bags
from benchmarks.node_cost import NAMES, OUTPUTS, OurNode, Sensors
from benchmarks.node_overhead import Node
from lemumo_core import plots, web_page
from lemumo_core.preprocess import InputSpec
from lemumo_core.train.parallel import DistInfo
from lemumo_core.train.pretrain.learner import PretrainLearner
from lemumo_ros.publish.publisher import TOPICS
from tests.helpers.paths import ROOT
from tests.helpers.small_run import share, small_batch, small_config
from tests.helpers.toy_package import write_toy_package

POINTS = (30_000, 60_000, 120_000, 240_000, 480_000)
CAMERAS = (1, 2, 4, 6)
BAGS = (5, 10, 20, 30)
RANKS = (1, 2, 3, 4)
REPEATS, STEPS, A_RANK = 30, 6, 8


class Growth(NamedTuple):
    """Cost by size.

    Attributes:
        name: of what grows.
        unit: of the cost.
        sizes, costs: of each.
    """

    name: str
    unit: str
    sizes: Sequence[int]
    costs: Sequence[float]

    @property
    def line(self) -> np.ndarray:
        """Costs of the fitted line."""
        slope, constant = np.polyfit(self.sizes, self.costs, 1)
        return slope * np.array(self.sizes) + constant

    @property
    def off(self) -> float:
        """Largest distance from the line, as a share of it."""
        return float(np.abs(self.costs / self.line - 1).max())

    @property
    def steepness(self) -> float:
        """Slope of the last stretch beside that of the whole."""
        slopes = [
            (self.costs[-1] - self.costs[i]) / (self.sizes[-1] - self.sizes[i]) for i in (-2, 0)
        ]
        return slopes[0] / slopes[1]


def by_points() -> Growth:
    """Frames of one camera."""
    nodes = {count: Node(InputSpec(256, 704, "lidar", 2), count) for count in POINTS}
    for _ in range(REPEATS):
        for node in nodes.values():
            node.frame()
    costs = [node.stages()["the node's own"] for node in nodes.values()]
    return Growth("points", "ms of CPU a frame", POINTS, costs)


def by_cameras() -> Growth:
    """Ticks of a node."""
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init()
    listener, ours = rclpy.create_node("listener"), {}
    for count in CAMERAS:
        node = rclpy.create_node(f"cameras_{count}")
        for name in NAMES[:count]:
            for key in OUTPUTS:
                topic = f"/cameras_{count}/output/{name}/{key}"
                listener.create_subscription(TOPICS[key], topic, lambda _: None, 1)
        ours[count] = OurNode(node, NAMES[:count])
    time.sleep(2.0)  # discovery
    sensors = Sensors()
    costs_ms: dict[int, list[float]] = {count: [] for count in CAMERAS}
    try:
        for _ in range(REPEATS):
            for count, one in ours.items():
                sensors.stamp(time.time_ns())
                began = time.process_time()
                one.tick(sensors)
                costs_ms[count].append(1e3 * (time.process_time() - began))
    finally:  # their threads would keep the process alive
        for one in ours.values():
            one.worker.close()
        rclpy.shutdown()
    costs = [float(np.percentile(one[5:], 10)) for one in costs_ms.values()]
    return Growth("cameras", "ms of CPU in 100 ms", CAMERAS, costs)


def by_bags(folder: Path) -> Growth:
    """Replays in processes of their own."""
    model, costs_s = write_toy_package(folder / "toy"), []
    for count in BAGS:
        write_bags(folder / f"bags{count}", count)
        words = "replay", folder / f"bags{count}", "--model", model, "--out", folder / f"out{count}"
        command = [sys.executable, "-m", "lemumo_core.cli.main", *map(str, words)]
        command += ["--workers", "1", "--backend", "onnxruntime"]
        with (folder / "log").open("w") as log:
            pid = os.posix_spawn(
                sys.executable,
                command,
                os.environ | {"PYTHONPATH": str(ROOT)},
                file_actions=[(os.POSIX_SPAWN_DUP2, log.fileno(), i) for i in (1, 2)],
            )
            _, status, usage = os.wait4(pid, 0)
        if os.waitstatus_to_exitcode(status):
            sys.exit(f"replay failed: {(folder / 'log').read_text()[-2000:]}")
        costs_s.append(usage.ru_utime + usage.ru_stime)
    return Growth("bags", "s of CPU", BAGS, costs_s)


def by_ranks(folder: Path) -> Growth:
    """Steps of ranks that are processes."""
    costs_ms = []
    for world in RANKS:
        place = folder / f"ranks{world}"
        place.mkdir()
        multiprocessing.start_processes(
            _rank, (world, str(place)), nprocs=world, start_method="fork"
        )
        spent = [[float(x) for x in one.read_text().split()] for one in place.glob("*.txt")]
        costs_ms.append(statistics.median(map(sum, zip(*spent, strict=True))))
    return Growth("ranks", "ms of CPU a step, all ranks", RANKS, costs_ms)


def _rank(rank: int, world: int, place: str) -> None:
    torch.set_num_threads(1)
    store = distributed.FileStore(f"{place}/store", world)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    config = small_config(batch=A_RANK * world)
    learner = PretrainLearner(config, STEPS, DistInfo(rank, world, torch.device("cpu")))
    batch, spent = share(small_batch(config), rank, world), []
    for step in range(STEPS):
        distributed.barrier()
        began = time.process_time()
        learner.learn(batch, step)
        spent.append(1e3 * (time.process_time() - began))
    Path(place, f"{rank}.txt").write_text(" ".join(map(str, spent[2:])))
    distributed.barrier()
    distributed.destroy_process_group()


def measured(folder: Path) -> Iterator[Growth]:
    """Measure everything."""
    ways: tuple[Callable[[], Growth], ...] = (
        lambda: by_ranks(folder),  # first, while nothing has started a thread: ranks are forked
        by_points,
        by_cameras,
        lambda: by_bags(folder),
    )
    for way in ways:
        yield way()


def rows_of(found: Growth) -> list[list[str]]:
    """Rows of the table."""
    costs = ", ".join(f"{size}: {cost:.3g}" for size, cost in zip(*found[2:], strict=True))
    return [[found.name, found.unit, costs, f"{100 * found.off:.0f} %", f"{found.steepness:.2f}"]]


def main() -> None:
    """Print a table and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out/growth"))
    args = parser.parse_args()
    head = ["by", "cost", "at", "off the line", "last stretch"]
    print(f"{machine()}\n| {' | '.join(head)} |\n| --- | --- | --- | ---: | ---: |")
    rows, curves = [], []
    with tempfile.TemporaryDirectory() as name:
        os.environ["LEMUMO_CACHE"] = str(Path(name, "cache"))
        for found in measured(Path(name)):
            rows += rows_of(found)
            print(f"| {' | '.join(rows[-1])} |", flush=True)
            series = {"measured": list(found.costs), "line": found.line.tolist()}
            title = f"{found.unit} by {found.name}"
            curves.append(plots.lines(title, list(found.sizes), series, found.name))
    args.out.mkdir(parents=True, exist_ok=True)
    page = args.out / "growth.html"
    web_page.write_page(page, "How cost grows", [web_page.table(machine(), rows, head), *curves])
    print(f"written: {page}")


if __name__ == "__main__":
    main()
