"""A replay of several cameras of a bag at once: the results of each, and the whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs: pip install '.[bags]'")

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.writer import write_bag
from lemumo_core.cli import main as cli
from lemumo_core.replay.tables import read_table
from tests.core.replay.test_results import contents, metrics, replay
from tests.helpers.bag_tools import FRAMES
from tests.helpers.small_frames import small_frames
from tests.helpers.two_cameras import with_rear_camera

NAMES = ["camera", "rear"]
PARTIAL = 3
"""No return of the LiDAR, which looks ahead, is in view of the rear camera, and it is said."""


@pytest.fixture(scope="module")
def bag(small_bag, tmp_path_factory) -> Path:
    return with_rear_camera(small_bag, tmp_path_factory.mktemp("bags") / "two")


@pytest.fixture(scope="module")
def both(toy_package, bag, tmp_path_factory) -> Path:
    """The results of both cameras, with everything that can be asked for."""
    out = tmp_path_factory.mktemp("replayed") / "both"
    asked = "--image", "all", "--overlays", "--results-bag"
    assert replay(toy_package, out, bag, *asked) == PARTIAL
    return out


def test_each_camera_has_the_results_that_it_has_alone(toy_package, bag, both, tmp_path) -> None:
    alone = "--image", "/camera/image_raw"
    assert replay(toy_package, tmp_path / "one", bag, *alone, "--overlays") == 0
    one, whole = metrics(tmp_path / "one"), metrics(both)
    front = read_table(both / "two" / "camera" / "frames.parquet")
    expected = read_table(tmp_path / "one" / "two" / "frames.parquet")
    assert [row | {"bag": "two"} for row in front] == expected
    for file in ("detections.jsonl", *(f"overlays/{row['stamp_ns']}.png" for row in front)):
        found = (both / "two" / "camera" / file).read_bytes()
        assert found == (tmp_path / "one" / "two" / file).read_bytes()

    assert list(whole["bags"]) == ["two/camera", "two/rear"] == [f"two/{name}" for name in NAMES]
    assert whole["images"] == whole["results"] == 2 * FRAMES and list(whole["cameras"]) == NAMES
    assert whole["cameras"]["camera"]["fused"] == one["fused"] != whole["fused"]
    frames = [whole["cameras"][name]["fused"]["frames"] for name in NAMES]
    assert frames == [FRAMES] * 2 and whole["fused"]["frames"] == 2 * FRAMES
    assert whole["bags"]["two/rear"]["image"] == "/rear/image_raw"
    views = [whole["bags"][f"two/{name}"]["checks"]["view"]["verdict"] for name in NAMES]
    assert views == ["ok", "warn"]
    words = whole["bags"]["two/rear"]["checks"]["view"]["words"]
    assert words.startswith(f"{FRAMES} of {FRAMES} scans have no return in view: ")
    rear = (both / "two" / "rear" / "detections.jsonl").read_text().splitlines()
    assert [json.loads(line)["stamp_ns"] for line in rear] == [
        row["stamp_ns"] + 10_000_000 for row in front
    ]


def test_two_runs_and_any_workers_write_the_same_bytes(toy_package, bag, both, tmp_path) -> None:
    asked = "--image", "all", "--overlays", "--results-bag", "--workers", 2
    assert replay(toy_package, tmp_path, bag, *asked) == PARTIAL
    assert contents(tmp_path) == contents(both)


def test_the_page_and_the_result_bag_hold_both_cameras(both) -> None:
    page = (both / "index.html").read_text()
    assert "fused by camera" in page and "all cameras" in page
    assert all(f"<h3>two/{name}</h3>" in page for name in NAMES)
    with BagReader(both / "two" / "results") as reader:
        counts = {topic.name: topic.count for topic in reader.topics}
        for name in NAMES:
            output = f"/perception/output/{name}"
            assert counts[f"{output}/detections_3d"] == FRAMES
            assert counts[f"{output}/label_info"] == 1
            boxes = reader.first(f"{output}/detections_3d")
            image = reader.first(f"/{name}/image_raw")
            assert boxes.header.stamp == image.header.stamp
            assert boxes.header.frame_id == image.header.frame_id
    assert not any(name.startswith("/perception/output/detections") for name in counts)


def test_labels_of_a_data_set_go_to_the_camera_of_their_name(
    toy_package, bag, both, tmp_path, capsys
) -> None:
    labels, out = tmp_path / "labels", tmp_path / "out"
    prepared = ["prepare", "bags", "--path", bag, "--image", "all", "--out", labels]
    assert cli.main([str(word) for word in [*prepared, "--workers", 1]]) == 0
    assert replay(toy_package, out, bag, "--image", "all", "--truth", labels) == PARTIAL
    assert metrics(out)["cameras"] == metrics(both)["cameras"]

    write_bag(small_frames(FRAMES), tmp_path / "front")  # its only camera is called camera
    truth = "--truth", "bags", "--truth_options.path", tmp_path / "front"
    assert replay(toy_package, tmp_path / "front_only", bag, "--image", "all", *truth) == PARTIAL
    found = metrics(tmp_path / "front_only")["bags"]
    assert found["two/camera"]["unjudged"] == 0 and found["two/rear"]["unjudged"] == FRAMES
    assert "has no frames of the camera rear; its cameras are camera" in capsys.readouterr().out


def test_a_damaged_bag_of_several_cameras(toy_package, bag, tmp_path) -> None:
    cut = tmp_path / "two"
    cut.mkdir()
    (file,) = bag.glob("*.mcap")
    (cut / file.name).write_bytes(file.read_bytes()[: int(file.stat().st_size * 0.6)])
    assert (
        replay(toy_package, tmp_path / "out", cut, "--image", "all", "--no-evaluation") == PARTIAL
    )
    one = replay(toy_package, tmp_path / "one", cut, "--image", "/rear/image_raw")
    found, alone = metrics(tmp_path / "out")["bags"], metrics(tmp_path / "one")["bags"]
    assert one == PARTIAL and 0 < found["two/rear"]["results"] == alone["two"]["results"] < FRAMES
    assert "no whole records" in found["two/camera"]["lost"][0]


def test_two_replays_of_several_cameras_are_compared(
    toy_package, bag, both, tmp_path, capsys
) -> None:
    listed = "--image", "/camera/image_raw,/rear/image_raw"
    other = replay(toy_package, tmp_path / "b", bag, *listed, "--companion_offset", "0.02")
    assert other == PARTIAL
    compared = ["compare", both, tmp_path / "b", "--out", tmp_path / "page"]
    assert cli.main([str(word) for word in compared]) == 0
    page = (tmp_path / "page" / "index.html").read_text()
    assert f"{2 * FRAMES}" in capsys.readouterr().out and "<img" in page and "two/rear" in page


def test_what_is_of_one_camera_is_refused(toy_package, bag, tmp_path, capsys) -> None:
    extrinsics = "--extrinsics", str(np.eye(4).ravel().tolist())
    for given, name in ((extrinsics, "extrinsics"), (("--camera_info", "/x"), "camera_info")):
        assert replay(toy_package, tmp_path / "out", bag, "--image", "all", *given) != 0
        assert f"{name} would be of one camera" in capsys.readouterr().err
