"""Damaged bags: what is left is replayed, losses are reported, and the exit code is 3."""

from __future__ import annotations

import json
import re
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from lemumo_core.bags.mcap_recovery import recover_mcap
from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.writer import write_bag
from lemumo_core.cli import main as cli
from lemumo_core.cli.replay import EXIT_CODES
from lemumo_core.faults import Fault
from tests.helpers.small_frames import small_frames

pytestmark = pytest.mark.fault(19)
FRAMES = 6
PARTIAL = 3
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@pytest.fixture(scope="module")
def bag(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bags") / "street"
    write_bag([replace(frame, labels=None) for frame in small_frames(FRAMES)], path)
    return path


@pytest.fixture
def copy(bag, tmp_path) -> Path:
    return Path(shutil.copytree(bag, tmp_path / bag.name))


def mcap(bag: Path) -> Path:
    (file,) = bag.glob("*.mcap")
    return file


def cut(file: Path, share: float) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])


def replay(model: Path, tmp_path: Path, *bags: Path | str) -> tuple[int, dict]:
    """Replay bags; further texts are options."""
    arguments = ["--model", model, "--out", tmp_path / "out", "--backend", "onnxruntime"]
    code = cli.main(["replay", *map(str, [*bags, *arguments])])
    path = tmp_path / "out" / "metrics.json"
    return code, json.loads(path.read_text())["bags"] if path.exists() else {}


def test_a_truncated_mcap(tiny_package, copy, tmp_path, capsys) -> None:
    cut(mcap(copy), 0.6)
    code, bags = replay(tiny_package, tmp_path, copy)
    assert code == PARTIAL
    found = bags["street"]
    assert 2 <= found["results"] == found["images"] < FRAMES
    assert re.search(r"its last [0-9.]+ MB are no whole records", found["lost"][0])
    assert "street: lost: street.mcap" in capsys.readouterr().out
    page = (tmp_path / "out" / "index.html").read_text()
    assert found["lost"][0] in page and str(tmp_path) not in page


def test_a_damaged_bag_is_recovered_once(toy_package, bag, copy, tmp_path, monkeypatch) -> None:
    """The page's pictures, the compared images among them, are of the copy that was replayed."""
    chunks = rewritten(bag, tmp_path / "chunks", "zstd")
    first, second, *others = mcap(chunks).read_bytes().split(ZSTD_MAGIC)
    torn = tmp_path / "torn.mcap"  # it opens: that it is damaged shows when it is read
    torn.write_bytes(ZSTD_MAGIC.join([first, second]) + b"XXXX" + ZSTD_MAGIC.join(others))
    cut(mcap(copy), 0.6)
    recovered = []

    def counted(path: Path, out: Path) -> str:
        recovered.append(path.name)
        return recover_mcap(path, out)

    monkeypatch.setattr("lemumo_core.bags.recovery.recover_mcap", counted)
    for name, offset in (("a", 0.0), ("b", 0.02)):
        code, bags = replay(toy_package, tmp_path / name, copy, "--companion_offset", offset)
        assert code == PARTIAL and bags["street"]["searched"] is False
    assert recovered == ["street.mcap"] * 2
    page = (tmp_path / "a" / "out" / "index.html").read_text()
    assert page.count("<img") >= 2, "the calibration, and the worst frames"
    code, bags = replay(toy_package, tmp_path / "c", torn)
    assert code == PARTIAL and bags["torn"]["searched"] is True
    assert recovered[2:] == ["torn.mcap"]
    (tmp_path / "metadata").mkdir()
    whole = Path(shutil.copy(mcap(bag), tmp_path / "metadata" / "metadata.mcap"))
    code, bags = replay(toy_package, tmp_path / "d", whole.parent)
    assert code == PARTIAL and bags["metadata"]["lost"] and len(recovered) == 3
    compared = [tmp_path / "a" / "out", tmp_path / "b" / "out", "--out", tmp_path / "page"]
    assert cli.main(["compare", *map(str, compared)]) == 0
    assert "<img" in (tmp_path / "page" / "index.html").read_text()
    assert recovered[3:] == ["street.mcap"]


