"""LiDAR returns labelled by a 3D network, as a source: truth for those who have no labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.data.sources import FrameSource
from lemumo_core.faults import Fault
from lemumo_core.frame import UNLABELLED, Frame, Labels, LidarScan, is_return
from lemumo_core.inference.point_labeler import PointLabeler


class LabeledPoints:
    """Frames of a source whose LiDAR returns a 3D network labels.

    The labels take the place of the point labels and of the label map that a frame has; its boxes
    and depth stay. They are those of the whole sweep. A camera gets its sparse label map where a
    frame becomes a training sample or the truth of a metric, at the resolution of that view: only
    the returns that the camera sees count there (``depth_projection.visible``).

    Args:
        source: the frames, of one camera or of several.
        run: folder of a finished run of fine-tuning on points.
        threshold: returns that the network is less confident of are unlabelled.

    Raises:
        Fault: ``bad_option`` for a threshold outside [0, 1]; as ``PointLabeler``; on a frame,
            ``no_points`` where it has no LiDAR sweep.
        ImportError: PyTorch is not installed.
    """

    def __init__(self, source: FrameSource, run: Path, threshold: float):
        if not 0 <= threshold <= 1:
            raise Fault("bad_option", f"threshold is {threshold}, must be from 0 to 1")
        self.source, self.run, self.threshold = source, run, threshold
        self.classes, self.sha256 = self._labeler.classes, self._labeler.sha256

    @cached_property
    def _labeler(self) -> PointLabeler:
        return PointLabeler(self.run)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_labeler"}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Frame:
        frame = self.source[index]
        if not isinstance(frame.companion, LidarScan):
            raise Fault("no_points", f"the frame of {frame.stamp_ns} ns has no LiDAR sweep")
        found, confidence = self._labeler(frame.companion)
        labels = replace(
            frame.labels or Labels(),
            label_map=None,
            point_labels=np.where(confidence < self.threshold, np.uint8(UNLABELLED), found),
            point_confidence=confidence.astype(np.float16),
            label_names=self.classes,
        )
        return replace(frame, labels=labels)

    def describe(self) -> dict[str, Any]:
        """See ``FrameSource``; it says which network the labels are from."""
        return {
            "source": "labeled points",
            "network": str(self.run),
            "sha256": self.sha256,
            "classes": list(self.classes),
            "threshold": self.threshold,
            "frames": len(self),
            "of": self.source.describe(),
        }


def count_labels(source: FrameSource, indices: Sequence[int]) -> tuple[np.ndarray, int]:
    """Count the labels of points.

    Args:
        source: frames with point labels.
        indices: of frames.

    Returns:
        Number of points by id, int64 (256,), 255 being unlabelled, and how many returns there are
        among them: rows that are none have no class either.
    """
    counts, returns = np.zeros(256, np.int64), 0
    for index in indices:
        frame = source[index]
        assert frame.labels is not None and frame.labels.point_labels is not None
        assert isinstance(frame.companion, LidarScan)
        returns += int(is_return(frame.companion.points).sum())
        counts += np.bincount(frame.labels.point_labels, minlength=256)
    return counts, returns
