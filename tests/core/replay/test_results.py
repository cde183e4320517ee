"""What a replay writes: the summary of evaluate.py, the same bytes every time, what was lost."""

from __future__ import annotations

import errno
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.writer import write_bag
from lemumo_core.cli import main as cli
from lemumo_core.cli.evaluate import main as evaluate
from lemumo_core.frame import Frame
from lemumo_core.messages.points import points_to_array
from lemumo_core.replay import output_folder
from lemumo_core.replay.tables import read_table
from tests.helpers.browser import show
from tests.helpers.small_frames import CAMERA, small_frames
from tests.helpers.toy_package import write_toy_package

NOT_THE_SAME = {"timings.parquet", "index.html"}
"""They hold times, which differ from run to run."""


@pytest.fixture(scope="module")
def street(tmp_path_factory) -> Path:
    bag = tmp_path_factory.mktemp("bags") / "street"
    write_bag(small_frames(5), bag)
    return bag


@pytest.fixture(scope="module")
def replayed(tiny_package, street, tmp_path_factory) -> Path:
    """The results of ``street``, with everything that can be asked for."""
    out = tmp_path_factory.mktemp("replayed") / "out"
    assert replay(tiny_package, out, street, "--overlays", "--results-bag") == 0
    return out


def replay(model: Path, out: Path, *arguments: object) -> int:
    fixed = ["--model", model, "--out", out, "--score-threshold", 0.05, "--backend", "onnxruntime"]
    return cli.main(["replay", *map(str, [*arguments, *fixed])])


def metrics(out: Path) -> dict:
    return json.loads((out / "metrics.json").read_text())


def contents(out: Path) -> dict[str, bytes]:
    found = (path for path in out.rglob("*") if path.is_file() and path.name not in NOT_THE_SAME)
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


def test_runs_and_numbers_of_workers_write_the_same_bytes(tiny_package, street, replayed, tmp_path):
    everything = "--overlays", "--results-bag"
    assert replay(tiny_package, tmp_path / "again", street, *everything, "--workers", 2) == 0
    expected = contents(replayed)
    assert contents(tmp_path / "again") == expected
    assert {"metrics.json", "street/frames.parquet", "street/detections.jsonl"} < expected.keys()
    assert sum(name.startswith("street/overlays/") for name in expected) == 5
    lines = expected["street/detections.jsonl"].splitlines()
    assert len(lines) == 5 and json.loads(lines[0])["detections"][0]["score"] >= 0.05


def assert_scores_equal_evaluate(
    model: Path, bag: Path, out: Path, tmp_path: Path, truth: str
) -> None:
    """Compare the metrics of a replay with those of ``lemumo evaluate``, to the last digit."""
    arguments = [model, "--data", bag, "--out", tmp_path / "evaluated"]
    assert evaluate([*map(str, arguments), "--backend", "onnxruntime"]) == 0
    expected, found = metrics(tmp_path / "evaluated"), metrics(out)
    assert expected["depth_truth"].startswith(truth)
    for mode in ("fused", "camera_only"):
        assert found[mode] == expected[mode]
    for row, frame in zip(
        read_table(out / bag.name / "frames.parquet"), expected["by_frame"], strict=True
    ):
        for mode in ("fused", "camera_only"):
            summary = {name: row[f"{mode}_{name}"] for name in frame["modes"][mode]}
            assert summary == frame["modes"][mode]


def test_scores_are_those_of_evaluate_on_truth(tiny_package, street, replayed, tmp_path) -> None:
    assert_scores_equal_evaluate(tiny_package, street, replayed, tmp_path, "dense")
    assert metrics(replayed)["fused"]["depth"]["pixels"] > 1000


@pytest.mark.parametrize("kitti_bag", ["mcap"], indirect=True)
def test_scores_are_those_of_evaluate_on_masked_returns(tiny_package, kitti_bag, tmp_path) -> None:
    assert replay(tiny_package, tmp_path / "out", kitti_bag.path) == 0
    assert_scores_equal_evaluate(
        tiny_package, kitti_bag.path, tmp_path / "out", tmp_path, "every second beam"
    )
    found = metrics(tmp_path / "out")["bags"][kitti_bag.path.name]
    calibration = found["checks"]["calibration"]
    assert found["depth_held_out"] and calibration["verdict"] == "undecided"
    assert "different scenes" in calibration["words"] and calibration["frames"] == 4


