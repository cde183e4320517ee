"""How long a point cloud message takes to become a float32 array, against other ways.

    python -m benchmarks.point_cloud_reading [--points 120000] [--repeats 30]

All start from the same message. ``struct loop`` unpacks every point in Python, as code written
from the message definition does. ``structured view`` reads the data through a structured dtype
built by hand. ``rosbags`` deserialises the message from its CDR bytes before it does so: the array
route of that library; its first half is also given alone. Repeats are interleaved, so that a busy
machine slows all of them alike. The loop runs once, after them: whatever followed it would find
cold caches.
"""

from __future__ import annotations

import argparse
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_typestore

from benchmarks._timing import machine, measure
from lemumo_core.messages.points import points_to_array

STORE = get_typestore(Stores.ROS2_JAZZY)
NAME = "sensor_msgs/msg/PointCloud2"
LAYOUTS = {
    "packed x y z i, 16 bytes": ((0, 4, 8, 12), 16),
    "PCL PointXYZI, 32 bytes": ((0, 4, 8, 16), 32),
    "Velodyne with ring and time, 22 bytes": ((0, 4, 8, 12), 22),
}


def cloud(count: int, offsets: tuple[int, ...], step: int) -> Any:
    """A PointCloud2 of random float32 x, y, z, intensity."""
    types = STORE.types
    values = np.random.default_rng(0).normal(size=(count, 4)).astype("<f4")
    raw = np.zeros((count, step), np.uint8)
    for i, offset in enumerate(offsets):
        raw[:, offset : offset + 4] = values[:, i : i + 1].view(np.uint8)
    return types[NAME](
        header=types["std_msgs/msg/Header"](
            stamp=types["builtin_interfaces/msg/Time"](sec=0, nanosec=0), frame_id="lidar"
        ),
        height=1,
        width=count,
        fields=[
            types["sensor_msgs/msg/PointField"](name=name, offset=offset, datatype=7, count=1)
            for name, offset in zip(("x", "y", "z", "intensity"), offsets, strict=True)
        ],
        is_bigendian=False,
        point_step=step,
        row_step=count * step,
        data=raw.reshape(-1),
        is_dense=True,
    )


def struct_loop(msg: Any) -> np.ndarray:
    """Every point by itself."""
    data = bytes(msg.data)
    offsets = [field.offset for field in msg.fields]
    points = []
    for i in range(msg.width):
        start = i * msg.point_step
        points.append([struct.unpack_from("<f", data, start + o)[0] for o in offsets])
    return np.array(points, np.float32)


def structured(msg: Any) -> np.ndarray:
    """A structured dtype made by hand."""
    dtype = np.dtype(
        {
            "names": [field.name for field in msg.fields],
            "formats": ["<f4"] * len(msg.fields),
            "offsets": [field.offset for field in msg.fields],
            "itemsize": msg.point_step,
        }
    )
    records = np.frombuffer(msg.data, dtype)
    return np.stack([records[name] for name in dtype.names or ()], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", type=int, default=120_000)
    parser.add_argument("--repeats", type=int, default=30)
    args = parser.parse_args()
    print(f"{machine()}; {args.points} points, median of {args.repeats}")
    for layout, (offsets, step) in LAYOUTS.items():
        msg = cloud(args.points, offsets, step)
        raw = memoryview(STORE.serialize_cdr(msg, NAME))

        def deserialize(raw: memoryview = raw) -> Any:
            return STORE.deserialize_cdr(raw, NAME)

        ways: dict[str, Callable[[], Any]] = {
            "lemumo points_to_array": lambda msg=msg: points_to_array(msg),  # type: ignore[misc]
            "structured view": lambda msg=msg: structured(msg),  # type: ignore[misc]
            "rosbags deserialise": deserialize,
            "rosbags deserialise + structured": lambda read=deserialize: structured(read()),  # type: ignore[misc]
        }
        loop: dict[str, Callable[[], Any]] = {
            "struct loop": lambda msg=msg: struct_loop(msg),  # type: ignore[misc]
        }
        expected = points_to_array(msg)
        if not all(np.array_equal(way(msg), expected) for way in (struct_loop, structured)):
            raise SystemExit(f"the ways disagree on {layout}")
        medians = measure(ways, args.repeats) | measure(loop, 1)
        print(f"\n{layout}\n{'way':34}{'ms':>10}{'x lemumo':>10}")
        for name, value in medians.items():
            print(f"{name:34}{value:10.3f}{value / medians['lemumo points_to_array']:10.2f}")


if __name__ == "__main__":
    main()
