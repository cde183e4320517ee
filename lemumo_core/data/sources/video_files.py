"""Video files as Frames of a camera alone."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.data.sources.files import (
    FIRST_STAMP_NS,
    RECORDING_GAP_NS,
    VIDEO_SUFFIXES,
    existing,
    files_below,
    positive_rate,
)
from lemumo_core.data.sources.image_folder import CAMERA_NAME
from lemumo_core.data.sources.lens import FOV_DEG, Lens
from lemumo_core.data.sources.video_file import VideoFile, index_video
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame
from lemumo_core.messages.video import require_video
from lemumo_core.progress import track

LAYOUT = f"a video or a folder of videos, at any depth: {', '.join(VIDEO_SUFFIXES)}"
MAX_OPEN = 8
"""Videos that are held open at once; the one unused for longest is closed first."""


class VideoFiles:
    """Images of videos, each video a recording of its own; no labels, no LiDAR.

    Frames are ordered by file and time. Their stamps are the video's own times after a made-up
    start, an hour after the end of the video before.

    Args:
        root: a video, or a folder of videos of any depth.
        rate_hz: images taken a second, at most; None takes all.
        calibration: YAML file of camera_calibration, of all videos; without it the camera is a
            pinhole of ``fov_deg``, and distances are right up to scale only.
        rectified: the images are rectified ones.
        fov_deg: horizontal field of view, degrees, where there is no calibration.

    Opening reads every file once for the times of its images. An image is decoded from the key
    frame before it, so that reading in order is fast and a jump takes as long as a key frame's
    distance: write shards to shuffle them.

    Raises:
        ImportError: PyAV is not installed; the message says how.
        FileNotFoundError: no such path, or no videos in it.
        Fault: ``bad_option``, ``bad_calibration``, ``camera_info_mismatch`` or ``broken_video``,
            naming the file.
    """

    def __init__(
        self,
        root: str | Path,
        rate_hz: float | None = 2.0,
        calibration: str | None = None,
        rectified: bool = False,
        fov_deg: float = FOV_DEG,
    ):
        require_video()
        self.root = existing(Path(root), LAYOUT)
        self.lens = Lens(calibration, rectified, fov_deg)
        self.rate_hz = None if rate_hz is None else positive_rate(rate_hz)
        files = [self.root]
        if self.root.is_dir():
            files = [self.root / path for path in files_below(self.root, VIDEO_SUFFIXES)]
        if not files:
            raise FileNotFoundError(f"{self.root} holds no videos; expected {LAYOUT}")
        self.videos = [index_video(file) for file in track(files, "index videos")]
        self._taken = [video.at_rate(self.rate_hz) for video in self.videos]
        lengths_ns = [video.times_ns[-1] + RECORDING_GAP_NS for video in self.videos[:-1]]
        self._begins_ns = FIRST_STAMP_NS + np.cumsum([0, *lengths_ns])
        self._ends = np.cumsum([len(taken) for taken in self._taken])
        self._forget()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Frame:
        index = range(len(self))[index]
        number = int(np.searchsorted(self._ends, index, side="right"))
        at = int(self._taken[number][index - int(self._ends[number])])
        video = self.videos[number]
        image = self._opened(number).image(at)
        try:
            camera = self.lens.camera_of(*image.shape[1::-1])
        except Fault as fault:
            raise Fault(fault.reason, f"{video.path}: {fault}") from None
        stamp_ns = int(self._begins_ns[number] + video.times_ns[at])
        return Frame(stamp_ns, CAMERA_NAME, camera, image)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_open", "_process")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return {
            "source": "videos",
            "root": str(self.root),
            "videos": len(self.videos),
            "frames": len(self),
            "rate_hz": self.rate_hz,
            **self.lens.describe(),
        }

    def _forget(self) -> None:
        self._open: OrderedDict[int, VideoFile] = OrderedDict()
        self._process = os.getpid()

    def _opened(self, number: int) -> VideoFile:
        if self._process != os.getpid():  # a fork shares the files' positions with its parent
            self._forget()
        if number not in self._open:
            while len(self._open) >= MAX_OPEN:
                self._open.popitem(last=False)[1].close()
            self._open[number] = VideoFile(self.videos[number])
        self._open.move_to_end(number)
        return self._open[number]
