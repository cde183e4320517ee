"""A generator in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator

import pytest

from lemumo_core.replay.read_ahead import read_ahead
from tests.helpers.waiting import wait_until


def test_items_come_in_order_from_one_other_thread() -> None:
    def threads() -> Generator[tuple[int, int], None, None]:
        for number in range(20):
            yield number, threading.get_ident()

    numbers, idents = zip(*read_ahead(threads, 3), strict=True)
    assert numbers == tuple(range(20))
    assert len(set(idents)) == 1 and threading.get_ident() not in idents


def test_it_runs_ahead_as_far_as_told_and_no_further() -> None:
    made = []

    def count() -> Generator[int, None, None]:
        for number in range(10):
            made.append(number)
            yield number

    items = read_ahead(count, 2)
    assert next(items) == 0
    wait_until(lambda: len(made) >= 3)
    time.sleep(0.1)
    assert made == [0, 1, 2]
    assert list(items) == list(range(1, 10))


def test_what_it_raises_comes_after_what_it_yielded() -> None:
    def fail() -> Generator[int, None, None]:
        yield 1
        raise ValueError("at the second")

    items = read_ahead(fail, 4)
    assert next(items) == 1
    with pytest.raises(ValueError, match="at the second"):
        next(items)


def test_it_is_closed_in_its_own_thread_if_nobody_wants_the_rest() -> None:
    closed_in = []

    def opened() -> Generator[int, None, None]:
        try:
            yield threading.get_ident()
            yield 0
        finally:
            closed_in.append(threading.get_ident())

    items = read_ahead(opened, 1)
    ident = next(items)
    items.close()
    assert closed_in == [ident]
