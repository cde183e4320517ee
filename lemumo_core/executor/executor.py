"""Where tasks run: ``--executor``, ``--workers`` and ``--part`` of the commands."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, TypeVar
from urllib.parse import parse_qsl

from lemumo_core.executor.local import LocalPool
from lemumo_core.executor.pool import InProcess, Pool
from lemumo_core.executor.ray_cluster import RayPool, connected, workers_of
from lemumo_core.executor.worker import Setup, WorkerSetup
from lemumo_core.faults import Fault, known_names

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """The share that this host has of the tasks, where several hosts run the same command.

    Attributes:
        number: from 1 on.
        count: of all shares; 1 is all of the work, after which its results are merged.
    """

    number: int = 1
    count: int = 1

    @staticmethod
    def parse(text: str) -> Share:
        """Read ``I/N``.

        Raises:
            Fault: ``bad_option``.
        """
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise Fault("bad_option", f"--part {text} must be I/N with I from 1 to N, e.g. 3/16")
        return Share(int(number), int(count))

    @property
    def is_all(self) -> bool:
        """Whether there is no other share."""
        return self.count == 1

    def of(self, tasks: Sequence[T]) -> Sequence[T]:
        """Return every ``count``-th task: with all shares, each task once."""
        return tasks[self.number - 1 :: self.count]


@dataclass(frozen=True, kw_only=True)
class Executor(ABC):
    """Makes pools of workers.

    Attributes:
        share: which of the tasks are this host's.
        spans_hosts: whether workers may be on other hosts, so that files must be shared.
    """

    share: Share = Share()
    spans_hosts: ClassVar[bool] = False

    @property
    @abstractmethod
    def workers(self) -> int:
        """Number of tasks that can run at once."""

    @abstractmethod
    def pool(self, setup: Setup, one_thread: bool = False) -> Pool:
        """Make workers that are prepared by ``setup``; ``one_thread`` as in ``WorkerSetup``."""

    def shares_out(self, tasks: int) -> bool:
        """Return whether there are tasks enough for all workers, or each is to be divided."""
        return tasks > 1 and tasks >= self.workers


@dataclass(frozen=True)
class LocalExecutor(Executor):
    """Processes of this machine; by default one for each core that this process may use."""

    count: int | None = None

    def __post_init__(self) -> None:
        _check_workers(self.count)

    @property
    def workers(self) -> int:
        """Number of processes."""
        return self.count or len(os.sched_getaffinity(0))

    def pool(self, setup: Setup, one_thread: bool = False) -> Pool:
        """See ``Executor``."""
        return LocalPool(WorkerSetup(setup, one_thread), self.workers)


@dataclass(frozen=True)
class SerialExecutor(Executor):
    """This process alone, e.g. within a worker."""

    @property
    def workers(self) -> int:
        """One."""
        return 1

    def pool(self, setup: Setup, one_thread: bool = False) -> Pool:
        """Prepare this process, whose threads stay as they are."""
        return InProcess(setup())


@dataclass(frozen=True)
class RayExecutor(Executor):
    """A Ray cluster that this process is connected to; arguments as of ``RayPool``."""

    most: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    spans_hosts: ClassVar[bool] = True

    @property
    def workers(self) -> int:
        """Number of tasks for which the nodes have room."""
        return workers_of(self.most, self.cpus, self.gpus)

    def pool(self, setup: Setup, one_thread: bool = False) -> Pool:
        """See ``Executor``."""
        return RayPool(WorkerSetup(setup, one_thread), self.most, self.cpus, self.gpus)


@contextmanager
def open_executor(
    text: str,
    workers: int | None = None,
    part: str | None = None,
    local_default: int | None = None,
) -> Iterator[Executor]:
    """Open what ``--executor`` names.

    Args:
        text: ``local``, or a Ray cluster that runs: ``ray`` (``$RAY_ADDRESS``, or that of this
            host) or ``ray://HOST:10001``; after a ? what each of its tasks takes, by default one
            CPU: ``ray?cpus=4&gpus=0.5``.
        workers: tasks at once; by default as many as the cluster has room for.
        part: share of this host, ``I/N``.
        local_default: workers of this machine by default; None is one for each core.

    Raises:
        Fault: ``bad_option``, ``no_cluster``.
        ImportError: Ray is not installed.
    """
    _check_workers(workers)
    share = Share() if part is None else Share.parse(part)
    address, _, query = text.partition("?")
    if text == "local":
        yield LocalExecutor(workers or local_default, share=share)
        return
    if address != "ray" and not address.startswith("ray://"):
        raise Fault(
            "bad_option",
            f"--executor {text} is neither local nor ray, ray://HOST:10001 or ray?cpus=4&gpus=0.5",
        )
    resources = {"cpus": 1.0, "gpus": 0.0}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in resources:
            raise Fault("bad_option", f"--executor has no {name!r}{known_names(name, resources)}")
        try:
            resources[name] = float(value)
        except ValueError:
            raise Fault("bad_option", f"--executor: {name}={value} must be a number") from None
    with connected("auto" if address == "ray" else address):
        yield RayExecutor(workers, **resources, share=share)


def _check_workers(workers: int | None) -> None:
    if workers is not None and workers < 1:
        raise Fault("bad_option", f"workers = {workers} must be at least 1")
