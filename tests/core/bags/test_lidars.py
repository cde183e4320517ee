"""LiDARs as users have them: Livox, compressed clouds, several at once; calibration from a file."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import yaml

pytest.importorskip("rosbags", reason="bags need: pip install '.[bags]'")

from rosbags.rosbag2 import StoragePlugin, Writer

from lemumo_core.bags.message_builder import RosbagsBuilder
from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import find_topics
from lemumo_core.data.sources.bags import Bags
from lemumo_core.faults import Fault
from lemumo_core.frame import LidarScan
from lemumo_core.geometry.se3 import inverse, make_T, transform
from lemumo_core.messages.calibration_file import read_calibration
from lemumo_core.messages.compressed_clouds import LIVOX_TYPES, livox_cloud, to_point_cloud
from lemumo_core.messages.points import point_offsets_ns, points_to_array
from lemumo_core.messages.scans import merge_scans
from lemumo_core.replay.camera_feed import BagClock, CameraFeed
from lemumo_core.replay.image_events import feed
from lemumo_core.streaming.camera_input import CameraInput
from lemumo_core.streaming.camera_options import CameraOptions
from lemumo_core.streaming.health import Health, Level
from tests.helpers.bag_tools import FRAMES, assert_equal_frames, rewrite, without
from tests.helpers.message_builders import fault_of

INFO, POINTS, STATIC = "/camera/camera_info", "/lidar/points", "/tf_static"
REAR = "/rear/points"


@pytest.fixture(scope="module")
def build():
    return RosbagsBuilder()


def livox(build, points, offsets, package):
    """A CustomMsg as rosbags makes it, point by point."""
    one = f"{package}/CustomPoint"
    made = [
        build.new(one, offset_time=int(t), x=x, y=y, z=z, reflectivity=int(r), tag=16, line=1)
        for t, (x, y, z, r) in zip(offsets, points.tolist(), strict=True)
    ]
    return build.new(
        f"{package}/CustomMsg",
        header=build.header(1_500_000_123, "lidar"),
        timebase=1_500_000_123,
        point_num=len(made),
        lidar_id=0,
        rsvd=np.zeros(3, np.uint8),
        points=made,
    )


@pytest.mark.parametrize("kind", LIVOX_TYPES)
@pytest.mark.parametrize("count", [0, 1, 7])
def test_livox_messages_are_read_as_they_were_written(build, kind, count):
    rng = np.random.default_rng(count)
    points = np.hstack([rng.normal(size=(count, 3)), rng.integers(0, 256, (count, 1))])
    offsets = rng.integers(0, 99_000_000, count)
    data = build.serialize(livox(build, points, offsets, kind.partition("/")[0]))
    cloud = livox_cloud(data)
    assert (cloud.header.frame_id, cloud.header.stamp.nanosec) == ("lidar", 500_000_123)
    np.testing.assert_array_equal(points_to_array(cloud), points.astype(np.float32).reshape(-1, 4))
    if count:
        np.testing.assert_array_equal(point_offsets_ns(cloud), offsets)
    for end in range(0, len(data) - 1, 3):
        assert fault_of(livox_cloud, data[:end]).reason == "bad_message"


def compressed(build, cloud, transport):
    """A CompressedPointCloud2 of a PointCloud2, by other libraries than the reader's own code."""
    if transport == "draco":
        packed = draco(cloud)
    elif transport == "zlib":
        packed = zlib.compress(bytes(cloud.data))
    elif transport == "zstd":
        packed = pytest.importorskip("pyarrow").compress(bytes(cloud.data), "zstd", asbytes=True)
    else:
        packed = b"CLOUDINI_V03"
    names = ("header", "height", "width", "fields", "is_bigendian", "point_step", "row_step")
    return build.new(
        "point_cloud_interfaces/CompressedPointCloud2",
        **{name: getattr(cloud, name) for name in names},
        compressed_data=np.frombuffer(packed, np.uint8),
        is_dense=True,
        format=transport,
    )


def draco(cloud):
    """Draco's bitstream 2.3, sequential and lossless, an attribute of one number for each field.

    As draco_point_cloud_transport has it: x, y and z are attributes of their own.
    """
    fields, count = cloud.fields, cloud.width
    values = np.frombuffer(cloud.data, np.uint8).reshape(count, cloud.point_step)
    out = b"DRACO" + bytes([2, 3, 0, 0]) + bytes(2)  # point cloud, sequential, no flags
    out += np.array(count, "<i4").tobytes() + bytes([1]) + bytes([len(fields)])
    for number, field in enumerate(fields):
        position = field.name in "xyz"
        out += bytes([0 if position else 4, 9, 1, 0, number])  # kind, FLOAT32, 1 of it, id
    out += bytes(len(fields))  # each by the generic decoder: its numbers as they are
    for field in fields:
        out += values[:, field.offset : field.offset + 4].tobytes()
    return out


