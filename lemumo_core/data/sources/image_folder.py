"""Folders of plain images as Frames of a camera alone."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import Any

from lemumo_core.data.sources.files import (
    FIRST_STAMP_NS,
    IMAGE_SUFFIXES,
    RECORDING_GAP_NS,
    existing,
    files_below,
    positive_level,
    positive_rate,
    read_image,
)
from lemumo_core.data.sources.lens import FOV_DEG, Lens
from lemumo_core.frame import Frame

LAYOUT = f"a folder of images, at any depth: {', '.join(IMAGE_SUFFIXES)}"
CAMERA_NAME = "camera"


class ImageFolder:
    """The images below a folder, those of each folder a recording of its own; no labels, no LiDAR.

    Images of a folder are ordered by name, numbers in names by their value. They carry no times:
    stamps are made up, an hour from one folder to the next.

    Args:
        root: the folder.
        calibration: YAML file of camera_calibration, of all images; without it the camera is a
            pinhole of ``fov_deg``, and distances are right up to scale only.
        rectified: the images are rectified ones.
        fov_deg: horizontal field of view, degrees, where there is no calibration.
        rate_hz: images a second, of the stamps.
        white_level: value of white in images of 16 bits, e.g. 4095 where they hold 12.

    Raises:
        FileNotFoundError: no such folder, or no images in it.
        Fault: ``bad_option``, ``bad_calibration``, ``camera_info_mismatch``, ``bad_image`` or
            ``no_white_level``.
    """

    def __init__(
        self,
        root: str | Path,
        calibration: str | None = None,
        rectified: bool = False,
        fov_deg: float = FOV_DEG,
        rate_hz: float = 10.0,
        white_level: int | None = None,
    ):
        self.root = existing(Path(root), LAYOUT)
        self.lens = Lens(calibration, rectified, fov_deg)
        self.rate_hz, self.white_level = positive_rate(rate_hz), positive_level(white_level)
        paths = sorted(files_below(self.root, IMAGE_SUFFIXES), key=natural_order)
        if not paths:
            raise FileNotFoundError(f"{self.root} holds no images; expected {LAYOUT}")
        self.images: list[tuple[Path, int]] = []
        """Images with their stamps."""
        begin_ns = FIRST_STAMP_NS
        for _, of_folder in groupby(paths, key=lambda path: path.parent):
            stamps = ((p, begin_ns + round(i * 1e9 / rate_hz)) for i, p in enumerate(of_folder))
            self.images += stamps
            begin_ns = self.images[-1][1] + RECORDING_GAP_NS

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Frame:
        path, stamp_ns = self.images[index]
        image = read_image(self.root / path, self.white_level)
        camera = self.lens.camera_of(*image.shape[1::-1])
        return Frame(stamp_ns, CAMERA_NAME, camera, image)

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return {
            "source": "images",
            "root": str(self.root),
            "frames": len(self),
            "rate_hz": self.rate_hz,
            **self.lens.describe(),
            **({} if self.white_level is None else {"white_level": self.white_level}),
        }


def natural_order(path: Path) -> tuple[Any, ...]:
    """Return a key that sorts paths folder by folder, and 9 before 10."""
    words = re.split(r"(\d+)", path.name)
    return path.parent.as_posix(), [int(w) if i % 2 else w for i, w in enumerate(words)], path.name
