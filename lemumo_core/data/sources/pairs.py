"""Folders of aligned RGB and thermal images as Frames, in the layouts in which they are published.

KAIST (Hwang et al., CVPR 2015), LLVIP (Jia et al., ICCVW 2021), MSRS (Tang et al., Information
Fusion 2022), M3FD (Liu et al., CVPR 2022), FMB (Liu et al., ICCV 2023), RoadScene (Xu et al., AAAI
2020), PST900 (Shivakumar et al., ICRA 2020), FLIR aligned (Zhang et al., ICIP 2020), and flat
samples.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.data.sources.files import (
    IMAGE_SUFFIXES,
    existing,
    files_below,
    made_up_stamp,
    positive_level,
    positive_rate,
    read_gray,
    read_image,
)
from lemumo_core.data.sources.lens import nominal_camera
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, ThermalImage

LAYOUT = (
    "X_visible.* with X_lwir.*, X_RGB.* with X_PreviewData.*, *_vi/X.* with *_ir/X.*, "
    "crop_LR_visible/X.* with cropinfrared/X.*, or **/V/**/X.* with **/T/**/X.* where V is "
    "visible, vis, vi or rgb and T is infrared, ir, thermal, tir or lwir, in any case"
)
NAMES = (
    (r"(.+)_visible", r"(.+)_lwir"),  # samples of KAIST
    (r"(.+)_RGB", r"(.+)_PreviewData"),  # FLIR aligned
    (r"(.+)_vi/([^/]+)", r"(.+)_ir/([^/]+)"),  # samples of LLVIP
    (r"(.+/)?crop_LR_visible/([^/]+)", r"(.+/)?cropinfrared/([^/]+)"),  # RoadScene
    (r"(.+/)?(?:visible|vis|vi|rgb)/(.+)", r"(.+/)?(?:infrared|ir|thermal|tir|lwir)/(.+)"),
)
"""Each layout's visible and thermal path below the root, without extension, in any case; two files
are partners where the groups agree."""


class RgbThermalPairs:
    """Aligned RGB and thermal images, paired by their names; no labels.

    Such sets carry neither calibration nor times. The RGB camera is a pinhole of a nominal focal
    length; the thermal camera shares its field of view, so that the two images align edge to edge
    whatever their sizes. Stamps are made up.

    Args:
        root: the folder, in one of the layouts of ``LAYOUT``.
        focal_px: nominal focal length, pixels of the RGB image.
        rate_hz: of the stamps.
        white_level: value of white in RGB images of 16 bits, e.g. 4095 where they hold 12.

    Thermal images may have 8 or 16 bits or hold float32 temperatures.

    Raises:
        FileNotFoundError: no such folder, no pairs in it, or an image without its partner.
        Fault: ``bad_image``; ``ambiguous_pairs`` where two images could be the partner of one;
            ``no_white_level`` for RGB images of 16 bits without it.
    """

    def __init__(
        self,
        root: str | Path,
        focal_px: float = 700.0,
        rate_hz: float = 2.0,
        white_level: int | None = None,
    ):
        self.root = existing(Path(root), LAYOUT)
        self.focal_px, self.rate_hz = focal_px, positive_rate(rate_hz)
        self.white_level = positive_level(white_level)
        images = files_below(self.root, IMAGE_SUFFIXES)
        self.pairs: list[tuple[Path, Path]] = []
        for patterns in NAMES:
            visible, thermal = (_by_key(self.root, images, pattern) for pattern in patterns)
            alone = sorted((visible | thermal)[key] for key in visible.keys() ^ thermal.keys())
            if alone:
                raise FileNotFoundError(
                    f"{self.root / alone[0]} has no partner, nor have {len(alone) - 1} other "
                    f"images below {self.root}; expected {LAYOUT}"
                )
            self.pairs += [(visible[key], thermal[key]) for key in visible]
        if not self.pairs:
            raise FileNotFoundError(f"{self.root} holds no pairs; expected {LAYOUT}")
        self.pairs.sort()

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Frame:
        visible, infrared = (self.root / path for path in self.pairs[index])
        stamp_ns = made_up_stamp(range(len(self))[index], self.rate_hz)
        image, thermal = read_image(visible, self.white_level), read_gray(infrared)
        height, width = image.shape[:2]
        camera = nominal_camera(width, height, self.focal_px)
        return Frame(
            stamp_ns=stamp_ns,
            camera_name="visible",
            camera=camera,
            image=image,
            companion=ThermalImage(
                thermal, camera.scaled(*thermal.shape[::-1]), np.eye(4), stamp_ns
            ),
        )

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return {
            "source": "rgb-thermal",
            "root": str(self.root),
            "frames": len(self),
            "focal_px": self.focal_px,
            "rate_hz": self.rate_hz,
            **({} if self.white_level is None else {"white_level": self.white_level}),
        }


def _by_key(root: Path, images: list[Path], pattern: str) -> dict[tuple[str | None, ...], Path]:
    """Return the images whose path matches, by what partners share."""
    found: dict[tuple[str | None, ...], Path] = {}
    for path in images:
        match = re.fullmatch(pattern, path.with_suffix("").as_posix(), re.I)
        if match:
            other = found.setdefault(match.groups(), path)
            if other != path:
                raise Fault(
                    "ambiguous_pairs",
                    f"{root} holds both {other} and {path}: which of them is the partner? Leave "
                    "one of them in the folder",
                )
    return found
