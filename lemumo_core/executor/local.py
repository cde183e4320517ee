"""Workers that are processes of this machine."""

from __future__ import annotations

import multiprocessing
import pickle
import queue
import signal
import threading
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from lemumo_core.executor.pool import Lost, Outcome, Pool
from lemumo_core.executor.worker import Work, WorkerSetup, failed, run_task
from lemumo_core.signals import leave_signals_to_parent


@dataclass
class _Process:
    """A worker: its process, its end of the pipe, and the tasks that it has not ended, in order."""

    number: int
    process: BaseProcess
    pipe: Connection
    tasks: dict[int, Any] = field(default_factory=dict)


class LocalPool(Pool):
    """Processes, which start when they are first needed, and are replaced when they die.

    They are spawned, so that a program that uses this needs the guard
    ``if __name__ == "__main__"``. Where this process is killed, they end too.
    """

    def __init__(self, setup: WorkerSetup, count: int):
        super().__init__()
        self._setup, self._count = setup, count
        # Libraries in use here, torch among them, do not survive a fork.
        self._context = multiprocessing.get_context("spawn")
        self._processes: list[_Process] = []

    @property
    def workers(self) -> int:
        """Number of processes."""
        return self._count

    def close(self) -> None:
        """Kill the processes."""
        for one in self._processes:
            one.process.kill()
        for one in self._processes:
            one.process.join()
            one.pipe.close()
        self._processes.clear()

    def _submit(self, number: int, task: Any) -> None:
        least = min(self._processes, key=lambda one: len(one.tasks), default=None)
        if least is None or (least.tasks and len(self._processes) < self._count):
            least = self._start()
        self._send(least, number, task)

    def _wait(self) -> list[tuple[int, Outcome]]:
        ended: list[tuple[int, Outcome]] = []
        ready = set(wait([one.pipe for one in self._processes]))
        for one in [one for one in self._processes if one.pipe in ready]:
            try:
                number, outcome = one.pipe.recv()
            except (EOFError, OSError):
                ended += self._replace(one)
                continue
            one.tasks.pop(number, None)
            ended.append((number, pickle.loads(outcome)))
        return ended

    def _start(self) -> _Process:
        taken = {one.number for one in self._processes}
        number = next(n for n in range(self._count) if n not in taken)
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(theirs, self._setup, number, self._count), daemon=True
        )
        process.start()
        theirs.close()
        self._processes.append(_Process(number, process, ours))
        return self._processes[-1]

    def _send(self, one: _Process, number: int, task: Any) -> None:
        one.tasks[number] = task
        try:
            one.pipe.send((number, task))
        except OSError:  # it has died, which shows when it is waited for
            return

    def _replace(self, dead: _Process) -> list[tuple[int, Outcome]]:
        """Report the task during which a worker died; others do those that it had not begun."""
        self._processes.remove(dead)
        dead.process.join()
        dead.pipe.close()
        numbers = iter(dead.tasks)
        begun = next(numbers, None)
        for number in numbers:
            self._submit(number, dead.tasks[number])
        return [] if begun is None else [(begun, Lost(_how_it_ended(dead.process.exitcode)))]


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        memory = ", perhaps for want of memory" if name == "SIGKILL" else ""
        return f"its worker was ended by {name}{memory}"
    return f"its worker ended with exit code {code}"


def _work(pipe: Connection, setup: WorkerSetup, number: int, count: int) -> None:
    """Run a worker: a thread reads, so that whoever sends a task never waits for another one."""
    leave_signals_to_parent()
    tasks: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(pipe, tasks), name="read tasks", daemon=True).start()
    work: Work | None = None
    try:
        work = setup.begin(number, count)
    except Exception as error:
        unprepared = failed(error)
    while (item := tasks.get()) is not None:
        outcome = unprepared if work is None else run_task(work, item[1])
        pipe.send((item[0], outcome))


def _read(pipe: Connection, tasks: queue.SimpleQueue[tuple[int, Any] | None]) -> None:
    try:
        while True:
            tasks.put(pipe.recv())
    except (EOFError, OSError):  # the parent is gone
        tasks.put(None)
