"""Metrics of dense depth against ground truth, by band of depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lemumo_core.metrics.bands import BAND_EDGES_M, band_names, band_of, checked_edges

RATIO = 1.25
CHUNK = 1 << 15
"""Pixels at a time: as many as stay in the processor's cache."""


@dataclass(frozen=True)
class DepthScores:
    """Scores over pixels with ground truth, each pixel of all frames weighing the same.

    Attributes:
        pixels: with truth.
        coverage: share of them for which there is a prediction; the others enter nothing else.
        mae_m: mean |predicted - true|.
        abs_rel: mean |predicted - true| / true.
        rmse_m: root of the mean square error.
        delta: share of pixels within a factor of 1.25.

    All but ``pixels`` are NaN where there is nothing to average over.
    """

    pixels: int
    coverage: float
    mae_m: float
    abs_rel: float
    rmse_m: float
    delta: float


class DepthMetric:
    """Accumulates errors of depth over frames. Picklable; ranks and replays merge theirs.

    Args:
        band_edges_m: bands of the true depth. Truth outside all of them is no truth.

    Attributes:
        sums: float64 (bands, 6): pixels, those with a prediction, and sums of the errors.
    """

    def __init__(self, band_edges_m: tuple[float, ...] = BAND_EDGES_M):
        self.band_edges_m = checked_edges(band_edges_m)
        self.sums = np.zeros((len(band_edges_m) - 1, 6))

    def add(self, predicted_m: np.ndarray, true_m: np.ndarray) -> None:
        """Add one frame's depth maps of one shape, metres.

        Args:
            predicted_m: NaN where there is no prediction.
            true_m: NaN or 0 where unknown.

        Raises:
            ValueError: the shapes differ, or a prediction is infinite.
        """
        if predicted_m.shape != true_m.shape:
            raise ValueError(
                f"the predicted depth is {predicted_m.shape}, the truth {true_m.shape}: bring the "
                "truth to the resolution of the prediction"
            )
        if np.isinf(predicted_m).any():
            raise ValueError("the predicted depth holds infinity; unknown is NaN")
        valid = true_m > 0
        if not valid.all():
            predicted_m, true_m = predicted_m[valid], true_m[valid]
        predicted_m, true_m = predicted_m.ravel(), true_m.ravel()
        for start in range(0, len(true_m), CHUNK):
            part = slice(start, start + CHUNK)
            self._add(predicted_m[part].astype(np.float64), true_m[part].astype(np.float64))

    def _add(self, predicted_m: np.ndarray, true_m: np.ndarray) -> None:
        """Add pixels of known depth, float64 (N,)."""
        band, seen = band_of(true_m, self.band_edges_m), ~np.isnan(predicted_m)
        for number, sums in enumerate(self.sums):  # far faster than weighted counts by band
            ours = band == number
            sums[0] += np.count_nonzero(ours)
            ours &= seen
            found, true = predicted_m[ours], true_m[ours]
            error_m = np.abs(found - true)
            close = (np.maximum(found, 0) * RATIO > true) & (found < RATIO * true)
            terms = error_m, error_m / true, error_m**2, close
            sums[1:] += len(found), *(term.sum() for term in terms)

    def merge(self, other: DepthMetric) -> None:
        """Add the frames of another metric.

        Raises:
            ValueError: its bands differ.
        """
        if other.band_edges_m != self.band_edges_m:
            raise ValueError(f"bands {other.band_edges_m} and {self.band_edges_m} do not merge")
        self.sums = self.sums + other.sums

    def scores(self) -> DepthScores:
        """Return the scores over all bands."""
        return _scores(self.sums.sum(axis=0))

    def scores_between(self, from_m: float, to_m: float) -> DepthScores:
        """Return the scores of the bands from one edge to another.

        Raises:
            ValueError: one of the depths is no edge of a band.
        """
        first, last = (self.band_edges_m.index(edge_m) for edge_m in (from_m, to_m))
        return _scores(self.sums[first:last].sum(axis=0))

    def scores_by_band(self) -> dict[str, DepthScores]:
        """Return the scores of each band, by its name."""
        names = band_names(self.band_edges_m)
        return {name: _scores(sums) for name, sums in zip(names, self.sums, strict=True)}


def _scores(sums: np.ndarray) -> DepthScores:
    pixels, seen = sums[:2]
    mae_m, abs_rel, square, delta = sums[2:] / seen if seen else np.full(4, np.nan)
    return DepthScores(
        pixels=int(pixels),
        coverage=float(seen / pixels) if pixels else float("nan"),
        mae_m=float(mae_m),
        abs_rel=float(abs_rel),
        rmse_m=float(np.sqrt(square)),
        delta=float(delta),
    )
