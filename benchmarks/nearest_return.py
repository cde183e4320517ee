"""How far a model's depth is from LiDAR returns masked from it, and how far the trivial answer is.

    python -m benchmarks.nearest_return [--limit 20]
    python -m benchmarks.nearest_return --data kitti-raw --data_options.root DIR

Masked are those returns that ``lemumo evaluate`` masks, a random tenth; rendered streets are
treated like real ones, whose dense depth nobody knows. The trivial answer is the depth of the
nearest return in the image that was not masked. Both are measured on the same pixels: those of
returns within 80 m that lie in the network's view. Prints the mean absolute error in metres.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from lemumo_core.cli.evaluate import load, open_source
from lemumo_core.command_line import run_function
from lemumo_core.data.sources import evenly_spaced
from lemumo_core.depth_projection import project_returns
from lemumo_core.frame import Frame, LidarScan
from lemumo_core.geometry.view_transfer import look_up
from lemumo_core.metrics.masked_returns import NEAREST_M, mask_returns

MAX_DEPTH_M = 80.0
MODEL = Path("models/lemumo-tiny")


def nearest_return(
    *,
    model: Path = MODEL,
    data: str = "synthetic",
    data_options: dict[str, Any] | None = None,
    limit: int = 20,
) -> None:
    """Print the errors of a model by its sensors, and of the nearest return.

    Args:
        model: package, or run of ``lemumo finetune``.
        data: source or shards of frames with LiDAR, as of ``lemumo evaluate``.
        data_options: of that source.
        limit: frames at most.
    """
    pipeline = load(model, "auto")
    source = open_source(data, data_options or {}, pipeline.package.manifest)
    errors: dict[str, list[np.ndarray]] = {}
    seen: list[np.ndarray] = []
    for index in evenly_spaced(len(source), limit):
        frame = mask_returns(without_dense_depth(source[index]))
        assert frame.labels is not None and frame.labels.depth_m is not None
        v, u = np.nonzero(frame.labels.depth_m <= MAX_DEPTH_M)  # NaN is not
        truth = frame.labels.depth_m[v, u]
        depths = {"nearest return": nearest(frame, u, v)}
        for sensors, missing in (("fused", ""), ("camera", "companion"), ("LiDAR", "image")):
            shown = replace(frame, **{missing: None}) if missing else frame
            found = pipeline(shown)
            depths[sensors] = look_up(found.depth_m, found.output_camera, frame.camera, np.nan)[
                v, u
            ]
        in_view = np.isfinite(depths["fused"])
        seen.append(in_view)
        for name, depth_m in depths.items():
            errors.setdefault(name, []).append(np.abs(depth_m - truth)[in_view])
    share = np.concatenate(seen)
    print(f"{len(share)} masked returns, {share.mean():.0%} of them in the network's view")
    for name, parts in errors.items():
        print(f"{name:16}{np.concatenate(parts).mean():.2f} m")


def without_dense_depth(frame: Frame) -> Frame:
    """Return a frame like those of real sensors: only its LiDAR knows depth."""
    if not isinstance(frame.companion, LidarScan):
        raise SystemExit("a frame has no LiDAR: choose a source in which all have")
    labels = None if frame.labels is None else replace(frame.labels, depth_m=None)
    return replace(frame, labels=labels)


def nearest(frame: Frame, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the depth of the return nearest in the image to each pixel: float32 (N,), metres."""
    scan = frame.companion
    assert isinstance(scan, LidarScan)
    shown = project_returns(scan.points, scan.T_camera_lidar, frame.camera, NEAREST_M)
    _, rows = cKDTree(np.stack([shown.u, shown.v], 1)).query(np.stack([u, v], 1))
    return shown.depth_m[rows]


if __name__ == "__main__":
    sys.exit(run_function("nearest_return", nearest_return, sys.argv[1:], __doc__))
