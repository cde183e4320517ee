"""Published data sets of images with an aligned raster, each in its own layout of folders.

SUN RGB-D (Song et al., CVPR 2015), NYU Depth v2 (Silberman et al., ECCV 2012), GeoNRW (Baier et
al., TGRS 2021) and SSL4EO-S12 (Wang et al., GRSM 2023).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from lemumo_core.data.sources.bands import rescaled, stack_bands
from lemumo_core.data.sources.files import existing, read_text
from lemumo_core.data.sources.rasters import SUFFIXES, AlignedRasters, RasterFiles, RasterSource
from lemumo_core.faults import Fault, known_names
from lemumo_core.frame import UNLABELLED
from lemumo_core.geometry.camera import Camera


class SunRgbd(RasterSource):
    """SUN RGB-D: image, depth and intrinsics of each scene; no labels.

    Args:
        root: its folder ``SUNRGBD``.
        rate_hz: of the stamps.
        depth: ``depth_bfx``, filled by the authors, or ``depth`` as measured.
    """

    name = "sunrgbd"
    layout = "SUNRGBD/SENSOR/**/SCENE/{image/*.jpg, depth_bfx/*.png, depth/*.png, intrinsics.txt}"

    def __init__(
        self, root: str | Path, rate_hz: float = 2.0, depth: Literal["depth", "depth_bfx"] = "depth"
    ):
        folder = existing(Path(root), self.layout)
        files = []
        for intrinsics in sorted(folder.rglob("intrinsics.txt")):
            scene = intrinsics.parent
            pair = [_only(scene / name, self.layout) for name in ("image", depth)]
            files.append(RasterFiles(*pair))
        self.depth = depth
        super().__init__(folder, files, "depth", 0.001, rate_hz=rate_hz)

    def stored_depth(self, path: Path) -> np.ndarray:
        """Read depth; its file has the bits turned by three, as the authors store it."""
        stored = super().stored_depth(path)
        if stored.dtype != np.uint16:
            raise Fault("bad_image", f"{path} is {stored.dtype}, SUN RGB-D's depth has 16 bits")
        return (stored >> 3) | (stored << 13)

    def camera(self, files: RasterFiles, width: int, height: int) -> Camera:
        """Return the camera of ``intrinsics.txt``."""
        assert isinstance(files.companion, Path)
        path = files.companion.parent.parent / "intrinsics.txt"
        try:
            values = np.array(read_text(path, self.layout).split(), float).reshape(3, 3)
        except ValueError as error:
            raise Fault("bad_calibration", f"{path} holds no 3 x 3 numbers: {error}") from error
        return Camera(width, height, values[0, 0], values[1, 1], values[0, 2], values[1, 2])

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return super().describe() | {"depth": self.depth}


class NyuDepth(AlignedRasters):
    """NYU Depth v2 as folders of images, depth in millimetres and label maps.

    The published file is one .mat; these folders are what RGB-D segmentation exports from it.

    Args:
        root: holds ``image``, ``depth`` and perhaps ``label``.
        labels: name of the folder of label maps, None for none.
        rate_hz: of the stamps.
    """

    name = "nyu"
    layout = "ROOT/image/X.png, ROOT/depth/X.png (16 bits, mm), perhaps ROOT/label/X.png"

    def __init__(self, root: str | Path, labels: str | None = None, rate_hz: float = 2.0):
        super().__init__(root, "depth", "image", "depth", labels, 0.001, rate_hz=rate_hz)

    def camera(self, files: RasterFiles, width: int, height: int) -> Camera:
        """Return the data set's own calibration of the colour camera, for 640 x 480 pixels."""
        camera = Camera(640, 480, 518.8579, 519.4696, 325.5824, 253.7362)
        return camera.scaled(width, height)


