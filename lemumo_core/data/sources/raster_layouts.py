"""Published data sets of images with an aligned raster, each in its own layout of folders.

SUN RGB-D (Song et al., CVPR 2015), NYU Depth v2 (Silberman et al., ECCV 2012), GeoNRW (Baier et
al., TGRS 2021) and SSL4EO-S12 (Wang et al., GRSM 2023).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from lemumo_core.data.sources.files import existing, read_gray, read_text
from lemumo_core.data.sources.rasters import SUFFIXES, AlignedRasters, RasterFiles, RasterSource
from lemumo_core.faults import Fault
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

    def companion(self, path: Path) -> np.ndarray:
        """Read depth; its file has the bits turned by three, as the authors store it."""
        stored = super().companion(path)
        if stored.dtype != np.uint16:
            raise Fault("bad_image", f"{path} is {stored.dtype}, SUN RGB-D's depth has 16 bits")
        return (stored >> 3) | (stored << 13)

    def camera(self, files: RasterFiles, width: int, height: int) -> Camera:
        """Return the camera of ``intrinsics.txt``."""
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
        super().__init__(folder, files, "intensity", rate_hz=rate_hz)

    def label_map(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        """Read land cover, in which 0 is none."""
        found = super().label_map(path, size)
        return np.where(found == 0, np.uint8(UNLABELLED), found - np.uint8(1))

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return super().describe() | {"labels": self.labels}


class Ssl4EoS12(RasterSource):
    """SSL4EO-S12: red, green and blue of Sentinel-2 with one polarisation of Sentinel-1.

    Each place has four seasons in either folder, which are paired in their order.

    Args:
        root: holds ``s1`` and the optical folder.
        optical: ``s2c`` (level 1C) or ``s2a`` (2A).
        polarization: ``VV`` or ``VH``.
        white_level: reflectance, times 10000, that is white.
        rate_hz: of the stamps.
    """

    name = "ssl4eo-s12"
    layout = "ROOT/{s1,s2c}/PLACE/SEASON/{VV.tif, VH.tif, B2.tif, B3.tif, B4.tif}"

    def __init__(
        self,
        root: str | Path,
        optical: Literal["s2c", "s2a"] = "s2c",
        polarization: Literal["VV", "VH"] = "VV",
        white_level: int = 3000,
        rate_hz: float = 2.0,
    ):
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
                bands = tuple(season / f"B{number}.tif" for number in (4, 3, 2))
                files.append(RasterFiles(bands, other / f"{polarization}.tif"))
        self.options = {"optical": optical, "polarization": polarization}
        super().__init__(folder, files, "intensity", rate_hz=rate_hz, white_level=white_level)

    def image(self, files: RasterFiles) -> np.ndarray:
        """Read three bands as uint8 (H, W, 3)."""
        assert isinstance(files.image, tuple) and self.white_level is not None
        bands = np.stack([read_gray(path) for path in files.image], axis=-1)
        return (np.minimum(bands / self.white_level, 1.0) * 255.0).round().astype(np.uint8)

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return super().describe() | self.options


def _only(folder: Path, layout: str) -> Path:
    """Return the one raster of a folder."""
    found = sorted(p for p in existing(folder, layout).iterdir() if p.suffix.lower() in SUFFIXES)
    if len(found) != 1:
        raise FileNotFoundError(f"{folder} holds {len(found)} rasters, not one; expected {layout}")
    return found[0]
