"""How fast an offline replay is, measured against inference alone.

    python -m benchmarks.replay_speed [BAG] [--model PACKAGE] [--rounds 3]

By default the images of a rendered street, driven three times, so that one in four is compared
(``--compare_every`` asks for another share), and a model with random weights. The speed is that
from the first result to the end of all that is written but the page; what comes before, once for a
bag, is given apart. Inference alone: one process that runs the network on one input, as many times,
right after. Of one process the same by CPU time, which other work on the machine changes little.
Medians of the rounds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks._package import untrained_package
from lemumo_core.bags.named_bags import named_bags
from lemumo_core.bags.recovery import RecoveredBag
from lemumo_core.bags.writer import write_bag
from lemumo_core.data.sources.registry import open_source
from lemumo_core.executor.executor import LocalExecutor
from lemumo_core.folders.local import LocalFolder
from lemumo_core.frame import Frame
from lemumo_core.inference.measure import processor
from lemumo_core.inference.package import load_package
from lemumo_core.replay.bag_replay import BagReplay, ResultSource
from lemumo_core.replay.evaluator import Evaluator, ImageResult
from lemumo_core.replay.settings import Settings
from lemumo_core.replay.summaries import of_cameras
from lemumo_core.replay.workers import ImageWork, PooledEvaluator
from lemumo_ros.demo_bag import default_bag

DRIVES = 3


class Timed:
    """A source of results that notes when the first one came."""

    def __init__(self, source: ResultSource):
        self.source, self.first, self.first_cpu = source, 0.0, 0.0

    def results(self, files: Sequence[Path]) -> Iterator[ImageResult]:
        self.first = 0.0
        for result in self.source.results(files):
            if not self.first:
                self.first, self.first_cpu = time.perf_counter(), time.process_time()
            yield result


class Round(NamedTuple):
    """Frames per second of the replay and of inference alone, seconds to the first result, and the
    CPU seconds that this process took for a frame of both."""

    replaying: float
    inferring: float
    opening_s: float
    replaying_cpu_s: float
    inferring_cpu_s: float


def long_street(model: Path) -> Path:
    """Return the demo's street, its drive repeated, as a bag; made where it is missing."""
    path = Path("out/bags/long_street")
    if not path.exists():
        source = open_source("bags", path=str(default_bag(model)))
        length_ns = (source[1].stamp_ns - source[0].stamp_ns) * len(source)
        write_bag(
            (
                _later(source[index], drive * length_ns)
                for drive in range(DRIVES)
                for index in range(len(source))
            ),
            path,
        )
    return path


def _later(frame: Frame, by_ns: int) -> Frame:
    assert frame.companion is not None
    companion = replace(frame.companion, stamp_ns=frame.companion.stamp_ns + by_ns)
    return replace(frame, stamp_ns=frame.stamp_ns + by_ns, companion=companion)


def rounds(
    bag: Path, model: Path, evaluate: bool, workers: int, count: int, compare_every: int | None
) -> list[Round]:
    """Measure a way to replay some times, after a bag that warms it up."""
    settings = Settings(model, evaluate=evaluate, compare_every=compare_every)
    evaluator = Evaluator(settings, load_package(model))
    infer, seen = evaluator.pipeline.backend.infer, _an_input(evaluator)
    found = []
    work = ImageWork(settings, evaluator.pipeline.backend.name)
    with nullcontext() if workers == 1 else LocalExecutor(workers).pool(work) as pool:
        timed = Timed(evaluator if pool is None else PooledEvaluator(evaluator, pool))
        for _ in range(count + 1):
            with tempfile.TemporaryDirectory() as out, RecoveredBag() as recovered:
                replay = BagReplay(evaluator, LocalFolder(Path(out)), [], timed)
                started = time.perf_counter()
                summary = replay.run(named_bags(bag)[0], recovered)
                ended, ended_cpu = time.perf_counter(), time.process_time()
            frames = sum(one["images"] for one in of_cameras([summary]))
            for _ in range(frames):
                infer(*seen)
            inferring_s = time.perf_counter() - ended
            cpu_s = (ended_cpu - timed.first_cpu) / (frames - 1)
            inferring_cpu_s = (time.process_time() - ended_cpu) / frames
            speed = (frames - 1) / (ended - timed.first)
            opening_s = timed.first - started
            found.append(Round(speed, frames / inferring_s, opening_s, cpu_s, inferring_cpu_s))
    return found[1:]


def _an_input(evaluator: Evaluator) -> tuple[Any, ...]:
    """Return the network's input, and the buffers of its results."""
    seen: list[tuple[Any, ...]] = []
    backend = evaluator.pipeline.backend
    infer = backend.infer
    backend.infer = lambda *arguments: seen.append(arguments)  # type: ignore[method-assign]
    evaluator.pipeline.warm_up()
    backend.infer = infer  # type: ignore[method-assign]
    return seen[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bag", type=Path, nargs="?", help="default: a rendered street")
    parser.add_argument("--model", type=Path, help="default: random weights")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compare_every", type=int, help="as of lemumo replay")
    args = parser.parse_args()
    model = args.model or untrained_package()
    bag = args.bag or long_street(model)
    print(f"{processor()}, {bag}, {model}")
    for evaluate in (False, True):
        for workers in (1, 2):
            found = rounds(bag, model, evaluate, workers, args.rounds, args.compare_every)
            ratios = sorted(one.replaying / one.inferring for one in found)
            replaying, inferring, opening_s, cpu_s, inferring_cpu_s = (
                median(values) for values in zip(*found, strict=True)
            )
            by_cpu = f"; {1e3 * cpu_s:.0f} ms of CPU a frame, {1e3 * inferring_cpu_s:.0f} alone"
            what = "with metrics and checks" if evaluate else "only perceiving"
            print(
                f"{what}, {workers} process{'es' * (workers > 1)}: {replaying:.2f} frames/s, "
                f"inference alone {inferring:.2f}: {median(ratios):.1%} of its speed "
                f"({ratios[0]:.1%} to {ratios[-1]:.1%}); {opening_s:.2f} s to the first result"
                + by_cpu
                * (workers == 1)
            )


if __name__ == "__main__":
    main()
