"""Run a generator in a thread, some items ahead of its consumer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")


def read_ahead(
    generate: Callable[[], Generator[Item, None, None]], count: int
) -> Generator[Item, None, None]:
    """Yield the same items in the same order, then raise the same exception if there is one.

    All of the generator runs in one thread: what it opens (SQLite demands that) is used and closed
    where it was opened, and it is closed too if the consumer stops early.

    Args:
        generate: makes the generator.
        count: items that may be waiting, at least 1.
    """
    end: Any = object()
    with ThreadPoolExecutor(1, "read_ahead") as thread:
        items = generate()
        waiting: deque[Future[Item]] = deque(thread.submit(next, items, end) for _ in range(count))
        try:
            while (item := waiting.popleft().result()) is not end:
                waiting.append(thread.submit(next, items, end))
                yield item
        finally:
            for future in waiting:
                future.cancel()
            thread.submit(items.close).result()