@pytest.mark.parametrize("transport", ["draco", "zlib", "zstd"])
def test_compressed_clouds_are_those_that_were_compressed(build, small_bag, tmp_path, transport):
    """On both roads, by the type of the topic alone."""
    if transport == "draco":
        pytest.importorskip("DracoPy", reason="draco needs: pip install '.[clouds]'")
    bag = tmp_path / "bag"
    with (
        BagReader(small_bag) as reader,
        Writer(bag, version=8, storage_plugin=StoragePlugin.MCAP) as writer,
    ):
        connections = {}
        for raw in reader.raw_messages():
            topic, kind, data = raw.topic, raw.type, raw.data
            if topic == POINTS:
                message = compressed(build, reader.deserialize(data, kind), transport)
                topic, kind = f"{POINTS}/{transport}", message.__msgtype__
                data = build.serialize(message)
            if topic not in connections:
                store = build.typestore
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], raw.stamp_ns, data)
    for ours, theirs, original in zip(replayed(bag), Bags(bag), Bags(small_bag), strict=True):
        assert_equal_frames(ours, original, atol=1e-12)
        assert_equal_frames(theirs, original)


def test_clouds_that_are_not_decoded_are_named(build, small_bag):
    with BagReader(small_bag) as reader:
        cloud = reader.first(POINTS)
    fault = fault_of(to_point_cloud, compressed(build, cloud, "cloudini"))
    assert fault.reason == "unsupported_encoding" and "cloudini" in str(fault)
    for transport in ("zlib", "zstd", "draco"):
        if transport == "draco":
            pytest.importorskip("DracoPy", reason="draco needs: pip install '.[clouds]'")
        message = compressed(build, cloud, transport)
        message.compressed_data = message.compressed_data[: len(message.compressed_data) // 2]

        def read(message=message):
            return points_to_array(to_point_cloud(message))

        assert fault_of(read).reason == "bad_point_cloud"


def replayed(bag, **options):
    """Frames of the node's callbacks; all images must give one."""
    points = options.pop("points", None)
    with BagReader(bag) as reader:
        info = {"camera_info": ""} if "camera_info" in options else {}
        topics = find_topics(reader, points=points, **info)
        lidars = topics.lidars if len(topics.lidars) > 1 else ()
        chosen = CameraOptions(lidars=lidars, **options)
        camera_input = CameraInput("camera", "lidar", chosen, Health(), BagClock())
        events = list(feed(reader, [CameraFeed(topics, camera_input)]))
    assert [event.fault for event in events] == [None] * len(events)
    return [event.frame for event in events]


T_LIDAR_REAR = make_T(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([-1.5, 0.2, 0.4]))


def with_rear_lidar(small_bag, out, build, missing=()):
    """Half of the returns as another LiDAR would have sent them, in its own frame.

    Args:
        missing: numbers of the sweeps that the rear LiDAR did not send.
    """
    with (
        BagReader(small_bag) as reader,
        Writer(out, version=8, storage_plugin=StoragePlugin.MCAP) as writer,
    ):
        connections = {}

        def write(topic, kind, log_ns, data):
            if topic not in connections:
                store = build.typestore
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], log_ns, data)

        number = 0
        for raw in reader.raw_messages():
            if raw.topic == STATIC:
                write(raw.topic, raw.type, raw.stamp_ns, raw.data)
                header = build.header(raw.stamp_ns, "lidar")
                data = build.serialize(build.transforms({"rear": T_LIDAR_REAR}, header))
                write(raw.topic, raw.type, raw.stamp_ns, data)
            elif raw.topic == POINTS:
                cloud = reader.deserialize(raw.data, raw.type)
                points = np.frombuffer(cloud.data, "<f4").reshape(-1, 4)
                half = len(points) // 2
                rear = points[half:].copy()
                rear[:, :3] = transform(inverse(T_LIDAR_REAR), rear[:, :3].astype(np.float64))
                fields = ("x", "y", "z", "intensity")
                front = build.point_cloud(points[:half], fields, cloud.header)
                write(POINTS, raw.type, raw.stamp_ns, build.serialize(front))
                if number not in missing:
                    later = build.header(raw.stamp_ns + 4_000_000, "rear")
                    data = build.serialize(build.point_cloud(rear, fields, later))
                    write(REAR, raw.type, raw.stamp_ns + 4_000_000, data)
                number += 1
            else:
                write(raw.topic, raw.type, raw.stamp_ns, raw.data)
    return out


