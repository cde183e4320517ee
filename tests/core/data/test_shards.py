"""Shards give back exactly what went in, whatever happens to them on the way."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import resource
import shutil
import socket
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from lemumo_core.data.frame_records import (
    CAMERA,
    LABELS,
    LIDAR,
    SCHEMA,
    SCHEMAS,
    THERMAL,
    frame_from_record,
    record_from_frame,
)
from lemumo_core.data.shard_plan import Plan
from lemumo_core.data.shard_writer import write_shard, write_shards
from lemumo_core.data.shards import Shards, open_shard
from lemumo_core.data.sources.kitti import KittiObject
from lemumo_core.data.sources.kitti_raw import KittiRaw
from lemumo_core.data.sources.nuscenes import NuScenes
from lemumo_core.data.sources.pairs import RgbThermalPairs
from lemumo_core.faults import Fault
from lemumo_core.folders.local import LocalFolder
from lemumo_core.frame import Frame, Labels, LidarScan, ThermalImage
from lemumo_core.geometry.camera import Camera
from tests.helpers.program import get_context

FISHEYE = Camera(101, 75, 60.1, 60.2, 50.3, 37.4, "equidistant", (0.1, -0.02, 3e-3, 1e-4))
PINHOLE = Camera(101, 75, 80.0, 81.0, 50.0, 37.0)


class Noise:
    """Six small Frames that together have everything a Frame can have; of ``broken`` rows reading
    fails."""

    def __init__(self, seed: int = 0, broken: dict[int, type[Exception]] | None = None):
        self.seed, self.broken = seed, broken or {}

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Frame:
        index = range(len(self))[index]
        if index in self.broken:
            raise Fault("bad_image", "a torn image")
        rng = np.random.default_rng([self.seed, index])
        kinds = ["pinhole", "fisheye", "thermal8", "thermal16", "companion only", "image only"]
        return noise_frame(rng, kinds[index], index)

    def describe(self):
        return {"source": "noise", "seed": self.seed, "frames": len(self)}


class Failing(Noise):
    def __getitem__(self, index: int) -> Frame:
        if index == 4:
            raise OSError("the disk is on fire")
        return super().__getitem__(index)


def noise_frame(rng: np.random.Generator, kind: str, index: int) -> Frame:
    camera = FISHEYE if kind == "fisheye" else PINHOLE
    shape = camera.height, camera.width
    points = rng.normal(0, 9, (50, 4 + index)).astype(np.float32)
    points[3, 0] = np.nan
    companion: LidarScan | ThermalImage | None = LidarScan(points, np.eye(4) + 1e-17, 10**18 + 1)
    if kind.startswith("thermal"):
        dtype = np.uint8 if kind == "thermal8" else np.uint16
        thermal = rng.integers(0, np.iinfo(dtype).max, (40, 60)).astype(dtype)
        companion = ThermalImage(thermal, PINHOLE.scaled(60, 40), rng.normal(size=(4, 4)), 7)
    if kind == "image only":
        return Frame(5, "rear", camera, rng.integers(0, 255, (*shape, 3)).astype(np.uint8))
    labels = Labels(
        boxes_3d=rng.normal(size=(2, 7)).astype(np.float32),
        boxes_2d=rng.uniform(0, 70, (2, 4)).astype(np.float32),
        class_names=("vehicle.car", "Fußgänger"),
        track_ids=("a7f", ""),
        visibility=np.array([0.5, np.nan], np.float32),
        num_points=np.array([3, 0], np.int32),
        label_map=rng.integers(0, 12, shape).astype(np.uint8),
        instance_map=rng.integers(0, 60_000, shape).astype(np.uint16),
        depth_m=np.where(rng.random(shape) < 0.1, np.nan, rng.random(shape)).astype(np.float32),
        point_labels=rng.integers(0, 12, len(points)).astype(np.uint8),
    )
    if kind == "thermal8":  # nothing in sight
        labels = Labels(boxes_3d=np.empty((0, 7), np.float32), num_points=np.empty(0, np.int32))
    if kind == "thermal16":
        labels = Labels()
    image = None
    if kind != "companion only":
        image = rng.integers(0, 255, (*shape, 3)).astype(np.uint8)
    pose = rng.normal(size=(4, 4)) if kind != "fisheye" else None
    return Frame(10**18 + index, "front", camera, image, companion, labels, T_fixed_camera=pose)


def assert_same(a, b, name: str = "frame") -> None:
    """Equal to the last bit, of the same types, None where None."""
    assert type(a) is type(b), name
    if isinstance(a, np.ndarray):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        assert a.tobytes() == b.tobytes(), name
    elif is_dataclass(a) and not isinstance(a, Camera):
        for field in fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name), f"{name}.{field.name}")
    else:
        assert a == b, name


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("noise")
    summary = write_shards(Noise(), out, frames_per_shard=4, workers=1)
    assert (summary.frames, summary.shards, summary.new_frames, summary.dropped) == (6, 2, 6, 0)
    return out


def test_every_field_has_a_column():
    def names(cls):
        return {field.name for field in fields(cls)}

    # T_camera_header says in which frame results are published.
    stored = names(Frame) - {"companion", "T_camera_header"}
    assert stored == set(SCHEMA.names) - {"jpeg", "lidar", "thermal"}
    stored = ((Camera, CAMERA), (LidarScan, LIDAR), (ThermalImage, THERMAL), (Labels, LABELS))
    for cls, columns in stored:
        assert names(cls) == {field.name for field in columns}


def test_rows_of_older_shards_come_back_without_what_came_later():
    frame = noise_frame(np.random.default_rng(0), "pinhole", 0)
    record = record_from_frame(frame)
    older = record.select(SCHEMAS[6].names)
    assert "T_fixed_camera" not in older.schema.names and older.schema.equals(SCHEMAS[6])
    assert_same(frame_from_record(older), replace(frame, T_fixed_camera=None))


def test_all_of_a_frame_comes_back(shards):
    read = Shards(shards)
    assert len(read) == 6
    for expected, frame in zip(Noise(), read, strict=True):
        assert_same(frame, expected)
        assert frame.image is None or frame.image.flags.writeable
    assert_same(read[-1], Noise()[5])
    with pytest.raises(IndexError):
        read[6]


@pytest.mark.parametrize(
    "open_fixture",
    [
        lambda data: NuScenes(data / "nuscenes_mini_tables", cameras="CAM_FRONT"),
        lambda data: KittiObject(data / "kitti_object"),
        lambda data: KittiRaw(data / "kitti_raw_seq" / "2011_09_26"),
        lambda data: RgbThermalPairs(data / "llvip_rgbt"),
        lambda data: RgbThermalPairs(data / "kaist_rgbt"),
    ],
    ids=["nuscenes", "kitti", "kitti-raw", "llvip", "kaist"],
)
def test_real_frames_come_back(shared_data, tmp_path, open_fixture):
    source = open_fixture(shared_data)
    plan = Plan.make(source, frames=2, frames_per_shard=2, jpeg=None)
    assert write_shard(source, plan, 0, LocalFolder(tmp_path)) == []
    reader = open_shard(tmp_path / plan.name(0))
    assert reader.num_record_batches == plan.frames == min(2, len(source))
    for row in range(plan.frames):
        assert_same(frame_from_record(reader.get_batch(row)), source[row])


def test_same_bytes_with_other_workers_and_after_loss(shards, tmp_path):
    write_shards(Noise(), tmp_path, frames_per_shard=4, workers=2)
    assert contents(tmp_path) == contents(shards)
    (tmp_path / "shard-000001.arrow").unlink()
    whole = (tmp_path / "shard-000000.arrow").read_bytes()
    (tmp_path / "shard-000000.arrow").write_bytes(whole[: len(whole) // 2])
    killed = left_by_a_killed_process(tmp_path / "shard-000001.arrow")
    other = tmp_path / f".shard-000001.arrow~another-host~{os.getpid()}~01234567.tmp"
    other.touch()
    summary = write_shards(Noise(), tmp_path, frames_per_shard=4, workers=1)
    assert summary.new_frames == 6
    assert not killed.exists()
    other.unlink()  # whoever writes it may still do so
    assert contents(tmp_path) == contents(shards)
    assert write_shards(Noise(), tmp_path, frames_per_shard=4).new_frames == 0


def left_by_a_killed_process(path: Path) -> Path:
    """Leave what a process of this host was writing when it ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    host = socket.gethostname()
    left = path.with_name(f".{path.name}~{host}~{process.pid}~01234567.tmp")
    left.write_bytes(b"unfinished")
    return left


