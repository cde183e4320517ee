"""Depth where returns were masked, on variants of a rig: other LiDARs, cameras and mountings.

    python -m benchmarks.rigs --data kitti-raw root=/data/kitti/2011_09_26
    python -m benchmarks.rigs --model out/package --data nuscenes root=/data/nuscenes --frames 6

Frames of a source are changed: beams left out, images cropped, resized, turned, bent and spoilt.
Every second beam is masked from the model, or a random tenth of the returns; ratios are those of
its error to the better one of the nearest return and linear interpolation, which see the same
returns.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from benchmarks._source import add_source_arguments, named_source
from lemumo_core.data.sources import evenly_spaced
from lemumo_core.evaluation.modalities import MODALITIES, evaluate_frame, metric_for
from lemumo_core.frame import Frame, LidarScan
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T, transform
from lemumo_core.inference.package import load_package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.metrics.beams import beam_numbers
from lemumo_core.metrics.masked_returns import Mask, mask_returns
from lemumo_core.metrics.perception import Summary
from lemumo_core.progress import track

Rig = Callable[[Frame], Frame]
SOLID_STATE_DEG = 35.0, 13.0
"""Half of the width and of the height of a solid-state LiDAR's field of view."""


def some_beams(one_in: int) -> Rig:
    """A LiDAR of fewer beams."""

    def changed(frame: Frame) -> Frame:
        scan = scan_of(frame)
        return with_points(frame, scan.points[beam_numbers(scan) % one_in == 0])

    return changed


def solid_state(frame: Frame) -> Frame:
    """A LiDAR of a narrow field of view, whose returns lie in no rows and come in no order."""
    scan = scan_of(frame)
    x, y, z = transform(scan.T_camera_lidar, scan.points[:, :3].astype(np.float64)).T
    away = np.abs(np.degrees(np.arctan2(x, z))), np.abs(np.degrees(np.arctan2(y, np.hypot(x, z))))
    seen = (away[0] < SOLID_STATE_DEG[0]) & (away[1] < SOLID_STATE_DEG[1])
    order = np.random.default_rng(0).permutation(np.flatnonzero(seen))
    return with_points(frame, scan.points[order[: len(order) // 2], :4])


def cropped(aspect: float) -> Rig:
    """The middle of the image, as large as its aspect, width to height, lets it be."""

    def changed(frame: Frame) -> Frame:
        camera = frame.camera
        width = min(camera.width, round(camera.height * aspect))
        height = min(camera.height, round(camera.width / aspect))
        left, top = (camera.width - width) // 2, (camera.height - height) // 2
        image = image_of(frame)[top : top + height, left : left + width]
        return replace(
            frame,
            image=np.ascontiguousarray(image),
            camera=camera.cropped(left, top, width, height),
        )

    return changed


def resized(scale: float) -> Rig:
    """A camera of more or fewer pixels."""

    def changed(frame: Frame) -> Frame:
        size = round(frame.camera.width * scale), round(frame.camera.height * scale)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        image = cv2.resize(image_of(frame), size, interpolation=how)
        return replace(frame, image=image, camera=frame.camera.scaled(*size))

    return changed


def turned(quarters: int) -> Rig:
    """A camera on its side or upside down: the image turned to the left by quarters of a turn."""
    turn = make_T(np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]]), np.zeros(3))

    def changed(frame: Frame) -> Frame:
        for _ in range(quarters):
            camera, scan = frame.camera, scan_of(frame)
            bend = camera.distortion
            if camera.model in ("plumb_bob", "rational_polynomial"):  # the tangential ones swap
                bend = (*bend[:2], -bend[3], bend[2], *bend[4:])
            frame = replace(
                frame,
                image=np.ascontiguousarray(np.rot90(image_of(frame))),
                camera=Camera(
                    *(camera.height, camera.width, camera.fy, camera.fx),
                    *(camera.cy, camera.width - 1 - camera.cx, camera.model, bend),
                ),
                companion=replace(scan, T_camera_lidar=turn @ scan.T_camera_lidar),
            )
        return frame

    return changed


def fisheye(frame: Frame) -> Frame:
    """An equidistant lens about as wide as the camera's."""
    camera = frame.camera
    widest = math.atan(camera.width / 2 / camera.fx)
    focal_px = camera.width / 2 / widest
    bent = replace(
        camera, fx=focal_px, fy=focal_px, model="equidistant", distortion=(0.0, 0.0, 0.0, 0.0)
    )
    u, v = np.meshgrid(np.arange(bent.width, dtype=float), np.arange(bent.height, dtype=float))
    rays = bent.unproject(np.stack([u.ravel(), v.ravel()], axis=1))
    at, _ = camera.project(rays)
    at = np.nan_to_num(at, nan=-1.0).astype(np.float32).reshape(*u.shape, 2)
    image = cv2.remap(image_of(frame), at, None, cv2.INTER_LINEAR)
    return replace(frame, image=image, camera=bent)


