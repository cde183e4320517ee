"""Read a format of your own: a class with three methods is a source of frames.

    python examples/add_a_source.py FOLDER OUT

FOLDER holds ``NAME.png``, ``NAME.npy`` (LiDAR points, float32 (N, 3) or more columns, metres) and
one ``calibration.json`` with K (3 x 3) and T_camera_lidar (4 x 4). OUT gets shards, which every
program takes: ``lemumo pretrain --data OUT``.
"""

import json
import sys
from pathlib import Path

import numpy as np

from lemumo_core.command_line import run_function
from lemumo_core.data.shard_writer import write_shards
from lemumo_core.data.sources.files import made_up_stamp, read_image
from lemumo_core.frame import Frame, LidarScan
from lemumo_core.geometry.camera import Camera


class Folder:
    """Images with a point cloud each, ten a second."""

    def __init__(self, root: Path):
        self.root, self.images = root, sorted(root.glob("*.png"))
        calibration = json.loads((root / "calibration.json").read_text())
        self.K = np.array(calibration["K"])
        self.T_camera_lidar = np.array(calibration["T_camera_lidar"])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Frame:
        image, stamp_ns = read_image(self.images[index]), made_up_stamp(index, rate_hz=10.0)
        points = np.load(self.images[index].with_suffix(".npy"))
        height, width = image.shape[:2]
        camera = Camera(width, height, self.K[0, 0], self.K[1, 1], self.K[0, 2], self.K[1, 2])
        scan = LidarScan(points, self.T_camera_lidar, stamp_ns)
        return Frame(stamp_ns, "front", camera, image, scan)

    def describe(self) -> dict:
        """Describe the source for logs and for the index of the shards."""
        return {"source": "folder", "root": str(self.root), "frames": len(self)}


def main(folder: Path, out: Path) -> None:
    """Write shards of a folder.

    Args:
        folder: of images, points and a calibration.
        out: folder of the shards.
    """
    print(write_shards(Folder(folder), out))


if __name__ == "__main__":
    sys.exit(run_function("add_a_source.py", main, sys.argv[1:], __doc__))