@pytest.mark.parametrize(
    ("source", "options", "difference"),
    [
        (Noise(1), {"frames_per_shard": 4}, "source.seed: 0 then, 1 now"),
        (Noise(), {"frames_per_shard": 3}, "frames_per_shard: 4 then, 3 now"),
        (Noise(), {"frames_per_shard": 4, "jpeg": 90}, "jpeg: None then, 90 now"),
        (Noise(), {"frames_per_shard": 4, "frames": 5}, "frames: 6 then, 5 now"),
    ],
)
def test_other_options_are_refused(shards, source, options, difference):
    before = contents(shards)
    with pytest.raises(Fault, match=rf"{shards} was begun with other options:\n  {difference}"):
        write_shards(source, shards, **options)
    assert contents(shards) == before


def test_faulty_frames_are_left_out_and_counted(tmp_path, caplog):
    source = Noise(broken={1: Fault, 5: Fault})
    summary = write_shards(source, tmp_path, frames_per_shard=4, workers=1)
    assert (summary.frames, summary.dropped) == (4, 2)
    read = Shards(tmp_path)
    assert [frame.stamp_ns for frame in read] == [Noise()[i].stamp_ns for i in (0, 2, 3, 4)]
    assert "frame 1 is left out (bad_image): a torn image" in caplog.text