def test_truth_of_a_data_set_is_matched_by_stamp(tiny_package, street, replayed, tmp_path) -> None:
    write_bag(without_labels(small_frames(5)), tmp_path / "bare")
    done = replay(
        tiny_package,
        tmp_path / "out",
        tmp_path / "bare",
        "--truth",
        "bags",
        "--truth_options.path",
        street,
    )
    assert done == 0
    assert metrics(tmp_path / "out")["fused"] == metrics(replayed)["fused"]
    unlabelled = replay(tiny_package, tmp_path / "none", tmp_path / "bare")
    assert unlabelled == 0 and metrics(tmp_path / "none")["fused"]["bev_map"] is None


def test_the_result_bag_holds_inputs_and_results(replayed, street) -> None:
    with BagReader(street) as before, BagReader(replayed / "street" / "results") as after:
        counts = {topic.name: topic.count for topic in after.topics}
        for topic in before.topics:
            assert counts[topic.name] == topic.count
            raw = [m.data for m in before.raw_messages([topic.name])]
            assert [m.data for m in after.raw_messages([topic.name])] == raw
        outputs = [m for m in after.messages() if m.topic.startswith("/perception/output/")]
        depth = [m for m in outputs if m.topic.endswith("/depth/image_raw")]
        boxes = [m for m in outputs if m.topic.endswith("/detections_3d")]
        (info,) = [m for m in outputs if m.topic.endswith("/label_info")]
        assert after.latched(info.topic) and info.msg.class_map[0].class_name
        assert after.first("/lidar/points") is not None
        assert len(points_to_array(after.first("/lidar/points"))) == 400
    lines = (replayed / "street" / "detections.jsonl").read_text().splitlines()
    for frame, line, m, image in zip(small_frames(5), lines, boxes, depth, strict=True):
        record = json.loads(line)
        stamp = m.msg.header.stamp
        assert stamp.sec * 10**9 + stamp.nanosec == frame.stamp_ns == record["stamp_ns"]
        assert m.msg.header.frame_id == "camera_optical"
        scores = [d.results[0].hypothesis.score for d in m.msg.detections]
        assert scores == [d["score"] for d in record["detections"]]
        assert image.msg.encoding == "32FC1"
        assert counts["/perception/output/overlay/compressed"] == 5


def test_without_evaluation_the_results_are_the_same(tiny_package, street, replayed, tmp_path):
    assert replay(tiny_package, tmp_path, street, "--no-evaluation") == 0
    lines = Path("street", "detections.jsonl")
    assert (tmp_path / lines).read_bytes() == (replayed / lines).read_bytes()


def test_results_of_another_version_are_replaced_only_when_asked(
    toy_package, street, tmp_path, monkeypatch, capsys
) -> None:
    for number, more, code, words in (
        (1, [], 0, ""),
        (1, [], 0, "street: done already"),
        (2, [], 1, "written by another version of lemumo"),
        (2, ["--overwrite"], 0, ""),
        (2, [], 0, "street: done already"),
    ):
        monkeypatch.setattr(output_folder, "FORMAT", number)
        assert replay(toy_package, tmp_path, street, "--no-evaluation", *more) == code
        assert words in capsys.readouterr().err


def test_results_of_another_model_or_option_are_kept(
    tiny_package, street, tmp_path, capsys
) -> None:
    """Nothing is written or deleted before all bags have been checked."""
    write_bag(small_frames(2), tmp_path / "other")
    out = tmp_path / "out"
    assert replay(tiny_package, out, street) == 0
    before = contents(out)
    capsys.readouterr()
    assert replay(write_toy_package(tmp_path / "toy"), out, tmp_path / "other", street) == 1
    shown = capsys.readouterr().err
    assert "model: " in shown and "toy 1.0" in shown and "--overwrite" in shown
    assert replay(tiny_package, out, street, "--sync-tolerance-ms", 20) == 1
    shown = capsys.readouterr().err
    assert "\n  sync_tolerance_ns: 60000000 then, 20000000 now\n" in shown
    assert "model: " not in shown
    assert replay(tiny_package, out, street, "--image", "/a", "--mask", "random") == 1
    assert capsys.readouterr().err.splitlines()[1:-1] == [
        "  mask: None then, 'random' now",
        "  topics.image: None then, '/a' now",
    ]
    assert contents(out) == before
    assert replay(tmp_path / "toy", out, street, "--overwrite") == 0
    assert metrics(out)["model"] == "toy 1.0"


def test_a_full_disk_is_no_fault_of_the_bag(
    toy_package, street, tmp_path, monkeypatch, capsys
) -> None:
    def full(self, result) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(output_folder.BagOutput, "write", full)
    assert replay(toy_package, tmp_path / "out", street, "--no-evaluation") == 1
    shown = capsys.readouterr()
    assert f"cannot write to {tmp_path / 'out'}" in shown.err and "No space left" in shown.err
    assert "nothing could be read" not in shown.out


