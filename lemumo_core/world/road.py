"""Shape of an endless street: middle line, lanes and crossings.

World frame: x along the street, y left, z up, metres; the ground is the plane z = 0. Traffic
keeps to the right.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from lemumo_core.world.objects import SPLITS

LANE_M, PARKING_M, CROSSING_HALF_M = 3.5, 2.3, 5.0
"""Width of a lane and of the strip beside the lanes; half the width of a crossing road."""
BLOCK_M = 105.0
"""Mean distance between crossings."""
CACHED = 2000
"""Road users, stretches and crossings that a road remembers."""


class Road:
    """One street.

    Args:
        seed: of everything, not negative.
        split: one of ``objects.SPLITS``.

    Attributes:
        lanes_each_way: 1 or 2.
        half_m: from the middle to the kerb.
        walk_m: width of each pavement.
        waves: float64 (2, 3), amplitude in metres, wave number in 1 / m and phase of the sines
            whose sum is the middle line.
        paint: which pattern of lane lines, 0 to 2.
        green: share of trees among what stands beside the road, 0 to 1.

    Raises:
        ValueError: a split that does not exist or a negative seed.
    """

    def __init__(self, seed: int, split: str):
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}, must be one of {', '.join(SPLITS)}")
        if seed < 0:
            raise ValueError(f"seed is {seed}, must not be negative")
        self.seed, self.split = seed, split
        rng = self.rng("road")
        self.lanes_each_way = int(rng.choice([1, 1, 2]))
        self.half_m = LANE_M * self.lanes_each_way + PARKING_M
        self.walk_m = float(rng.uniform(3.1, 4.4))
        bends = rng.choice([0, 1], (2, 1))
        self.waves = rng.uniform((0.5, 0.004, 0), (2.5, 0.012, 2 * np.pi), (2, 3)) * bends
        self.paint = int(rng.integers(3))
        self.green = float(rng.random())
        self._cache: dict[Hashable, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    def rng(self, *key: str | int) -> np.random.Generator:
        """Return the random generator of a place, a road user or whatever the key stands for."""
        words = [zlib.crc32(k.encode()) if isinstance(k, str) else k & 0xFFFFFFFF for k in key]
        return np.random.default_rng([SPLITS.index(self.split), self.seed, *words])

    def cached(self, make: Callable[..., Any], *key: Any) -> Any:
        """Return ``make(*key)``, remembered while it is among the newest ``CACHED``."""
        known = (make.__name__, *key)
        if known not in self._cache:
            made = make(*key)  # may remember things itself
            if len(self._cache) >= CACHED:
                del self._cache[next(iter(self._cache))]
            self._cache[known] = made
        return self._cache[known]

    def middle(self, x: np.ndarray | float) -> np.ndarray:
        """Return the world y of the road's middle line at x (...)."""
        amplitude, k, phase = self.waves.T
        return np.sin(np.multiply.outer(x, k) + phase) @ amplitude

    def heading(self, x: np.ndarray | float) -> np.ndarray:
        """Return the yaw of the middle line at x (...), radians."""
        amplitude, k, phase = self.waves.T
        return np.arctan(np.cos(np.multiply.outer(x, k) + phase) @ (amplitude * k))

    def beside(
        self, x: np.ndarray | float, offset: np.ndarray | float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return world y and yaw of the road at x (...) and a distance left of the middle."""
        heading = self.heading(x)
        return self.middle(x) + offset / np.cos(heading), heading

    def crossings(self, low: float, high: float) -> np.ndarray:
        """Return the world x of crossing roads in a range and up to 20 m beyond, ascending."""
        blocks = range(int(low // BLOCK_M) - 1, int(high // BLOCK_M) + 3)
        xs = np.array([self.cached(self._crossing, k) for k in blocks])
        return xs[(xs > low - 20) & (xs < high + 20)]

    def _crossing(self, k: int) -> float:
        return k * BLOCK_M + self.rng("crossing", k).uniform(-20, 20)
