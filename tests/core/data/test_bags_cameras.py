"""Which CameraInfo is an image's, rectified images, and regions to ignore in bags."""

from __future__ import annotations

import dataclasses
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from tests.helpers.bag_tools import rewrite

pytest.importorskip("rosbags", reason="bags need: pip install '.[bags]'")

from rosbags.rosbag2 import StoragePlugin, Writer

from lemumo_core.bags.cameras import camera_names
from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.writer import write_bag
from lemumo_core.data.sources.bags import Bags
from lemumo_core.depth_projection import project_returns
from lemumo_core.faults import Fault
from lemumo_core.messages.ground_truth import regions_from_detections
from lemumo_core.messages.info_history import info_of_image
from tests.helpers.message_builders import fault_of
from tests.helpers.two_cameras import IMAGE, INFO, T_FRONT_REAR, stamp_of, with_rear_camera


def zoomed(order):
    """A change for ``rewrite``: infos of growing focal lengths, recorded as ``order`` says."""
    infos: list[int] = []

    def change(raw, message):
        if raw.topic != INFO:
            return raw.stamp_ns, message
        infos.append(1)
        message.k[0] = 100.0 + 7 * len(infos)
        log_ns = raw.stamp_ns + order * len(infos)
        return log_ns, message

    return change


def test_truth_on_pixels_is_of_the_camera_that_its_header_names(small_bag, tmp_path, caplog):
    """Also where one camera of several is taken: the other's labels are near in time."""
    bag = with_rear_camera(small_bag, tmp_path / "two")
    front, rear = Bags(bag, image=IMAGE), Bags(bag, image="/rear/image_raw")
    for i in range(len(front)):
        seen, behind = front.labels(i), rear.labels(i)
        assert seen is not None and seen.label_map is not None and seen.depth_m is not None
        assert behind is not None and len(behind.boxes_3d) == len(seen.boxes_3d)
        assert behind.label_map is None and behind.depth_m is None
    assert not front.describe()["bags"][0]["lost"]

    def mounted(raw, message):
        if raw.topic == "/ground_truth/labels":
            message.header.frame_id = "mount"
        return raw.stamp_ns, message

    nobody = Bags(rewrite(bag, tmp_path / "nobody", mounted), image=IMAGE)
    assert nobody.labels(0).label_map is None and nobody.labels(0).depth_m is not None
    assert "6 messages of /ground_truth/labels are not used: frame_id names none" in caplog.text


@pytest.mark.parametrize("late_ns", [0, 30_000_000, 700_000_000, -100_000_000])
def test_each_image_has_the_camera_info_of_its_stamp(small_bag, tmp_path, late_ns):
    """A zooming camera whose infos are recorded with the images, late, ever later, or early."""
    source = Bags(rewrite(small_bag, tmp_path / "zoom", zoomed(late_ns)))
    assert [frame.camera.fx for frame in source] == [100.0 + 7 * (i + 1) for i in range(6)]
    labels = [source.labels(i) for i in range(6)]
    assert all(one is not None for one in labels)


def test_between_infos_the_last_one_before_counts(small_bag, tmp_path):
    def change(raw, message):
        if raw.topic != INFO:
            return raw.stamp_ns, message
        if (number := numbers.setdefault(stamp_of(message), len(numbers))) % 3:
            return None
        message.k[0] = 200.0 + number
        sec, nanosec = divmod(stamp_of(message) - 1, 10**9)
        message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
        return raw.stamp_ns + 300_000_000, message

    numbers: dict[int, int] = {}
    source = Bags(rewrite(small_bag, tmp_path / "sparse", change))
    assert [frame.camera.fx for frame in source] == [200, 200, 200, 203, 203, 203]


def test_recordings_of_several_sizes_in_one_bag(small_bag, tmp_path):
    """A second recording of half the size in the same bag; every image keeps its own model."""

    def change(raw, message):
        half = counts.setdefault(raw.topic, 0) >= 3
        counts[raw.topic] += 1
        if half and raw.topic == INFO:
            message.width, message.height = message.width // 2, message.height // 2
            message.k[:6] /= 2
            message.p[:] /= 2
            message.p[10] = 1
            return raw.stamp_ns - 900_000_000, message  # recorded before the last large image
        if half and raw.topic == IMAGE:
            pixels = message.data.reshape(message.height, message.width, 3)[::2, ::2]
            message.height, message.width = message.height // 2, message.width // 2
            message.step = 3 * message.width
            message.data = np.ascontiguousarray(pixels[: message.height, : message.width]).ravel()
        return raw.stamp_ns, message

    counts: dict[str, int] = {}
    source = Bags(
        rewrite(small_bag, tmp_path / "sizes", change), detections="", labels="", depth=""
    )
    sizes = [frame.image.shape[:2] for frame in source]
    assert len(set(sizes[:3])) == 1 and len(set(sizes[3:])) == 1 and sizes[0] != sizes[3]


