"""How long 120k LiDAR points take to become a depth map, against the nuScenes devkit's way.

    python -m benchmarks.projection [--points 120000] [--repeats 30]

The peer does what the devkit's map_pointcloud_to_image does (rotate, translate, view_points, its
depth and border masks), at the size of the view, and then fills a z-buffer in NumPy by sorting
far to near. Both start from the same points and the same transform. Runs are interleaved.
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks._timing import machine, measure
from lemumo_core.depth_projection import project_depth
from lemumo_core.geometry.camera import Camera

try:
    from nuscenes.utils.data_classes import LidarPointCloud
    from nuscenes.utils.geometry_utils import view_points
except ImportError as error:
    raise SystemExit(f"needs the devkit: pip install --no-deps nuscenes-devkit ({error})") from None

VIEW = Camera(704, 256, 409.0, 409.0, 345.6, 141.0)  # KITTI's camera at the default input size
T_CAMERA_LIDAR = np.array([[0, -1, 0, 0.0], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1]])
Z_MIN_M = 1.0


def scan(count: int) -> np.ndarray:
    """A 64-beam sweep of a flat street between walls, float32 (N, 4)."""
    beams = np.radians(np.linspace(-24.8, 2.0, 64))
    azimuth = np.linspace(-np.pi, np.pi, count // 64, endpoint=False)
    pitch, yaw = (a.ravel() for a in np.meshgrid(beams, azimuth, indexing="ij"))
    to_ground = 1.73 / np.maximum(-np.sin(pitch), 1e-3)
    to_wall = 12.0 / np.maximum(np.abs(np.sin(yaw)) * np.cos(pitch), 1e-3)
    r = np.minimum(np.minimum(to_ground, to_wall), 100.0)
    x, y, z = r * np.cos(pitch) * np.cos(yaw), r * np.cos(pitch) * np.sin(yaw), r * np.sin(pitch)
    return np.stack([x, y, z, np.ones_like(x)], axis=1).astype(np.float32)


def devkit(points: np.ndarray) -> np.ndarray:
    """The devkit's projection and a z-buffer by sorting."""
    cloud = LidarPointCloud(points.T.copy())
    cloud.rotate(T_CAMERA_LIDAR[:3, :3])
    cloud.translate(T_CAMERA_LIDAR[:3, 3])
    depths = cloud.points[2, :]
    uv = view_points(cloud.points[:3, :], VIEW.K, normalize=True)
    mask = depths > Z_MIN_M
    mask &= (uv[0] >= -0.5) & (uv[0] < VIEW.width - 0.5)
    mask &= (uv[1] >= -0.5) & (uv[1] < VIEW.height - 0.5)
    pixels, depths = np.floor(uv[:2, mask] + 0.5).astype(int), depths[mask]
    order = np.argsort(-depths)
    depth = np.full((VIEW.height, VIEW.width), np.nan, np.float32)
    depth[pixels[1, order], pixels[0, order]] = depths[order]
    return depth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", type=int, default=120_000)
    parser.add_argument("--repeats", type=int, default=30)
    args = parser.parse_args()
    points = scan(args.points)
    ours, theirs = project_depth(points, T_CAMERA_LIDAR, VIEW, Z_MIN_M), devkit(points)
    differing = int((~np.isclose(ours, theirs, atol=1e-3, equal_nan=True)).sum())
    print(f"{machine()}; {len(points)} points, median of {args.repeats}")
    print(f"returns in view {np.isfinite(ours).sum()}, pixels that differ {differing} (rounding)")
    medians = measure(
        {
            "lemumo project_depth": lambda: project_depth(points, T_CAMERA_LIDAR, VIEW, Z_MIN_M),
            "nuscenes-devkit + z-buffer": lambda: devkit(points),
        },
        args.repeats,
    )
    for name, value in medians.items():
        print(f"{name:30}{value:10.3f} ms")
    ratio = medians["nuscenes-devkit + z-buffer"] / medians["lemumo project_depth"]
    print(f"lemumo is {ratio:.1f} times as fast (target: 3)")


if __name__ == "__main__":
    main()
