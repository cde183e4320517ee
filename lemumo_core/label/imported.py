"""Labels of files as a source: the frames that were annotated, without their images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lemumo_core.data.sources import FrameSource
from lemumo_core.frame import Frame, Labels
from lemumo_core.label.formats import LabelsOf, label_format
from lemumo_core.label.frame_names import frames_of

BOXES = (
    *("boxes_3d", "boxes_2d", "class_names", "visibility", "num_points"),
    *("box_confidence", "track_ids"),
)
"""Fields of ``Labels`` with a row for each box, which are replaced together."""


class ImportedLabels:
    """Frames of a source that label files annotate, with the labels of the files.

    What a file does not hold stays as the source has it: of a file of boxes the label maps and the
    depth, of one of label maps the boxes. Labels of points are left out, as are images and
    companions: this is truth by stamp (``data.sources.truth_by_stamp``).

    Args:
        source: the frames that were annotated.
        format_name: of ``label.formats.FORMATS``.
        path: the file or folder.

    Raises:
        Fault, FileNotFoundError: as the format's ``read`` and ``frames_of``.
    """

    def __init__(self, source: FrameSource, format_name: str, path: Path):
        self.source, self.format_name, self.path = source, format_name, path
        named = frames_of(self._labels, source, path)
        self.frames = sorted(named)
        self.names = [named[index] for index in self.frames]

    @cached_property
    def _labels(self) -> Mapping[str, LabelsOf]:
        return label_format(self.format_name).read(self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_labels"}

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        frame = self.source[self.frames[index]]
        fields = self._labels[self.names[index]](frame)
        labels = frame.labels or Labels()
        if fields.keys() & set(BOXES):
            labels = replace(labels, **{name: getattr(Labels, name) for name in BOXES})
        labels = replace(labels, **{**fields, "point_labels": None, "point_confidence": None})
        return replace(frame, image=None, companion=None, labels=labels)

    def describe(self) -> dict[str, Any]:
        """See ``FrameSource``."""
        return {
            "source": "labels",
            "format": self.format_name,
            "root": str(self.path),
            "frames": len(self),
            "of": self.source.describe(),
        }
