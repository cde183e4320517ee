"""Several processes share each bag; results come in the order of the bag, whoever made them."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lemumo_core.faults import Fault
from lemumo_core.replay.evaluator import Judge, Result, Settings

AHEAD = 4
"""Results that a worker may be ahead by."""
PATIENCE_S = 1.0


class Workers:
    """Judges in processes of their own. A context manager.

    Image ``n`` of a bag is the work of process ``n % count``. Each of them reads the whole bag,
    which costs little beside inference, so nothing has to be sent but results.

    Args:
        settings: of every judge.
        count: 2 or more.
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
            process.terminate()
            process.join()

    def results(self, files: Sequence[Path]) -> Iterator[Result]:
        """As ``Judge.results``.

        Raises:
            Fault: as there; ``worker_died``.
        """
        for tasks in self._tasks:
            tasks.put(list(files))
        count, turn = len(self._processes), 0
        while isinstance(found := self._next(turn % count), Result):
            yield found
            turn += 1
        # That one came to the end of the bag, and so do the others, or to a fault.
        ends = [found]
        for other in range(turn + 1, turn + count):
            while isinstance(found := self._next(other % count), Result):
                continue
            ends.append(found)
        for end in ends:
            if end is not None:
                raise end

    def _next(self, number: int) -> Any:
        while True:
            try:
                return self._results[number].get(timeout=PATIENCE_S)
            except queue.Empty:
                if not self._processes[number].is_alive():
                    code = self._processes[number].exitcode
                    raise Fault(
                        "worker_died",
                        f"worker {number} ended with code {code}: with fewer --workers less "
                        "memory is needed",
                    ) from None


def _work(settings: Settings, number: int, count: int, tasks: Any, results: Any) -> None:
    """Body of a process: results of each bag, then None, or what went wrong."""
    _take_share_of_cores(number, count)
    try:
        judge = Judge(settings)
    except (Fault, OSError, ImportError) as error:
        results.put(error)
        return
    while True:
        files = tasks.get()
        try:
            for result in judge.results(files, lambda n: n % count == number):
                results.put(result)
            results.put(None)
        except (Fault, OSError, ImportError) as error:
            results.put(error)


def _take_share_of_cores(number: int, count: int) -> None:
    """Backends start a thread for every core they see: let each process see its own."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) >= count:
        os.sched_setaffinity(0, cores[number::count])
