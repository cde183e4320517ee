"""The calibration check of a replay: its words, the extrinsics it corrects, its picture."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest

pytest.importorskip("rosbags", reason='bags need: pip install "lemumo_ros[bags]"')

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.writer import write_bag
from lemumo_core.cli import main as cli
from lemumo_core.geometry.se3 import inverse, make_T, rotation_from_quaternion
from lemumo_core.messages.transforms import TransformBuffer
from lemumo_core.metrics.calibration_drift import Drift, correction_of
from lemumo_core.replay.calibration_check import (
    check_calibration,
    corrected_extrinsics,
    describe,
    fixed_transforms,
)
from lemumo_core.replay.image_events import ImageEvent
from lemumo_core.replay.tables import read_table
from tests.helpers.turned import YAW, turned

CAMERA, LIDAR = "camera_optical", "lidar"
T_CAMERA_LIDAR = make_T(
    np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]), np.array([0.05, -0.4, -0.3])
)
T_BASE_LIDAR = make_T(np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]), np.array([0.5, 0.0, 1.8]))
T_RECTIFIED_HEADER = correction_of((0.0, 2.0, 1.0), (0.0, 0.0))
OFF = Drift("off", "", 900, 9, 16, 1.1, (0.9, 1.3), (0.2, -1.0, 0.3), shift_m=(0.1, 0.0))
EVENT = ImageEvent(
    *(0, 1, 1, 1, CAMERA), companion_frame_id=f"/{LIDAR}", T_camera_header=T_RECTIFIED_HEADER
)

TREES = {
    "the LiDAR below the camera": [(CAMERA, LIDAR, T_CAMERA_LIDAR)],
    "the camera below the LiDAR": [(LIDAR, CAMERA, inverse(T_CAMERA_LIDAR))],
    "both on a base": [
        ("base", LIDAR, T_BASE_LIDAR),
        ("base", "mount", T_BASE_LIDAR @ inverse(T_CAMERA_LIDAR) @ T_BASE_LIDAR),
        ("mount", CAMERA, inverse(T_BASE_LIDAR)),
    ],
    "the camera far below the LiDAR": [
        (LIDAR, "mount", T_BASE_LIDAR),
        ("mount", CAMERA, inverse(T_BASE_LIDAR) @ inverse(T_CAMERA_LIDAR)),
    ],
}


def published(command: str) -> tuple[str, str, np.ndarray]:
    """Parent, child and transform of a command line, as static_transform_publisher reads it."""
    words = shlex.split(command)
    assert words[:4] == ["ros2", "run", "tf2_ros", "static_transform_publisher"]
    options = dict(zip(words[4::2], words[5::2], strict=True))
    x, y, z, qx, qy, qz, qw = (
        float(options[f"--{name}"]) for name in ("x", "y", "z", "qx", "qy", "qz", "qw")
    )
    T = make_T(rotation_from_quaternion(qw, qx, qy, qz), np.array([x, y, z]))
    return options["--frame-id"], options["--child-frame-id"], T


def buffer_of(edges: list) -> TransformBuffer:
    transforms = TransformBuffer()
    for edge in edges:
        transforms.set(*edge)
    return transforms


@pytest.mark.parametrize("edges", TREES.values(), ids=TREES)
def test_the_command_corrects_the_tree_it_is_for(edges) -> None:
    """The images' frame is a rectified one, in which the turn was found."""
    corrected = corrected_extrinsics(OFF, EVENT, buffer_of(edges))
    parent, child, T = published(corrected["tf"])
    assert (parent, child) == (corrected["parent"], corrected["child"])
    assert (parent, child) in [edge[:2] for edge in edges]
    after = buffer_of([edge for edge in edges if edge[:2] != (parent, child)])
    after.set(parent, child, T)
    found = after.lookup(CAMERA, LIDAR)
    expected = OFF.correction @ T_RECTIFIED_HEADER @ T_CAMERA_LIDAR
    np.testing.assert_allclose(T_RECTIFIED_HEADER @ found, expected, atol=1e-5)
    np.testing.assert_allclose(corrected["T_camera_lidar"], found, atol=1e-5)
    option, *numbers = corrected["option"].split()
    assert option == "--extrinsics" and not any("e" in number for number in numbers)
    np.testing.assert_allclose(np.reshape(np.float64(numbers), (4, 4)), found, atol=1e-5)


def test_given_extrinsics_are_corrected_themselves() -> None:
    corrected = corrected_extrinsics(OFF, EVENT, TransformBuffer(), T_CAMERA_LIDAR)
    assert published(corrected["tf"])[:2] == (CAMERA, LIDAR)
    expected = OFF.correction @ T_RECTIFIED_HEADER @ T_CAMERA_LIDAR
    found = T_RECTIFIED_HEADER @ np.array(corrected["T_camera_lidar"])
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert corrected_extrinsics(OFF, EVENT, TransformBuffer()) is None


def test_words_say_the_upper_end_of_the_interval() -> None:
    aligned = Drift("aligned", "", 900, 9, 16, 0.2, (0.05, 0.41), (0.1, 0.1, 0.1), depth_m=(8, 30))
    assert "fit within 0.5 degrees for objects 8 to 30 m ahead" in describe(aligned)
    assert "off by 1.10 degrees (0.90 to 1.30)" in describe(OFF)
    assert "a shift of +0.10 m to the right" in describe(OFF)
    nothing = check_calibration({})
    assert nothing["verdict"] == "undecided" and nothing["picture"] is nothing["corrected"] is None


def test_a_turned_rig_is_flagged_with_the_transform_that_corrects_it(
    toy_package, rendered_drive, tmp_path, capsys
) -> None:
    bag, out = tmp_path / "bag", tmp_path / "out"
    write_bag([turned(frame, YAW, 1.0) for frame in rendered_drive], bag)
    arguments = ["--model", toy_package, "--out", out, "--backend", "onnxruntime"]
    assert cli.main(["replay", *map(str, [bag, *arguments])]) == 0
    check = json.loads((out / "metrics.json").read_text())["bags"]["bag"]["checks"]["calibration"]
    assert check["verdict"] == "warn" and check["scenes"] == check["frames"] == 6
    low, high = check["angle_interval_deg"]
    assert 0.4 < low < 1.0 < high < 1.6
    assert check["rotation_deg"][1] == pytest.approx(-1.0, abs=0.2)
    assert check["corrected"]["tf"] in check["words"] and check["words"] in capsys.readouterr().out
    parent, child, T = published(check["corrected"]["tf"])
    with BagReader([bag]) as reader:
        before = fixed_transforms(reader)
    assert (parent, child) in [edge[:2] for edge in before.edges()]
    T_before = before.lookup(CAMERA, LIDAR)
    before.set(parent, child, T)
    R = before.lookup(CAMERA, LIDAR)[:3, :3] @ T_before[:3, :3].T
    np.testing.assert_allclose(R, correction_of(check["rotation_deg"], (0, 0))[:3, :3], atol=1e-4)
    rows = read_table(out / "bag" / "frames.parquet")
    assert all(row["calibration_edges"] > 10 for row in rows)
    assert np.median([row["calibration_yaw_deg"] for row in rows]) == pytest.approx(-1.0, abs=0.2)
    page = (out / "index.html").read_text()
    assert "static_transform_publisher" in page and "turned so that all images fit best" in page
