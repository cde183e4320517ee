"""Replays of one drive with its images in each coding: how much video in bags loses.

    python -m benchmarks.video [--frames 20] [--model models/lemumo-tiny]

A rendered street is written four times, its images raw, as JPEG, as H.264 and as H.265, and each
bag is replayed with the same model. Prints as Markdown the share of the raw images' bytes, how far
the images are from the raw ones, and the metrics against the truth that all four bags share, with
both sensors and with the camera alone.
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import find_topics
from lemumo_core.bags.writer import write_bag
from lemumo_core.cli import main as cli
from lemumo_core.command_line import run_function
from lemumo_core.data.sources.bags import Bags
from lemumo_core.data.sources.registry import open_source
from lemumo_core.frame import Frame
from lemumo_core.progress import track
from lemumo_ros.demo_bag import STREET

CODINGS: dict[str, dict[str, Any]] = {
    "raw": {},
    "JPEG": {"jpeg": True},
    "H.264": {"video": "h264"},
    "H.265": {"video": "h265"},
}
"""Name to the options of ``write_bag``."""
SENSORS = {"fused": "camera + LiDAR", "camera_only": "camera"}
COLUMNS = ("bev_map", "depth_mae_m", "miou")


def video(*, frames: int = 20, model: Path = Path("models/lemumo-tiny")) -> None:
    """Print the table.

    Args:
        frames: images of the drive.
        model: package to replay them with.
    """
    source = open_source("synthetic", **STREET | {"frames": frames, "frames_per_drive": frames})
    street = [source[index] for index in track(range(frames), "rendering")]
    print("| images | share of bytes | PSNR, dB | sensors | BEV mAP | depth MAE, m | mIoU |")
    print("| --- | ---: | ---: | --- | ---: | ---: | ---: |")
    raw_bytes = 0
    with tempfile.TemporaryDirectory() as folder:
        for coding, options in CODINGS.items():
            bag = Path(folder) / coding
            write_bag(street, bag, **options)
            raw_bytes = raw_bytes or image_bytes(bag)
            coded = [f"{image_bytes(bag) / raw_bytes:.3f}", f"{psnr_db(bag, street):.1f}"]
            found = replayed(bag, model, Path(folder) / f"{coding}-results")
            for modality, sensors in SENSORS.items():
                values = [f"{found[modality][name]:.4f}" for name in COLUMNS]
                cells = [coding, *coded, sensors, *values]
                print(f"| {' | '.join(cells)} |", flush=True)
    trivial = (f"{name} {found['fused'][f'{name}_mae_m']:.4f}" for name in ("nearest", "linear"))
    print(f"\nDepth from the returns without a network, MAE in metres: {', '.join(trivial)}")


def replayed(bag: Path, model: Path, out: Path) -> dict[str, Any]:
    """Return the metrics of a bag by modality."""
    with redirect_stdout(sys.stderr):
        code = cli.main(["replay", str(bag), "--model", str(model), "--out", str(out)])
    if code:
        raise SystemExit(f"the replay of {bag.name} ended with exit code {code}")
    return json.loads((out / "metrics.json").read_text())


def image_bytes(bag: Path) -> int:
    """Return the bytes of all messages with images."""
    with BagReader(bag) as reader:
        return sum(len(raw.data) for raw in reader.raw_messages([find_topics(reader).image]))


def psnr_db(bag: Path, street: list[Frame]) -> float:
    """Return the peak signal-to-noise ratio of all images; infinite where they are equal."""
    error = [
        np.mean((frame.image.astype(np.float32) - true.image) ** 2)
        for frame, true in zip(Bags(bag), street, strict=True)
        if frame.image is not None and true.image is not None
    ]
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(255**2 / np.mean(error)))


if __name__ == "__main__":
    sys.exit(run_function("benchmarks.video", video, sys.argv[1:], __doc__))
