"""Compare two replays of the same bags.

Images are paired by bag and stamp, so what both share, such as how hard a scene is, cancels out.
Confidence intervals are those of a bootstrap over blocks of consecutive images (Kuensch, Annals of
Statistics 1989), because neighbouring images are no independent evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.replay.modalities import REPLAY_MODALITIES
from lemumo_core.replay.output_folder import read_metrics
from lemumo_core.replay.record import COLUMNS, SUMMARY_FIELDS
from lemumo_core.replay.tables import FRAMES, TIMINGS, read_tables

BLOCK = 25
"""Consecutive images in a block, 2.5 s at 10 Hz; fewer where a replay has less than 100 images."""
RESAMPLES = 2000
CONFIDENCE = 0.95
HIGHER_IS_BETTER = {
    f"{modality}_{name}"
    for modality in REPLAY_MODALITIES
    for name in SUMMARY_FIELDS
    if not name.endswith("_mae_m")
}
LOWER_IS_BETTER = {f"{modality}_depth_mae_m" for modality in REPLAY_MODALITIES}
CONSISTENCY = [name for name in COLUMNS if name.startswith(("disagreement_", "flicker_"))]
"""Neither is better: a model that says the same of everything has none."""
TIME = "time_ms"
COMPARED = (*sorted(HIGHER_IS_BETTER), *sorted(LOWER_IS_BETTER), *CONSISTENCY, "detections", TIME)
Key = tuple[str, int]


@dataclass(frozen=True)
class PairedDifference:
    """One column of two replays, over the images for which both have it.

    Attributes:
        column: a column of ``COMPARED``.
        pairs: number of images.
        a, b: means of the two replays.
        difference: mean of b - a.
        low, high: its 95 % confidence interval.
        verdict: ``better`` or ``worse`` (b than a), ``more`` or ``less`` where neither is better,
            ``no difference`` where the interval contains 0.
    """

    column: str
    pairs: int
    a: float
    b: float
    difference: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two replays, image by image.

    Attributes:
        images: bag and stamp (ns) of the images that both have, in order.
        paired: the columns that both have.
        differences: column to float64 (N,), b - a by image, NaN where one of them has none.
    """

    images: list[Key]
    paired: list[PairedDifference]
    differences: dict[str, np.ndarray]

    def gains(self) -> np.ndarray:
        """Return by how much b is better than a at each image, float64 (N,).

        It is the mean over the columns that are better or worse, each divided by its spread over
        the images; 0 where there is none.
        """
        signs = dict.fromkeys(HIGHER_IS_BETTER, 1) | dict.fromkeys(LOWER_IS_BETTER, -1)
        gains = [
            signs[column] * values / spread
            for column, values in self.differences.items()
            if column in signs and (spread := np.sqrt(np.nanmean(values**2)))
        ]
        known = np.array([np.zeros(len(self.images)), *map(np.nan_to_num, gains)])
        return np.asarray(known.sum(axis=0) / max(1, len(gains)))


def compare(a: Path, b: Path) -> Comparison:
    """Compare two replays.

    Raises:
        Fault: ``no_results`` where a folder holds none, or the two share no image.
    """
    first, second = _by_image(a), _by_image(b)
    shared = [key for key in first if key in second]
    if not shared:
        raise Fault("no_results", f"{a} and {b} have no image in common: replay the same bags")
    paired, differences = [], {}
    for column in COMPARED:
        values = np.array([(first[k].get(column), second[k].get(column)) for k in shared], float)
        known = values[np.isfinite(values).all(axis=1)]
        if not len(known):
            continue
        differences[column] = values[:, 1] - values[:, 0]
        paired.append(_paired(column, known))
    return Comparison(shared, paired, differences)


def bootstrap(differences: np.ndarray) -> tuple[float, float]:
    """Return the confidence interval of the mean of (N,) values in order of time.

    The random draws are seeded, so the result is the same every time.
    """
    count = len(differences)
    block = max(1, min(BLOCK, count // 4))
    rng = np.random.default_rng(0)
    starts = rng.integers(0, count, (RESAMPLES, -(-count // block)))
    # Blocks wrap around the end, so that every image is drawn equally often.
    chosen = (starts[:, :, None] + np.arange(block)).reshape(RESAMPLES, -1)[:, :count] % count
    means = differences[chosen].mean(axis=1)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means, (tail, 100 - tail))
    return float(low), float(high)


def _by_image(out: Path) -> dict[Key, dict[str, Any]]:
    """Return the rows of a replay by bag and stamp, with the time that each result took."""
    bags = _read_bags(out)
    rows = {
        (row["bag"], row["stamp_ns"]): row
        for row in read_tables(out, bags, FRAMES)
        if not row["drop"]
    }
    for name in bags:
        for timing in read_tables(out, [name], TIMINGS):
            stamp_ns = timing.pop("stamp_ns")
            if (name, stamp_ns) in rows:
                rows[name, stamp_ns][TIME] = sum(timing.values())
    return rows


def _read_bags(out: Path) -> list[str]:
    return [name for name, bag in read_metrics(out)["bags"].items() if "error" not in bag]


def _paired(column: str, values: np.ndarray) -> PairedDifference:
    a, b = values.mean(axis=0).tolist()
    low, high = bootstrap(values[:, 1] - values[:, 0])
    verdict = "no difference"
    if low > 0 or high < 0:
        more = low > 0
        if column in HIGHER_IS_BETTER or column in LOWER_IS_BETTER or column == TIME:
            verdict = "better" if more == (column in HIGHER_IS_BETTER) else "worse"
        else:
            verdict = "more" if more else "less"
    return PairedDifference(column, len(values), a, b, b - a, low, high, verdict)