@pytest.mark.parametrize(
    ("stamps", "logs", "image", "expected"),
    [
        ([10, 20, 30], [10, 20, 30], (20, 20), 1),
        ([30, 10, 20], [5, 6, 7], (20, 99), 2),
        ([10, 30], [10, 30], (25, 40), 0),  # the last before by stamp, not by log
        ([0, 0, 0], [10**11, 2 * 10**11, 3 * 10**11], (10**17, 2 * 10**11 + 5), 1),
        ([50, 60], [50, 60], (40, 40), None),
        ([20, 20], [20, 25], (20, 20), 1),
        # latched: stamped a minute before it was recorded; another one follows
        ([1, 10**11 + 7], [6 * 10**10, 10**11 + 9], (10**11 + 8, 10**11 + 10), 1),
    ],
)
def test_the_info_of_an_image(stamps, logs, image, expected):
    assert info_of_image(np.array(stamps), np.array(logs), *image) == expected


def test_rectified_images_in_a_bag_follow_P(small_bag, tmp_path):
    """The images' topic is renamed to image_rect, its camera_info describes a distorted source."""
    bag = tmp_path / "rect"
    with (
        BagReader(small_bag) as reader,
        Writer(bag, version=8, storage_plugin=StoragePlugin.MCAP) as writer,
    ):
        connections = {}
        for raw in reader.raw_messages():
            message = reader.deserialize(bytearray(raw.data), raw.type)
            topic = raw.topic.replace("image_raw", "image_rect")
            if topic == INFO:
                message.p[:] = np.hstack([message.k.reshape(3, 3), np.zeros((3, 1))]).ravel()
                message.k[0] *= 1.3
                message.d = np.array([-0.3, 0.1, 0.0, 0.0, 0.0])
                message.distortion_model = "plumb_bob"
            if topic not in connections:
                connections[topic] = writer.add_connection(
                    topic, raw.type, typestore=reader.typestore
                )
            data = reader.typestore.serialize_cdr(message, raw.type)
            writer.write(connections[topic], raw.stamp_ns, data)
    expected, found = Bags(small_bag)[0], Bags(bag)[0]
    assert found.camera == expected.camera
    for frame in (expected, found):
        seen = project_returns(
            frame.companion.points, frame.companion.T_camera_lidar, frame.camera, 1
        )
        assert len(seen.u) > 50
    np.testing.assert_allclose(
        found.companion.T_camera_lidar, expected.companion.T_camera_lidar, atol=1e-12
    )
    np.testing.assert_array_equal(found.labels.boxes_2d, expected.labels.boxes_2d)
    raw = Bags(bag, rectified=False)[0]
    assert raw.camera.fx == pytest.approx(1.3 * expected.camera.fx) and raw.camera.distortion
    assert Bags(bag).describe()["rectified"] == "auto"


def test_regions_to_ignore_survive_a_bag(frames, tmp_path):
    regions = np.array([[3.5, 2, 40, 21.25], [10, 11, 12, 13]], np.float32)
    labels = [
        dataclasses.replace(frame.labels, ignore=one)
        for frame, one in zip(frames[:3], (regions, None, regions[:1]), strict=True)
    ]
    write_bag(
        [dataclasses.replace(f, labels=one) for f, one in zip(frames[:3], labels, strict=True)],
        tmp_path / "bag",
    )
    found = [frame.labels.ignore for frame in Bags(tmp_path / "bag")]
    np.testing.assert_array_equal(found[0], regions)
    np.testing.assert_array_equal(found[2], regions[:1])
    assert found[1] is None and found[0].dtype == np.float32
    assert all(f.labels.ignore is None for f in Bags(tmp_path / "bag", ignore=""))


@pytest.mark.parametrize(("size_x", "x"), [(-1.0, 5.0), (np.nan, 5.0), (4.0, np.inf)])
def test_regions_that_are_none_are_refused(size_x, x):
    center = SimpleNamespace(position=SimpleNamespace(x=x, y=5.0))
    bbox = SimpleNamespace(center=center, size_x=size_x, size_y=3.0)
    msg = SimpleNamespace(detections=[SimpleNamespace(bbox=bbox)])
    assert fault_of(regions_from_detections, msg).reason == "bad_labels"