def test_a_bag_without_index(tiny_package, copy, tmp_path) -> None:
    """As when the recorder is killed: data, but neither summary nor footer."""
    file = mcap(copy)
    data = file.read_bytes()
    summary = struct.unpack_from("<Q", data, len(data) - 8 - 20)[0]
    file.write_bytes(data[:summary])
    code, bags = replay(tiny_package, tmp_path, copy)
    assert code == PARTIAL and bags["street"]["results"] == FRAMES
    assert "not closed" in bags["street"]["lost"][0]


def test_a_bag_without_metadata(tiny_package, copy, tmp_path) -> None:
    (copy / "metadata.yaml").unlink()
    code, bags = replay(tiny_package, tmp_path, copy)
    assert code == PARTIAL and bags["street"]["results"] == FRAMES
    assert bags["street"]["lost"][0].startswith("metadata.yaml is missing")


def test_unknown_types_are_passed_over_and_an_unknown_camera_is_said(
    tiny_package, copy, tmp_path, capsys
) -> None:
    """Types are in the bag as text; with damaged names they are unknown."""
    file = mcap(copy)
    data = file.read_bytes()
    odd = data.replace(b"sensor_msgs/msg/PointCloud2", b"sensor_msgs/msg/QointCloud2")
    file.write_bytes(odd)
    metadata = copy / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("/PointCloud2", "/QointCloud2"))
    code, bags = replay(tiny_package, tmp_path, copy)
    assert bags["street"]["results"] == FRAMES and bags["street"]["modalities"] == {"camera": 6}
    assert bags["street"]["checks"]["sensors"]["verdict"] == "warn" and code == PARTIAL
    file.write_bytes(odd.replace(b"sensor_msgs/msg/Image", b"sensor_msgs/msg/Jmage"))
    metadata.write_text(metadata.read_text().replace("msg/Image", "msg/Jmage"))
    code, bags = replay(tiny_package, tmp_path, copy, "--overwrite")
    assert code == 1 and "sensor_msgs/msg/Jmage" in bags["street"]["error"]
    assert "no colour camera image" in capsys.readouterr().err


