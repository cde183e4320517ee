"""Ground truth by stamp: from the replayed bag itself, or from a data set beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.bags.matching import nearest
from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import GROUND_TRUTH
from lemumo_core.data.mixture import Mixture
from lemumo_core.data.shards import Shards
from lemumo_core.data.sources import FrameSource
from lemumo_core.data.sources.bags import Bags
from lemumo_core.data.sources.registry import source_of
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, Labels


class WithTruth:
    """Frames of a source with the labels of a data set; those without any there have none.

    Args:
        source: the frames. Where they or the labels are of several cameras, a frame has the labels
            of the camera of its name.
        truth: the labels.
    """

    def __init__(self, source: FrameSource, truth: Truth):
        self.source, self.truth = source, truth
        several = isinstance(source, Bags) and source.has_several_cameras
        self._by_name = several or len(truth.cameras) > 1

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Frame:
        frame = self.source[index]
        camera = frame.camera_name if self._by_name else ""
        return replace(frame, labels=self.truth.labels(frame.stamp_ns, camera))

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``; ``truth`` is where the labels are from."""
        return {**self.source.describe(), "truth": self.truth.source.describe()}


class Truth:
    """Ground truth of a source, looked up by the stamp of an image.

    Args:
        source: all its frames are read once for their stamps and cameras, unless it has an index.
        tolerance_ns: farthest that a stamp may lie from that of the labelled image.

    Attributes:
        cameras: names of the cameras of the labels.
    """

    def __init__(self, source: FrameSource, tolerance_ns: int):
        self.source, self._tolerance_ns = source, tolerance_ns
        self._stamps_ns, self._cameras = stamps_and_cameras(source)
        self.cameras = sorted(set(self._cameras.tolist()))

    def labels(self, stamp_ns: int, camera: str = "") -> Labels | None:
        """Return the ground truth of the image nearest to a stamp.

        It is None where no image is near enough or it has none. Labels of points are left out: the
        rows of another file may be others.

        Args:
            stamp_ns: of the image.
            camera: name of its camera, where there are several; else empty.

        Raises:
            Fault: ``no_truth`` where nothing is of this camera; as the source.
        """
        rows = np.arange(len(self._stamps_ns))
        if camera:
            rows = np.flatnonzero(self._cameras == camera)
            if not len(rows):
                raise Fault(
                    "no_truth",
                    f"the truth has no frames of the camera {camera}; its cameras are "
                    f"{', '.join(self.cameras)}: give each camera the name that it has there",
                )
        stamps_ns = self._stamps_ns[rows]
        nearest_row = int(nearest(stamps_ns, np.array([stamp_ns]), self._tolerance_ns)[0])
        if nearest_row < 0:
            return None
        at, source = int(rows[nearest_row]), self.source
        found = source.labels(at) if isinstance(source, Bags) else source[at].labels
        if found is None:
            return None
        return replace(found, point_labels=None, point_confidence=None)


@dataclass(frozen=True)
class TruthOptions:
    """Labels that belong to the frames by stamp; see ``truth_of_source``."""

    data: str
    options: dict[str, Any]
    tolerance_ns: int

    def open(self) -> Truth:
        """Open the labels.

        Raises:
            Fault, FileNotFoundError, ImportError: as ``truth_of_source``.
        """
        return truth_of_source(self.data, self.options, self.tolerance_ns)


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


def truth_of_source(data: str, options: dict[str, Any], tolerance_ns: int) -> Truth:
    """Open the labels of a data set: a source by its name, or shards by their location.

    Raises:
        Fault, FileNotFoundError, ImportError: as ``source_of``.
    """
    return Truth(source_of(data, **options), tolerance_ns)


def stamps_of(source: FrameSource) -> np.ndarray:
    """Return the stamps of all frames, ns, int64 (N,); only sources without an index are read."""
    return stamps_and_cameras(source)[0]


def stamps_and_cameras(source: FrameSource) -> tuple[np.ndarray, np.ndarray]:
    """Return the stamps of all frames, ns, int64 (N,), and the names of their cameras, str (N,)."""
    if isinstance(source, Bags):
        return source.stamps_ns, source.camera_names
    if isinstance(source, Mixture):
        parts = [stamps_and_cameras(member) for member in source.members]
        stamps_ns, cameras = (np.concatenate(column) for column in zip(*parts, strict=True))
        return stamps_ns, cameras
    of = source.stamp_and_camera if isinstance(source, Shards) else partial(_read_of, source)
    found = [of(index) for index in range(len(source))]
    stamps_ns = np.array([stamp_ns for stamp_ns, _ in found], np.int64)
    return stamps_ns, np.array([camera for _, camera in found], str)


def _read_of(source: FrameSource, index: int) -> tuple[int, str]:
    frame = source[index]
    return frame.stamp_ns, frame.camera_name
