"""Drawn recordings of true and found tracks, for the metric and for its oracle."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CLASSES = ("car", "pedestrian")


class Box(NamedTuple):
    """One object in one frame: its track, class, place in bird's-eye view, metres, and score."""

    track: int
    class_id: int
    x: float
    y: float
    score: float


Frame = tuple[list[Box], list[Box]]
"""True and found boxes."""


class Case(NamedTuple):
    """How tracks are drawn.

    Attributes:
        noise_m: standard deviation of found places.
        missing: share of the objects that are not found in a frame.
        switching: share of the found objects that get a new id in a frame.
        false_tracks: tracks of nothing, in each recording.
        area_m: side of the square in which the objects are.
    """

    noise_m: float = 0.3
    missing: float = 0.1
    switching: float = 0.02
    false_tracks: int = 2
    area_m: float = 60.0


CASES = {
    "usual": Case(),
    "noiseless": Case(0.0, 0.0, 0.0, 0),
    "crowded": Case(0.8, 0.2, 0.05, 6, 8.0),
    "poor": Case(1.5, 0.6, 0.3, 8),
    "lost": Case(0.3, 1.0, 0.0, 3),
}
RECORDINGS, FRAMES, OBJECTS = 3, 12, 6


def draw(name: str) -> list[list[Frame]]:
    """Draw the recordings of a case, each a list of frames."""
    case, rng = CASES[name], np.random.default_rng([5, list(CASES).index(name)])
    return [_recording(case, rng) for _ in range(RECORDINGS)]


def _recording(case: Case, rng: np.random.Generator) -> list[Frame]:
    count = OBJECTS + case.false_tracks
    start = rng.uniform(0, case.area_m, (count, 2))
    speed = rng.normal(0, 1, (count, 2))
    classes = rng.integers(0, len(CLASSES), count)
    ids, next_id = list(range(count)), count
    frames = []
    for t in range(FRAMES):
        places = start + t * speed
        true, found = [], []
        for k in range(count):
            x, y = places[k].tolist()
            class_id, real = int(classes[k]), k < OBJECTS
            if real and rng.random() < 0.9:  # objects come and go
                true.append(Box(k, class_id, x, y, -1.0))
            if real and rng.random() < case.missing:
                continue
            if rng.random() < case.switching:
                ids[k], next_id = next_id, next_id + 1
            x, y = rng.normal((x, y), case.noise_m).tolist()
            score = float(rng.uniform(0.2, 0.7) + 0.3 * real)
            found.append(Box(ids[k], class_id, x, y, score))
        frames.append((true, found))
    return frames