def test_a_bag_with_no_messages(tiny_package, tmp_path, capsys) -> None:
    with Writer(tmp_path / "empty", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection(
            "/camera/image_raw",
            "sensor_msgs/msg/Image",
            typestore=get_typestore(Stores.ROS2_KILTED),
        )
    code, bags = replay(tiny_package, tmp_path, tmp_path / "empty")
    assert code == 1 and "x 0" in bags["empty"]["error"]
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Nothing was replayed" in page and "empty could not be read: " in page
    assert str(tmp_path) not in page
    assert "<table" not in page and "<svg" not in page


def test_clocks_that_jump(tiny_package, tmp_path, capsys) -> None:
    """An hour ahead after three images, and back: the stamps of all sensors, log times run on."""
    frames = [replace(frame, labels=None) for frame in small_frames(9)]
    hour_ns = 3600 * 10**9
    for i in (3, 4, 5):
        stamp_ns = frames[i].stamp_ns + hour_ns
        scan = replace(frames[i].companion, stamp_ns=stamp_ns)
        frames[i] = replace(frames[i], stamp_ns=stamp_ns, companion=scan)
    write_bag(frames, tmp_path / "ahead")
    later_ns = 1800 * 10**9
    with (
        BagReader(tmp_path / "ahead") as reader,
        Writer(tmp_path / "jumps", version=8, storage_plugin=StoragePlugin.MCAP) as writer,
    ):
        of = {
            topic.name: writer.add_connection(topic.name, topic.type, typestore=reader.typestore)
            for topic in reader.topics
        }
        for raw in reader.raw_messages():
            log_ns = raw.stamp_ns - (hour_ns if raw.stamp_ns > later_ns else 0)
            writer.write(of[raw.topic], log_ns, raw.data)
    code, bags = replay(tiny_package, tmp_path, tmp_path / "jumps")
    assert code == PARTIAL
    found = bags["jumps"]
    assert found["results"] + sum(found["drops"].values()) == 9 and found["results"] >= 7
    assert found["checks"]["clocks"]["verdict"] == "warn"
    assert found["checks"]["clocks"]["jumps"] == 2
    assert "the clock jumps before image 3, 6" in capsys.readouterr().out


def test_of_a_damaged_chunk_only_that_chunk_is_lost(bag, tmp_path) -> None:
    """The frame header of its compression, for rosbags writes no checksums."""
    source = rewritten(bag, tmp_path / "source", "zstd")
    whole = count(source)
    first, second, *others = mcap(source).read_bytes().split(ZSTD_MAGIC)
    assert len(others) >= 2
    damaged = tmp_path / "damaged.mcap"
    damaged.write_bytes(ZSTD_MAGIC.join([first, second]) + b"XXXX" + ZSTD_MAGIC.join(others))
    assert recover_mcap(damaged, tmp_path / "new.mcap") == "1 of its chunks are damaged"
    assert 0.3 * whole < count(tmp_path / "new.mcap") < whole


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_whatever_is_cut_off_the_rest_is_recovered(bag, tmp_path, compression) -> None:
    source = rewritten(bag, tmp_path / "source", compression)
    data = mcap(source).read_bytes()
    with BagReader(source) as reader:
        messages = [(m.topic, m.stamp_ns, bytes(m.data)) for m in reader.raw_messages()]
    before = 0
    for share in (0.2, 0.5, 0.8, 0.95):
        damaged, new = tmp_path / "damaged.mcap", tmp_path / "new.mcap"
        damaged.write_bytes(data[: int(share * len(data))])
        recover_mcap(damaged, new)
        with BagReader(new) as reader:
            found = [(m.topic, m.stamp_ns, bytes(m.data)) for m in reader.raw_messages()]
        assert set(found) <= set(messages) and before <= len(found) <= len(messages)
        before = len(found)
    assert before > len(messages) / 2
    damaged.write_bytes(np.random.default_rng(0).bytes(1000))
    with pytest.raises(Fault, match="nothing to recover"):
        recover_mcap(damaged, new)


def test_one_bad_bag_does_not_spoil_the_others(tiny_package, copy, bag, tmp_path, capsys) -> None:
    bad = tmp_path / "bad.mcap"
    bad.write_bytes(b"no bag at all")
    code, bags = replay(tiny_package, tmp_path, bad, bag)
    assert code == PARTIAL and bags["street"]["results"] == FRAMES
    assert bags["bad"]["error"].startswith("bad.mcap does not begin as an mcap file")
    shown = capsys.readouterr()
    assert "bad: bad.mcap does not begin as an mcap file" in shown.err
    assert "bad: nothing could be read\n" in shown.out, "why was said above"


def test_the_help_documents_the_exit_codes(capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["replay", "--help"])
    assert EXIT_CODES in capsys.readouterr().out


def rewritten(bag: Path, out: Path, compression: str) -> Path:
    """The bag in many chunks, compressed or not."""
    writer = Writer(out, version=8, storage_plugin=StoragePlugin.MCAP)
    if compression == "zstd":
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer, BagReader(bag) as reader:
        connections = {
            topic.name: writer.add_connection(topic.name, topic.type, typestore=reader.typestore)
            for topic in reader.topics
        }
        for _ in range(20):
            for raw in reader.raw_messages():
                writer.write(connections[raw.topic], raw.stamp_ns, raw.data)
    return out


def count(bag: Path) -> int:
    with BagReader(bag) as reader:
        return sum(1 for _ in reader.raw_messages())
