"""A worker prepares itself once, wherever it runs, and then runs tasks."""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2

from lemumo_core.executor.pool import Done, Failed
from lemumo_core.faults import Fault
from lemumo_core.files import CACHE_VARIABLE
from lemumo_core.folders.folder import Folder
from lemumo_core.progress import hide_progress

Work = Callable[[Any], Any]
"""Runs one task. Its value is pickled."""
Setup = Callable[[], Work]
"""Prepares a worker, e.g. loads a model; it is pickled."""


@dataclass(frozen=True)
class WorkerSetup:
    """The work, and what a process needs to do it as the command itself would.

    Attributes:
        setup: returns the work.
        one_thread: whether its libraries take one thread, as where bytes must not depend on their
            number; otherwise the worker takes its share of the cores.
        folder: in which the command was started, for paths relative to it.
        cache: folder of the cache as the command's environment has it.
    """

    setup: Setup
    one_thread: bool
    folder: str = field(default_factory=os.getcwd)
    cache: str | None = field(default_factory=lambda: os.environ.get(CACHE_VARIABLE))

    def begin(self, number: int, count: int) -> Work:
        """Prepare this process.

        Args:
            number: of the worker, among those that share the cores.
            count: how many share them.

        Raises:
            Fault: ``not_shared`` where the command's folder is not on this host; as ``setup``.
        """
        if not os.path.isdir(self.folder):
            raise Fault(
                "not_shared",
                f"the folder {self.folder}, in which the command was started, is not there: start "
                "it in a folder that all hosts share, and name such folders",
            )
        os.chdir(self.folder)
        if self.cache is not None:
            os.environ[CACHE_VARIABLE] = self.cache
        hide_progress()
        if self.one_thread:
            _take_one_thread()
        else:
            _take_share_of_cores(number, count)
        return self.setup()


def run_task(work: Work, task: Any, host: str = "") -> bytes:
    """Run a task and return its ``Outcome``, pickled."""
    try:
        return pickle.dumps(Done(work(task), host))
    except Exception as error:
        return failed(error, host)


def failed(error: Exception, host: str = "") -> bytes:
    """Return the outcome of an error, pickled; of a mistake of ours print the trace."""
    if not isinstance(error, Fault | OSError | ImportError):
        traceback.print_exception(error)
        error = Fault("worker_failed", f"a worker failed, see above: {error!r}")
    return pickle.dumps(Failed(error, host))


def check_shared(out: Folder) -> None:
    """Check in a worker that the output folder, which the command has made, is there.

    Raises:
        Fault: ``not_shared``; ``bad_output`` for a bucket to which this host has no access.
    """
    if not out.exists():
        raise Fault("not_shared", f"{out} is not there: name an --out that all hosts share")


def _take_one_thread() -> None:
    cv2.setNumThreads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for a torch that is imported later
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _take_share_of_cores(number: int, count: int) -> None:
    """Give each process cores of its own, because backends start a thread for every core."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) >= count:
        os.sched_setaffinity(0, cores[number % count :: count])
