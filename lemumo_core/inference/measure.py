"""How fast a package runs on this machine: every backend in a process of its own, taking turns.

A process each, because a runtime may crash, and since memory and load time can only be separated
so. Turns, because a machine that is busy for a while would otherwise favour whoever ran before.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.inference.backends import RUNTIMES, load_backend, split_name
from lemumo_core.inference.inputs import random_inputs
from lemumo_core.inference.package import load_package
from lemumo_core.progress import track

WARM_UPS = 3
LOW_PERCENTILE = 10
"""Which percentile of the calls' times counts: beside load the least one is a matter of luck."""
ROUNDS = 24
"""Turns of a backend for ``auto``; beside heavy load a turn is one call, and 12 are too few."""
SLICE_S = 0.125
"""Length of a turn."""
LIMIT_S = 600
"""For an answer of a backend; one that compiles can take minutes."""


@dataclass(frozen=True)
class Measurement:
    """One backend at one batch size.

    Attributes:
        backend: ``RUNTIME:PRECISION``.
        batch: samples in a call.
        load_s: from the package to the end of the first inference.
        memory_mb: resident memory that it added.
        latencies_ms: of each call, wall time.
        cpu_ms: of each call, processor time of all its threads.
        foreign_cpu: share of all cores that other processes took meanwhile, NaN if unknown.
        error: why there are no numbers; empty where there are.
    """

    backend: str
    batch: int
    load_s: float = np.nan
    memory_mb: float = np.nan
    latencies_ms: Sequence[float] = ()
    cpu_ms: Sequence[float] = ()
    foreign_cpu: float = np.nan
    error: str = ""

    def latency_ms(self, percentile: float) -> float:
        """Percentile of the latency; NaN where nothing was measured."""
        return float(np.percentile(self.latencies_ms, percentile)) if self.latencies_ms else np.nan

    @property
    def cost_ms(self) -> float:
        """Time that the calls disturbed least took of the processor that does the work, ms.

        That is the tenth percentile. On a CPU it is of processor time: other processes prolong the
        wall time of a call several times, and its processor time by little. A process that waits
        for a GPU is judged by its wall time. NaN where nothing was measured.
        """
        on_gpu = RUNTIMES[split_name(self.backend)[0]].gpu
        times_ms = self.latencies_ms if on_gpu else self.cpu_ms
        return float(np.percentile(times_ms, LOW_PERCENTILE)) if times_ms else np.nan

    @property
    def throughput(self) -> float:
        """Samples per second, of all calls."""
        return 1e3 * self.batch * len(self.latencies_ms) / (sum(self.latencies_ms) or np.nan)


def measure(
    package: Path,
    names: Sequence[str],
    batch: int = 1,
    rounds: int = ROUNDS,
    slice_s: float = SLICE_S,
) -> list[Measurement]:
    """Measure backends in turns.

    Args:
        package: folder.
        names: ``RUNTIME:PRECISION``.
        batch: samples in a call.
        rounds: turns of each.
        slice_s: length of a turn; one call at least.

    Returns:
        In the order of ``names``; a backend that fails has its ``error``.
    """
    workers = [_Worker(package, name, batch) for name in names]
    try:
        for worker in workers:  # one after the other, else they slow each other's loading
            print(f"loading {worker.name}, batch {batch}", file=sys.stderr, flush=True)
            worker.load()
        for _ in track(range(rounds), f"measuring batch {batch}"):
            for worker in workers:
                worker.turn(slice_s)
    except BaseException:
        for worker in workers:  # one that loads would not hear that its input is closed
            worker.kill()
        raise
    finally:
        for worker in workers:
            worker.close()
    return [worker.measurement() for worker in workers]


