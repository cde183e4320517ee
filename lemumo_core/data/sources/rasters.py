"""Images with a raster that shows the same pixels, as Frames: depth, elevation, radar, spectra.

``AlignedRasters`` reads parallel folders of any names; ``raster_layouts.py`` has data sets.

Depth becomes points through the camera, and so the network's depth map. Anything else is a
companion of as many bands as it has (``--model.companion raster --model.companion_bands C``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from lemumo_core.data.sources.bands import read_bands, rescaled, stack_bands
from lemumo_core.data.sources.files import (
    existing,
    made_up_stamp,
    positive_level,
    positive_rate,
    read_gray,
    read_image,
)
from lemumo_core.data.sources.lens import nominal_camera
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, Labels, LidarScan, RasterImage
from lemumo_core.geometry.camera import Camera
from lemumo_core.messages.depth_images import depth_points

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy", ".jp2")


class RasterFiles(NamedTuple):
    """Files of one frame, several where bands are files; label map may be None."""

    image: Path | tuple[Path, ...]
    companion: Path | tuple[Path, ...]
    label_map: Path | None = None


class RasterSource:
    """Base of the sources: files of each frame, and how they are read.

    Args:
        root: the folder.
        files: of each frame.
        kind: what the companion holds: ``depth``, metres times ``1 / unit_m``, 0 or NaN where
            unknown; or ``raster``, numbers of any scale and meaning, NaN where unknown.
        unit_m: metres that 1 stands for, of depth.
        value_range: least and largest value of a raster's bands, which become 0 and 1; by default
            uint8 has its own, and of other numbers each band of a file has that of its values.
        focal_px: nominal focal length, pixels of the image, where a frame has no camera of its own.
        rate_hz: of the stamps, which are made up.
        white_level: value of white in images of more than 8 bits.
    """

    name: str
    layout: str

    def __init__(
        self,
        root: Path,
        files: Sequence[RasterFiles],
        kind: Literal["depth", "raster"],
        unit_m: float = 0.001,
        value_range: tuple[float, float] | None = None,
        focal_px: float = 518.0,
        rate_hz: float = 2.0,
        white_level: int | None = None,
    ):
        if not files:
            raise FileNotFoundError(f"{root} holds no frames; expected {self.layout}")
        if unit_m <= 0 or focal_px <= 0:
            raise Fault("bad_option", f"unit_m {unit_m} and focal_px {focal_px} must be above 0")
        if value_range is not None and not value_range[0] < value_range[1]:
            raise Fault("bad_option", f"value_range is {value_range}, must be low < high")
        self.root, self.files, self.kind = root, list(files), kind
        self.unit_m, self.value_range, self.focal_px = unit_m, value_range, focal_px
        self.rate_hz, self.white_level = positive_rate(rate_hz), positive_level(white_level)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Frame:
        files, number = self.files[index], range(len(self))[index]
        stamp_ns = made_up_stamp(number, self.rate_hz)
        image = self.image(files)
        camera = self.camera(files, image.shape[1], image.shape[0])
        companion: LidarScan | RasterImage
        if self.kind == "depth":
            depth_m = self.depth_m(files, image.shape[:2])
            companion = LidarScan(depth_points(depth_m, camera), np.eye(4), stamp_ns)
        else:
            bands = self.bands(files)
            own = camera.scaled(bands.shape[1], bands.shape[0])
            companion = RasterImage(bands, own, stamp_ns)
        labels = None
        if files.label_map is not None:
            labels = Labels(label_map=self.label_map(files.label_map, image.shape[:2]))
        return Frame(stamp_ns, self.name, camera, image, companion, labels)

    def image(self, files: RasterFiles) -> np.ndarray:
        """Read the image of a frame, uint8 (H, W, 3)."""
        assert isinstance(files.image, Path)
        return read_image(files.image, self.white_level)

    def bands(self, files: RasterFiles) -> np.ndarray:
        """Read a companion raster: uint8, uint16 or float32 (H, W, C)."""
        paths = (files.companion,) if isinstance(files.companion, Path) else files.companion
        bands = stack_bands(paths)
        if self.value_range is None:
            return bands
        scaled = rescaled(bands, *self.value_range)
        return np.nan_to_num(scaled * 255.0).round().astype(np.uint8)

    def depth_m(self, files: RasterFiles, size: tuple[int, int]) -> np.ndarray:
        """Read depth that is registered to the image: float32 (H, W), metres, NaN where unknown."""
        assert isinstance(files.companion, Path)
        stored = self.stored_depth(files.companion)
        if stored.shape != size:
            raise Fault(
                "bad_image",
                f"{files.companion} is {stored.shape}, its image {size}: depth must be registered "
                "to the image",
            )
        return np.where(stored > 0, stored * np.float32(self.unit_m), np.float32(np.nan))

    def stored_depth(self, path: Path) -> np.ndarray:
        """Read depth as it is stored: uint8, uint16 or float32 (H, W)."""
        bands = read_bands(path)
        if bands.shape[-1] != 1:
            raise Fault("bad_image", f"{path} has {bands.shape[-1]} bands, depth has one (H, W)")
        return bands[..., 0]

    def camera(self, files: RasterFiles, width: int, height: int) -> Camera:
        """Return the camera of a frame."""
        return nominal_camera(width, height, self.focal_px)

    def label_map(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        """Read a label map, ids as stored, uint8 (H, W).

        Raises:
            Fault: ``bad_labels`` for one of another size, or of more than 8 bits.
        """
        found = read_gray(path)
        if found.shape != size or found.dtype != np.uint8:
            raise Fault(
                "bad_labels",
                f"{path} is {found.dtype} {found.shape}, expected uint8 {size} as its image",
            )
        return found

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return {
            "source": self.name,
            "root": str(self.root),
            "frames": len(self),
            "kind": self.kind,
            "unit_m": self.unit_m,
            "focal_px": self.focal_px,
            "rate_hz": self.rate_hz,
            **({} if self.value_range is None else {"value_range": list(self.value_range)}),
            **({} if self.white_level is None else {"white_level": self.white_level}),
        }


class AlignedRasters(RasterSource):
    """Folders of images and of companions (and label maps) with the same names.

    Args:
        root: the folder that holds them.
        image: name of the images' folder below it; likewise ``companion`` and ``labels``, where
            None means that there are none. Label maps hold ids that ``label_ids`` of the class
            file name, or else those of the default classes; 255 is unlabelled.
        kind, unit_m, value_range, focal_px, rate_hz, white_level: as of ``RasterSource``.

    Raises:
        FileNotFoundError: no such folder, or an image without its companion.
        Fault: ``bad_option``; when read, ``bad_image`` and ``bad_labels``.
    """

    name = "rasters"
    layout = (
        "ROOT/image/**/X.* with ROOT/companion/**/X.* and perhaps ROOT/labels/**/X.*, of the same "
        "names (PNG, JPEG, TIFF, JPEG 2000, NPY); --image, --companion and --labels name them"
    )

    def __init__(
        self,
        root: str | Path,
        kind: Literal["depth", "raster"] = "depth",
        image: str = "image",
        companion: str = "companion",
        labels: str | None = None,
        unit_m: float = 0.001,
        value_range: tuple[float, float] | None = None,
        focal_px: float = 518.0,
        rate_hz: float = 2.0,
        white_level: int | None = None,
    ):
        folder = existing(Path(root), self.layout)
        images, companions = (_by_name(folder / one, self.layout) for one in (image, companion))
        maps = _by_name(folder / labels, self.layout) if labels else {}
        alone = sorted(images.keys() ^ companions.keys())
        if alone:
            raise FileNotFoundError(
                f"{alone[0]} below {folder} has no partner, nor have {len(alone) - 1} others; "
                f"expected {self.layout}"
            )
        files = [RasterFiles(images[n], companions[n], maps.get(n)) for n in sorted(images)]
        super().__init__(folder, files, kind, unit_m, value_range, focal_px, rate_hz, white_level)
        self.folders = {"image": image, "companion": companion, "labels": labels}

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return super().describe() | {k: v for k, v in self.folders.items() if v}


def _by_name(folder: Path, layout: str) -> dict[str, Path]:
    """Return the rasters below a folder by their relative path without extension."""
    found = {}
    for path in sorted(existing(folder, layout).rglob("*")):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            found[re.sub(r"\.\w+$", "", path.relative_to(folder).as_posix())] = path
    return found
