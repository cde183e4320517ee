"""Many bags, any order, worker processes, and the cached index."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import signal

import numpy as np
import pytest

from tests.helpers.bag_tools import FRAMES, assert_equal_frames, rewrite

pytest.importorskip("rosbags", reason="bags need: pip install '.[bags]'")

from lemumo_core.bags import index as bag_index
from lemumo_core.bags import open_bag
from lemumo_core.bags.index import find_bags
from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.writer import write_bag
from lemumo_core.cli.main import main
from lemumo_core.data.sources import bags
from lemumo_core.data.sources.bags import Bags
from lemumo_core.faults import Fault
from lemumo_core.signals import REQUEUE


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

    monkeypatch.setattr(open_bag, "BagReader", Counting)
    monkeypatch.setattr(bags, "MAX_OPEN", 4)
    for i in (0, 1, 2, 3, 0, 4, 0, 5):
        source[i]
    assert len(opened) == 6  # 0 was kept, as it was used in between
    assert sum(bool(reader._storages) for reader in opened) == 4


def test_a_frame_reads_its_own_chunks_only(frames, tmp_path, monkeypatch):
    """Many frames, so that the file has many chunks; bytes read from it are counted."""
    long = []
    for i in range(240):
        frame, stamp_ns = frames[i % FRAMES], 1_000_000_000 + 100_000_000 * i
        scan = dataclasses.replace(frame.companion, stamp_ns=stamp_ns)
        long.append(dataclasses.replace(frame, stamp_ns=stamp_ns, companion=scan, labels=None))
    write_bag(long, tmp_path / "bag")
    source = Bags(tmp_path / "bag")
    source[0]
    (file,) = (storage._reader.storage for storage in source._open[0].reader._storages)
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
    frame = source[180]
    size = next((tmp_path / "bag").glob("*.mcap")).stat().st_size
    assert frame.stamp_ns == long[180].stamp_ns
    assert 0 < read < size / 3  # image and points are read each alone, with chunks of 1 MiB
    assert len(pickle.dumps(source)) < 240 * 3 * 24 + 10_000


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


def test_a_damaged_cached_index_is_built_anew(small_bag, frames, cache, caplog):
    Bags(small_bag)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    method = whole.index(b"PK\x01\x02") + 10  # of compression, in the archive's directory
    for damaged in (b"", whole[:100], whole[:method] + b"c" + whole[method + 1 :]):
        file.write_bytes(damaged)
        caplog.clear()
        assert_equal_frames(Bags(small_bag)[2], frames[2], atol=1e-9)
        assert "not readable" in caplog.text
        assert list(cache.iterdir()) == [file] and file.read_bytes() == whole


def test_works_without_a_cache(small_bag, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LEMUMO_CACHE", str(tmp_path / "file"))
    assert len(Bags(small_bag)) == FRAMES
    assert "cannot be cached" in caplog.text


def test_a_bag_replaced_while_open_is_noticed(small_bag, frames, tmp_path):
    path = tmp_path / "bag"
    shutil.copytree(small_bag, path)
    source = Bags(path)
    shutil.rmtree(path)
    write_bag(frames[:2], path)
    assert source[0].stamp_ns == frames[0].stamp_ns
    with pytest.raises(Fault, match="open the bag again") as caught:
        source[4]
    assert caught.value.reason == "bag_changed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_indexing_shows_how_far_it_came_and_can_be_stopped(
    number, small_bag, tmp_path, monkeypatch, capsys
) -> None:
    read = BagReader.raw_messages

    def stopping(self, names):
        for count, message in enumerate(read(self, names)):
            if count == 3:
                os.kill(os.getpid(), number)
            yield message

    monkeypatch.setattr(BagReader, "raw_messages", stopping)
    monkeypatch.setattr("lemumo_core.progress.LOG_INTERVAL_S", 0.0)
    command = ["prepare", "bags", "--path", str(small_bag), "--out", str(tmp_path / "shards")]
    monkeypatch.setenv("LEMUMO_CACHE", str(tmp_path / "cache"))
    assert main(command) == REQUEUE
    shown = capsys.readouterr().err
    assert f"index {small_bag.name}  3/" in shown and f"stopped by {number.name}" in shown