def processor() -> str:
    """Name of the processor and how many of its cores this process may use."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else os.uname().machine}, {len(os.sched_getaffinity(0))} cores"


@dataclass
class _Worker:
    """A child process that loads one backend and runs it until it is asked to stop."""

    package: Path
    name: str
    batch: int
    error: str = ""
    facts: dict[str, float] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    foreign: list[float] = field(default_factory=list)
    process: Any = None

    def load(self) -> None:
        command = [sys.executable, "-m", __name__, str(self.package), self.name, str(self.batch)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        self.facts = self._answer()

    def turn(self, seconds: float) -> None:
        if self.error:
            return
        idle_s, started = _idle_s(), time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it died: no answer will say so
            self.process.stdin.write(f"{seconds}\n")
            self.process.stdin.flush()
        answer = self._answer()
        if not answer:
            return
        self.latencies_ms += answer["latencies_ms"]
        self.cpu_ms += answer["cpu_ms"]
        cores_s = len(os.sched_getaffinity(0)) * (time.monotonic() - started)
        foreign_s = cores_s - (_idle_s() - idle_s) - sum(answer["cpu_ms"]) / 1e3
        self.foreign.append(max(0.0, foreign_s / cores_s))

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    def close(self) -> None:
        if self.process is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
            self.process.wait()
            self.process.stdout.close()

    def measurement(self) -> Measurement:
        foreign = float(np.mean(self.foreign)) if self.foreign else np.nan
        latencies, cpu = ((), ()) if self.error else (self.latencies_ms, self.cpu_ms)
        return Measurement(
            self.name,
            self.batch,
            self.facts.get("load_s", np.nan),
            self.facts.get("memory_mb", np.nan),
            tuple(latencies),
            tuple(cpu),
            foreign,
            self.error,
        )

    def _answer(self) -> dict[str, Any]:
        watchdog = threading.Timer(LIMIT_S, self.process.kill)
        watchdog.start()
        try:
            line = self.process.stdout.readline()
        finally:  # also after a signal: the timer's thread would keep this process alive
            watchdog.cancel()
        problem = f"died or hung for {LIMIT_S} s, exit code"
        answer = json.loads(line) if line else {"error": f"{problem} {self.process.wait()}"}
        self.error = answer.pop("error", "")
        return {} if self.error else answer


def _idle_s() -> float:
    """Idle time since boot of the cores that this process may use, all together.

    Cores that a container or an affinity mask withholds disturb nothing. Time that a hypervisor
    takes away is not idle.
    """
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return np.nan
    cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    ticks = [list(map(int, line.split()[4:6])) for line in lines if line.split()[0] in cores]
    return sum(idle + waiting for idle, waiting in ticks) / os.sysconf("SC_CLK_TCK")


def resident_mb(process: int | str = "self") -> float:
    """Memory that a process holds, MB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _work(path: str, name: str, batch: int) -> None:
    """The child: answers a line to each line; what libraries print goes to stderr."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    package = load_package(path)
    inputs = random_inputs(package.manifest.input, batch, 0)
    before_mb, started = resident_mb(), time.monotonic()
    try:
        backend = load_backend(package, name, batch)
        buffers = {n: np.empty(s.shape, s.dtype) for n, s in backend.outputs.items()}
        backend.infer(inputs, buffers)
    except (ValueError, ImportError, RuntimeError) as error:
        channel.write(json.dumps({"error": str(error)}) + "\n")
        return
    load_s = time.monotonic() - started
    for _ in range(WARM_UPS):
        backend.infer(inputs, buffers)
    facts = {"load_s": load_s, "memory_mb": resident_mb() - before_mb}
    channel.write(json.dumps(facts) + "\n")
    for line in sys.stdin:
        latencies_ms: list[float] = []
        cpu_ms: list[float] = []
        end = time.monotonic() + float(line)
        while not latencies_ms or time.monotonic() < end:
            begin, cpu_s = time.perf_counter(), time.process_time()
            backend.infer(inputs, buffers)
            latencies_ms.append(1e3 * (time.perf_counter() - begin))
            cpu_ms.append(1e3 * (time.process_time() - cpu_s))
        channel.write(json.dumps({"latencies_ms": latencies_ms, "cpu_ms": cpu_ms}) + "\n")


if __name__ == "__main__":
    _work(sys.argv[1], sys.argv[2], int(sys.argv[3]))
