"""Prepare and replay many short bags: in processes, and on a Ray cluster that loses a node.

    python -m benchmarks.fleet [--bags 100 200 400] [--lose-a-node] [--workers 2]

For each number of bags, seconds and CPU seconds of ``lemumo prepare bags`` and ``lemumo replay``,
and the memory of the largest process. CPU time, which other programs disturb little, should grow as
the number of bags, and memory not at all; on Ray it is that of the command alone. With
``--lose-a-node`` the last number is done once more on a Ray cluster of three nodes of one CPU on
this machine, one of which is killed, with all that runs there, once a third of the bags is done;
then the results are compared byte by byte with those of the processes. The bags hold one or two
small rendered frames each; the model is a handful of operators.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from lemumo_core.bags.writer import write_bag
from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.frame import Frame, LidarScan
from lemumo_core.inference.measure import processor
from lemumo_core.progress import track
from tests.helpers.many_bags import contents
from tests.helpers.paths import ROOT
from tests.helpers.toy_package import write_toy_package

RENDERED = 8
EVERY = 40
"""One in so many of the LiDAR's points is kept."""
OBJECT_STORE = 80_000_000


def write_bags(folder: Path, count: int) -> None:
    """Write bags of one or two frames of a street, each with stamps of its own."""
    street = SyntheticStreet(frames=RENDERED, frames_per_drive=RENDERED, width=96, height=64)
    frames = [_smaller(street[i]) for i in range(RENDERED)]
    for number in track(range(count), "write bags"):
        chosen = [frames[(number + i) % RENDERED] for i in range(1 + number % 2)]
        first_ns = (1 + number) * 10**9
        shifted = (_at(one, first_ns + i * 10**8) for i, one in enumerate(chosen))
        write_bag(shifted, folder / f"bag{number:04d}")


def _smaller(frame: Frame) -> Frame:
    scan = frame.companion
    assert isinstance(scan, LidarScan)
    labels = replace(frame.labels, point_labels=None) if frame.labels else None
    return replace(frame, companion=replace(scan, points=scan.points[::EVERY]), labels=labels)


def _at(frame: Frame, stamp_ns: int) -> Frame:
    assert isinstance(frame.companion, LidarScan)
    return replace(frame, stamp_ns=stamp_ns, companion=replace(frame.companion, stamp_ns=stamp_ns))


class Cost(NamedTuple):
    """Time and memory of a command.

    Attributes:
        seconds: from its start to its end.
        cpu_s: CPU seconds of all its processes.
        memory_mb: of the largest of them.
    """

    seconds: float
    cpu_s: float
    memory_mb: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.cpu_s:.1f} s of CPU, {self.memory_mb:.0f} MB"


def run(log: Path, *words: object) -> Cost:
    """Run a command of ``lemumo``.

    Raises:
        SystemExit: it failed.
    """
    started = time.perf_counter()
    with log.open("w") as file:
        command = [sys.executable, "-m", "lemumo_core.cli.main", *map(str, words)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"{words[0]} failed: {log.read_text()[-2000:]}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def both(bags: Path, model: Path, out: Path, *options: object) -> dict[str, Cost]:
    """Prepare and replay; return what each took."""
    out.mkdir()
    prepare: tuple[object, ...] = "prepare", "bags", "--path", bags, "--out", out / "shards"
    replay: tuple[object, ...] = "replay", bags, "--model", model, "--out", out / "results"
    replay += "--backend", "onnxruntime"
    return {words[0]: run(out / f"{words[0]}.log", *words, *options) for words in (prepare, replay)}


@contextmanager
def cluster() -> Iterator[Any]:
    """Start a Ray cluster of three nodes of one CPU on this machine."""
    from ray.cluster_utils import Cluster

    os.environ |= {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    node = {"num_cpus": 1, "object_store_memory": OBJECT_STORE}
    head = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        for _ in range(2):
            head.add_node(**node)
        os.environ["RAY_ADDRESS"] = head.address
        yield head
    finally:
        head.shutdown()


def kill_a_node(head: Any, folder: Path, finished: int) -> None:
    """Kill a node once so many bags have a bag.json in a folder."""
    while sum(1 for _ in folder.glob("*/bag.json")) < finished:
        time.sleep(0.1)
    head.remove_node(next(iter(head.worker_nodes)), allow_graceful=False)
    print(f"killed a node, with {finished} bags done in {folder.name}", flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bags", type=int, nargs="+", default=[100, 200, 400])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--lose-a-node", action="store_true")
    args = parser.parse_args()
    print(f"{processor()}, {args.workers} processes")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["LEMUMO_CACHE"] = str(folder / "cache")
        model = write_toy_package(folder / "toy")
        for count in args.bags:
            bags, out = folder / f"bags{count}", folder / f"local{count}"
            write_bags(bags, count)
            found = both(bags, model, out, "--workers", args.workers)
            _show(f"{count} bags, processes", found)
        if args.lose_a_node:
            with cluster() as head:
                lost = folder / "ray"
                threading.Thread(
                    target=kill_a_node, args=(head, lost / "shards", count // 3), daemon=True
                ).start()
                _show(f"{count} bags, Ray", both(bags, model, lost, "--executor", "ray"))
            for part in ("shards", "results"):
                here, there = contents(out / part), contents(lost / part)
                same = "equal to the byte" if here == there else "DIFFERENT"
                print(f"{part}: {len(there)} files on Ray, {len(here)} of processes: {same}")


def _show(title: str, found: dict[str, Cost]) -> None:
    parts = (f"{name} {cost}" for name, cost in found.items())
    print(f"{title}: {'; '.join(parts)}", flush=True)


if __name__ == "__main__":
    main()
