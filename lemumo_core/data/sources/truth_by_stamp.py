"""Ground truth by stamp: from the replayed bag itself, or from a data set beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.bags.matching import nearest
from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import GROUND_TRUTH
from lemumo_core.data.sources import FrameSource
from lemumo_core.data.sources.bags import Bags
from lemumo_core.data.sources.registry import open_source
from lemumo_core.frame import Labels


class Truth:
    """Ground truth of a source, looked up by the stamp of an image.

    Args:
        source: of one camera; all its frames are read once for their stamps, unless it is ``Bags``.
        tolerance_ns: farthest that a stamp may lie from that of the labelled image.
    """

    def __init__(self, source: FrameSource, tolerance_ns: int):
        self._source, self._tolerance_ns = source, tolerance_ns
        if isinstance(source, Bags):
            self._stamps_ns = source.stamps_ns
        else:
            stamps = [source[index].stamp_ns for index in range(len(source))]
            self._stamps_ns = np.array(stamps, np.int64)

    def labels(self, stamp_ns: int) -> Labels | None:
        """Return the ground truth of the image nearest to a stamp.

        It is None where no image is near enough or it has none. Labels of points are left out: the
        rows of another file may be others.

        Raises:
            Fault: as the source.
        """
        at = int(nearest(self._stamps_ns, np.array([stamp_ns]), self._tolerance_ns)[0])
        if at < 0:
            return None
        source = self._source
        found = source.labels(at) if isinstance(source, Bags) else source[at].labels
        return None if found is None else replace(found, point_labels=None)


def truth_of_bag(
    files: Sequence[Path], reader: BagReader, options: dict[str, Any], tolerance_ns: int
) -> Truth | None:
    """Open the ground truth topics of a bag; return None where it has none.

    Args:
        files: of the bag.
        reader: of the bag.
        options: of ``Bags``.
        tolerance_ns: of all matching.

    Raises:
        Fault: as ``Bags``.
    """
    present = {topic.name for topic in reader.topics if topic.count}
    if not present & set(GROUND_TRUTH.values()):
        return None
    bags = Bags(list(files), tolerance_ms=tolerance_ns / 1e6, **options)
    return Truth(bags, tolerance_ns)


def truth_of_source(name: str, options: dict[str, Any], tolerance_ns: int) -> Truth:
    """Open the labels of a data set.

    Raises:
        Fault, FileNotFoundError, ImportError: as ``open_source``.
    """
    return Truth(open_source(name, **options), tolerance_ns)
