"""Workers on the nodes of a Ray cluster that is running already."""

from __future__ import annotations

import fcntl
import logging
import os
import pickle
import secrets
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lemumo_core.executor.pool import Lost, Outcome, Pool
from lemumo_core.executor.worker import Work, WorkerSetup, failed, run_task
from lemumo_core.faults import Fault
from lemumo_core.signals import SIGNALS

POLL_S = 1.0
"""Signals are seen, and nodes that have joined are used, after so long."""
ATTEMPTS = 3
"""So often a cluster is asked that answers and does not serve."""
log = logging.getLogger(__name__)


class RayPool(Pool):
    """Tasks of Ray, one attempt each: what is lost is submitted again by ``Pool``.

    Args:
        setup: of each process.
        most: tasks at once at most; None for as many as the cluster has room for.
        cpus: CPUs that a task takes.
        gpus: GPUs that a task takes.
    """

    def __init__(self, setup: WorkerSetup, most: int | None, cpus: float, gpus: float):
        import ray

        super().__init__()
        self._ray, self._most, self._cpus, self._gpus = ray, most, cpus, gpus
        self._running: dict[Any, int] = {}
        # Pickled here: what Ray itself unpickles has arrays that cannot be written to.
        self._setup = [ray.put(pickle.dumps(setup))]
        self._key = secrets.token_hex(8)
        self._remote = ray.remote(_run).options(
            num_cpus=cpus, num_gpus=gpus, max_retries=0, scheduling_strategy="SPREAD"
        )

    @property
    def workers(self) -> int:
        """Number of tasks for which the nodes have room."""
        return workers_of(self._most, self._cpus, self._gpus)

    def close(self) -> None:
        """Give up what runs, which is killed when the connection to the cluster ends.

        It is not cancelled before: Ray 2.60 aborts this process where a task was just begun.
        """
        self._running.clear()

    def _submit(self, number: int, task: Any) -> None:
        arguments = self._key, self._setup, pickle.dumps(task), self._cpus
        self._running[self._remote.remote(*arguments)] = number

    def _wait(self) -> list[tuple[int, Outcome]]:
        ready, _ = self._ray.wait(list(self._running), timeout=POLL_S)
        return [(self._running.pop(one), self._outcome(one)) for one in ready]

    def _outcome(self, one: Any) -> Outcome:
        errors = self._ray.exceptions
        try:
            outcome: Outcome = pickle.loads(self._ray.get(one))
        except errors.RayTaskError as error:  # before the task itself began
            raise Fault(
                "ray_failed",
                f"a node cannot run tasks of lemumo: {error.cause!r}; install the same version of "
                "lemumo on all nodes",
            ) from error
        except errors.RayError as error:  # the worker, its node or its result is gone
            return Lost(f"its worker was lost ({type(error).__name__}: {_lines(error)[0][:200]})")
        return outcome


def workers_of(most: int | None, cpus: float, gpus: float) -> int:
    """Return how many tasks the cluster has room for, at least one and at most ``most``."""
    import ray

    there = ray.cluster_resources()
    wanted = {"CPU": cpus, "GPU": gpus}
    room = min(there.get(kind, 0.0) / count for kind, count in wanted.items() if count)
    return max(1, int(room) if most is None else min(int(room), most))


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect to a cluster for a while; Ctrl-C and SIGTERM do what they did before.

    Args:
        address: as ``ray.init`` takes it; ``auto`` for ``$RAY_ADDRESS`` or a cluster of this host.

    Raises:
        Fault: ``no_cluster``.
        ImportError: Ray is not installed.
    """
    import ray

    is_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in SIGNALS} if is_main else {}
    _connect(address)
    for number, handler in handlers.items():  # Ray has put its own in their place
        signal.signal(number, handler)
    try:
        yield
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    """Connect, in several attempts where a cluster answers and cannot serve this client yet.

    The head node starts a process for each client of ``ray://``, and gives it up on a busy machine.

    Raises:
        Fault: ``no_cluster``.
    """
    import ray

    for left in reversed(range(ATTEMPTS)):
        try:
            ray.init(address=address, logging_level=logging.WARNING)
            return
        except ConnectionAbortedError as error:  # its last line is the cause, a traceback before it
            line = f"it answers, but cannot serve a client ({_lines(error)[-1]})"
            if not left:
                raise _no_cluster(address, line) from error
            log.warning("the Ray cluster at %s: %s; trying again", address, line)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise _no_cluster(address, _lines(error)[0]) from error


def _lines(error: BaseException) -> list[str]:
    return str(error).strip().splitlines() or [""]


def _no_cluster(address: str, why: str) -> Fault:
    return Fault(
        "no_cluster",
        f"no Ray cluster at {address}: {why}; start one (ray start --head), or name its address: "
        "--executor ray://HOST:10001, or RAY_ADDRESS",
    )


_work_of: dict[str, Work | Exception] = {}
"""The work of the pool that this process was last used by, or why it cannot be done here."""
_core_lock: list[IO[str]] = []


def _run(key: str, setup: list[Any], task: bytes, cpus: float) -> bytes:
    """Run a task in a process of Ray, which is prepared before its first one."""
    host = socket.gethostname()
    if key not in _work_of:
        import ray

        _work_of.clear()
        count = max(1, int(len(os.sched_getaffinity(0)) // max(cpus, 1)))
        try:
            prepared: WorkerSetup = pickle.loads(ray.get(setup[0]))
            _work_of[key] = prepared.begin(_number_on_host(count), count)
        except Exception as error:
            _work_of[key] = error
    work = _work_of[key]
    if isinstance(work, Exception):
        return failed(work, host)
    return run_task(work, pickle.loads(task), host)


def _number_on_host(count: int) -> int:
    """Return a number below ``count`` that no other living worker of this host has, if any is."""
    folder = Path(tempfile.gettempdir()) / f"lemumo-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for number in range(count):
        file = (folder / f"worker{number}.lock").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        _core_lock.append(file)  # held until this process ends
        return number
    return os.getpid() % count
