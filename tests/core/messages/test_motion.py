"""Points of a LiDAR that moves while it measures, against the walls that it drives past."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs: pip install '.[bags]'")
from rosbags.rosbag2 import StoragePlugin, Writer

from lemumo_core.bags.message_builder import RosbagsBuilder
from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import find_topics
from lemumo_core.data.sources.bags import Bags
from lemumo_core.faults import Fault
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import inverse, make_T, transform
from lemumo_core.messages.motion import compensate
from lemumo_core.messages.points import point_offsets_ns
from lemumo_core.messages.transforms import TransformBuffer
from lemumo_core.replay.image_events import BagClock, feed
from lemumo_core.streaming.camera_input import CameraInput
from lemumo_core.streaming.camera_options import CameraOptions
from lemumo_core.streaming.health import Health

BUILD = RosbagsBuilder()
MS = 1_000_000
START_NS = 1_700_000_000_000 * MS
SWEEP_NS = 100 * MS
CAMERA = Camera(64, 48, 40.0, 40.0, 31.5, 23.5)
T_BASE_LIDAR = make_T(np.eye(3), np.array([0.5, 0.1, 1.8]))
T_BASE_CAMERA = make_T(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.array([1.0, 0, 1.5]))
KINDS = {1: "u1", 6: "<u4", 7: "<f4", 8: "<f8"}


def T_odom_base(stamp_ns: int) -> np.ndarray:
    """A vehicle at 15 m/s that turns by half a radian per second."""
    seconds = (stamp_ns - START_NS) / 1e9
    yaw, speed, rate = 0.5 * seconds, 15.0, 0.5
    R = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    center = np.array([np.sin(yaw), 1 - np.cos(yaw), 0]) * speed / rate
    return make_T(R, center)


def cloud(points: np.ndarray, times: np.ndarray, name: str, datatype: int, stamp_ns: int):
    """A PointCloud2 of x, y, z and times."""
    kind = np.dtype(KINDS[datatype])
    rows = np.zeros(len(points), np.dtype([("xyz", "<f4", 3), ("t", kind)]))
    rows["xyz"], rows["t"] = points, times
    columns = [("x", 0, 7), ("y", 4, 7), ("z", 8, 7), (name, 12, datatype)]
    fields = [
        BUILD.new("sensor_msgs/PointField", name=n, offset=o, datatype=d, count=1)
        for n, o, d in columns
    ]
    step = rows.itemsize
    shape = {"height": 1, "width": len(rows), "point_step": step, "row_step": step * len(rows)}
    return BUILD.new(
        "sensor_msgs/PointCloud2",
        header=BUILD.header(stamp_ns, "lidar"),
        fields=fields,
        is_bigendian=False,
        data=BUILD.data(rows.view(np.uint8)),
        is_dense=True,
        **shape,
    )


@pytest.mark.parametrize(
    ("name", "datatype", "times"),
    [
        ("t", 6, lambda offsets_ns: offsets_ns),  # Ouster
        ("time", 7, lambda offsets_ns: offsets_ns / 1e9),  # Velodyne
        ("timestamp", 8, lambda offsets_ns: (START_NS + offsets_ns) / 1e9),  # Hesai, RoboSense
        ("timestamp", 8, lambda offsets_ns: np.float64(START_NS) + offsets_ns),  # Livox
        ("offset_time", 6, lambda offsets_ns: offsets_ns),  # Livox
    ],
)
def test_times_of_every_driver_are_read(name, datatype, times) -> None:
    offsets_ns = np.linspace(0, SWEEP_NS, 50).astype(np.int64)
    message = cloud(np.ones((50, 3)), times(offsets_ns), name, datatype, START_NS)
    np.testing.assert_allclose(point_offsets_ns(message), offsets_ns, atol=1000)
    assert point_offsets_ns(cloud(np.ones((2, 3)), np.ones(2), "ring", 1, START_NS)) is None
    with pytest.raises(Fault, match=r"up to 5.0 s from the cloud's stamp"):
        point_offsets_ns(cloud(np.ones((2, 3)), np.array([0.0, 5.0]), "time", 7, START_NS))


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    """A bag of a drive past fixed points: images 30 ms after the start of each sweep.

    Returns its path, and by image the points as the camera sees them at its stamp.
    """
    rng = np.random.default_rng(0)
    world = rng.uniform((5, -12, 0), (90, 20, 4), (4000, 3))
    folder = tmp_path_factory.mktemp("drive") / "bag"
    truth = []
    with Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connections: dict = {}

        def write(topic: str, message, log_ns: int) -> None:
            if topic not in connections:
                kind = message.__msgtype__
                connections[topic] = writer.add_connection(topic, kind, typestore=BUILD.typestore)
            writer.write(connections[topic], log_ns, BUILD.serialize(message))

        fixed = BUILD.transforms(
            {"lidar": T_BASE_LIDAR, "camera": T_BASE_CAMERA}, BUILD.header(START_NS, "base_link")
        )
        write("/tf_static", fixed, START_NS - SWEEP_NS)
        for stamp_ns in range(START_NS - SWEEP_NS, START_NS + 600 * MS, 10 * MS):
            pose = {"base_link": T_odom_base(stamp_ns)}
            write("/tf", BUILD.transforms(pose, BUILD.header(stamp_ns, "odom")), stamp_ns)
        for number in range(3):
            begin_ns = START_NS + number * SWEEP_NS
            offsets_ns = np.sort(rng.integers(0, SWEEP_NS, len(world)))
            measured = np.empty_like(world)
            for i, offset_ns in enumerate(offsets_ns.tolist()):
                T_odom_lidar = T_odom_base(begin_ns + offset_ns) @ T_BASE_LIDAR
                measured[i] = transform(inverse(T_odom_lidar), world[i : i + 1])[0]
            image_ns = begin_ns + 30 * MS
            header = BUILD.header(image_ns, "camera")
            sweep = cloud(measured, offsets_ns, "t", 6, begin_ns)
            write("/lidar/points", sweep, begin_ns + SWEEP_NS)
            write("/camera/camera_info", BUILD.camera_info(CAMERA, header), image_ns)
            pixels = np.zeros((48, 64, 3), np.uint8)
            write("/camera/image_raw", BUILD.image(pixels, "rgb8", header), image_ns)
            truth.append(transform(inverse(T_odom_base(image_ns) @ T_BASE_CAMERA), world))
    return folder, truth


def worst_m(frames, truth) -> float:
    """The largest distance of a point from where the camera sees it."""
    return max(
        float(
            np.linalg.norm(
                transform(frame.companion.T_camera_lidar, frame.companion.points[:, :3]) - seen,
                axis=1,
            ).max()
        )
        for frame, seen in zip(frames, truth, strict=True)
    )


def replayed(bag, fixed_frame: str) -> list:
    clock = BagClock()
    options = CameraOptions(fixed_frame=fixed_frame)
    camera = CameraInput("camera", "lidar", options, Health(clock), clock)
    with BagReader(bag) as reader:
        events = list(feed(reader, find_topics(reader), camera))
    assert [event.fault for event in events] == [None] * 3
    return [event.frame for event in events]


def test_motion_is_undone_on_both_roads(drive) -> None:
    bag, truth = drive
    before_m = worst_m(Bags(bag), truth)
    after_m = worst_m(Bags(bag, fixed_frame="odom"), truth)
    print(f"largest error of a point: {before_m:.3f} m, compensated {after_m:.4f} m")
    assert before_m > 1.0 and after_m < 0.01 * before_m
    of_node, of_source = replayed(bag, "odom"), list(Bags(bag, fixed_frame="odom"))
    assert worst_m(replayed(bag, ""), truth) == pytest.approx(before_m)
    for ours, theirs in zip(of_node, of_source, strict=True):
        np.testing.assert_array_equal(ours.companion.points, theirs.companion.points)


def test_a_fixed_frame_that_tf_lacks_is_named(drive) -> None:
    with pytest.raises(Fault, match="'lidar' to 'map'") as caught:
        Bags(drive[0], fixed_frame="map")[0]
    assert caught.value.reason == "missing_transform"


def test_the_newest_transform_is_enough_for_a_sweep_of_its_stamp() -> None:
    """Stamps of today are no floats: 256 ns lie between two of them."""
    transforms, points = TransformBuffer(), np.ones((3, 3), np.float32)
    for newest_ns in (START_NS + 1, START_NS + 127, START_NS + 129, START_NS + 255):
        transforms.set("odom", "lidar", np.eye(4), newest_ns)
        sweep = BUILD.point_cloud(points, ("x", "y", "z"), BUILD.header(newest_ns, "lidar"))
        moved = compensate(points, sweep, newest_ns, transforms, "odom", newest_ns)
        np.testing.assert_array_equal(moved, points)