def picture(change: Callable[[np.ndarray], np.ndarray]) -> Rig:
    """A camera whose images look different: ``change`` takes and returns uint8 (H, W, 3)."""

    def changed(frame: Frame) -> Frame:
        image = change(image_of(frame)).clip(0, 255).astype(np.uint8)
        return replace(frame, image=np.ascontiguousarray(image))

    return changed


def at_night(image: np.ndarray) -> np.ndarray:
    """A tenth of the light, and noise."""
    return 0.1 * image + np.random.default_rng(0).normal(0.0, 4.0, image.shape)


def smudged(image: np.ndarray) -> np.ndarray:
    """The left half of the image behind a smear."""
    blurred = cv2.GaussianBlur(image, (0, 0), image.shape[0] / 15)
    blurred[:, image.shape[1] // 2 :] = image[:, image.shape[1] // 2 :]
    return blurred


RIGS: dict[str, Rig] = {
    "as it is": lambda frame: frame,
    "every second beam": some_beams(2),
    "every fourth beam": some_beams(4),
    "solid state": solid_state,
    "image in portrait": cropped(3 / 4),
    "square": cropped(1.0),
    "4:3": cropped(4 / 3),
    "a quarter of the pixels a side": resized(0.25),
    "three times as many": resized(3.0),
    "a fisheye's": fisheye,
    "camera on its right side": turned(1),
    "upside down": turned(2),
    "on its left side": turned(3),
    "grey": picture(lambda x: np.repeat(x.mean(2, keepdims=True), 3, axis=2)),
    "BGR": picture(lambda x: x[..., ::-1]),
    "bright": picture(lambda x: 2.0 * x),
    "at night": picture(at_night),
    "blurred": picture(lambda x: cv2.GaussianBlur(x, (0, 0), x.shape[0] / 60)),
    "smudged": picture(smudged),
    "black": picture(np.zeros_like),
}
"""Changes of a frame by the names of the rigs that they make."""
SAME_OBJECTS = (
    *("as it is", "every second beam", "every fourth beam", "a quarter of the pixels a side"),
    *("three times as many", "a fisheye's", "grey", "BGR", "bright", "at night", "blurred"),
    *("smudged", "black"),
)
"""Those that see the same objects from the same place, so that labels still hold."""


def image_of(frame: Frame) -> np.ndarray:
    assert frame.image is not None
    return frame.image


def scan_of(frame: Frame) -> LidarScan:
    assert isinstance(frame.companion, LidarScan)
    return frame.companion


def with_points(frame: Frame, points: np.ndarray) -> Frame:
    """The frame with other returns of its LiDAR."""
    return replace(frame, companion=replace(scan_of(frame), points=points))


def judged(
    frames: Sequence[Frame], mask: Mask, pipeline: Pipeline, modalities: Sequence[str]
) -> list[Summary]:
    """Summaries of frames whose returns are masked, of each modality."""
    metrics = {modality: metric_for(pipeline.package.manifest) for modality in modalities}
    for frame in frames:
        evaluate_frame(pipeline, mask_returns(frame, mask), metrics)
    return [metric.summary() for metric in metrics.values()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("models/lemumo-tiny"))
    add_source_arguments(parser)
    parser.add_argument("--frames", type=int, default=4, help="how many, evenly spaced")
    args = parser.parse_args()
    source = named_source(args.data, args.options)
    chosen = evenly_spaced(len(source), args.frames)
    frames = [replace(source[i], labels=None) for i in chosen]
    pipeline = Pipeline(load_package(args.model), "auto", 0.0)
    rows = []
    for name, rig in track(list(RIGS.items()), "rigs"):
        changed = [rig(frame) for frame in frames]
        beams = judged(changed, "beams", pipeline, MODALITIES)
        fused, (random,) = beams[0], judged(changed, "random", pipeline, ["fused"])
        best, best_random = (min(s.nearest_mae_m, s.linear_mae_m) for s in (fused, random))
        depths = " | ".join(f"{summary.depth_mae_m:.3g}" for summary in beams)
        rows.append(
            f"| {name} | {depths} | {fused.nearest_mae_m:.3g} | {fused.linear_mae_m:.3g} "
            f"| {fused.depth_mae_m / best:.2f} | {random.depth_mae_m / best_random:.2f} "
            f"| {1000 * (random.depth_mae_m - best_random):+.0f} |"
        )
    print(
        "\n| rig | camera + LiDAR, m | camera, m | LiDAR, m | nearest, m | linear, m "
        "| beams, ratio | random, ratio | random, mm |\n|" + " --- |" + " ---: |" * 8
    )
    print("\n".join(rows))


if __name__ == "__main__":
    main()
