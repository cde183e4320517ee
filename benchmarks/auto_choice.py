"""Measure whether ``auto`` chooses well beside random load.

    python -m benchmarks.auto_choice [--package models/lemumo-tiny] [--runs 20]

In each run the backends are measured as ``auto`` does when a node starts, while busy processes, at
most as many as there are cores, come and go at random. Right is a choice whose processor time is
within 10 % of the least that any backend took in a call of any run. Beside it stands what the
median of the wall time would have chosen from the same calls.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from json import dumps
from pathlib import Path

from benchmarks._timing import machine
from lemumo_core.inference.measure import Measurement, measure
from lemumo_core.inference.package import load_package
from lemumo_core.inference.selection import MAX_FOREIGN_CPU, candidates

BUSY = "while True: sum(i * i for i in range(1000))"
LENGTHS_S = (0.3, 4.0)
"""Shortest and longest time for which a number of busy processes stays."""
TOLERANCE = 1.1
RULES: dict[str, Callable[[Measurement], float]] = {
    "CPU time, p10 (auto)": lambda result: result.cost_ms,
    "median wall time": lambda result: result.latency_ms(50),
}


@contextlib.contextmanager
def random_load(seed: int) -> Iterator[None]:
    """Keep a number of busy processes, drawn again and again, while the context lasts."""
    draw, stop = random.Random(seed), threading.Event()
    cores = len(os.sched_getaffinity(0))

    def run() -> None:
        while not stop.is_set():
            count = draw.randint(0, cores)
            busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
            stop.wait(draw.uniform(*LENGTHS_S))
            for process in busy:
                process.kill()
                process.wait()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--package", type=Path, default=Path("models/lemumo-tiny"))
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--json", type=Path, help="file for the times of every call")
    args = parser.parse_args()
    names, _ = candidates(load_package(args.package))
    if len(names) < 2:
        raise SystemExit(f"there is nothing to choose from: only {names} can run here")
    runs = []
    for seed in range(args.runs):
        with random_load(seed):
            runs.append(measure(args.package, names))
    least_ms = {
        name: min(min(result.cpu_ms) for run in runs for result in run if result.backend == name)
        for name in names
    }
    print(f"{machine()}; {args.package}, {args.runs} runs beside random load")
    for name, cost_ms in least_ms.items():
        print(f"{name:26} {cost_ms:7.1f} ms of CPU, the least of a call in any run")
    foreign = [max(result.foreign_cpu for result in run) for run in runs]
    kept = sum(share <= MAX_FOREIGN_CPU for share in foreign)
    print(f"others took {min(foreign):.0%} to {max(foreign):.0%}; {kept} choices would be kept")
    if args.json:
        args.json.write_text(dumps([[asdict(result) for result in run] for run in runs]))
    for rule, key in RULES.items():
        chosen = [min(run, key=key).backend for run in runs]
        over = [least_ms[name] / min(least_ms.values()) for name in chosen]
        right = sum(ratio <= TOLERANCE for ratio in over)
        print(f"{rule:26} right in {right} of {len(runs)}; at worst {max(over):.2f} of the least")


if __name__ == "__main__":
    main()
