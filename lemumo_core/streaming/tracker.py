"""Follow objects over frames in 3D: which detection belongs to which track.

Each track has a Kalman filter (``kalman``). A frame's detections are given to the predicted tracks
by the likelihood of their positions, one each, all at once (``assign``), as the baseline of
Weng et al. does by overlap (arXiv 1907.03961).

Frames may be missing, come at any times, and be those of several cameras: a track ends by the
time for which nothing was seen of it, and by the frames in whose view it should have been.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lemumo_core.frame import NO_TRACK
from lemumo_core.metrics.assignment import assign
from lemumo_core.streaming.kalman import first_state, predict, update

GATE = 16.27
"""Largest squared Mahalanobis distance of a detection from its track: the 99.9 % quantile of chi
squared with three degrees of freedom."""
CONFIRMED_HITS = 2
"""Detections after which a track has an id where frames come as they are taken."""
LOST_MISSES = 3
LOST_S = 0.6
"""A track ends that was missed in so many frames in a row, over so many seconds. One without an id
ends with the first frame that misses it."""
UNSEEN_S = 2.0
"""A track ends that no frame has shown for so long, in view or not."""
BACK_S = 0.5
"""Frames of several cameras may come out of order by so much; more means that the clock went back,
and ends all tracks."""
InView = Callable[[np.ndarray], np.ndarray]
"""Returns which of some positions (N, 3) a frame shows: bool (N,)."""


class Tracker:
    """The tracks in one frame of reference.

    Args:
        new_id: returns the id of a new track.
        confirmed_hits: detections after which a track has an id.

    Attributes:
        ids: int64 (T,) of the tracks that are followed, ``NO_TRACK`` before they are confirmed.
        means: float64 (T, 6), their states at the time of the newest frame.
        covariances: float64 (T, 6, 6) of these.
    """

    def __init__(self, new_id: Callable[[], int], confirmed_hits: int = CONFIRMED_HITS):
        self._new_id, self._confirmed_hits = new_id, confirmed_hits
        self._stamp_ns: int | None = None
        self._clear()

    def update(
        self,
        stamp_ns: int,
        positions: np.ndarray,
        noise: np.ndarray,
        kinds: np.ndarray,
        in_view: InView,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Take the detections of one frame.

        Args:
            stamp_ns: time of the frame.
            positions: float64 (K, 3), finite.
            noise: float64 (K, 3, 3), covariances of the positions.
            kinds: int (K,); a track keeps to one kind.
            in_view: tells which tracks the frame should show.

        Returns:
            Ids int64 (K,), ``NO_TRACK`` for detections of unconfirmed tracks, and the states of
            the tracks: means (K, 6) and covariances (K, 6, 6).
        """
        self._advance(stamp_ns)
        tracks, found = self._associate(positions, noise, kinds)
        self.means[tracks], self.covariances[tracks] = update(
            self.means[tracks], self.covariances[tracks], positions[found], noise[found]
        )
        missed = np.ones(len(self.ids), bool)
        missed[tracks] = False
        missed &= in_view(self.means[:, :3])
        self._misses += missed
        self._misses[tracks] = 0
        self._seen_ns[tracks] = stamp_ns
        self._hits[tracks] += 1
        new = np.setdiff1d(np.arange(len(positions)), found)
        track_of = np.empty(len(positions), np.int64)
        track_of[found], track_of[new] = tracks, len(self.ids) + np.arange(len(new))
        self._append(stamp_ns, positions[new], noise[new], kinds[new])
        for i in np.flatnonzero((self._hits >= self._confirmed_hits) & (self.ids == NO_TRACK)):
            self.ids[i] = self._new_id()
        answer = self.ids[track_of], self.means[track_of], self.covariances[track_of]
        unseen_s = (stamp_ns - self._seen_ns) / 1e9
        lost = (self._misses >= LOST_MISSES) & (unseen_s >= LOST_S)
        self._keep(~lost & ~((self.ids == NO_TRACK) & (self._misses > 0)))
        return answer

    def _clear(self) -> None:
        self.ids, self._kinds = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self.means, self.covariances = np.zeros((0, 6)), np.zeros((0, 6, 6))
        self._hits, self._misses = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._seen_ns = np.zeros(0, np.int64)

    def _advance(self, stamp_ns: int) -> None:
        """Bring the tracks to the time of a frame, and end those that it is too late for."""
        seconds = (stamp_ns - (self._stamp_ns or stamp_ns)) / 1e9
        self._stamp_ns = stamp_ns
        if seconds < -BACK_S:
            self._clear()
        self._keep((stamp_ns - self._seen_ns) / 1e9 <= UNSEEN_S)
        self.means, self.covariances = predict(self.means, self.covariances, seconds)

    def _associate(
        self, positions: np.ndarray, noise: np.ndarray, kinds: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return which tracks meet which detections: int (P,) and int (P,)."""
        offset = positions[None] - self.means[:, None, :3]
        # The largest variance is at most the trace, so this leaves out only what the gate would.
        spread = np.trace(self.covariances[:, :3, :3], axis1=1, axis2=2)[:, None]
        spread = spread + np.trace(noise, axis1=1, axis2=2)
        near = (np.square(offset).sum(axis=2) <= GATE * spread) & (self._kinds[:, None] == kinds)
        i, j = np.nonzero(near)
        S = self.covariances[i, :3, :3] + noise[j]
        away = offset[i, j]
        squared = np.einsum("pi,pi->p", away, np.linalg.solve(S, away[..., None])[..., 0])
        cost = np.full(near.shape, np.inf)
        cost[i, j] = squared + np.linalg.slogdet(S)[1]
        near[i, j] = squared <= GATE
        return assign(cost, near)

    def _append(
        self, stamp_ns: int, positions: np.ndarray, noise: np.ndarray, kinds: np.ndarray
    ) -> None:
        means, covariances = first_state(positions, noise)
        count = len(means)
        self.ids = np.concatenate([self.ids, np.full(count, NO_TRACK)])
        self._kinds = np.concatenate([self._kinds, kinds])
        self.means = np.concatenate([self.means, means])
        self.covariances = np.concatenate([self.covariances, covariances])
        self._hits = np.concatenate([self._hits, np.ones(count, np.int64)])
        self._misses = np.concatenate([self._misses, np.zeros(count, np.int64)])
        self._seen_ns = np.concatenate([self._seen_ns, np.full(count, stamp_ns)])

    def _keep(self, kept: np.ndarray) -> None:
        self.ids, self._kinds = self.ids[kept], self._kinds[kept]
        self.means, self.covariances = self.means[kept], self.covariances[kept]
        self._hits, self._misses = self._hits[kept], self._misses[kept]
        self._seen_ns = self._seen_ns[kept]
