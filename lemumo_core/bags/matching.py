"""Match the messages of a bag to its images by their header stamps."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from lemumo_core.bags.index import LOG, STAMP, BagIndex
from lemumo_core.bags.topics import GROUND_TRUTH
from lemumo_core.faults import Fault
from lemumo_core.messages.info_history import ONE_CLOCK_NS
from lemumo_core.messages.stamps import describe_clock_offset


class Session:
    """An index, with the messages matched to each image.

    Args:
        index: index of the bag.
        tolerance_ns: largest difference between the stamps of an image and its match.
        companion_offset_ns: stamps of the companion less those of the images at one time.

    Raises:
        Fault: ``other_clock`` where the companion's stamps are of another clock than the images'.
    """

    def __init__(self, index: BagIndex, tolerance_ns: int, companion_offset_ns: int = 0):
        self.index = index
        self.companion_offset_ns = companion_offset_ns
        stamps = index.messages["image"][:, STAMP]
        self.matches: dict[str, np.ndarray] = {}
        if index.companion:
            _check_clocks(index, companion_offset_ns)
            for role in self.companion_roles:
                companions = index.messages[role][:, STAMP] - companion_offset_ns
                self.matches[role] = nearest(companions, stamps, tolerance_ns)
        for role in GROUND_TRUTH.keys() & index.topics.keys():
            truths = index.messages[role][:, STAMP]
            match = nearest(truths, stamps, tolerance_ns)
            back = nearest(stamps, truths, tolerance_ns)  # its one image, and no neighbour
            mutual = back[match] == np.arange(len(stamps)) if len(truths) else False
            self.matches[role] = np.where((match >= 0) & mutual, match, -1)

    def __len__(self) -> int:
        return len(self.index.messages["image"])

    @property
    def companion_roles(self) -> list[str]:
        """Roles of the companions: one, or that of each LiDAR."""
        return [role for role in self.index.topics if re.fullmatch(r"companion(_\d+)?", role)]

    def of_image(self, role: str, at: int) -> int | None:
        """Return the number of the message in a role that matches image ``at``, or None."""
        match = int(self.matches[role][at]) if role in self.matches else -1
        return None if match < 0 else match

    @property
    def unmatched(self) -> int:
        """Number of images without a companion, in a bag that has companions."""
        if not self.index.companion:
            return 0
        found = [self.matches[role] >= 0 for role in self.companion_roles]
        return int((~np.any(found, axis=0)).sum())

    def describe(self) -> dict[str, Any]:
        """Return what ``Bags.describe`` reports of this bag."""
        return {
            "path": self.index.name,
            "lost": list(self.index.lost),
            "frames": len(self),
            "companion": self.index.companion,
            "unmatched_companions": self.unmatched,
            "topics": dict(self.index.topics),
            "matched": {role: int((of >= 0).sum()) for role, of in sorted(self.matches.items())},
        }


def _check_clocks(index: BagIndex, companion_offset_ns: int) -> None:
    """Raise a Fault where stamps of image and companion do not fit the times of recording.

    Matching by stamps alone would pair some images with scans of another moment. A topic that was
    not recorded at the time of its stamps (a conversion) says nothing.
    """
    lags_ns = []
    for role in ("image", "companion"):
        rows = index.messages[role]
        if not len(rows):
            return
        low, middle, high = np.quantile(rows[:, STAMP] - rows[:, LOG], (0.1, 0.5, 0.9))
        if high - low > ONE_CLOCK_NS:
            return
        lags_ns.append(int(middle))
    ahead_ns = lags_ns[1] - lags_ns[0]
    if abs(ahead_ns - companion_offset_ns) > ONE_CLOCK_NS:
        words = describe_clock_offset(str(index.companion), ahead_ns)
        raise Fault("other_clock", f"{index.name}: {words}")


def nearest(candidates: np.ndarray, stamps: np.ndarray, tolerance_ns: int) -> np.ndarray:
    """Return the index of the candidate nearest to each stamp, the earlier of two.

    Args:
        candidates: int64 (N,), ns, in any order.
        stamps: int64 (M,), ns, in any order.
        tolerance_ns: largest distance.

    Returns:
        int64 (M,); -1 where no candidate is within the tolerance.
    """
    if not len(candidates):
        return np.full(len(stamps), -1)
    order = np.argsort(candidates, kind="stable")
    after = np.clip(np.searchsorted(candidates[order], stamps), 0, len(order) - 1)
    before = np.maximum(after - 1, 0)
    before, after = order[before], order[after]
    gap_before, gap_after = np.abs(candidates[before] - stamps), np.abs(candidates[after] - stamps)
    best = np.where(gap_before <= gap_after, before, after)
    return np.where(np.minimum(gap_before, gap_after) <= tolerance_ns, best, -1)
