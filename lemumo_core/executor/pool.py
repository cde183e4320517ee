"""Map tasks over workers: as many at once as there are workers, lost ones again, in order or not.

What a worker is, a subclass knows. A worker that dies, or whose host does, costs only its tasks:
they are done again by others. An error that a task raises ends all work.
"""

from __future__ import annotations

import itertools
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from lemumo_core.faults import Fault

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""A task that loses its worker so often is given up: it may be what kills them."""
AHEAD = 2
"""Tasks a worker that may be waiting or unfinished where results come in order."""
WORKER_FAULTS = "worker_lost", "worker_failed", "ray_failed", "not_shared"
"""Reasons of Faults that are of workers, and not of what they work on."""

Task = TypeVar("Task")


@dataclass(frozen=True)
class Done:
    """A task ended with a value, on a host; that is empty for this machine."""

    value: Any
    host: str = ""


@dataclass(frozen=True)
class Failed:
    """A task, or the preparation of its worker, raised an error on a host."""

    error: Exception
    host: str = ""


@dataclass(frozen=True)
class Lost:
    """The worker of a task ended before the task did, and why."""

    reason: str


Outcome = Done | Failed | Lost


class TaskResult(NamedTuple, Generic[Task]):
    """The result of a task.

    Attributes:
        task: the task.
        value: what the work returned.
        where: ``" on HOST"`` for messages; empty on this machine.
    """

    task: Task
    value: Any
    where: str


class Pool(ABC):
    """Workers that run tasks. A context manager; its end ends them, whatever they are doing."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def map(
        self,
        tasks: Iterable[Task],
        in_order: bool = False,
        name: Callable[[Task], str] = str,
    ) -> Iterator[TaskResult[Task]]:
        """Run the tasks and yield their results.

        Tasks are taken from the iterable, and begun, only as fast as results are taken.

        Args:
            tasks: what the work takes, each; they are pickled. An error that the iterable raises
                is raised after the results of the tasks before it.
            in_order: yield results in the order of the tasks, and not as they come.
            name: names a task in messages.

        Raises:
            Fault: ``worker_lost`` for a task that loses its worker ``ATTEMPTS`` times; whatever
                a task or the preparation of a worker raises.
        """
        waiting, failure, has_more = iter(tasks), None, True
        running: dict[int, Task] = {}
        losses: dict[int, list[str]] = {}
        finished: dict[int, TaskResult[Task]] = {}
        order: deque[int] = deque()
        while has_more or order:
            room = self.workers * (AHEAD if in_order else 1)
            while has_more and len(order) < room:
                try:
                    task = next(waiting)
                except StopIteration:
                    has_more = False
                except Exception as error:
                    failure, has_more = error, False
                else:
                    number = next(self._numbers)
                    running[number] = task
                    order.append(number)
                    self._submit(number, task)
            for number, outcome in self._wait() if running else ():
                if number not in running:  # of an earlier call whose caller wanted no more
                    continue
                task = running[number]
                if isinstance(outcome, Lost):
                    lost = losses.setdefault(number, [])
                    lost.append(outcome.reason)
                    _check_losses(name(task), lost)
                    log.warning("%s: %s; it is done again", name(task), outcome.reason)
                    self._submit(number, task)
                    continue
                where = f" on {outcome.host}" if outcome.host else ""
                if isinstance(outcome, Failed):
                    raise _located(outcome.error, f"{name(task)}{where}" if where else "")
                finished[number] = TaskResult(running.pop(number), outcome.value, where)
            ready = [number for number in order if number in finished]
            if in_order:
                ready = list(itertools.takewhile(finished.__contains__, order))
            for number in ready:
                order.remove(number)
                yield finished.pop(number)
        if failure is not None:
            raise failure

    @property
    @abstractmethod
    def workers(self) -> int:
        """Number of tasks that can run at once, which may change."""

    @abstractmethod
    def close(self) -> None:
        """End the workers."""

    @abstractmethod
    def _submit(self, number: int, task: Any) -> None:
        """Give a task to a worker, soon."""

    @abstractmethod
    def _wait(self) -> list[tuple[int, Outcome]]:
        """Wait a while for tasks to end, and return the numbers of those that did."""


class InProcess(Pool):
    """The one worker that is this process."""

    def __init__(self, work: Callable[[Any], Any]):
        super().__init__()
        self._work = work
        self._next: deque[tuple[int, Any]] = deque()

    @property
    def workers(self) -> int:
        """One."""
        return 1

    def close(self) -> None:
        """Do nothing."""

    def _submit(self, number: int, task: Any) -> None:
        self._next.append((number, task))

    def _wait(self) -> list[tuple[int, Outcome]]:
        number, task = self._next.popleft()
        return [(number, Done(self._work(task)))]


def _check_losses(name: str, reasons: list[str]) -> None:
    """Raise ``worker_lost`` for a task that was lost too often."""
    if len(reasons) < ATTEMPTS:
        return
    raise Fault(
        "worker_lost",
        f"{name} was begun {len(reasons)} times, and its worker was lost each time "
        f"({'; '.join(dict.fromkeys(reasons))}): where memory was short, take fewer --workers; "
        "what is finished stays, the same command goes on",
    )


def _located(error: Exception, where: str) -> Exception:
    """Return the error with the place where it was raised, if there is one to be named."""
    if not where:
        return error
    if isinstance(error, Fault):
        return Fault(error.reason, f"{where}: {error}")
    if isinstance(error, OSError):
        located = OSError(f"{where}: {error}")
        located.errno = error.errno
        return located
    return type(error)(f"{where}: {error}")
