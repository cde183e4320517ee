"""Sparse convolution: MinkUNet34C of ours against the same network on spconv's products.

    python -m benchmarks.sparse [--scans 6] [--widths 1 0.25] [--wedge_deg 90]

Every step takes a new scan, as training does, and builds its kernel maps: spconv takes ours, so
that what is compared is the convolution alone, forward and with its gradients. Scans are sweeps of
the rendered street, cut to a wedge as wide as a camera's view. Ways are run in turns, each first
in every other turn, on one thread, and CPU time is compared: other programs disturb it less.
Without spconv (``pip install '.[spconv]'``) ours is timed alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from dataclasses import replace

import numpy as np
import torch

from benchmarks._timing import machine
from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.frame import LidarScan
from lemumo_core.model.products import ROW_PRODUCT
from lemumo_core.model.sparse.minkunet import BACKENDS, MinkUNet, SparseConfig
from lemumo_core.model.sparse.voxels import VoxelConfig, Voxels, voxelize

TARGETS = {1.0: {"forward": 1.25, "step": 1.2}, 0.25: {"forward": 0.9, "step": 0.9}}
"""How many times as fast as spconv, on an EPYC; 0.9 on other processors."""


def scans(count: int, wedge_deg: float) -> list[torch.Tensor]:
    """Sweeps (1, N, 4) of as many streets."""
    street = SyntheticStreet(seed=7, frames=count, width=32, height=32, frames_per_drive=1)
    found = []
    for index in range(count):
        companion = street[index].companion
        assert isinstance(companion, LidarScan)
        points = companion.points
        azimuth = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
        kept = points[np.abs(azimuth) < wedge_deg / 2]
        found.append(torch.from_numpy(kept)[None])
    return found


def seconds(network: MinkUNet, voxels: Voxels) -> dict[str, float]:
    """CPU seconds of a forward pass alone, and of a step."""
    start = time.process_time()
    with torch.no_grad():
        network(voxels)
    middle = time.process_time()
    network(voxels).square().mean().backward()
    return {"forward": middle - start, "step": time.process_time() - middle}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scans", type=int, default=6)
    parser.add_argument("--widths", type=float, nargs="+", default=[1.0, 0.25])
    parser.add_argument("--wedge_deg", type=float, default=90.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    clouds = scans(args.scans + 1, args.wedge_deg)
    config = VoxelConfig(features="height")
    product = getattr(ROW_PRODUCT, "__name__", "torch.mm")
    print(f"{machine()}, torch {torch.__version__}, products by {product}, one thread")
    for width in args.widths:
        networks = {}
        for name in BACKENDS if importlib.util.find_spec("spconv") else ("torch",):
            torch.manual_seed(0)
            networks[name] = MinkUNet(SparseConfig(width, name, replace(config)))
        times: dict[tuple[str, str], list[float]] = {}
        maps, counts = [], []
        for number, cloud in enumerate(clouds):
            start = time.process_time()
            voxels = voxelize(cloud, config)
            built = time.process_time() - start
            for name in sorted(networks, reverse=bool(number % 2)):
                network = networks[name]
                network.zero_grad()
                measured = seconds(network, voxels)
                if number:  # the first warms up
                    for what, value in measured.items():
                        times.setdefault((name, what), []).append(value)
            if number:
                maps.append(built)
                counts.append(len(voxels))
        print(
            f"\nwidth {width:g}, {statistics.mean(counts):.0f} voxels of {config.size_m:g} m in "
            f"the mean of {len(counts)} scans; voxels and maps {1e3 * statistics.median(maps):.1f} "
            "ms"
        )
        for what in ("forward", "step"):
            ours = statistics.median(times["torch", what])
            line = f"{what:8} ours {1e3 * ours:8.1f} ms"
            if "spconv" in networks:
                theirs = statistics.median(times["spconv", what])
                line += f", spconv {1e3 * theirs:8.1f} ms: {theirs / ours:.2f} times as fast"
                if target := TARGETS.get(width, {}).get(what):
                    line += f" (target {target})"
            print(line)


if __name__ == "__main__":
    main()
