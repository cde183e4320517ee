"""How many frames a second one worker brings to the network, and where the time goes.

    python -m benchmarks.data [--frames 24] [--json FILE]

A worker takes a Frame from a source (decode), puts it on the canvas (sample: resize the image,
project the returns once) and six views are cut (views: 2 of 224 x 224, 4 of 96 x 96, with colour
changes, LiDAR rendered in every view). One process, one thread, processor time.

The first rows stand for one Waymo sample, under the conditions of the reference's own figures: an
image of 1920 x 1280 as JPEG and 160 000 points, six views, nothing computed beforehand. The
reference needs 565 ms for it, and 100 ms once its depth maps are cached on disk as PNG (measured
on 2 cores of an AMD EPYC, Python 3.11; the reference cannot run here). Rows of real sensors need
../shared/data.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks._timing import machine
from lemumo_core.data.photometric import PHOTOMETRIC
from lemumo_core.data.samples import collate, sample
from lemumo_core.data.shard_writer import write_shards
from lemumo_core.data.shards import Shards
from lemumo_core.data.sources import FrameSource
from lemumo_core.data.sources.registry import open_source
from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.data.views import MultiCrop, MultiCropConfig
from lemumo_core.frame import Frame, LidarScan, ThermalImage
from lemumo_core.preprocess import InputSpec

REFERENCE_MS = {"uncached": 565.0, "cached": 100.0}
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
BATCH = 8
CANVAS = 448, 672
"""Height and width from which crops of 224 x 224 are cut without loss."""
WAYMO_SIZE, WAYMO_POINTS, JPEG_QUALITY = (1920, 1280), 160_000, 90


class WaymoLike:
    """Frames of the size of Waymo's front camera with 160 000 points, from the rendered world."""

    def __init__(self, frames: int):
        self.street = SyntheticStreet(1, frames, *WAYMO_SIZE, frames_per_drive=1)

    def __len__(self) -> int:
        return len(self.street)

    def __getitem__(self, index: int) -> Frame:
        frame = self.street[index]
        scan = frame.companion
        assert isinstance(scan, LidarScan)
        rng = np.random.default_rng(index)
        points = scan.points[rng.integers(len(scan.points), size=WAYMO_POINTS)]
        points[:, :3] += rng.normal(0, 0.02, (WAYMO_POINTS, 3))
        scan = LidarScan(points, scan.T_camera_lidar, scan.stamp_ns)
        return Frame(frame.stamp_ns, frame.camera_name, frame.camera, frame.image, scan)

    def describe(self) -> dict:
        return {"source": "waymo-like", "frames": len(self)}


def sources(folder: Path) -> Iterator[tuple[str, FrameSource]]:
    """Name and source of every row that this machine can measure."""
    write_shards(WaymoLike(4), folder / "waymo", jpeg=JPEG_QUALITY, workers=1)
    yield "Waymo-like, shards, full decode", Shards(folder / "waymo")
    yield "Waymo-like, shards, at_least=canvas", Shards(folder / "waymo", at_least=CANVAS)
    write_shards(SyntheticStreet(frames=8), folder / "street", workers=1)
    yield "synthetic, rendered on demand", SyntheticStreet(frames=400)
    yield "synthetic, shards", Shards(folder / "street")
    if not SHARED.is_dir():
        print(f"no recordings at {SHARED}: real sensors are left out")
        return
    drive = SHARED / "kitti_raw_seq" / "2011_09_26"
    yield "KITTI raw, folder", open_source("kitti-raw", root=drive)
    yield "KITTI object, folder", open_source("kitti", root=SHARED / "kitti_object")
    yield "nuScenes, folder", open_source("nuscenes", root=SHARED / "nuscenes_mini_tables")
    yield "LLVIP (thermal), folder", open_source("rgb-thermal", root=SHARED / "llvip_rgbt")
    from lemumo_core.bags.writer import write_bag

    write_bag(open_source("kitti-raw", root=drive), folder / "bag", jpeg=True)
    yield "KITTI raw, mcap bag with JPEG", open_source("bags", path=folder / "bag")


def measure(source: FrameSource, frames: int) -> dict[str, float]:
    """Milliseconds of processor time per frame of each stage."""
    companion = source[0].companion
    kind = "thermal" if isinstance(companion, ThermalImage) else "lidar"
    canvas = InputSpec(*CANVAS, kind, 2)
    views = MultiCrop(MultiCropConfig(photometric=PHOTOMETRIC["waymo"]))
    generator = torch.Generator().manual_seed(0)
    views(collate([sample(source[0], canvas)] * 2), generator)  # tables are made once
    spent = {"decode": 0.0, "sample": 0.0, "views": 0.0}
    done = 0
    while done < frames:
        made = []
        for _ in range(min(BATCH, frames - done)):
            start = time.process_time()
            frame = source[done % len(source)]
            middle = time.process_time()
            made.append(sample(frame, canvas))
            spent["decode"] += middle - start
            spent["sample"] += time.process_time() - middle
            done += 1
        start = time.process_time()
        views(collate(made), generator)
        spent["views"] += time.process_time() - start
    return {stage: 1e3 * seconds / done for stage, seconds in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=24, help="of every source")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}, PyTorch {torch.__version__}, canvas {CANVAS[0]} x {CANVAS[1]}")
    head = f"{'source':38}{'frames/s':>9}{'ms':>8}   decode sample  views"
    print(f"{head}   against the reference: uncached  cached")
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, source in sources(Path(folder)):
            spent = measure(source, args.frames)
            total = sum(spent.values())
            shares = "".join(f"{100 * ms / total:6.0f}%" for ms in spent.values())
            line = f"{name:38}{1e3 / total:9.1f}{total:8.1f}  {shares}"
            if name.startswith("Waymo"):
                ratios = [reference / total for reference in REFERENCE_MS.values()]
                line += f"{'':25}{ratios[0]:8.1f}x{ratios[1]:7.1f}x"
            print(line, flush=True)
            rows[name] = {"frames_per_s": 1e3 / total, **{f"{k}_ms": v for k, v in spent.items()}}
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
