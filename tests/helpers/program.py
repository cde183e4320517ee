"""Commands of ``lemumo``, and workers, in processes that need not import PyTorch, which is slow.

They are forked from the server of ``multiprocessing``, which has imported what they need.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.helpers.waiting import wait_until

PRELOAD = ["pytest", "torch._dynamo", "lemumo_core.cli.pretrain", "lemumo_core.cli.finetune"]
LIMIT_S = 400.0
"""Generous: what does not end waits for ever."""
get_context = multiprocessing.get_context
"""That of Python, with which workers are spawned that inherit limits and standard error."""


def fork_workers() -> None:
    """Let the server fork what would be spawned, in this process; what is sent is pickled alike.

    It inherits the environment of the moment when a process is first asked for. Programs that
    tests start spawn their workers as ever.
    """
    multiprocessing.set_forkserver_preload(PRELOAD)

    def forking(method: str | None = None):
        return get_context("forkserver" if method == "spawn" else method)

    multiprocessing.get_context = forking


class Program:
    """A running command, leader of a group of processes; it writes into a file."""

    def __init__(self, log: Path, *arguments: object, environment: Mapping[str, str] | None = None):
        self.log = log
        words = [str(word) for word in arguments]
        values = {**os.environ, **(environment or {})}
        context = get_context("forkserver")
        self._process = context.Process(target=_run, args=(str(log), words, values))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def printed(self) -> str:
        """Return what it has written so far, standard error too."""
        return self.log.read_text() if self.log.exists() else ""

    def wait_until(self, reached: Callable[[], bool], step_s: float = 0.005) -> None:
        """Wait until a condition holds; the program must not have ended before.

        Raises:
            AssertionError: it has.
        """

        def step() -> None:
            assert self._process.is_alive() or reached(), self.printed()
            time.sleep(step_s)

        wait_until(reached, "what was waited for", step, LIMIT_S)

    def wait_for(self, text: str) -> None:
        """Wait until it has written a text."""
        self.wait_until(lambda: text in self.printed(), 0.02)

    def signal(self, number: int, everyone: bool = False) -> None:
        """Send a signal to it, or to its whole group."""
        (os.killpg if everyone else os.kill)(self.pid, number)

    def end(self) -> tuple[int | None, str]:
        """Return exit code and output of the ended program; none of its processes is left."""
        self._process.join(LIMIT_S)
        try:
            wait_until(lambda: not self._lives(), "the end of all processes", limit_s=LIMIT_S)
        finally:
            if self._lives():
                os.killpg(self.pid, signal.SIGKILL)
        return self._process.exitcode, self.printed()

    def _lives(self) -> bool:
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


def run_ranks(count: int, folder: Path, *arguments: object) -> list[str]:
    """Run a command on ranks of one machine, as torchrun starts them; return what each wrote.

    Raises:
        AssertionError: one failed.
    """
    world = world_of(count)
    ranks = [
        Program(
            folder / f"rank{i}.log",
            *arguments,
            environment={**world, "RANK": str(i), "LOCAL_RANK": str(i)},
        )
        for i in range(count)
    ]
    printed = []
    for rank in ranks:
        code, text = rank.end()
        assert code == 0, text
        printed.append(text)
    return printed


def world_of(count: int) -> dict[str, str]:
    """Return the environment that ranks of one machine share, but for their numbers."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    return {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}


def run_here(program: str, arguments: list[str], options: Mapping[str, Any]) -> None:
    """Run a program of training/ in this process, in place of ``benchmarks._runs.run``.

    Raises:
        AssertionError: it failed.
    """
    from benchmarks._runs import flags
    from lemumo_core.cli.main import main

    assert main([program.removesuffix(".py"), *arguments, *flags(options)]) == 0


def _run(log: str, words: list[str], environment: Mapping[str, str]) -> None:
    gc.freeze()  # what the server imported holds no garbage, and to look through it takes long
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 - for the process
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    from lemumo_core.cli.main import main

    sys.exit(main(words))