def test_a_bag_is_never_deleted_to_make_room_for_its_results(
    toy_package, street, tmp_path, capsys
) -> None:
    """``--out`` names the folder in which the bag lies, so that its results would replace it."""
    bag = Path(shutil.copytree(street, tmp_path / "street"))
    for more in ([], ["--overwrite"]):
        assert replay(toy_package, tmp_path, bag, *more) == 1
        assert "other files than the results of a replay" in capsys.readouterr().err
    assert contents(bag) == contents(street)


def test_done_bags_are_not_done_again(toy_package, tmp_path, capsys) -> None:
    bags = street, _ = tmp_path / "street", tmp_path / "other"
    for bag, frames in zip(bags, (small_frames(2), small_frames(1)), strict=True):
        write_bag(frames, bag)
    assert replay(toy_package, tmp_path / "whole", *bags) == 0
    assert replay(toy_package, tmp_path / "out", street) == 0
    lines = tmp_path / "out" / "street" / "detections.jsonl"
    written = lines.stat().st_mtime_ns
    capsys.readouterr()
    assert replay(toy_package, tmp_path / "out", *bags) == 0
    assert "street: done already" in capsys.readouterr().err
    assert lines.stat().st_mtime_ns == written
    assert metrics(tmp_path / "out") == metrics(tmp_path / "whole")
    (tmp_path / "out" / "street" / "bag.json").unlink()  # as after a kill
    assert replay(toy_package, tmp_path / "out", *bags) == 0
    assert lines.stat().st_mtime_ns != written
    assert metrics(tmp_path / "out") == metrics(tmp_path / "whole")


def test_a_dropped_image_is_a_row_with_a_reason(toy_package, tmp_path, capsys) -> None:
    frames = small_frames(4)
    wide = replace(CAMERA, width=CAMERA.width + 2)
    frames[2] = replace(frames[2], camera=wide)
    frames[3] = replace(frames[3], companion=None)
    write_bag(without_labels(frames), tmp_path / "bag")
    assert replay(toy_package, tmp_path / "out", tmp_path / "bag") == 3
    found = metrics(tmp_path / "out")["bags"]["bag"]
    assert found["drops"] == {"camera_info_mismatch": 1} and found["results"] == 3
    assert found["modalities"] == {"camera": 1, "camera+lidar": 2}
    assert "1 of 4 images were dropped" in found["checks"]["sensors"]["words"]
    rows = read_table(tmp_path / "out" / "bag" / "frames.parquet")
    assert [row["drop"] for row in rows] == ["", "", "camera_info_mismatch", ""]
    assert "publish the calibration of this resolution" in capsys.readouterr().out


def test_bad_truth_costs_the_scores_and_not_the_results(toy_package, tmp_path) -> None:
    labels = [replace(f.labels, label_map=f.labels.label_map | 128) for f in small_frames(2)]
    frames = [replace(f, labels=bad) for f, bad in zip(small_frames(2), labels, strict=True)]
    write_bag(frames, tmp_path / "bag")
    assert replay(toy_package, tmp_path / "out", tmp_path / "bag") == 3
    found = metrics(tmp_path / "out")["bags"]["bag"]
    assert found["results"] == found["unjudged"] == 2
    assert "have no name" in found["faults"]["truth"]


def without_labels(frames: list[Frame]) -> list[Frame]:
    return [replace(frame, labels=None) for frame in frames]


def test_pages_name_their_facts_in_words(tiny_package, street, replayed, tmp_path) -> None:
    tracked = ["--tracking", "--compare_every", 2]
    assert replay(tiny_package, tmp_path / "tracked", street, *tracked) == 0
    arguments = [tiny_package, "--data", street, "--backend", "onnxruntime", "--limit", 1]
    assert evaluate([*map(str, arguments), "--out", str(tmp_path / "evaluated")]) == 0
    facts = {}
    for out in (tmp_path / "evaluated", replayed, tmp_path / "tracked"):
        page = (out / "index.html").read_text()
        (table,) = (t for t in re.findall("<table>.*?</table>", page) if "<td>model<" in t)
        facts = dict(re.findall(r"<td>([^<]*)</td><td[^>]*>([^<]*)</td>", table))
        assert {"model", "trained", "backend"} < facts.keys() and facts["trained"] == "no"
        assert not [name for name in facts if "_" in name]
    assert facts["images with a result"] == "5" and facts["one image compared in"] == "2"


def test_the_page_is_whole_in_a_browser_without_a_network(replayed, tmp_path) -> None:
    shown = show(replayed / "index.html", tmp_path)
    assert shown.elements["img"] and shown.elements["table"]
    assert shown.console == [] and shown.broken == []
