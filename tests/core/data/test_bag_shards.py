"""Many bags as shards: the same bytes by any workers and hosts, bag by bag."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lemumo_core.bags.named_bags import named_bags
from lemumo_core.cli.prepare import main
from lemumo_core.data.shards import Shards
from lemumo_core.data.sources.bags import Bags
from tests.core.data.test_shards import assert_same
from tests.helpers.many_bags import contents, write_many_bags

BAGS = 4
FRAMES = 6


@pytest.fixture(scope="module")
def bags(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bags")
    write_many_bags(folder, BAGS)
    return folder


def prepare(bags: Path, out: Path, *options: object) -> int:
    arguments = ["bags", "--path", bags, "--out", out, "--frames-per-shard", 1, *options]
    return main([str(one) for one in arguments])


@pytest.fixture(scope="module")
def whole(bags, tmp_path_factory) -> Path:
    """Shards whose bags are divided among more workers than there are bags."""
    out = tmp_path_factory.mktemp("whole")
    assert prepare(bags, out, "--workers", BAGS + 1) == 0
    return out


def test_the_frames_are_those_of_the_bags(bags, whole) -> None:
    read, source = Shards(whole), Bags(bags)
    assert len(read) == len(source) == FRAMES
    for a, b in zip(read, source, strict=True):
        assert_same(a, b)
    about = read.describe()["configuration"]["source"]
    assert about["frames"] == FRAMES and len(about["bags"]) == BAGS
    one = Shards(whole / "bag001")
    assert len(one) == 2 and one[0].stamp_ns == read[1].stamp_ns
    assert_same(Shards(whole.as_uri(), cache=whole.parent / "cache")[5], read[5])


def test_bags_of_a_list_are_bags_of_a_folder(bags, whole, tmp_path) -> None:
    out = tmp_path / "out"
    listed = ["--data", *sorted(map(str, bags.iterdir())), "--out", str(out), "--workers", "2"]
    assert main([*listed, "--frames-per-shard", "1"]) == 0
    assert contents(out) == contents(whole)


def test_shared_out_bags_are_the_same_bytes(bags, whole, tmp_path, capsys) -> None:
    assert prepare(bags, tmp_path / "out", "--workers", 2) == 0
    assert contents(tmp_path / "out") == contents(whole)
    capsys.readouterr()
    assert prepare(bags, tmp_path / "out", "--workers", 2) == 0
    assert "all of them were there already" in capsys.readouterr().out


def test_parts_and_what_is_lost_of_them(bags, whole, tmp_path, capsys) -> None:
    for part in ("2/3", "1/3"):
        assert prepare(bags, tmp_path / "out", "--workers", 1, "--part", part) == 0
        assert f"this was part {part}" in capsys.readouterr().out
        assert not (tmp_path / "out" / "index.json").exists()
    there = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert there == ["bag000", "bag001", "bag003"]
    (tmp_path / "out" / "bag003" / "bag.json").unlink()  # as of a host that was lost
    (tmp_path / "out" / "bag003" / "shard-000001.arrow").unlink()
    assert prepare(bags, tmp_path / "out", "--workers", 1) == 0
    assert contents(tmp_path / "out") == contents(whole)


def test_shards_of_one_source_are_written_in_parts(tmp_path) -> None:
    def street(out: str, *part: str) -> dict[str, bytes]:
        size = ["--width", "32", "--height", "32", "--frames", "3", "--frames-per-shard", "1"]
        arguments = ["synthetic", *size, "--workers", "1", "--out", str(tmp_path / out), *part]
        assert main(arguments) == 0
        return contents(tmp_path / out)

    whole = street("whole")
    assert sorted(street("parts", "--part", "2/2")) == ["shard-000001.arrow"]
    assert street("parts") == whole


def test_bags_that_come_later_leave_the_others(bags, tmp_path) -> None:
    growing, out = shutil.copytree(bags, tmp_path / "bags"), tmp_path / "out"
    assert prepare(growing, out) == 0
    before = {name: (out / name).stat().st_mtime_ns for name in contents(out)}
    write_many_bags(growing / "a_day", 1, first=BAGS)  # its name comes first
    assert prepare(growing, out) == 0
    assert len(Shards(out)) == FRAMES + 1
    after = {name: (out / name).stat().st_mtime_ns for name in contents(out)}
    changed = {name for name in after if before.get(name) != after[name]}
    new = {"bag.json", "index.json", "shard-000000.arrow"}
    assert changed == {"index.json", *(f"a_day_bag004/{name}" for name in new)}


def test_a_bag_that_cannot_be_read_is_left_out_and_named(bags, tmp_path, capsys) -> None:
    mixed, out = shutil.copytree(bags, tmp_path / "bags"), tmp_path / "out"
    for file in (mixed / "bag002").iterdir():
        file.write_bytes(b"")
    assert prepare(mixed, out, "--workers", 2) == 3
    assert "left out: bag002\n" in capsys.readouterr().out
    index = json.loads((out / "index.json").read_text())
    assert list(index["bags_left_out"]) == ["bag002"] and index["frames"] == FRAMES - 1
    for file in (bags / "bag002").iterdir():
        shutil.copy(file, mixed / "bag002")
    assert prepare(mixed, out, "--workers", 2) == 0
    assert len(Shards(out)) == FRAMES


def test_why_nothing_can_be_read_is_said_once(tmp_path, capsys, caplog) -> None:
    for name in ("one", "other"):
        (tmp_path / f"{name}.mcap").write_bytes(b"no bag at all")
    why = "does not begin as an mcap file"
    assert prepare(tmp_path / "one.mcap", tmp_path / "out") == 1
    assert (caplog.text + capsys.readouterr().err).count(why) == 1
    caplog.clear()
    assert prepare(tmp_path, tmp_path / "out", "--workers", 1) == 1
    assert caplog.text.count(why) == 2
    assert "none of 2 bags can be read" in (shown := capsys.readouterr().err) and why not in shown


def test_the_first_frames_are_taken_of_the_first_bags(bags, tmp_path) -> None:
    assert prepare(bags, tmp_path, "--frames", 4, "--workers", 1) == 0
    stamps = [frame.stamp_ns for frame in Shards(tmp_path)]
    assert stamps == Bags(bags).stamps_ns[:4].tolist()


def test_other_options_and_other_shards_are_refused(bags, whole, tmp_path, capsys) -> None:
    before = contents(whole)
    assert prepare(bags, whole, "--jpeg", 90) == 1
    assert "jpeg: None then, 90 now" in capsys.readouterr().err
    assert main(["synthetic", "--frames", "1", "--workers", "1", "--out", str(whole)]) == 1
    assert f"{whole} was begun with other options" in capsys.readouterr().err
    other = {"configuration": {}, "frames": 0, "dropped": 0, "shards": [{"name": "shard-0.arrow"}]}
    (tmp_path / "index.json").write_text(json.dumps({"version": 4, **other}))
    assert prepare(bags, tmp_path) == 1
    assert "holds the shards of something else" in capsys.readouterr().err
    assert contents(whole) == before


def test_names_of_bags_do_not_depend_on_others(tmp_path) -> None:
    for name in ("b/drive.mcap", "a/drive.mcap", "drive.mcap"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [bag.name for bag in named_bags(tmp_path)] == ["a_drive", "b_drive", "drive"]
    assert [bag.name for bag in named_bags([tmp_path / "a", tmp_path / "b" / "drive.mcap"])] == [
        "drive",
        "drive_2",
    ]
