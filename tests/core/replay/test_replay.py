"""Offline replay: lossless, deterministic, equal to the source, and clear about bad bags."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import find_topics
from lemumo_core.bags.writer import write_bag
from lemumo_core.cli import main as cli
from lemumo_core.data.sources.kitti_raw import KittiRaw
from lemumo_core.data.sources.pairs import RgbThermalPairs
from lemumo_core.inference.package import load_package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.preprocess import preprocess
from lemumo_core.replay.camera_feed import BagClock, CameraFeed
from lemumo_core.replay.image_events import ImageEvent, feed
from lemumo_core.streaming.camera_input import CameraInput
from lemumo_core.streaming.camera_options import CameraOptions
from lemumo_core.streaming.health import Health
from tests.helpers.small_frames import small_frames
from tests.helpers.toy_package import write_toy_package

PADDED = 8
"""Rows of the 16 of a depth map that lie above an image of KITTI."""


@pytest.fixture
def model(tiny_package):
    return tiny_package


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    bag = tmp_path_factory.mktemp("bags") / "street"
    write_bag(small_frames(3), bag)
    return bag


def fed(bag, companion: str) -> list[ImageEvent]:
    """Return what the callbacks make of a bag."""
    camera_input = CameraInput("camera", companion, CameraOptions(), Health(), BagClock())
    with BagReader(bag) as reader:
        return list(feed(reader, [CameraFeed(find_topics(reader), camera_input)]))


def test_a_kitti_bag_gives_the_network_what_the_folder_gives(model, shared_data, tmp_path) -> None:
    """Training reads the folder, the node reads messages: the network must see no difference."""
    folder = shared_data / "kitti_raw_seq" / "2011_09_26"
    write_bag(KittiRaw(folder), tmp_path / "bag", limit=2)
    source = KittiRaw(folder)
    events = fed(tmp_path / "bag", "lidar")
    assert len(events) == 2
    spec = load_package(model).manifest.input
    for i, event in enumerate(events):
        frame = event.frame
        assert frame.stamp_ns == event.stamp_ns == source[i].stamp_ns
        ours, expected = preprocess(frame, spec), preprocess(source[i], spec)
        for name in ("image", "intrinsics", "present"):
            got, wanted = getattr(ours, name), getattr(expected, name)
            np.testing.assert_array_equal(got, wanted, err_msg=name)
        # The extrinsics came through a quaternion: depth may differ in its last bit.
        value, valid = np.moveaxis(ours.companion, -1, 0)
        wanted_value, wanted_valid = np.moveaxis(expected.companion, -1, 0)
        np.testing.assert_array_equal(valid, wanted_valid)
        np.testing.assert_allclose(value, wanted_value, rtol=1e-6)


def test_torch_and_onnxruntime_agree_on_a_frame(model, two_blocks, shared_data) -> None:
    frame = KittiRaw(shared_data / "kitti_raw_seq" / "2011_09_26")[0]
    results = [Pipeline(load_package(model), name, 0.0)(frame) for name in ("onnxruntime", "torch")]
    np.testing.assert_allclose(results[0].depth_m, results[1].depth_m, rtol=1e-4)
    np.testing.assert_allclose(
        results[0].detections.scores, results[1].detections.scores, atol=1e-5
    )
    # 375 rows scaled to 29 of the view's 64: the padding above holds nothing.
    depth_m, labels = results[0].depth_m, results[0].labels
    assert np.isnan(depth_m[:PADDED]).all() and np.isfinite(depth_m[PADDED + 1 :]).all()
    assert (labels[:PADDED] == 255).all() and (labels[PADDED + 1 :] != 255).all()


def test_bad_requests_exit_with_words(model, street, shared_data, tmp_path, capsys) -> None:
    nebula = next((shared_data / "nebula_rosbag2" / "vlp16").glob("*/"))
    for arguments, words in (
        ([str(tmp_path / "none"), "--model", str(model)], "none"),
        ([str(street)], "--model"),
        ([str(street), "--model", str(tmp_path)], "is not a model package"),
        ([str(nebula), "--model", str(model)], "camera"),
        ([str(street), "--model", str(model), "--image", "/nope"], "/nope"),
    ):
        assert cli.main(["replay", *arguments]) == 1
        assert words in capsys.readouterr().err


def test_extrinsics_that_are_wrong_are_named(model, street, capsys) -> None:
    arguments = ["replay", str(street), "--model", str(model)]
    wrong = [*arguments, "--extrinsics", *["0"] * 16]
    assert cli.main(wrong) == 1
    assert "not a rotation" in capsys.readouterr().err
    identity = [str(float(i % 5 == 0)) for i in range(16)]
    assert cli.main([*arguments, "--extrinsics", *identity]) == 3
    said = capsys.readouterr().out
    assert "if the image's frame were x forward" in said
    assert "results agree" not in said and "there was nothing to compare" in said


def test_a_covered_lens_is_named(toy_package, tmp_path, capsys) -> None:
    frames = small_frames(3)
    covered = [replace(frame, image=np.full_like(frame.image, 3)) for frame in frames[:2]]
    write_bag([*covered, frames[2]], tmp_path / "bag")
    assert cli.main(["replay", str(tmp_path / "bag"), "--model", str(toy_package)]) == 0
    said = capsys.readouterr().out
    assert "warn: 2 of 3 images show nothing, but one colour all over: is the lens covered" in said


def test_inspect_prints_bags_and_packages(model, street, capsys) -> None:
    assert cli.main(["inspect", str(street)]) == 0
    assert "/camera/image_raw" in capsys.readouterr().out
    assert cli.main(["inspect", str(model)]) == 0
    assert "model package" in capsys.readouterr().out


def test_jpeg_bags_and_sqlite_are_replayed_too(model, tmp_path, capsys) -> None:
    bag = tmp_path / "bag"
    write_bag(small_frames(2), bag, "sqlite3", jpeg=True)
    assert cli.main(["replay", str(bag), "--model", str(model)]) == 0
    assert "2 results of 2 images" in capsys.readouterr().out


def test_a_thermal_pair_goes_the_same_way(shared_data, tmp_path) -> None:
    write_toy_package(tmp_path / "model", companion="thermal")
    write_bag(RgbThermalPairs(shared_data / "kaist_rgbt"), tmp_path / "bag")
    pipeline = Pipeline(load_package(tmp_path / "model"))
    results = [pipeline(event.frame) for event in fed(tmp_path / "bag", "thermal")]
    assert len(results) == 5
    assert {perception.modalities for perception in results} == {("camera", "thermal")}
