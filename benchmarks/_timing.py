"""Interleaved timing and the machine's name, for all benchmarks."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from lemumo_core.inference.measure import processor


def measure(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median milliseconds of each way, run in turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def machine() -> str:
    """Processor, cores and versions, for the head of a table."""
    return f"{processor()}, Python {platform.python_version()}, NumPy {np.__version__}"
