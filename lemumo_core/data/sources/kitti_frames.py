"""Frames of KITTI from its files: what the object benchmark and raw drives share.

The camera is image_02 or image_03 (left and right colour) as a pinhole with K = P[:, :3] of its
P2 or P3. P's fourth column, the baseline to the reference camera, is folded into
``T_camera_lidar`` and into the boxes, so that

    K @ (T_camera_lidar @ [X; 1])  equals  P @ R0_rect @ Tr_velo_to_cam @ [X; 1].

Formats: the readme.txt of KITTI's object and raw development kits (Geiger et al., IJRR 2013).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lemumo_core.data.sources.files import read_image, read_points
from lemumo_core.data.sources.kitti_files import baseline
from lemumo_core.data.sources.kitti_labels import read_labels
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, LidarScan
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T, transform

log = logging.getLogger(__name__)

ANNOTATED = "image_02"
"""The camera whose image was annotated."""
SUFFIXES = (".png", ".jpg", ".jpeg")
OFF_CENTER = 0.25
"""Shares of width and height by which a principal point may lie off the middle of its image: files
of calibration do not say of which size of image they are."""


def counted(no_sweep: Collection[str], no_labels: Collection[str] = ()) -> dict[str, int]:
    """Counts of frames that lack something, for ``describe``; nothing where none does."""
    counts = {"without_sweep": len(no_sweep), "without_labels": len(no_labels)}
    return {name: count for name, count in counts.items() if count}


@dataclass(frozen=True)
class Files:
    """Files that one Frame is read from; None where there is no such file."""

    image: Path
    points: Path | None = None
    labels: Path | None = None


def read_frame(
    camera_name: str,
    files: Files,
    calibration: tuple[np.ndarray, np.ndarray],
    stamps_ns: tuple[int, int],
    white_level: int | None,
) -> Frame:
    """Read one Frame.

    Args:
        camera_name: of the Frame.
        files: of the Frame.
        calibration: the camera's P (3, 4) and T_rect_lidar (4, 4).
        stamps_ns: of the image and of the sweep.
        white_level: as ``read_image``.
    """
    P, T_rect_lidar = calibration
    image = read_image(files.image, white_level)
    height, width = image.shape[:2]
    camera = Camera.from_calibration(width, height, P[:, :3], "pinhole", [])
    off_center = abs(camera.cx / width - 0.5), abs(camera.cy / height - 0.5)
    if max(off_center) > OFF_CENTER:
        _warn_of_size(files.image.parent, width, height, camera.cx, camera.cy)
    T_camera_lidar = make_T(np.eye(3), baseline(P)) @ T_rect_lidar
    scan = labels = None
    if files.points is not None:
        scan = LidarScan(read_points(files.points, 4), T_camera_lidar, stamps_ns[1])
    if files.labels is not None:
        in_camera = None
        if scan is not None:
            in_camera = transform(T_camera_lidar, scan.points[:, :3].astype(np.float64))
        annotated = camera_name == ANNOTATED
        labels = read_labels(files.labels, camera, baseline(P), in_camera, annotated)
    return Frame(
        stamp_ns=stamps_ns[0],
        camera_name=camera_name,
        camera=camera,
        image=image,
        companion=scan,
        labels=labels,
    )


@functools.cache
def _warn_of_size(folder: Path, width: int, height: int, cx: float, cy: float) -> None:
    log.warning(
        "%s: the calibration's principal point (%.0f, %.0f) is far from the middle of the %dx%d "
        "images: are they of the size that was calibrated?",
        *(folder, cx, cy, width, height),
    )


def lost_sweeps(folder: Path, names: list[str]) -> frozenset[str]:
    """Return the names of the images without a sweep, or with an empty file of one; warn of them.

    Raises:
        FileNotFoundError: no image has one.
    """
    there = {p.stem for p in folder.glob("*.bin") if p.is_file() and p.stat().st_size}
    lost = frozenset(names) - there
    if len(lost) == len(names):
        raise FileNotFoundError(f"{folder} holds no *.bin of any of the {len(names)} images")
    if lost:
        log.warning(
            "%s: %d of %d images, the first %s, have no sweep: these frames are camera-only",
            *(folder, len(lost), len(names), min(lost)),
        )
    return lost


def unlabelled(folder: Path, names: list[str]) -> frozenset[str]:
    """Return the names of the images without a label file; warn where others have one."""
    lost = frozenset(names) - {path.stem for path in folder.glob("*.txt")}
    if lost and folder.is_dir():
        log.warning(
            "%s: %d of %d images, the first %s, have no label file: these frames are unlabelled",
            *(folder, len(lost), len(names), min(lost)),
        )
    return lost


def camera_name_of(camera: int) -> str:
    """Return the folder of a colour camera, 2 or 3; Fault ``unknown_camera`` for another one."""
    if camera not in (2, 3):
        raise Fault("unknown_camera", f"camera {camera}: KITTI's colour cameras are 2 and 3")
    return f"image_0{camera}"


def image_files(folder: Path, layout: str) -> dict[str, Path]:
    """Return the image files of a folder by their names without extension, in order.

    KITTI's own are PNG; sets in its format come as JPEG too. Hidden files are none of them.

    Raises:
        FileNotFoundError: there are none; the message shows the layout.
        Fault: ``ambiguous_images`` where two files differ in their extension alone.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            other = files.setdefault(path.stem, path)
            if other != path:
                raise Fault(
                    "ambiguous_images",
                    f"{folder} holds both {other.name} and {path.name}: leave one of them there",
                )
    if not files:
        raise FileNotFoundError(f"no {' or '.join(SUFFIXES)} in {folder}; expected {layout}")
    return files
