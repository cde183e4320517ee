"""What a tracker gets right and wrong, frame by frame: the events of CLEAR MOT.

Bernardin and Stiefelhagen, "Evaluating Multiple Object Tracking Performance: The CLEAR MOT
Metrics", EURASIP Journal on Image and Video Processing, 2008.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from lemumo_core.frame import NO_TRACK
from lemumo_core.metrics.assignment import assign


class TrackFrame(NamedTuple):
    """True and found objects of one class in one frame.

    Attributes:
        sequence: number of the recording; ids of two recordings have nothing in common.
        true_ids: int (G,).
        found_ids: int (H,).
        scores: (H,), those of the tracks.
        distances_m: float (G, H), NaN for pairs that cannot match.
    """

    sequence: int
    true_ids: np.ndarray
    found_ids: np.ndarray
    scores: np.ndarray
    distances_m: np.ndarray


@dataclass
class MotEvents:
    """Counts of events over frames.

    Attributes:
        matches: objects that their track, or a first one, matches.
        switches: objects that another track than before matches.
        misses: objects that none matches.
        false_positives: found boxes that match no object.
        distance_m: sum of the distances of matches and switches.
        match_scores: scores of the matches.
    """

    matches: int = 0
    switches: int = 0
    misses: int = 0
    false_positives: int = 0
    distance_m: float = 0.0
    match_scores: list[float] = field(default_factory=list)

    @property
    def objects(self) -> int:
        """Number of true boxes."""
        return self.matches + self.switches + self.misses

    @property
    def mota(self) -> float:
        """Accuracy, at least 0."""
        wrong = self.misses + self.switches + self.false_positives
        return max(0.0, 1.0 - wrong / self.objects)

    @property
    def motar(self) -> float:
        """Accuracy that does not hold a low recall against the tracker; NaN without a match."""
        if not self.matches:
            return float("nan")
        unmatched = self.objects - self.matches
        wrong = self.misses + self.switches + self.false_positives - unmatched
        return max(0.0, 1.0 - wrong / self.matches)

    @property
    def motp_m(self) -> float:
        """Mean distance of what was matched; NaN where nothing was."""
        matched = self.matches + self.switches
        return self.distance_m / matched if matched else float("nan")

    @property
    def recall(self) -> float:
        """Share of the objects that were matched."""
        return (self.matches + self.switches) / self.objects


def count_events(frames: Iterable[TrackFrame], least_score: float = -np.inf) -> MotEvents:
    """Count the events of tracks of a score, over frames in the order of their recordings.

    An object keeps the track that it was last matched to where that is near; the others are
    matched so that most are, at the least sum of distances.
    """
    events = MotEvents()
    last: dict[tuple[int, int], int] = {}
    for frame in frames:
        kept = frame.scores >= least_score
        distances = frame.distances_m[:, kept].copy()
        found_ids, scores = frame.found_ids[kept], frame.scores[kept]
        keys = [(frame.sequence, number) for number in frame.true_ids.tolist()]
        matched: dict[int, int] = {}
        column = {track: j for j, track in enumerate(found_ids.tolist())}
        for i, key in enumerate(keys):
            j = column.get(last.get(key, NO_TRACK), -1)
            if j >= 0 and j not in matched.values() and not np.isnan(distances[i, j]):
                matched[i] = j
        free = distances.copy()
        free[list(matched)] = np.nan
        free[:, list(matched.values())] = np.nan
        again = len(matched)
        rows, columns = assign(free, ~np.isnan(free))
        matched |= dict(zip(rows.tolist(), columns.tolist(), strict=True))
        for number, (i, j) in enumerate(matched.items()):
            track, key = int(found_ids[j]), keys[i]
            if number >= again and last.get(key, track) != track:
                events.switches += 1
            else:
                events.matches += 1
                events.match_scores.append(float(scores[j]))
            last[key] = track
            events.distance_m += float(distances[i, j])
        events.misses += len(keys) - len(matched)
        events.false_positives += len(found_ids) - len(matched)
    return events