def test_messages_without_stamps_are_matched_by_log_time(small_bag, tmp_path, caplog):
    def change(raw, message):
        if raw.topic in (IMAGE, INFO, "/lidar/points", "/ground_truth/detections_3d"):
            message.header.stamp.sec = message.header.stamp.nanosec = 0
        return raw.stamp_ns, message

    expected = Bags(small_bag, labels="", depth="")
    bag = rewrite(small_bag, tmp_path / "unstamped", change)
    with caplog.at_level("WARNING"):
        source = Bags(bag, labels="", depth="")
    assert f"6 messages of {IMAGE} have no header stamp" in caplog.text
    for one, other in zip(source, expected, strict=True):
        assert one.stamp_ns == other.stamp_ns
        assert one.companion.stamp_ns == other.companion.stamp_ns
        np.testing.assert_array_equal(one.companion.points, other.companion.points)
        np.testing.assert_array_equal(one.labels.boxes_3d, other.labels.boxes_3d)


def test_every_camera_of_a_bag(small_bag, tmp_path):
    bag = with_rear_camera(small_bag, tmp_path / "two")
    with pytest.raises(Fault, match="more than one topic for --image: /camera/"):
        Bags(bag)
    source = pickle.loads(pickle.dumps(Bags(bag, image="all")))
    single = Bags(small_bag)
    assert [frame.camera_name for frame in source] == ["camera"] * 6 + ["rear"] * 6
    for number in (0, 5):
        front, rear, expected = source[number], source[6 + number], single[number]
        np.testing.assert_array_equal(front.image, expected.image)
        np.testing.assert_array_equal(rear.image, expected.image // 2)
        assert rear.stamp_ns == expected.stamp_ns + 10_000_000 == source.stamps_ns[6 + number]
        T = np.linalg.inv(T_FRONT_REAR)
        of_front, of_rear = (f.companion.T_camera_lidar for f in (expected, rear))
        np.testing.assert_allclose(of_rear, T @ of_front, atol=1e-9)
        np.testing.assert_array_equal(front.labels.label_map, expected.labels.label_map)
        assert rear.labels.label_map is None and rear.labels.depth_m is None
        centers = np.c_[expected.labels.boxes_3d[:, :3], np.ones(len(expected.labels.boxes_3d))]
        np.testing.assert_allclose(rear.labels.boxes_3d[:, :3], (centers @ T.T)[:, :3], atol=1e-4)
    assert source.describe()["image"] == "all" and len(source.describe()["bags"]) == 2
    with pytest.raises(Fault, match="camera_info would be of one camera"):
        Bags(bag, image="all", camera_info=INFO)
    with pytest.raises(Fault, match="T_camera_companion would be of one camera"):
        Bags(bag, image="all", T_camera_companion=np.eye(4))
    listed = Bags(bag, image="/rear/image_raw,/camera/image_raw")
    assert [frame.camera_name for frame in listed] == ["rear"] * 6 + ["camera"] * 6


def test_every_camera_of_a_damaged_bag(small_bag, tmp_path) -> None:
    """What one camera has of it, each has; the copy of what is left is there once."""
    bag = with_rear_camera(small_bag, tmp_path / "two")
    (file,) = bag.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * 0.6)])
    front = Bags(bag, image="/camera/image_raw")
    both = Bags(bag, image="all")
    assert 0 < len(front) < 6
    names = both.camera_names.tolist()
    assert names.count("camera") == len(front) and 0 < names.count("rear") < 6
    for one, expected in zip(both, front, strict=False):
        np.testing.assert_array_equal(one.image, expected.image)
    first, second = (session.index for session in both.bags)
    assert first.files == second.files and "no whole records" in first.lost[0]
    again = Bags(bag, image="all")  # from the cached index
    assert again.camera_names.tolist() == names


def test_cameras_whose_namespaces_are_alike_have_names_of_their_own() -> None:
    topics = ["/front/left/image_raw", "/rear/left/image_raw/compressed", "/front/right/image_raw"]
    assert camera_names(topics) == ["front_left_image_raw", "rear_left_image_raw", "right"]


@pytest.mark.parametrize(
    ("words", "what"), [("{0},{0}", "has a topic twice"), ("{0},", "lacks a topic beside a comma")]
)
def test_a_topic_is_taken_once(small_bag, words, what) -> None:
    for option, topic in (("image", IMAGE), ("points", "/lidar/points")):
        with pytest.raises(Fault, match=f"{what}: write --{option} {topic}$"):
            Bags(small_bag, **{option: words.format(topic)})


def test_blanks_beside_commas_are_no_part_of_a_name(small_bag, tmp_path) -> None:
    bag = with_rear_camera(small_bag, tmp_path / "two")
    assert set(Bags(bag, image=f"{IMAGE}, /rear/image_raw").camera_names) == {"camera", "rear"}