def test_only_faulty_frames_are_an_error(tmp_path):
    with pytest.raises(Fault, match="all 6 frames were left out"):
        write_shards(Noise(broken=dict.fromkeys(range(6), Fault)), tmp_path, workers=1)


@pytest.fixture
def spawned(monkeypatch) -> None:
    """Workers inherit limits and standard error, as in a program."""
    monkeypatch.setattr(multiprocessing, "get_context", get_context)


def test_an_error_of_the_source_stops(spawned, tmp_path, capfd):
    with pytest.raises(OSError, match="the disk is on fire"):
        write_shards(Failing(), tmp_path, frames_per_shard=2, workers=1)
    assert "Traceback" not in capfd.readouterr().err
    assert sorted(contents(tmp_path)) == ["shard-000000.arrow", "shard-000001.arrow"]


def test_a_disk_that_takes_no_more_is_named(spawned, tmp_path, capfd):
    """Files may not grow here beyond some bytes, which workers inherit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        with pytest.raises(Fault, match=f"{tmp_path} cannot be written: File too large; free"):
            write_shards(Noise(), tmp_path, frames_per_shard=6, workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir()) and "Traceback" not in capfd.readouterr().err
    assert write_shards(Noise(), tmp_path, frames_per_shard=6, workers=1).frames == 6


@pytest.mark.parametrize(
    ("options", "named"),
    [({"jpeg": 0}, "jpeg = 0"), ({"frames": 0}, "frames = 0"), ({"workers": 0}, "workers = 0")],
)
def test_bad_options_are_named(tmp_path, options, named):
    with pytest.raises(Fault, match=named):
        write_shards(Noise(), tmp_path, **options)


def test_describes_itself_and_survives_pickling(shards):
    read = Shards(shards, at_least=(16, 32))
    first = read[0]
    again = pickle.loads(pickle.dumps(read))
    assert_same(again[0], first)
    about = json.loads(json.dumps(again.describe()))
    assert (about["source"], about["frames"], about["at_least"]) == ("shards", 6, [16, 32])
    assert about["configuration"]["source"] == Noise().describe()


def test_unfinished_and_damaged_shards_are_named(shards, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no index\.json.*run it again"):
        Shards(tmp_path)
    copy = shutil.copytree(shards, tmp_path / "copy")
    damaged = copy / "shard-000001.arrow"
    damaged.write_bytes(damaged.read_bytes()[:-50])
    read = Shards(copy)
    read[0]
    with pytest.raises(Fault, match=r"copy/shard-000001\.arrow is damaged or gone"):
        read[4]
    shutil.copy(shards / "shard-000000.arrow", damaged)
    with pytest.raises(Fault, match=r"shard-000001\.arrow is not the shard"):
        Shards(copy)[4]
    whole = json.loads((copy / "index.json").read_text())
    for damaged in (
        *(b"[]", b"", b"\xff\xfe\x00", b'{"version": 2}'),
        json.dumps({**whole, "shards": [{"name": "x"}]}).encode(),
        json.dumps({**whole, "shards": []}).encode(),
    ):
        (copy / "index.json").write_bytes(damaged)
        with pytest.raises(Fault, match=r"copy/index\.json is not an index of shards, or damaged"):
            Shards(copy)
    (copy / "index.json").write_text('{"version": 99}')
    with pytest.raises(Fault, match="version 99, this reads 1"):
        Shards(copy)


# Remote folders: a file:// URI takes the way of s3:// and gs://.


def test_remote_shards_are_copied_once(shards, tmp_path):
    remote = shutil.copytree(shards, tmp_path / "remote")
    read = Shards(remote.as_uri(), cache=tmp_path / "cache")
    for expected, frame in zip(Noise(), read, strict=True):
        assert_same(frame, expected)
    copies = sorted((tmp_path / "cache").rglob("*.*"))
    assert [copy.name for copy in copies] == ["shard-000000.arrow", "shard-000001.arrow"]
    for shard in remote.glob("*.arrow"):
        shard.unlink()
    one_slash = remote.as_uri().replace("///", "/")  # what pathlib, and people, make of a URI
    again = Shards(one_slash, cache=tmp_path / "cache")
    assert_same(again[5], Noise()[5])


def test_the_cache_is_bounded_and_keeps_the_latest(shards, tmp_path):
    largest = max(path.stat().st_size for path in shards.glob("*.arrow"))
    read = Shards(shards.as_uri(), cache=tmp_path, cache_gb=1.1 * largest / 1e9)
    for index in (0, 5, 0, 5):
        assert_same(read[index], Noise()[index])
    assert [path.name for path in tmp_path.rglob("*.arrow")] == ["shard-000001.arrow"]


def test_remade_remote_shards_replace_the_copies(shards, tmp_path):
    remote = shutil.copytree(shards, tmp_path / "remote")
    Shards(remote.as_uri(), cache=tmp_path / "cache")[0]
    shutil.rmtree(remote)
    write_shards(Noise(1), remote, frames_per_shard=4, workers=1)
    assert_same(Shards(remote.as_uri(), cache=tmp_path / "cache")[0], Noise(1)[0])


def test_a_truncated_copy_is_no_copy(shards, tmp_path):
    remote = shutil.copytree(shards, tmp_path / "remote")
    os.truncate(remote / "shard-000000.arrow", 100)
    read = Shards(remote.as_uri(), cache=tmp_path / "cache")
    with pytest.raises(Fault, match=r"shard-000000\.arrow has 100 bytes; its index says"):
        read[0]
    assert not list((tmp_path / "cache").rglob("*.*"))


# Reduced decoding.


def smooth_frame() -> Frame:
    """A picture without detail that a reduction could lose, so that only geometry counts."""
    v, u = np.mgrid[: PINHOLE.height, : PINHOLE.width]
    image = np.stack([2 * u, 3 * v, 255 - u - v], axis=-1).astype(np.uint8)
    frame = noise_frame(np.random.default_rng(0), "pinhole", 0)
    return Frame(1, "front", PINHOLE, image, frame.companion, frame.labels)


@pytest.mark.parametrize("jpeg", [None, 95])
@pytest.mark.parametrize(
    ("at_least", "factor"),
    [((75, 101), 1), ((38, 50), 1), ((37, 50), 2), ((18, 25), 4), ((9, 12), 8), ((200, 1), 1)],
)
def test_reduced_frames_are_block_means(jpeg, at_least, factor):
    frame = smooth_frame()
    record = record_from_frame(frame, jpeg)
    full, reduced = frame_from_record(record), frame_from_record(record, at_least)
    height, width = -(-PINHOLE.height // factor), -(-PINHOLE.width // factor)
    assert reduced.image.shape == (height, width, 3)
    assert (reduced.camera.height, reduced.camera.width) == (height, width)
    for i in range(height - 1):  # whole blocks
        for j in range(width - 1):
            block = full.image[i * factor : (i + 1) * factor, j * factor : (j + 1) * factor]
            error = reduced.image[i, j] - block.mean(axis=(0, 1))
            assert np.abs(error).max() < (1 if jpeg is None else 5)
            cell = np.s_[i * factor : (i + 1) * factor, j * factor : (j + 1) * factor]
            for name in ("label_map", "instance_map", "depth_m"):
                value = getattr(reduced.labels, name)[i, j]
                assert value in getattr(full.labels, name)[cell] or np.isnan(value)
    mean_error = reduced.image[:-1, :-1].astype(float) - cv2.resize(
        full.image[: (height - 1) * factor, : (width - 1) * factor],
        (width - 1, height - 1),
        interpolation=cv2.INTER_AREA,
    )
    assert np.abs(mean_error.mean(axis=(0, 1))).max() < 0.5  # a shift of a quarter pixel shows


@pytest.mark.parametrize("at_least", [(37, 50), (18, 25), (9, 12)])
def test_a_reduced_frame_agrees_with_its_camera(at_least):
    record = record_from_frame(smooth_frame())
    full, reduced = frame_from_record(record), frame_from_record(record, at_least)
    factor = -(-PINHOLE.width // reduced.camera.width)
    points = np.array([[0.1, 0.2, 1.0], [-0.3, 0.1, 2.0]])
    uv, uv_reduced = full.camera.project(points)[0], reduced.camera.project(points)[0]
    np.testing.assert_allclose((uv + 0.5) / factor, uv_reduced + 0.5)
    for a, b in zip(full.labels.boxes_2d.ravel(), reduced.labels.boxes_2d.ravel(), strict=True):
        assert (a + 0.5) / factor == pytest.approx(b + 0.5)
    assert reduced.labels.depth_m.shape == reduced.image.shape[:2]
    for name in ("boxes_3d", "visibility", "num_points", "point_labels"):
        assert_same(getattr(reduced.labels, name), getattr(full.labels, name))
    assert_same(reduced.companion, full.companion)


def test_jpeg_changes_the_image_alone():
    frame = smooth_frame()
    lossy = frame_from_record(record_from_frame(frame, 95))
    assert np.abs(lossy.image.astype(int) - frame.image).mean() < 2
    assert not np.array_equal(lossy.image, frame.image)
    assert_same(lossy.labels, frame.labels)
    assert_same(lossy.companion, frame.companion)
    assert lossy.camera == frame.camera
