"""Tracks of a replayed bag: a car that drives ahead of the camera, whose motion /tf holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs: pip install '.[bags]'")
pytest.importorskip("scipy", reason="needs: pip install '.[tracking]'")

from lemumo_core.bags.message_builder import RosbagsBuilder
from lemumo_core.bags.reader import BagReader
from lemumo_core.cli import main as cli
from lemumo_core.data.sources.bags import Bags
from lemumo_core.frame import Detections
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T
from tests.core.replay.test_results import contents
from tests.helpers.bag_tools import write_messages

BUILD = RosbagsBuilder()
CAMERA = Camera(96, 64, 80.0, 80.0, 47.5, 31.5)
CAR = np.array([[2.0, 1.0, 10.0, 4.0, 1.8, 1.6, 0.3]], np.float32)
"""What the model of a few operators always finds."""
T_BASE_CAMERA = make_T(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.array([1.0, 0, 1.5]))
START_NS, PERIOD_NS, IMAGES, SPEED_MPS = 1_700_000_000_000_000_000, 100_000_000, 8, 5.0


@pytest.fixture(scope="module")
def bag(tmp_path_factory) -> Path:
    return drive(tmp_path_factory.mktemp("tracked") / "drive", ("camera",))


def drive(folder: Path, cameras: tuple[str, ...]) -> Path:
    """Write a bag of cameras that are all at one place."""
    poses = {**dict.fromkeys(cameras, T_BASE_CAMERA), "lidar": np.eye(4)}
    fixed = BUILD.transforms(poses, BUILD.header(START_NS, "base_link"))
    messages: list[tuple[int, str, Any]] = [(START_NS, "/tf_static", fixed)]
    for stamp_ns in range(START_NS, START_NS + IMAGES * PERIOD_NS, PERIOD_NS // 2):
        x = SPEED_MPS * (stamp_ns - START_NS) / 1e9
        pose = {"base_link": make_T(np.eye(3), np.array([x, 0.0, 0.0]))}
        messages.append((stamp_ns, "/tf", BUILD.transforms(pose, BUILD.header(stamp_ns, "odom"))))
        if (stamp_ns - START_NS) % PERIOD_NS:
            continue
        header = BUILD.header(stamp_ns, "camera")
        found = Detections(CAR, np.zeros((1, 4)), np.ones(1), np.zeros(1, np.int64))
        scan = np.float32([[9, 0.1 * i, 1] for i in range(9)])
        by_topic = {
            "/ground_truth/detections_3d": BUILD.detections_3d(
                found, ("car",), np.eye(4), header, ("the car",)
            ),
            "/lidar/points": BUILD.point_cloud(
                scan, ("x", "y", "z"), BUILD.header(stamp_ns, "lidar")
            ),
        }
        image = np.full((64, 96, 3), 90, np.uint8)
        for name in cameras:
            header = BUILD.header(stamp_ns, name)
            by_topic[f"/{name}/camera_info"] = BUILD.camera_info(CAMERA, header)
            by_topic[f"/{name}/image_raw"] = BUILD.image(image, "rgb8", header)
        messages += [(stamp_ns, topic, message) for topic, message in by_topic.items()]
    return write_messages(folder, messages)


def replay(model: Path, bag: Path, out: Path, *arguments: object) -> list[dict]:
    fixed = ["--model", model, "--out", out, "--backend", "onnxruntime"]
    assert cli.main(["replay", *map(str, [bag, *fixed, *arguments])]) == 0
    lines = [
        line
        for file in sorted((out / bag.name).rglob("detections.jsonl"))
        for line in file.read_text().splitlines()
    ]
    return [json.loads(line) for line in lines]


def test_tracks_of_a_bag_are_scored_recorded_and_the_same_in_every_run(
    toy_package, bag, tmp_path, capsys
) -> None:
    assert Bags(bag).labels(0).track_ids == ("the car",)
    asked = "--tracking", "--fixed_frame", "odom", "--results-bag"
    lines = replay(toy_package, bag, tmp_path / "a", *asked)
    assert "AMOTA" in capsys.readouterr().out
    cars = [line["detections"][0] for line in lines]
    assert [car["track"] for car in cars] == [None, *["1"] * (IMAGES - 1)]
    np.testing.assert_allclose(cars[-1]["velocity_mps"], [0, 0, SPEED_MPS], atol=0.2)

    found = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert found["tracked_in"] == "odom"
    ours, trivial = found["tracking"].values()
    assert (ours["objects"], ours["misses"], ours["id_switches"]) == (IMAGES, 1, 0)
    assert ours["mota"] == pytest.approx(1 - 1 / IMAGES)
    assert ours["velocity_error_mps"] < 0.3 * ours["speed_mps"]
    assert ours["speed_mps"] == trivial["speed_mps"] == pytest.approx(SPEED_MPS)
    assert trivial["velocity_error_mps"] == pytest.approx(SPEED_MPS)
    assert "AMOTA" in (tmp_path / "a" / "index.html").read_text()

    with BagReader(tmp_path / "a" / bag.name / "results") as reader:
        messages = {
            topic: [reader.deserialize(raw.data, raw.type) for raw in reader.raw_messages([topic])]
            for topic in (
                "/perception/output/detections_3d",
                "/perception/output/detections_2d",
                "/perception/output/markers",
            )
        }
    boxes, rectangles, markers = (each[-1] for each in messages.values())
    assert boxes.detections[0].id == rectangles.detections[0].id == "1"
    assert boxes.detections[0].results[0].pose.covariance[0] > 0
    assert "#1 car" in markers.markers[2].text
    assert [one.ns for one in markers.markers].count("velocities") == 2  # and the cyclist's

    replay(toy_package, bag, tmp_path / "b", *asked, "--workers", 2)
    assert contents(tmp_path / "b") == contents(tmp_path / "a")


def test_without_a_fixed_frame_velocities_are_the_cameras(toy_package, bag, tmp_path) -> None:
    lines = replay(toy_package, bag, tmp_path / "out", "--tracking", "--no-evaluation")
    velocity = lines[-1]["detections"][0]["velocity_mps"]
    np.testing.assert_allclose(velocity, 0, atol=1e-3)  # it keeps its distance
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert "relative" in found["tracked_in"] and "tracking" not in found
    lines = replay(toy_package, bag, tmp_path / "off", "--no-evaluation")
    assert "track" not in lines[-1]["detections"][0]


def test_several_cameras_share_the_tracks_in_a_fixed_frame(toy_package, tmp_path) -> None:
    """An object that two cameras see is one track over ground; else each has one of its own."""
    bag = drive(tmp_path / "both", ("camera", "other"))
    asked = "--image", "all", "--tracking"
    lines = replay(toy_package, bag, tmp_path / "over_ground", *asked, "--fixed_frame", "odom")
    ids = [line["detections"][0]["track"] for line in lines]
    assert len(ids) == 2 * IMAGES and set(ids) - {None} == {"1"}
    found = json.loads((tmp_path / "over_ground" / "metrics.json").read_text())
    whole, ours = found["tracking"], found["cameras"]["other"]["tracking"]
    assert whole["tracked"]["objects"] == 2 * ours["tracked"]["objects"] == 2 * IMAGES
    assert whole["tracked"]["id_switches"] == 0
    lines = replay(toy_package, bag, tmp_path / "relative", *asked, "--no-evaluation")
    last = [lines[at]["detections"][0]["track"] for at in (IMAGES - 1, 2 * IMAGES - 1)]
    assert None not in last and last[0] != last[1]


def test_frames_of_a_bag_have_their_poses_in_the_fixed_frame(bag) -> None:
    for i, frame in enumerate(Bags(bag, fixed_frame="odom")):
        x = SPEED_MPS * i * PERIOD_NS / 1e9
        expected = make_T(np.eye(3), np.array([x, 0.0, 0.0])) @ T_BASE_CAMERA
        np.testing.assert_allclose(frame.T_fixed_camera, expected, atol=1e-6)
    assert Bags(bag)[0].T_fixed_camera is None
