"""KITTI raw drives as Frames (``kitti_frames``), from their official layout."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.data.sources.files import (
    existing,
    made_up_stamp,
    positive_level,
    positive_rate,
    read_text,
)
from lemumo_core.data.sources.kitti_files import matrix, read_calibration, rotation
from lemumo_core.data.sources.kitti_frames import (
    Files,
    camera_name_of,
    counted,
    image_files,
    lost_sweeps,
    read_frame,
)
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame
from lemumo_core.geometry.se3 import make_T

log = logging.getLogger(__name__)

RAW_LAYOUT = (
    "{image_02|image_03/data/*.{png,jpg}, velodyne_points/data/*.bin} with calib_cam_to_cam.txt "
    "and calib_velo_to_cam.txt in the same folder or its parent"
)
CLOCKS_NS = 1_000_000_000
"""Frames are paired by number, so that stamps of image and sweep differ by half a turn at most."""


class KittiRaw:
    """Frames of one synced and rectified KITTI raw drive; no labels.

    A Frame whose sweep is lost, as a few of some drives are, has no companion.

    Args:
        root: the drive, e.g. ``2011_09_26/2011_09_26_drive_0001_sync``, or a date folder that
            holds the sensor folders itself.
        rate_hz: stamps are made up at this rate, shared by image and LiDAR, where the folders of
            a sensor have no ``timestamps.txt``; KITTI recorded at 10 Hz.
        camera: 2 (left colour) or 3 (right colour).
        white_level: value of white in images of 16 bits, e.g. 4095 where they hold 12.

    Raises:
        FileNotFoundError: a missing folder or file, with the expected layout.
        Fault: ``unknown_camera``, ``bad_calibration``, ``bad_timestamps``, ``bad_points`` or
            ``bad_image``.
    """

    def __init__(
        self,
        root: str | Path,
        rate_hz: float = 10.0,
        camera: int = 2,
        white_level: int | None = None,
    ):
        self.folder = Path(root)
        self.white_level = positive_level(white_level)
        self.camera_name = camera_name_of(camera)
        self.images = existing(self.folder / self.camera_name / "data", RAW_LAYOUT)
        self.velodyne = existing(self.folder / "velodyne_points" / "data", RAW_LAYOUT)
        self.files = image_files(self.images, RAW_LAYOUT)
        self.names = list(self.files)
        self.no_sweep = lost_sweeps(self.velodyne, self.names)

        cam_file, velo_file = map(
            self._calibration, ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt")
        )
        cam, velo = read_calibration(cam_file), read_calibration(velo_file)
        self.P = matrix(cam, f"P_rect_0{camera}", (3, 4), cam_file)
        rectify = make_T(rotation(cam, "R_rect_00", cam_file), np.zeros(3))
        self.T_rect_lidar = rectify @ make_T(
            rotation(velo, "R", velo_file), matrix(velo, "T", (3,), velo_file)
        )
        size = cam.get(f"S_rect_0{camera}")
        self.size = None if size is None else tuple(size.tolist())
        """Width and height that the calibration is of; None where it does not say."""
        rate_hz = positive_rate(rate_hz)
        image_ns = self._stamps(self.camera_name, rate_hz)
        sweep_ns = self._stamps("velodyne_points", rate_hz)
        self.stamps: list[tuple[int, int]] = []
        untimed = set()
        for name, of_image, of_sweep in zip(self.names, image_ns, sweep_ns, strict=True):
            if of_image is None:
                file = self.folder / self.camera_name / "timestamps.txt"
                raise Fault("bad_timestamps", f"{file} has no time for image {name}")
            if of_sweep is None:
                untimed.add(name)
            self.stamps.append((of_image, of_image if of_sweep is None else of_sweep))
        _warn_of_clocks(self.folder, self.stamps)
        if untimed - self.no_sweep:
            log.warning(
                "%s: %d sweeps have no time in timestamps.txt: these frames are camera-only",
                *(self.velodyne.parent, len(untimed - self.no_sweep)),
            )
        self.no_sweep |= untimed

    def _calibration(self, name: str) -> Path:
        beside = self.folder / name
        return beside if beside.exists() else existing(self.folder.parent / name, RAW_LAYOUT)

    def _stamps(self, sensor: str, rate_hz: float) -> list[int | None]:
        """Return the stamps (ns) of every frame.

        File names are indices into ``timestamps.txt``. A stamp is None where the line is empty, as
        KITTI leaves it where a recording was lost.
        """
        file = self.folder / sensor / "timestamps.txt"
        if not file.exists():
            return [made_up_stamp(i, rate_hz) for i in range(len(self.names))]
        try:
            lines = [
                line.strip() or "NaT" for line in read_text(file, "timestamps.txt").splitlines()
            ]
            if not_dates := [line for line in lines if "-" not in line and line != "NaT"]:
                raise ValueError(f"'{not_dates[0]}' is no date with a time of day")
            times = np.array(lines, "datetime64[ns]")[[int(name) for name in self.names]]
        except (ValueError, IndexError) as error:
            raise Fault("bad_timestamps", f"{file} does not time every image: {error}") from None
        return [
            None if lost else int(ns)
            for lost, ns in zip(np.isnat(times), times.astype(np.int64), strict=True)
        ]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Frame:
        name = self.names[index]
        frame = read_frame(
            self.camera_name,
            Files(
                image=self.files[name],
                points=None if name in self.no_sweep else self.velodyne / f"{name}.bin",
            ),
            (self.P, self.T_rect_lidar),
            self.stamps[index],
            self.white_level,
        )
        camera = frame.camera
        if self.size is not None and (camera.width, camera.height) != self.size:
            raise Fault(
                "bad_image",
                f"{self.files[name]} is {camera.width}x{camera.height}, its calibration is of "
                "{:g}x{:g} images: take the images as they were published".format(*self.size),
            )
        return frame

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return {
            "source": "kitti-raw",
            "root": str(self.folder),
            "camera": self.camera_name,
            "frames": len(self),
            **counted(self.no_sweep),
        }


def _warn_of_clocks(folder: Path, stamps_ns: list[tuple[int, int]]) -> None:
    """Warn where sweeps are not of the time of their images, by a median beyond ``CLOCKS_NS``."""
    offset_ns = np.median([sweep - image for image, sweep in stamps_ns])
    if abs(offset_ns) > CLOCKS_NS:
        log.warning(
            "%s: sweeps are stamped %+.3f s from their images in the median: do the timestamps.txt "
            "of image and LiDAR belong to one drive?",
            *(folder, offset_ns / 1e9),
        )
