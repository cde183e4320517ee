"""T4 datasets of TIER IV as Frames: recordings of Autoware in tables like those of nuScenes.

Where they differ: each recording has its own tables, points are those of all LiDARs in
``base_link``, cameras differ from vehicle to vehicle and may have a lens distortion, and levels of
visibility have other names.

Format: docs/t4_format_3d_detailed.md of github.com/tier4/tier4_perception_dataset, version 1.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.data.sources.files import existing, read_points
from lemumo_core.data.sources.nuscenes import POINT_COLUMNS, NuScenes
from lemumo_core.data.sources.nuscenes_shot import Shot
from lemumo_core.faults import Fault
from lemumo_core.files import contents_of
from lemumo_core.frame import Frame

LAYOUT = "[DATASET/[VERSION/]]{annotation/*.json, data/{LIDAR_CONCAT,CAM_*}/*}"
LIDARS = ("LIDAR_CONCAT", "LIDAR_TOP")
VISIBILITY = {
    **{"full": 1.0, "most": 0.75, "partial": 0.3, "none": 0.05},
    **{"v0-40": 0.2, "v40-60": 0.5, "v60-80": 0.7, "v80-100": 0.9},
}
"""Level to about the share that is seen: all, more than half, less than half, less than a tenth."""


class T4:
    """Keyframes of recordings, one Frame per camera, in order of recording, time and camera.

    Args:
        root: a recording, which holds ``annotation`` and ``data``, or a folder of recordings.
        cameras: channels, or the name of one; by default all that a recording has.
        rectified: images are rectified, so that the distortion that the tables hold is of the lens
            that they came through, and is not applied.

    Each Frame has a LidarScan in ``base_link`` (x, y, z, intensity and, where it is known, the
    beam) and Labels as ``NuScenes``, with the names of the recordings; ``--classes t4`` are all of
    them. Recordings that are not annotated have no labels.

    Raises:
        FileNotFoundError: a missing folder, table or sensor file, with the expected layout.
        Fault: ``unknown_camera``, ``bad_table``, ``bad_camera``, ``bad_points``,
            ``bad_point_labels`` or ``bad_image``.
    """

    def __init__(
        self,
        root: str | Path,
        cameras: str | Sequence[str] | None = None,
        rectified: bool = False,
    ):
        self.root, self.rectified = existing(Path(root), LAYOUT), rectified
        self.cameras = (cameras,) if isinstance(cameras, str) else cameras
        found = (f for depth in ("", "*/", "*/*/") for f in self.root.glob(f"{depth}annotation"))
        folders = sorted(folder.parent for folder in found if folder.is_dir())
        if not folders:
            raise FileNotFoundError(f"{self.root} holds no T4 dataset; expected {LAYOUT}")
        self.recordings = [_Recording(folder, self.cameras, rectified) for folder in folders]
        self._ends = np.cumsum([len(recording) for recording in self.recordings])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Frame:
        index = range(len(self))[index]
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self.recordings[number][index - int(self._ends[number])]

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``."""
        return {
            "source": "t4",
            "root": str(self.root),
            "cameras": None if self.cameras is None else list(self.cameras),
            "rectified": self.rectified,
            "recordings": len(self.recordings),
            "frames": len(self),
        }


class _Recording(NuScenes):
    """One recording, which is read as a nuScenes of its own."""

    layout = LAYOUT

    def __init__(self, root: Path, cameras: Sequence[str] | None, rectified: bool):
        self.root, self.tables, self.split = root, root / "annotation", None
        self.rectified = rectified
        with contents_of(self.tables):
            channels = {row["channel"]: row["modality"] for row in self._load("sensor")}
        self.lidar = next((name for name in LIDARS if name in channels), LIDARS[0])
        of_recording = [name for name, modality in channels.items() if modality == "camera"]
        self.cameras = tuple(sorted(of_recording) if cameras is None else cameras)
        if not self.cameras:
            raise Fault("unknown_camera", f"{root} has no camera: it is of LiDAR alone")
        self._read_tables()

    def _load(self, name: str) -> list[dict[str, Any]]:
        rows = super()._load(name)
        if name == "calibrated_sensor" and self.rectified:
            rows = [{**row, "camera_distortion": []} for row in rows]
        return rows

    def _points(self, sweep: Shot) -> np.ndarray:
        points = read_points(existing(self.root / sweep.file, LAYOUT), POINT_COLUMNS)
        is_beam_known = bool((points[:, 4] >= 0).any())
        return points if is_beam_known else points[:, :4]

    def _visibility(self) -> dict[str, float]:
        levels = {row["token"]: row["level"] for row in self._load("visibility")}
        return {token: VISIBILITY.get(level, np.nan) for token, level in levels.items()}