def test_points_of_several_lidars_are_merged_by_tf(build, small_bag, tmp_path):
    """The merged scan is that of one LiDAR which saw it all; a missing half is just not there."""
    bag = with_rear_lidar(small_bag, tmp_path / "bag", build, missing=(2,))
    with BagReader(bag) as reader, pytest.raises(Fault, match="joined by commas"):
        find_topics(reader)
    both = f"{POINTS},{REAR}"
    frames, source = replayed(bag, points=both), Bags(bag, points=both)
    originals = Bags(small_bag)
    for i in range(FRAMES):
        assert_equal_frames(frames[i], source[i], atol=1e-12)
        expected = originals[i].companion
        seen = len(expected.points) // 2 if i == 2 else len(expected.points)
        merged = frames[i].companion
        assert merged.stamp_ns == expected.stamp_ns
        np.testing.assert_allclose(merged.points, expected.points[:seen], atol=2e-5)
        np.testing.assert_allclose(merged.T_camera_lidar, expected.T_camera_lidar)
    assert source.describe()["unmatched_companions"] == 0


def test_rows_that_are_no_return_stay_none_and_channels_are_kept():
    far, near = np.eye(4), make_T(np.eye(3), np.array([1.0, 0, 0]))
    first = LidarScan(np.array([[1, 2, 3, 9]], np.float32), far, 5)
    other = LidarScan(np.array([[0, 0, 0], [np.nan, 1, 1], [1, 1, 1]], np.float32), near, 7)
    merged = merge_scans([first, other])
    expected = [[1, 2, 3, 9], [0, 0, 0, 0], [np.nan, 1, 1, 0], [2, 1, 1, 0]]
    np.testing.assert_array_equal(merged.points, np.array(expected, np.float32))
    assert merged.stamp_ns == 5


def test_a_silent_lidar_of_several_is_named():
    now = [0]
    health = Health(lambda: now[0], "lidar")
    health.lidars = ("top", "rear")

    class Fused:
        modalities = ("camera", "lidar")

    for step in range(5):
        now[0] = step * 100_000_000
        for sensor in ("image", "lidar", "top", *(("rear",) if step < 2 else ())):
            health.count_in(sensor, now[0])
        health.count_out(Fused, {})
    assert health.verdict() == (Level.WARN, "points of rear are missing")


def calibration_of(bag, path, **changes):
    """The file that camera_calibration would write of a bag's camera."""
    with BagReader(bag) as reader:
        info = reader.first(INFO)
    content = {
        "image_width": int(info.width),
        "image_height": int(info.height),
        "camera_name": "front",
        "camera_matrix": {"rows": 3, "cols": 3, "data": info.k.tolist()},
        "distortion_model": info.distortion_model,
        "distortion_coefficients": {"rows": 1, "cols": len(info.d), "data": info.d.tolist()},
        "rectification_matrix": {"rows": 3, "cols": 3, "data": info.r.tolist()},
        "projection_matrix": {"rows": 3, "cols": 4, "data": info.p.tolist()},
    }
    path.write_text(yaml.safe_dump({k: v for k, v in (content | changes).items() if v is not None}))
    return path


def test_a_calibration_file_stands_in_for_camera_info(small_bag, tmp_path):
    """Where the bag has none, and where it has another one."""
    file = calibration_of(small_bag, tmp_path / "front.yaml")
    bare = rewrite(small_bag, tmp_path / "bare", without(INFO))
    with pytest.raises(Fault, match="camera_info"):
        Bags(bare)
    for ours, theirs, original in zip(
        replayed(bare, camera_info=read_calibration(f"file://{file}")),
        Bags(bare, calibration=str(file)),
        Bags(small_bag),
        strict=True,
    ):
        assert_equal_frames(ours, original, atol=1e-12)
        assert_equal_frames(theirs, original)
    zoomed = {"data": [200.0, 0, 80, 0, 200, 48, 0, 0, 1]}
    other = calibration_of(small_bag, tmp_path / "other.yaml", camera_matrix=zoomed)
    assert Bags(small_bag, calibration=str(other))[0].camera.fx == 200.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"camera_matrix": None}, "lacks 'camera_matrix'"),
        ({"camera_matrix": {"data": [1.0, 2.0]}}, "camera_matrix has 2 numbers"),
        ({"distortion_model": "spherical"}, "spherical"),
        ({"image_width": "wide"}, "wide"),
    ],
)
def test_calibration_files_that_are_none_are_named(small_bag, tmp_path, changes, words):
    file = calibration_of(small_bag, tmp_path / "front.yaml", **changes)
    fault = fault_of(read_calibration, file)
    assert words in str(fault) and "front.yaml" in str(fault)
    assert "cannot be read" in str(fault_of(read_calibration, tmp_path / "none.yaml"))
