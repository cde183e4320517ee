"""Bags as a source: against the Frames they were made from, and against the node's callbacks."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason='bags need: pip install "lemumo_ros[bags]"')

from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from lemumo_core.data.sources import bag_index, bags
from lemumo_core.data.sources.bag_index import find_bags, nearest
from lemumo_core.data.sources.bag_reader import BagReader
from lemumo_core.data.sources.bag_topics import find_topics
from lemumo_core.data.sources.bags import Bags
from lemumo_core.data.sources.kitti import KittiRaw
from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.faults import Fault
from lemumo_core.frame import LidarScan, ThermalImage
from lemumo_core.geometry.boxes import image_bounds
from lemumo_core.geometry.se3 import inverse, make_T
from lemumo_core.preprocess import InputSpec, preprocess
from lemumo_ros.bag_writer import Messages, make_bag, register_vision_msgs, write_bag
from lemumo_ros.camera_input import CameraInput
from lemumo_ros.diagnostics import Health

FRAMES = 6
TYPES = get_typestore(Stores.ROS2_KILTED)
HAS_VISION_MSGS = register_vision_msgs(TYPES)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Indices of these tests go to a folder of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lemumo" / "bags"


@pytest.fixture(scope="module")
def frames():
    source = SyntheticStreet(0, FRAMES, 160, 96)
    return [source[i] for i in range(FRAMES)]


@pytest.fixture(scope="module")
def small_bag(frames, tmp_path_factory):
    """Six small synthetic frames, mcap; not to be changed."""
    out = tmp_path_factory.mktemp("small") / "bag"
    write_bag(frames, out)
    return out


def rewrite(source, out, change=None, storage="mcap", between=None):
    """Copy a bag, message by message.

    Args:
        change: (raw, message) to (log time, bytes or message), or None to leave it out.
        between: log times [start, stop) to copy.
    """
    with (
        BagReader(source) as reader,
        Writer(out, version=8, storage_plugin=StoragePlugin[storage.upper()]) as writer,
    ):
        connections = {}
        for raw in reader.raw_messages(None, *(between or (None, None))):
            result = raw.stamp_ns, raw.data
            if change:
                result = change(raw, reader.deserialize(bytearray(raw.data), raw.type))
            if result is None:
                continue
            if raw.topic not in connections:
                connections[raw.topic] = writer.add_connection(
                    raw.topic, raw.type, typestore=reader.typestore
                )
            log_ns, data = result
            if not isinstance(data, bytes):
                data = reader.typestore.serialize_cdr(data, raw.type)
            writer.write(connections[raw.topic], log_ns, data)
    return out


def assert_equal_frames(one, other, atol=0.0):
    assert (one.stamp_ns, one.camera) == (other.stamp_ns, other.camera)
    np.testing.assert_array_equal(one.image, other.image)
    assert type(one.companion) is type(other.companion)
    if isinstance(one.companion, LidarScan):
        assert one.companion.stamp_ns == other.companion.stamp_ns
        np.testing.assert_array_equal(one.companion.points, other.companion.points)
        T, expected = one.companion.T_camera_lidar, other.companion.T_camera_lidar
        np.testing.assert_allclose(T, expected, rtol=0, atol=atol)


# --- the arrays that were written ---------------------------------------------------------------


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_kitti_comes_back_exactly(shared_data, tmp_path, storage):
    drive = shared_data / "kitti_raw_seq" / "2011_09_26"
    make_bag("kitti-raw", drive, tmp_path / "bag", storage=storage, frames=4)
    source, expected = Bags(tmp_path / "bag"), KittiRaw(drive)
    assert len(source) == 4
    for i in range(4):
        frame = source[i]
        # KITTI's own matrix is a rotation to 2e-8 only, and what a quaternion holds is one exactly.
        assert_equal_frames(frame, expected[i], atol=1e-7)
        assert frame.labels is None and frame.camera_name == "camera"
        assert frame.image.flags.writeable and frame.image.flags.c_contiguous
        assert frame.companion.points.dtype == np.float32


@pytest.mark.skipif(not HAS_VISION_MSGS, reason="vision_msgs definitions are not in interfaces/")
def test_ground_truth_boxes_come_back(small_bag, frames):
    for frame, expected in zip(Bags(small_bag), frames, strict=True):
        assert len(expected.labels.boxes_3d)
        assert frame.labels.boxes_3d.dtype == np.float32
        np.testing.assert_allclose(
            frame.labels.boxes_3d, expected.labels.boxes_3d, rtol=0, atol=1e-5
        )
        assert frame.labels.class_names == expected.labels.class_names
        bounds = image_bounds(frame.labels.boxes_3d, frame.camera)
        np.testing.assert_array_equal(frame.labels.boxes_2d, bounds)
        assert frame.labels.label_map is None and frame.labels.depth_m is None
    assert all(frame.labels is None for frame in Bags(small_bag, detections=""))


def test_jpeg(frames, tmp_path):
    write_bag(frames, tmp_path / "bag", jpeg=True)
    frame = Bags(tmp_path / "bag")[2]
    bgr = cv2.cvtColor(frames[2].image, cv2.COLOR_RGB2BGR)
    coded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    expected = cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(frame.image, expected)
    assert frame.stamp_ns == frames[2].stamp_ns


def test_thermal_pairs(shared_data, tmp_path):
    make_bag("rgb-thermal", shared_data / "kaist_rgbt", tmp_path / "bag", frames=2)
    source = Bags(tmp_path / "bag")
    visible = sorted((shared_data / "kaist_rgbt").glob("*_visible.*"))[1]
    frame = source[1]
    assert isinstance(frame.companion, ThermalImage)
    np.testing.assert_array_equal(frame.image, cv2.imread(str(visible))[..., ::-1])
    infrared = cv2.imread(str(visible).replace("_visible", "_lwir"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(frame.companion.image, infrared)
    assert frame.companion.camera.width == infrared.shape[1]
    np.testing.assert_allclose(frame.companion.T_camera_thermal, np.eye(4), atol=1e-9)
    assert frame.companion.stamp_ns == frame.stamp_ns
    assert source.describe()["bags"][0]["companion"] == "thermal"


def test_label_maps_and_depth(small_bag, frames, tmp_path):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 256, (96, 160), np.uint8)
    depth = rng.uniform(1, 80, (96, 160)).astype(np.float32)
    depth[:5] = np.nan
    depth[5:7] = 0
    stamp_ns = frames[3].stamp_ns
    messages = Messages(frames[0], False)
    pictures = {"/ground_truth/labels": messages.image(ids, stamp_ns, "camera_optical")}
    pictures["/ground_truth/depth"] = messages.image(depth, stamp_ns, "camera_optical")
    pictures["/ground_truth/depth"].encoding = "32FC1"
    truth = tmp_path / "truth"
    with Writer(truth, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, message in pictures.items():
            connection = writer.add_connection(topic, message.__msgtype__, typestore=TYPES)
            writer.write(connection, stamp_ns, TYPES.serialize_cdr(message, message.__msgtype__))
    folder = tmp_path / "both"  # two files without metadata, numbered as one recording
    folder.mkdir()
    shutil.copy(next(small_bag.glob("*.mcap")), folder / "drive_0.mcap")
    shutil.copy(next(truth.glob("*.mcap")), folder / "drive_1.mcap")
    source = Bags(folder)
    labels = source[3].labels
    np.testing.assert_array_equal(labels.label_map, ids)
    expected = np.where(depth > 0, depth, np.nan)
    np.testing.assert_array_equal(labels.depth_m, expected)
    assert labels.depth_m.dtype == np.float32 and labels.label_map.dtype == np.uint8
    assert labels.boxes_3d is not None or not HAS_VISION_MSGS
    only_truth = Bags(folder, detections="")
    assert [i for i in range(FRAMES) if only_truth[i].labels is not None] == [3]
    assert source.describe()["bags"][0]["matched"]["labels"] == 1


def test_bags_made_outside_of_lemumo_need_no_ground_truth_definitions(shared_data):
    """A real recording whose only topic is of a type nobody defines."""
    with pytest.raises(Fault, match=r"nebula.*no colour camera") as caught:
        Bags(shared_data / "nebula_rosbag2" / "vlp16")
    assert caught.value.reason == "no_camera"


# --- one road for training and vehicle ----------------------------------------------------------


@pytest.mark.parametrize("kind", ["lidar", "thermal"])
def test_network_inputs_equal_those_of_the_node(kind, small_bag, shared_data, tmp_path):
    path = small_bag
    if kind == "thermal":
        path = tmp_path / "bag"
        make_bag("rgb-thermal", shared_data / "kaist_rgbt", path, frames=2)
    spec = InputSpec(64, 128, kind, 2)
    health = Health()
    node = CameraInput("camera", kind, 50_000_000, 0, health, lambda: 0)
    with BagReader(path) as reader:
        topics = find_topics(reader)
        callbacks = {
            topics.camera_info: node.on_camera_info,
            topics.thermal_info: node.on_thermal_info,
            "/tf_static": node.on_transforms,
            topics.points or topics.thermal: node.on_companion,
            topics.image: node.on_image,
        }
        of_node = []
        for message in reader.messages(name for name in callbacks if name):
            callbacks[message.topic](message.msg)
        of_node = [node.to_frame(pair) for pair in node.take(flush=True)]
    source = Bags(path)
    assert len(of_node) == len(source) > 1
    for expected, frame in zip(of_node, source, strict=True):
        theirs, ours = preprocess(expected, spec).arrays(), preprocess(frame, spec).arrays()
        for name in theirs:
            np.testing.assert_array_equal(ours[name], theirs[name])
        assert ours["companion"].any() and ours["present"].all()
        assert frame.stamp_ns == expected.stamp_ns


# --- many bags ----------------------------------------------------------------------------------


@pytest.fixture
def folder(small_bag, frames, tmp_path):
    """An mcap bag, below it a sqlite3 one two folders down, and a bare file."""
    root = tmp_path / "recordings"
    shutil.copytree(small_bag, root / "a")
    write_bag(frames[:2], root / "town" / "night" / "b", "sqlite3")
    (root / "c").mkdir()
    shutil.copy(next(small_bag.glob("*.mcap")), root / "c" / "bare.mcap")
    (root / "notes.txt").write_text("not a bag")
    return root


def test_folder_of_bags(folder, frames):
    source = Bags(folder)
    expected = [*frames, *frames, *frames[:2]]  # a, c, town
    assert len(source) == len(expected)
    for frame, other in zip(source, expected, strict=True):
        assert_equal_frames(frame, other, atol=1e-9)
    assert_equal_frames(source[-1], source[len(source) - 1])
    for index in (len(source), -len(source) - 1):
        with pytest.raises(IndexError):
            source[index]
    about = source.describe()
    assert json.loads(json.dumps(about)) == about
    assert (about["source"], about["root"], about["frames"]) == ("bags", str(folder), 14)
    assert [bag["frames"] for bag in about["bags"]] == [6, 6, 2]
    assert len(Bags([folder / "a", folder / "c" / "bare.mcap"])) == 12


def test_each_bag_keeps_its_own_calibration(small_bag, frames, tmp_path):
    def other_camera(raw, message):
        if raw.topic == "/camera/camera_info":
            message.k[0] *= 2
        if raw.topic == "/tf_static":
            lidar = next(t for t in message.transforms if t.child_frame_id == "lidar")
            lidar.transform.translation.x += 1.0
        return raw.stamp_ns, message

    root = tmp_path / "both"
    shutil.copytree(small_bag, root / "a")
    rewrite(small_bag, root / "b", other_camera)
    source = Bags(root)
    for i in (0, FRAMES, 1, FRAMES + 1):
        second = i >= FRAMES
        expected = frames[i % FRAMES]
        assert source[i].camera.fx == expected.camera.fx * (2 if second else 1)
        moved = source[i].companion.T_camera_lidar - expected.companion.T_camera_lidar
        assert np.linalg.norm(moved[:3, 3]) == pytest.approx(1.0 if second else 0.0, abs=1e-9)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("metadata", [True, False])
def test_split_recording_is_one_bag(small_bag, frames, tmp_path, storage, metadata):
    with BagReader(small_bag) as reader:
        middle, end = frames[3].stamp_ns, reader.end_ns + 1
    whole = tmp_path / "drive"
    whole.mkdir()
    suffix = {"mcap": ".mcap", "sqlite3": ".db3"}[storage]
    for part, between in enumerate([(0, middle), (middle, end)]):
        made = rewrite(small_bag, tmp_path / f"part{part}", None, storage, between)
        shutil.copy(made / f"part{part}{suffix}", whole / f"drive_{part}{suffix}")
    if metadata:
        text = (tmp_path / "part0" / "metadata.yaml").read_text()
        text = text.replace("- part0" + suffix, f"- drive_0{suffix}\n  - drive_1{suffix}", 1)
        (whole / "metadata.yaml").write_text(text)
    source = Bags(tmp_path / "drive")
    assert len(source.bags) == 1 and len(source) == FRAMES
    for i in (5, 0, 3, 2):  # calibration and /tf_static are in the first part only
        assert_equal_frames(source[i], frames[i], atol=1e-9)


def test_numbered_files_are_one_bag_only_from_zero_on(tmp_path):
    for name in ("a_0.mcap", "a_1.mcap", "b_1.mcap", "b_2.mcap", "c.mcap", "c.db3", "a_00.mcap"):
        (tmp_path / name).touch()
    names = [tuple(file.name for file in bag) for bag in find_bags(tmp_path)]
    assert names == [
        ("a_0.mcap", "a_1.mcap"),
        *[("a_00.mcap",), ("b_1.mcap",), ("b_2.mcap",), ("c.db3",), ("c.mcap",)],
    ]


# --- access -------------------------------------------------------------------------------------


def test_any_order_gives_the_same_frames(folder):
    in_order = list(Bags(folder))
    source = Bags(folder)
    for i in np.random.default_rng(0).permutation(3 * len(in_order)) % len(in_order):
        assert_equal_frames(source[i], in_order[i])


def test_messages_of_one_log_time_are_told_apart(small_bag, frames, tmp_path):
    """A recorder that wrote everything at once: only header stamps tell the order."""
    made = rewrite(small_bag, tmp_path / "bag", lambda raw, message: (7, raw.data))
    for storage in ("mcap", "sqlite3"):
        source = Bags(rewrite(made, tmp_path / storage, storage=storage))
        for i in (4, 1, 5):
            assert_equal_frames(source[i], frames[i], atol=1e-9)


def test_pickled_while_open(folder):
    source = Bags(folder)
    expected = source[7]
    data = pickle.dumps(source)
    assert len(data) < 20_000
    copy = pickle.loads(data)
    assert_equal_frames(copy[7], expected)
    assert_equal_frames(source[7], expected)


def test_forked_workers_do_not_share_files(folder):
    source = Bags(folder)
    expected = [source[i] for i in (1, 3)]
    reader = next(iter(source._open.values())).reader
    child = os.fork()
    if child == 0:
        ok = False
        try:
            assert_equal_frames(source[3], expected[1])
            ok = next(iter(source._open.values())).reader is not reader
        finally:
            os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert_equal_frames(source[1], expected[0])


def test_few_bags_are_open_at_once(frames, tmp_path, monkeypatch):
    for name in "abcdef":
        write_bag(frames[:1], tmp_path / "bags" / name)
    source = Bags(tmp_path / "bags")
    opened = []

    class Counting(BagReader):
        def __init__(self, path):
            super().__init__(path)
            opened.append(self)

    monkeypatch.setattr(bags, "BagReader", Counting)
    for i in (0, 1, 2, 3, 0, 4, 0, 5):
        source[i]
    assert len(opened) == 6  # 0 was kept, as it was used in between
    assert sum(bool(reader._readers) for reader in opened) == bags.MAX_OPEN


def test_a_frame_reads_its_own_chunks_only(frames, tmp_path, monkeypatch):
    """Many frames, so that the file has many chunks; bytes read from it are counted."""
    long = [SimpleNamespace(**vars(frames[i % FRAMES])) for i in range(120)]
    for i, frame in enumerate(long):
        frame.stamp_ns = 1_000_000_000 + 100_000_000 * i
        frame.companion = LidarScan(
            frame.companion.points, frames[0].companion.T_camera_lidar, frame.stamp_ns
        )
    write_bag(long, tmp_path / "bag")
    source = Bags(tmp_path / "bag")
    source[0]
    (storage,) = (reader.storage for reader in source._open[0].reader._readers)
    (file,) = storage.storages
    read = 0

    class Counting:
        def __init__(self, bio):
            self.bio = bio

        def read(self, size=-1):
            nonlocal read
            data = self.bio.read(size)
            read += len(data)
            return data

        def __getattr__(self, name):
            return getattr(self.bio, name)

    monkeypatch.setattr(file, "bio", Counting(file.bio))
    frame = source[90]
    size = next((tmp_path / "bag").glob("*.mcap")).stat().st_size
    assert frame.stamp_ns == long[90].stamp_ns
    assert 0 < read < size / 10
    assert len(pickle.dumps(source)) < 120 * 4 * 24 + 10_000


# --- matching -----------------------------------------------------------------------------------


def test_companion_out_of_tolerance_is_none(small_bag, frames, tmp_path):
    def late(raw, message):
        if raw.topic == "/lidar/points":
            late_ns = {2: 60_000_000, 3: 30_000_000}.get(
                [f.companion.stamp_ns for f in frames].index(raw.stamp_ns), 0
            )
            message.header.stamp.nanosec += late_ns  # stays below a second
        return raw.stamp_ns, message

    gap_ns = min(np.diff([frame.stamp_ns for frame in frames]))
    assert gap_ns >= 100_000_000
    source = Bags(rewrite(small_bag, tmp_path / "bag", late))
    present = [frame.companion is not None for frame in source]
    assert present == [True, True, False, True, True, True]
    assert source[3].companion.stamp_ns == frames[3].companion.stamp_ns + 30_000_000
    about = source.describe()
    assert about["unmatched_companions"] == about["bags"][0]["unmatched_companions"] == 1
    assert Bags(tmp_path / "bag", tolerance_ms=20)[3].companion is None
    assert Bags(tmp_path / "bag", tolerance_ms=60)[2].companion is not None


def test_nearest_equals_a_loop():
    rng = np.random.default_rng(1)
    for _ in range(200):
        candidates = rng.integers(0, 60, rng.integers(0, 8))
        stamps = rng.integers(0, 60, 10)
        for stamp, found in zip(stamps, nearest(candidates, stamps, 6), strict=True):
            gaps = np.abs(candidates - stamp)
            if len(gaps) == 0 or gaps.min() > 6:
                assert found == -1
            else:
                assert gaps[found] == gaps.min()
                assert candidates[found] == candidates[gaps == gaps.min()].min()


@pytest.mark.skipif(not HAS_VISION_MSGS, reason="vision_msgs definitions are not in interfaces/")
def test_ground_truth_belongs_to_one_image_only(small_bag, frames, tmp_path):
    def sparse(raw, message):
        keep = raw.stamp_ns in (frames[1].stamp_ns, frames[4].stamp_ns)
        return (raw.stamp_ns, raw.data) if keep or "ground_truth" not in raw.topic else None

    source = Bags(rewrite(small_bag, tmp_path / "bag", sparse), tolerance_ms=1000)
    assert [i for i in range(FRAMES) if source[i].labels is not None] == [1, 4]


def test_calibration_changes_with_time(small_bag, frames, tmp_path):
    def zoomed(raw, message):
        if raw.topic == "/camera/camera_info":
            if raw.stamp_ns == frames[0].stamp_ns:
                return None  # the first image has none before it
            if raw.stamp_ns >= frames[4].stamp_ns:
                message.k[0] *= 1.5
        return raw.stamp_ns, message

    source = Bags(rewrite(small_bag, tmp_path / "bag", zoomed))
    fx = frames[0].camera.fx
    assert [frame.camera.fx for frame in source] == [fx] * 4 + [1.5 * fx] * 2
    assert len(source.bags[0].index.messages["camera_info"]) == 2


def test_given_extrinsics_win(small_bag, tmp_path):
    T = make_T(np.eye(3), np.array([1.0, 2, 3]))
    bare = rewrite(
        small_bag,
        tmp_path / "bag",
        lambda raw, message: None if raw.topic == "/tf_static" else (raw.stamp_ns, raw.data),
    )
    frame = Bags(bare, T_camera_companion=T)[0]
    np.testing.assert_array_equal(frame.companion.T_camera_lidar, T)
    with pytest.raises(Fault, match=r"rotation|rigid"):
        Bags(bare, T_camera_companion=2 * T)


def test_rectified_images_turn_everything_with_them(small_bag, frames, tmp_path):
    a = np.deg2rad(5)
    R = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])

    def turned(raw, message):
        if raw.topic == "/camera/camera_info":
            message.r[:] = R.ravel()
            message.p[0] *= 1.25
        return raw.stamp_ns, message

    path = rewrite(small_bag, tmp_path / "bag", turned)
    plain, frame = Bags(path)[0], Bags(path, rectified=True)[0]
    assert frame.camera == dataclasses.replace(plain.camera, fx=1.25 * plain.camera.fx)
    T = make_T(R, np.zeros(3))
    np.testing.assert_allclose(
        frame.companion.T_camera_lidar, T @ plain.companion.T_camera_lidar, atol=1e-9
    )
    if HAS_VISION_MSGS:
        centres = plain.labels.boxes_3d[:, :3] @ R.T
        np.testing.assert_allclose(frame.labels.boxes_3d[:, :3], centres, atol=1e-4)
        turn = frame.labels.boxes_3d[:, 6] - plain.labels.boxes_3d[:, 6]
        np.testing.assert_allclose(np.angle(np.exp(1j * turn)), a, atol=1e-6)


# --- the index ----------------------------------------------------------------------------------


def test_second_opening_reads_the_cached_index(small_bag, frames, tmp_path, monkeypatch, cache):
    path = tmp_path / "bag"
    shutil.copytree(small_bag, path)
    first = Bags(path)
    assert [file.suffix for file in cache.iterdir()] == [".npz"]
    built = []
    build = bag_index._build
    monkeypatch.setattr(bag_index, "_build", lambda *args: built.append(1) or build(*args))
    second = Bags(path)
    assert not built
    assert second.describe() == first.describe()
    assert_equal_frames(second[2], frames[2], atol=1e-9)
    Bags(path, detections="")
    assert built == [1]  # other topics, another index

    shutil.rmtree(path)
    write_bag(frames[:3], path)
    assert len(Bags(path)) == 3 and built == [1, 1]
    for file in cache.iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert len(Bags(path)) == 3 and built == [1, 1, 1]
    assert len(Bags(path)) == 3 and built == [1, 1, 1]


def test_works_without_a_cache(small_bag, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(Bags(small_bag)) == FRAMES
    assert "cannot be cached" in caplog.text


def test_a_bag_replaced_while_open_is_noticed(small_bag, frames, tmp_path):
    path = tmp_path / "bag"
    shutil.copytree(small_bag, path)
    source = Bags(path)
    shutil.rmtree(path)
    write_bag(frames[:2], path)
    assert source[0].stamp_ns == frames[0].stamp_ns
    with pytest.raises(Fault, match="open the bag anew") as caught:
        source[4]
    assert caught.value.reason == "bag_changed"


def test_progress_of_long_bags(small_bag, monkeypatch, capsys):
    monkeypatch.setattr(bag_index, "PROGRESS_S", 0.0)
    Bags(small_bag)
    assert "indexing" in (err := capsys.readouterr().err) and "messages" in err


# --- what is wrong is named ---------------------------------------------------------------------


@pytest.mark.parametrize("cut", [3, 11, 60, 5000])
def test_damaged_image_is_named_and_the_others_go_on(small_bag, frames, tmp_path, cut):
    def damage(raw, message):
        broken = raw.topic == "/camera/image_raw" and raw.stamp_ns == frames[2].stamp_ns
        return raw.stamp_ns, raw.data[:cut] if broken else raw.data

    source = Bags(rewrite(small_bag, tmp_path / "bag", damage))
    assert len(source) == FRAMES
    with pytest.raises(Fault) as caught:
        source[2]
    assert str(tmp_path / "bag") in str(caught.value)
    assert str(frames[2].stamp_ns) in str(caught.value)
    assert_equal_frames(source[3], frames[3], atol=1e-9)


def without(*topics):
    return lambda raw, message: None if raw.topic in topics else (raw.stamp_ns, raw.data)


def test_bags_that_lack_something(small_bag, tmp_path):
    cases = [
        (("/camera/image_raw",), {}, "no_camera"),
        (("/camera/camera_info",), {}, "no_camera_info"),
        (("/tf_static",), {}, "missing_transform"),
        ((), {"companion": "thermal"}, "no_companion"),
        ((), {"points": "/nope"}, "unknown_topic"),
        ((), {"labels": "/nope"}, "unknown_topic"),
    ]
    for i, (left_out, options, reason) in enumerate(cases):
        path = rewrite(small_bag, tmp_path / str(i), without(*left_out))
        with pytest.raises(Fault) as caught:
            Bags(path, **options)
        assert caught.value.reason == reason and str(path) in str(caught.value)
    camera_only = Bags(rewrite(small_bag, tmp_path / "camera", without("/lidar/points")))
    assert camera_only[0].companion is None and camera_only.bags[0].index.companion is None
    assert Bags(small_bag, points="")[0].companion is None


def test_both_companions_need_a_choice(small_bag, frames, tmp_path):
    messages = Messages(frames[0], False)
    warm = tmp_path / "warm"
    with Writer(warm, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, message in [
            ("/thermal/image_raw", messages.image(frames[0].image[..., 0], 5, "lidar")),
            ("/thermal/camera_info", messages.camera_info(frames[0].camera, 5, "lidar")),
        ]:
            connection = writer.add_connection(topic, message.__msgtype__, typestore=TYPES)
            stamp_ns = frames[0].stamp_ns
            message.header = messages.header(stamp_ns, "lidar")
            writer.write(connection, stamp_ns, TYPES.serialize_cdr(message, message.__msgtype__))
    folder = tmp_path / "both"
    folder.mkdir()
    shutil.copy(next(small_bag.glob("*.mcap")), folder / "x_0.mcap")
    shutil.copy(next(warm.glob("*.mcap")), folder / "x_1.mcap")
    with pytest.raises(Fault, match="choose companion lidar or thermal"):
        Bags(folder)
    assert isinstance(Bags(folder, companion="lidar")[0].companion, LidarScan)
    thermal = Bags(folder, companion="thermal")
    assert isinstance(thermal[0].companion, ThermalImage) and thermal[1].companion is None
    np.testing.assert_allclose(
        inverse(thermal[0].companion.T_camera_thermal),
        inverse(frames[0].companion.T_camera_lidar),
        atol=1e-9,
    )


def test_paths_without_bags(tmp_path):
    with pytest.raises(FileNotFoundError, match="empty holds no bag"):
        (tmp_path / "empty" / "deep").mkdir(parents=True)
        Bags(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="missing"):
        Bags(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="no bag given"):
        Bags([])
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    with pytest.raises(Fault, match="rosbags-convert"):
        Bags(tmp_path / "old.bag")
    (tmp_path / "bad.mcap").write_bytes(b"nonsense")
    with pytest.raises(Fault, match=r"bad\.mcap is damaged"):
        Bags(tmp_path / "bad.mcap")
