"""Evaluate each bag in several processes; results come in the order of the bag."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lemumo_core.faults import Fault
from lemumo_core.replay.evaluator import Evaluator, ImageResult
from lemumo_core.replay.settings import Settings
from lemumo_core.signals import leave_signals_to_parent

AHEAD = 4
"""Results that a worker may be ahead of the others."""
POLL_S = 1.0


class Workers:
    """Evaluators in processes of their own. A context manager.

    Process ``n % count`` processes image ``n`` of a bag. Each process reads the whole bag, which
    costs little beside inference, so that only results have to be sent.

    Args:
        settings: options of the replay.
        count: number of processes, 2 or more.
    """

    def __init__(self, settings: Settings, count: int):
        context = multiprocessing.get_context("spawn")
        self._tasks = [context.SimpleQueue() for _ in range(count)]
        self._results = [context.Queue(AHEAD) for _ in range(count)]
        self._processes = [
            context.Process(
                target=_work,
                args=(settings, number, count, self._tasks[number], self._results[number]),
                daemon=True,
            )
            for number in range(count)
        ]
        for process in self._processes:
            process.start()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.join()

    def results(self, files: Sequence[Path]) -> Iterator[ImageResult]:
        """Replay one bag, and yield the result of each image, as ``Evaluator.results`` does.

        Raises:
            Fault: as ``Evaluator.results``; ``worker_died``.
        """
        for tasks in self._tasks:
            tasks.put(list(files))
        count, turn = len(self._processes), 0
        while isinstance(found := self._next(turn % count), ImageResult):
            yield found
            turn += 1
        # One worker reached the end of the bag or a fault; the others must too.
        ends = [found]
        for other in range(turn + 1, turn + count):
            while isinstance(found := self._next(other % count), ImageResult):
                continue
            ends.append(found)
        for end in ends:
            if end is not None:
                raise end

    def _next(self, number: int) -> Any:
        while True:
            try:
                return self._results[number].get(timeout=POLL_S)
            except queue.Empty:
                if not self._processes[number].is_alive():
                    code = self._processes[number].exitcode
                    raise Fault(
                        "worker_died",
                        f"worker {number} ended with code {code}: with fewer --workers less "
                        "memory is needed",
                    ) from None


def _work(settings: Settings, number: int, count: int, tasks: Any, results: Any) -> None:
    """Run in a process: send the results of each bag, then None, or the exception."""
    leave_signals_to_parent()
    _take_share_of_cores(number, count)
    try:
        evaluator = Evaluator(settings)
    except (Fault, OSError, ImportError) as error:
        results.put(error)
        return
    while True:
        files = tasks.get()
        try:
            for result in evaluator.results(files, lambda n: n % count == number):
                results.put(result)
            results.put(None)
        except (Fault, OSError, ImportError) as error:
            results.put(error)


def _take_share_of_cores(number: int, count: int) -> None:
    """Give each process cores of its own, because backends start a thread for every core."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) >= count:
        os.sched_setaffinity(0, cores[number::count])
