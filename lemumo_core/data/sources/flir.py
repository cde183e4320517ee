"""Teledyne FLIR ADAS v2 as Frames: an RGB and a thermal camera behind one windscreen, 2D boxes.

The set has no calibration. Its images line up, far off, where the thermal frame is laid over a
fixed window of the RGB image; the thermal camera is the model of just this, so that rendering it
into the RGB view needs nothing special.

Format: README.txt of the data set, v2.0.0 (2022); Conservator's command line, which names files
``video-VIDEO-frame-INDEX-ID.jpg``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.data.sources.coco import read_coco, read_json
from lemumo_core.data.sources.files import (
    existing,
    made_up_stamp,
    positive_rate,
    read_gray,
    read_image,
)
from lemumo_core.data.sources.lens import nominal_camera
from lemumo_core.faults import Fault
from lemumo_core.files import contents_of
from lemumo_core.frame import Frame, Labels, ThermalImage
from lemumo_core.geometry.camera import Camera

LAYOUT = (
    "FLIR ADAS v2: {images_rgb_train, images_thermal_train, images_rgb_val, images_thermal_val, "
    "video_rgb_test, video_thermal_test}/{data/video-*-frame-*.jpg, coco.json, index.json} and "
    "rgb_to_thermal_vid_map.json"
)
SPLITS = {"train": "images_{}_train", "val": "images_{}_val", "video_test": "video_{}_test"}
"""Split to the name of its folder, for ``rgb`` and ``thermal``."""
VIDEO_RATE_HZ, IMAGE_RATE_HZ = 30.0, 2.0
"""Videos were recorded at the former; images are picked with no fixed step."""
PAIR_MAP = "rgb_to_thermal_vid_map.json"
FILE_NAME = re.compile(r"video-([^-]+)-frame-(\d+)-[^-]+")
RGB_VIDEO = re.compile(r'"RGB"\s*:\s*"([^"]+)"')
"""In the description of a thermal video: the RGB video of the same drive."""
HORIZONTAL_FOV_DEG = 52.8
"""Field of view of the RGB camera's lens."""
WINDOW = (0.0844, 0.0887, 0.8875, 0.8010)
"""Left, top, width and height of the thermal frame in the RGB image, as shares of that image."""


