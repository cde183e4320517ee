"""Formats of label files by name.

Our own readers, not those of a library: datumaro, which knows most of these formats, has no stamps,
no camera frames, no LiDAR extrinsics, no Label Studio and no nuScenes, and needs an older OpenCV
than ours beside pandas. What it would save, the parsing of XML and JSON, is the smaller half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from lemumo_core.faults import Fault, known_names
from lemumo_core.frame import Frame

NamedFrame = tuple[str, Frame]
"""The stem of a frame's files (``frame_names.name_of``), and the frame."""
LabelsOf = Callable[[Frame], dict[str, Any]]
"""Gives the fields of ``Labels`` that a file has for a frame."""
FORMATS = ("coco", "cvat", "cvat-cuboids", "kitti", "label-studio", "nuscenes", "png")


class LabelFormat(NamedTuple):
    """How label files of one format are written and read.

    Attributes:
        write: writes images and labels of frames below a folder.
        read: reads a file or folder; returns the labels by stem of the file that they are of.
    """

    write: Callable[[Iterable[NamedFrame], Path], None]
    read: Callable[[Path], Mapping[str, LabelsOf]]


def label_format(name: str) -> LabelFormat:
    """Return a format of ``FORMATS``.

    Raises:
        Fault: ``unknown_format``.
    """
    if name not in FORMATS:
        raise Fault("unknown_format", f"unknown format '{name}'{known_names(name, FORMATS)}")
    module = import_module(f"lemumo_core.label.{name.replace('-', '_')}")
    return LabelFormat(module.write, module.read)
