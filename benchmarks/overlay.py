"""CPU time of the overlay of a 1080p image and a LiDAR of 120,000 points, beside its JPEG.

    python -m benchmarks.overlay [--rounds 15]

The node draws in a thread of its own; what it costs is taken from the network nevertheless. One
thread; both are timed in turns, and the least time of each counts.
"""

from __future__ import annotations

import argparse
import time

import cv2
import numpy as np

from benchmarks._runs import positive
from benchmarks._timing import machine
from lemumo_core.drawing import JPEG_QUALITY
from lemumo_core.frame import UNLABELLED, Detections, Frame, LidarScan, Perception
from lemumo_core.geometry.camera import Camera
from lemumo_core.inference.manifest import Manifest
from lemumo_core.preprocess import InputSpec, network_view
from lemumo_core.streaming.overlay import draw_overlay
from lemumo_core.taxonomy import Taxonomy

SPEC = InputSpec(256, 704, "lidar", 2)
CAMERA = Camera(1920, 1080, 1400.0, 1400.0, 960.0, 540.0)
POINTS, BOXES = 120_000, 20


def result() -> tuple[Frame, Perception, Manifest]:
    """Return a frame full of returns, and a result with boxes and labels."""
    rng, classes = np.random.default_rng(0), Taxonomy()
    azimuth, range_m = rng.uniform(-np.pi, np.pi, POINTS), rng.uniform(3, 70, POINTS)
    xyz = range_m * np.sin(azimuth), rng.uniform(-2, 2, POINTS), range_m * np.cos(azimuth)
    scan = LidarScan(np.stack([*xyz, xyz[1]], 1).astype(np.float32), np.eye(4), 1)
    image = rng.integers(0, 256, (CAMERA.height, CAMERA.width, 3), np.uint8)
    low, high = (-8, 0, 5, 3, 1, 1, -3), (8, 2, 50, 5, 2, 2, 3)
    corners = rng.uniform(0, 900, (BOXES, 2))
    found = Detections(
        rng.uniform(low, high, (BOXES, 7)).astype(np.float32),
        np.c_[corners, corners + 100].astype(np.float32),
        np.full(BOXES, 0.9, np.float32),
        np.arange(BOXES) % len(classes.detection_classes),
    )
    shape = SPEC.height, SPEC.width
    labels = rng.integers(0, len(classes.segmentation_classes), shape).astype(np.uint8)
    labels[rng.random(shape) < 0.2] = UNLABELLED
    depth_m = rng.uniform(2, 80, shape).astype(np.float32)
    view, both = network_view(CAMERA, SPEC), ("camera", "lidar")
    perception = Perception(1, "front", found, depth_m, depth_m, labels, view, both)
    names = classes.detection_classes, classes.segmentation_classes, classes.palette
    manifest = Manifest("overlay", "1", True, {}, SPEC, *names, {}, {}, {})
    return Frame(1, "front", CAMERA, image, scan), perception, manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=positive, default=15)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    inputs, times_ms = result(), []
    for _ in range(args.rounds):
        begin = time.process_time()
        picture = draw_overlay(*inputs)
        middle = time.process_time()
        cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        times_ms.append((1e3 * (middle - begin), 1e3 * (time.process_time() - middle)))
    drawn, encoded = np.min(times_ms, axis=0)
    print(f"{machine()}\noverlay {drawn:.1f} ms, its JPEG {encoded:.1f} ms")


if __name__ == "__main__":
    main()
