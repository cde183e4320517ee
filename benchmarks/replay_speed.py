"""How much of the time of an offline replay is inference: the rest is what replaying costs.

    python benchmarks/replay_speed.py [BAG] [--model PACKAGE]

By default a rendered street and a model with random weights. Both times are of the same run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from _package import untrained_package

from lemumo_core.inference.measure import processor
from lemumo_ros.demo import default_bag
from lemumo_ros.replay import named
from lemumo_ros.replay_judge import Judge, Settings
from lemumo_ros.replay_run import Replay


def measure(bag: Path, model: Path, evaluate: bool) -> tuple[int, float, float]:
    """Results, seconds of the replay with all it writes but the page, and seconds of inference."""
    judge = Judge(Settings(model, evaluate=evaluate))
    inferring_s = 0.0
    infer = judge.pipeline.backend.infer

    def timed(*arguments: object) -> None:
        nonlocal inferring_s
        started = time.perf_counter()
        infer(*arguments)  # type: ignore[arg-type]
        inferring_s += time.perf_counter() - started

    judge.pipeline.backend.infer = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as out:
        replay = Replay(judge, judge, Path(out))
        started = time.perf_counter()
        replay.bag(named([(bag,)])[0])
        return replay.frames, time.perf_counter() - started, inferring_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bag", type=Path, nargs="?", help="default: a rendered street")
    parser.add_argument("--model", type=Path, help="default: random weights")
    args = parser.parse_args()
    bag, model = args.bag or default_bag(), args.model or untrained_package()
    print(f"{processor()}, {bag}, {model}")
    for evaluate in (False, True):
        frames, seconds, inferring_s = measure(bag, model, evaluate)
        name = "with metrics and checks" if evaluate else "only perceiving"
        print(
            f"{name:24} {frames / seconds:6.2f} frames/s, inference alone "
            f"{frames / inferring_s:6.2f}: {inferring_s / seconds:.1%} of its speed"
        )


if __name__ == "__main__":
    main()