class Flir:
    """Pairs of RGB and thermal images of FLIR ADAS v2, ordered by video and time.

    Args:
        root: folder that holds ``images_rgb_train`` and the like.
        split: ``train`` or ``val`` (single images) or ``video_test`` (videos).
        labels: whose boxes: ``rgb``, or ``thermal``, laid into the RGB image through ``WINDOW``.
        raw: take the thermal counts, uint16, of ``analyticsData`` instead of the 8-bit images.
        rate_hz: stamps are made up at this rate, the data set has none; by default 30 for videos
            and 2 for images.

    In ``video_test`` each frame has a partner. The images of ``train`` and ``val`` were picked for
    each camera on its own: two are partners where the description of the thermal video names the
    RGB video and the frame index is the same; the others are left out (``describe`` counts the
    thermal ones).

    Each Frame has a ThermalImage and Labels with 2D boxes clipped to the image and the class names
    of ``coco.json``; no 3D boxes. Its crowds are regions to ignore. Labels are None for an image
    that ``coco.json`` does not list.

    Raises:
        FileNotFoundError: a missing folder or file, with the expected layout.
        Fault: ``wrong_version``, ``unknown_split``, ``unknown_labels``, ``bad_table``,
            ``bad_labels``, ``no_pairs`` or ``bad_image``.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        labels: str = "rgb",
        raw: bool = False,
        rate_hz: float | None = None,
    ):
        if split not in SPLITS:
            raise Fault("unknown_split", f"split '{split}' is none of {', '.join(SPLITS)}")
        if labels not in ("rgb", "thermal"):
            raise Fault("unknown_labels", f"labels '{labels}' are neither rgb nor thermal")
        self.root, self.split, self.labels, self.raw = Path(root), split, labels, raw
        is_video = split == "video_test"
        default_hz = VIDEO_RATE_HZ if is_video else IMAGE_RATE_HZ
        self.rate_hz = positive_rate(default_hz if rate_hz is None else rate_hz)
        _refuse_version_1(self.root)
        self.folders = {
            kind: existing(self.root / SPLITS[split].format(kind), LAYOUT)
            for kind in ("rgb", "thermal")
        }
        boxes = {k: read_coco(folder / "coco.json", LAYOUT) for k, folder in self.folders.items()}
        if is_video:
            self.pairs = sorted(self._mapped_pairs())
        else:
            index = read_json(self.folders["thermal"] / "index.json", LAYOUT)
            with contents_of(self.folders["thermal"] / "index.json"):
                self.pairs = sorted(_described_pairs(boxes["rgb"], boxes["thermal"], index))
        if not self.pairs:
            raise Fault(
                "no_pairs",
                f"no thermal image of {self.folders['thermal']} has a partner in "
                f"{self.folders['rgb']}: its index.json names no RGB video of theirs",
            )
        self.unpaired = len(boxes["thermal"].keys() - {thermal for _, thermal in self.pairs})
        column = ("rgb", "thermal").index(labels)
        names = {pair[column] for pair in self.pairs}
        self.boxes = {name: rows for name, rows in boxes[labels].items() if name in names}
        self._check_files()

    def _mapped_pairs(self) -> list[tuple[str, str]]:
        inside, beside = self.root / PAIR_MAP, self.root.parent / PAIR_MAP  # mirrors differ
        pairs = read_json(inside if inside.exists() or not beside.exists() else beside, LAYOUT)
        return [(Path(rgb).name, Path(thermal).name) for rgb, thermal in pairs.items()]

    def _check_files(self) -> None:
        """Raise where an image is missing: half a download should not fail after an hour."""
        needed = {self._path(kind, pair) for pair in self.pairs for kind in self.folders}
        folders = {path.parent for path in needed}
        there = {path for folder in folders for path in existing(folder, LAYOUT).iterdir()}
        missing = sorted(needed - there)
        if missing:
            raise FileNotFoundError(
                f"{missing[0]} does not exist, nor do {len(missing) - 1} other images of split "
                f"{self.split}: is the download complete? Expected {LAYOUT}"
            )

    def _path(self, kind: str, pair: tuple[str, str]) -> Path:
        rgb, thermal = pair
        if kind == "rgb":
            return self.folders["rgb"] / "data" / rgb
        if self.raw:
            return self.folders["thermal"] / "analyticsData" / Path(thermal).with_suffix(".tiff")
        return self.folders["thermal"] / "data" / thermal

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Frame:
        pair = self.pairs[index]
        stamp_ns = made_up_stamp(range(len(self))[index], self.rate_hz)
        image = read_image(self._path("rgb", pair))
        thermal = read_gray(self._path("thermal", pair))
        camera = rgb_camera(image.shape[1], image.shape[0])
        thermal_cam = camera.of_window(WINDOW, thermal.shape[1], thermal.shape[0])
        return Frame(
            stamp_ns=stamp_ns,
            camera_name="front",
            camera=camera,
            image=image,
            companion=ThermalImage(thermal, thermal_cam, np.eye(4), stamp_ns),
            labels=self._labels(pair, camera, thermal_cam),
        )

    def _labels(self, pair: tuple[str, str], camera: Camera, thermal: Camera) -> Labels | None:
        size = np.array([camera.width, camera.height], np.float64)
        name, scale, offset = pair[0], np.ones(2), np.zeros(2)
        if self.labels == "thermal":
            name, offset = pair[1], size * WINDOW[:2]
            scale = size * WINDOW[2:] / [thermal.width, thermal.height]
        if name not in self.boxes:
            return None
        found = self.boxes[name]
        own = thermal if self.labels == "thermal" else camera
        if found.size is not None and found.size != (own.width, own.height):
            raise Fault(
                "bad_labels",
                f"{name} is {own.width}x{own.height}, coco.json says {found.size[0]}x"
                f"{found.size[1]}: were the images resized without their boxes?",
            )

        def in_image(rows: np.ndarray) -> np.ndarray:
            low = rows[:, :2] * scale + offset
            high = low + rows[:, 2:] * scale
            return np.concatenate([np.clip(low, 0, size - 1), np.clip(high, 0, size - 1)], axis=1)

        boxes, regions = in_image(found.boxes), in_image(found.crowds)
        kept = np.flatnonzero(np.all(boxes[:, 2:] > boxes[:, :2], axis=1))
        return Labels(
            boxes_2d=boxes[kept].astype(np.float32),
            class_names=tuple(found.names[i] for i in kept),
            ignore=regions.astype(np.float32) if len(regions) else None,
        )

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return {
            "source": "flir",
            "root": str(self.root),
            "frames": len(self),
            "split": self.split,
            "labels": self.labels,
            "raw": self.raw,
            "rate_hz": self.rate_hz,
            "unpaired_thermal": self.unpaired,
        }


def rgb_camera(width: int, height: int) -> Camera:
    """Return the nominal model of the RGB camera for an image of this size."""
    return nominal_camera(width, height, width / 2 / np.tan(np.radians(HORIZONTAL_FOV_DEG / 2)))


def _described_pairs(
    rgb: Iterable[str], thermal: Iterable[str], index: dict[str, Any]
) -> list[tuple[str, str]]:
    """Return RGB and thermal names that share the drive and the frame index."""
    partners = {}
    for video in index.get("videos", []):
        found = RGB_VIDEO.search(str(video.get("description")))
        if found:
            partners[video.get("id")] = found[1]
    rgb_names = {_video_and_index(name): name for name in rgb}
    pairs = []
    for name in thermal:
        video, number = _video_and_index(name)
        partner = rgb_names.get((partners.get(video, ""), number))
        if partner is not None:
            pairs.append((partner, name))
    return pairs


def _video_and_index(name: str) -> tuple[str, int]:
    match = FILE_NAME.match(name)
    return (match[1], int(match[2])) if match else (name, -1)


def _refuse_version_1(root: Path) -> None:
    for name in ("thermal_8_bit", "train/thermal_8_bit", "val/thermal_8_bit"):
        if (root / name).exists():
            raise Fault("wrong_version", f"{root / name} is of FLIR ADAS v1; expected {LAYOUT}")
