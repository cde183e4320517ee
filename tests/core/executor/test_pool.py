"""Tasks over processes: in order or not, lost and done again, with errors that name their cause."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lemumo_core.executor.executor import (
    Executor,
    LocalExecutor,
    SerialExecutor,
    Share,
    open_executor,
)
from lemumo_core.executor.pool import AHEAD, ATTEMPTS
from lemumo_core.faults import Fault


@dataclass(frozen=True)
class Squares:
    """Squares numbers; ``killed`` ones kill their worker so many times before."""

    folder: Path
    killed: tuple[tuple[int, int], ...] = ()

    def __call__(self) -> Callable[[int], int]:
        return self.square

    def square(self, number: int) -> int:
        begun = self.folder / str(number)
        with begun.open("a") as file:
            file.write("x")
        if len(begun.read_text()) <= dict(self.killed).get(number, 0):
            os.kill(os.getpid(), signal.SIGKILL)
        if number == -1:
            raise Fault("bad_number", "-1 has no place here")
        if number == -2:
            raise OSError(5, "the disk is on fire")
        if number == -3:
            raise KeyError("a mistake of ours")
        return number**2


def unprepared() -> Callable[[int], int]:
    raise Fault("bad_package", "no model here")


EXECUTORS = pytest.mark.parametrize(
    "executor", [LocalExecutor(2), SerialExecutor()], ids=["local", "serial"]
)


@EXECUTORS
def test_each_task_is_done_once(executor: Executor, tmp_path: Path) -> None:
    with executor.pool(Squares(tmp_path)) as pool:
        ordered = [(one.task, one.value) for one in pool.map(range(9), in_order=True)]
        assert ordered == [(n, n**2) for n in range(9)]
        assert sorted(one.value for one in pool.map(range(9, 12))) == [81, 100, 121]
        assert list(pool.map([])) == []
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        map(str, range(12)), "x"
    )


def test_lost_tasks_are_done_again(tmp_path: Path, caplog) -> None:
    squares = Squares(tmp_path, killed=((2, 1), (5, ATTEMPTS - 1)))
    with LocalExecutor(2).pool(squares) as pool:
        found = [one.value for one in pool.map(range(8), in_order=True, name=lambda n: f"no {n}")]
    assert found == [n**2 for n in range(8)]
    assert "no 2: its worker was ended by SIGKILL, perhaps for want of memory" in caplog.text
    lengths = {path.name: len(path.read_text()) for path in tmp_path.iterdir()}
    assert lengths == {**dict.fromkeys(map(str, range(8)), 1), "2": 2, "5": ATTEMPTS}


def test_a_task_that_kills_every_worker_is_given_up(tmp_path: Path) -> None:
    squares = Squares(tmp_path, killed=((1, 99),))
    with (
        LocalExecutor(2).pool(squares) as pool,
        pytest.raises(Fault, match=r"number 1 was begun 3 times, .* SIGKILL") as caught,
    ):
        list(pool.map(range(4), name=lambda number: f"number {number}"))
    assert caught.value.reason == "worker_lost"


@pytest.mark.parametrize(
    ("task", "error", "words"),
    [
        (-1, Fault, "-1 has no place here"),
        (-2, OSError, "the disk is on fire"),
        (-3, Fault, "a worker failed, see above: KeyError.*a mistake of ours"),
    ],
)
def test_errors_of_tasks_come_back(task, error, words, tmp_path: Path) -> None:
    with LocalExecutor(1).pool(Squares(tmp_path)) as pool, pytest.raises(error, match=words):
        list(pool.map([task]))


def test_a_worker_that_cannot_be_prepared_says_why() -> None:
    with LocalExecutor(1).pool(unprepared) as pool, pytest.raises(Fault, match="no model here"):
        list(pool.map([1]))


@EXECUTORS
def test_tasks_are_taken_as_results_are(executor: Executor, tmp_path: Path) -> None:
    taken = []

    def tasks():
        for number in range(50):
            taken.append(number)
            yield number
        raise Fault("damaged_bag", "no more")

    with executor.pool(Squares(tmp_path)) as pool:
        results = pool.map(tasks(), in_order=True)
        assert next(results).task == 0
        assert len(taken) <= AHEAD * executor.workers
        seen = [0]
        with pytest.raises(Fault, match="no more"):  # after all that came before
            for one in results:
                seen.append(one.task)
    assert seen == taken == list(range(50))


def test_given_up_results_do_not_disturb_the_next(tmp_path: Path) -> None:
    with LocalExecutor(2).pool(Squares(tmp_path)) as pool:
        results = pool.map(range(20), in_order=True)
        assert next(results).value == 0
        results.close()
        assert [one.value for one in pool.map([30, 31], in_order=True)] == [900, 961]


def test_shares_are_disjoint_and_complete() -> None:
    shares = [Share.parse(f"{number}/3").of(range(10)) for number in (1, 2, 3)]
    assert sorted(n for share in shares for n in share) == list(range(10))
    assert not Share.parse("1/3").is_all and Share.parse("1/1").is_all


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("local", None, "0/3"), "--part 0/3 must be I/N"),
        (("local", None, "4/3"), "--part 4/3 must be I/N"),
        (("local", None, "x"), "--part x must be I/N"),
        (("local", 0), "workers = 0 must be at least 1"),
        (("dask",), "--executor dask is neither local nor ray"),
        (("ray?cpu=2",), "--executor has no 'cpu'; did you mean 'cpus'"),
        (("ray?cpus=many",), "cpus=many must be a number"),
    ],
)
def test_mistakes_are_named(arguments, words) -> None:
    with pytest.raises(Fault) as caught, open_executor(*arguments):
        pass
    assert words in str(caught.value)
