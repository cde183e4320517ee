"""A phase shows one line: in place on a terminal, now and then in a log."""

from __future__ import annotations

import io

import pytest

from lemumo_core.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def shown(stream: io.StringIO, steps_s: list[float], done: int = 0) -> list[str]:
    clock = Clock()
    with Progress("write", 10, done, stream, clock) as progress:
        for step_s in steps_s:
            clock.now_s += step_s
            progress.advance()
    return stream.getvalue().replace("\r", "\n").splitlines()


def test_a_log_gets_a_line_every_five_seconds() -> None:
    lines = shown(io.StringIO(), [2.0] * 6)
    assert lines == ["write  3/10  0.5/s  ETA 14 s", "write  6/10  0.5/s  ETA 8 s"]


def test_a_terminal_is_written_in_place_and_ends_its_line() -> None:
    stream = Terminal()
    lines = shown(stream, [0.3] * 4)
    assert [line.split("  ")[1] for line in lines if line] == ["2/10", "4/10"]
    assert stream.getvalue().count("\r") == 2 and stream.getvalue().endswith("\n")


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_a_short_phase_says_nothing(stream) -> None:
    assert shown(stream, [0.01] * 3) == []


def test_what_was_done_before_does_not_count_for_the_rate() -> None:
    assert shown(io.StringIO(), [6.0], done=8) == ["write  9/10  0.2/s  ETA 6 s"]


def test_an_error_ends_the_line() -> None:
    stream, clock = Terminal(), Clock()
    with pytest.raises(ValueError), Progress("write", 10, 0, stream, clock) as progress:
        clock.now_s += 1.0
        progress.advance()
        raise ValueError
    assert stream.getvalue().endswith("\n")
