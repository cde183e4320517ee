"""Points of a LiDAR that moves while it measures, against the walls that it drives past."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs: pip install '.[bags]'")

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
from lemumo_core.replay.camera_feed import BagClock, CameraFeed
from lemumo_core.replay.image_events import feed
from lemumo_core.streaming.camera_input import CameraInput
from lemumo_core.streaming.camera_options import CameraOptions
from lemumo_core.streaming.health import Health
from tests.helpers.bag_tools import write_messages

BUILD = RosbagsBuilder()
MS = 1_000_000
START_NS = 1_700_000_000_000 * MS
SWEEP_NS = 100 * MS
CAMERA = Camera(64, 48, 40.0, 40.0, 31.5, 23.5)
T_BASE_LIDAR = make_T(np.eye(3), np.array([0.5, 0.1, 1.8]))
T_BASE_REAR = make_T(np.diag([-1.0, -1.0, 1.0]), np.array([-2.0, -0.3, 1.2]))
T_BASE_CAMERA = make_T(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.array([1.0, 0, 1.5]))
KINDS = {1: "u1", 6: "<u4", 7: "<f4", 8: "<f8"}


def T_odom_base(stamp_ns: int) -> np.ndarray:
    """A vehicle at 15 m/s that turns by half a radian per second."""
    seconds = (stamp_ns - START_NS) / 1e9
    yaw, speed, rate = 0.5 * seconds, 15.0, 0.5
    R = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    center = np.array([np.sin(yaw), 1 - np.cos(yaw), 0]) * speed / rate
    return make_T(R, center)


def cloud(
    points: np.ndarray, times: np.ndarray, name: str, datatype: int, stamp_ns: int, frame="lidar"
):
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
        header=BUILD.header(stamp_ns, frame),
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


@dataclass(frozen=True)
class Lidar:
    """One that sweeps at 10 Hz, its first sweep from ``start_ns`` on."""

    frame: str
    T_base: np.ndarray
    start_ns: int = START_NS

    def measured(self, world: np.ndarray, begin_ns: int, offsets_ns: np.ndarray) -> np.ndarray:
        """Fixed points in its own frame, each at its own time."""
        points = np.empty_like(world)
        for i, offset_ns in enumerate(offsets_ns.tolist()):
            T_odom_lidar = T_odom_base(begin_ns + offset_ns) @ self.T_base
            points[i] = transform(inverse(T_odom_lidar), world[i : i + 1])[0]
        return points


ONE = {"/lidar/points": Lidar("lidar", T_BASE_LIDAR)}
TWO = {**ONE, "/rear/points": Lidar("rear", T_BASE_REAR, START_NS + 20 * MS)}


@pytest.fixture(scope="module", params=[ONE, TWO], ids=["one LiDAR", "two merged"])
def drive(request, tmp_path_factory):
    """A bag of a drive past fixed points: images 30 ms after the start of the first LiDAR's sweeps.

    Each LiDAR sees its share of the points. Returns the bag's path, by image the points as the
    camera sees them at its stamp, and the LiDARs' topics.
    """
    rng = np.random.default_rng(0)
    world = rng.uniform((5, -12, 0), (90, 20, 4), (4000, 3))
    folder = tmp_path_factory.mktemp("drive") / "bag"
    lidars: dict[str, Lidar] = request.param
    messages: list[tuple[int, str, Any]] = []
    poses = {"camera": T_BASE_CAMERA} | {lidar.frame: lidar.T_base for lidar in lidars.values()}
    fixed = BUILD.transforms(poses, BUILD.header(START_NS, "base_link"))
    messages.append((START_NS - SWEEP_NS, "/tf_static", fixed))
    for stamp_ns in range(START_NS - SWEEP_NS, START_NS + 600 * MS, 10 * MS):
        pose = {"base_link": T_odom_base(stamp_ns)}
        messages.append((stamp_ns, "/tf", BUILD.transforms(pose, BUILD.header(stamp_ns, "odom"))))
    truth = []
    for number in range(3):
        shares = np.array_split(world, len(lidars))
        for (topic, lidar), seen in zip(lidars.items(), shares, strict=True):
            begin_ns = lidar.start_ns + number * SWEEP_NS
            offsets_ns = np.sort(rng.integers(0, SWEEP_NS, len(seen)))
            points = lidar.measured(seen, begin_ns, offsets_ns)
            sweep = cloud(points, offsets_ns, "t", 6, begin_ns, lidar.frame)
            messages.append((begin_ns + SWEEP_NS, topic, sweep))
        image_ns = START_NS + number * SWEEP_NS + 30 * MS
        header = BUILD.header(image_ns, "camera")
        messages.append((image_ns, "/camera/camera_info", BUILD.camera_info(CAMERA, header)))
        image = BUILD.image(np.zeros((48, 64, 3), np.uint8), "rgb8", header)
        messages.append((image_ns, "/camera/image_raw", image))
        truth.append(transform(inverse(T_odom_base(image_ns) @ T_BASE_CAMERA), world))
    return write_messages(folder, messages), truth, tuple(lidars)


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


def replayed(bag, fixed_frame: str, topics: tuple[str, ...]) -> list:
    clock = BagClock()
    lidars = topics if len(topics) > 1 else ()
    options = CameraOptions(fixed_frame=fixed_frame, lidars=lidars)
    camera = CameraInput("camera", "lidar", options, Health(clock), clock)
    with BagReader(bag) as reader:
        events = list(
            feed(reader, [CameraFeed(find_topics(reader, points=",".join(topics)), camera)])
        )
    assert [event.fault for event in events] == [None] * 3
    return [event.frame for event in events]


def test_motion_is_undone_on_both_roads(drive) -> None:
    bag, truth, topics = drive
    points = ",".join(topics)
    before_m = worst_m(Bags(bag, points=points), truth)
    of_source = list(Bags(bag, points=points, fixed_frame="odom"))
    after_m = worst_m(of_source, truth)
    print(f"largest error of a point: {before_m:.3f} m, compensated {after_m:.4f} m")
    assert before_m > 1.0 and after_m < 0.01 * before_m
    assert worst_m(replayed(bag, "", topics), truth) == pytest.approx(before_m)
    atol = 0.0 if len(topics) == 1 else 1e-5  # the roads merge sweeps in another order
    for ours, theirs in zip(replayed(bag, "odom", topics), of_source, strict=True):
        found, expected = ours.companion.points, theirs.companion.points
        np.testing.assert_allclose(found, expected, rtol=0.0, atol=atol)


def test_a_fixed_frame_that_tf_lacks_is_named(drive) -> None:
    bag, _, topics = drive
    with pytest.raises(Fault, match="'lidar' to 'map'") as caught:
        Bags(bag, points=",".join(topics), fixed_frame="map")[0]
    assert caught.value.reason == "missing_transform"


def test_the_newest_transform_is_enough_for_a_sweep_of_its_stamp() -> None:
    """Stamps of today are no floats: 256 ns lie between two of them."""
    transforms, points = TransformBuffer(), np.ones((3, 3), np.float32)
    for newest_ns in (START_NS + 1, START_NS + 127, START_NS + 129, START_NS + 255):
        transforms.set("odom", "lidar", np.eye(4), newest_ns)
        sweep = BUILD.point_cloud(points, ("x", "y", "z"), BUILD.header(newest_ns, "lidar"))
        moved = compensate(points, sweep, newest_ns, transforms, "odom", newest_ns)
        np.testing.assert_array_equal(moved, points)