class GeoNrw(RasterSource):
    """GeoNRW: aerial images with elevation, whose own range decides its scale, and land cover.

    Elevation is a raster of one band: ``--model.companion raster``.

    Args:
        root: holds a folder a city.
        labels: whether to read land cover; ids 1 to 10 become 0 to 9, and 0 none.
        rate_hz: of the stamps.
    """

    name = "geonrw"
    layout = "ROOT/CITY/X_rgb.jp2 with X_dem.tif and X_seg.tif"

    def __init__(self, root: str | Path, labels: bool = True, rate_hz: float = 2.0):
        folder = existing(Path(root), self.layout)
        files = []
        for image in sorted(folder.glob("*/*_rgb.*")):
            dem, seg = (image.with_name(image.stem[:-3] + name) for name in ("dem.tif", "seg.tif"))
            existing(dem, self.layout)
            files.append(RasterFiles(image, dem, seg if labels and seg.exists() else None))
        self.labels = labels
        super().__init__(folder, files, "raster", rate_hz=rate_hz)

    def label_map(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        """Read land cover, in which 0 is none."""
        found = super().label_map(path, size)
        return np.where(found == 0, np.uint8(UNLABELLED), found - np.uint8(1))

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return super().describe() | {"labels": self.labels}


S1_RANGE_DB = {"VV": (-23.06, 2.0), "VH": (-32.02, -8.34)}
"""Decibels that become 0 and 1: mean and two standard deviations of SSL4EO-S12, as in DeCUR."""
OPTICAL = (*("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9"), *("B10", "B11", "B12"))
"""Bands of Sentinel-2; level 2A has no B10."""


class Ssl4EoS12(RasterSource):
    """SSL4EO-S12: red, green and blue of Sentinel-2, with bands of Sentinel-1 and Sentinel-2.

    Each place has four seasons in either folder, which are paired in their order. By default the
    companion is the radar's two bands: ``--model.companion raster --model.companion_bands 2``.

    Args:
        root: holds ``s1`` and the optical folder.
        optical: ``s2c`` (level 1C) or ``s2a`` (2A).
        bands: of the companion, separated by commas: VV and VH of the radar, B1 to B12 and B8A of
            the optical one. Coarser ones are enlarged to the finest.
        white_level: reflectance, times 10000, that is white.
        rate_hz: of the stamps.
    """

    name = "ssl4eo-s12"
    layout = "ROOT/{s1,s2c}/PLACE/SEASON/{VV.tif, VH.tif, B1.tif, ..., B12.tif}"

    def __init__(
        self,
        root: str | Path,
        optical: Literal["s2c", "s2a"] = "s2c",
        bands: str = "VV,VH",
        white_level: int = 3000,
        rate_hz: float = 2.0,
    ):
        self.names = bands.split(",")
        for name in self.names:
            if name not in (known := (*S1_RANGE_DB, *OPTICAL)):
                raise Fault("bad_option", f"bands has '{name}'{known_names(name, known)}")
        folder = existing(Path(root), self.layout)
        files = []
        for place in sorted(existing(folder / optical, self.layout).iterdir()):
            radar = existing(folder / "s1" / place.name, self.layout)
            seasons, radars = (
                sorted(p for p in one.iterdir() if p.is_dir()) for one in (place, radar)
            )
            if len(seasons) != len(radars):
                raise FileNotFoundError(
                    f"{place} has {len(seasons)} seasons, {radar} {len(radars)}; expected "
                    f"{self.layout}"
                )
            for season, other in zip(seasons, radars, strict=True):
                rgb = tuple(season / f"B{number}.tif" for number in (4, 3, 2))
                folders = [other if name in S1_RANGE_DB else season for name in self.names]
                pairs = zip(folders, self.names, strict=True)
                files.append(RasterFiles(rgb, tuple(one / f"{name}.tif" for one, name in pairs)))
        self.options = {"optical": optical, "bands": bands}
        super().__init__(folder, files, "raster", rate_hz=rate_hz, white_level=white_level)

    def image(self, files: RasterFiles) -> np.ndarray:
        """Read three bands as uint8 (H, W, 3)."""
        assert isinstance(files.image, tuple) and self.white_level is not None
        return _as_uint8(stack_bands(files.image), 0.0, self.white_level)

    def bands(self, files: RasterFiles) -> np.ndarray:
        """Read the companion's bands as uint8 (H, W, C), of fixed ranges."""
        assert isinstance(files.companion, tuple)
        ranges = [S1_RANGE_DB.get(name, (0.0, float(self.white_level or 1))) for name in self.names]
        return _as_uint8(stack_bands(files.companion), *np.array(ranges).T)

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return super().describe() | self.options


def _as_uint8(bands: np.ndarray, low: np.ndarray | float, high: np.ndarray | float) -> np.ndarray:
    return (rescaled(bands, low, high) * 255.0).round().astype(np.uint8)


def _only(folder: Path, layout: str) -> Path:
    """Return the one raster of a folder."""
    found = sorted(p for p in existing(folder, layout).iterdir() if p.suffix.lower() in SUFFIXES)
    if len(found) != 1:
        raise FileNotFoundError(f"{folder} holds {len(found)} rasters, not one; expected {layout}")
    return found[0]
