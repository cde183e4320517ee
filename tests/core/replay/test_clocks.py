"""A companion on another clock than the images': named with the offset, which can be given."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lemumo_core.cli import main as cli
from lemumo_core.data.sources.bags import Bags
from lemumo_core.faults import Fault
from tests.helpers.bag_tools import FRAMES, rewrite

POINTS, STATIC, MODEL = "/lidar/points", "/tf_static", "models/lemumo-tiny"


def shifted(offset_ns):
    """A change for ``rewrite``: stamps of the LiDAR from another clock."""

    def change(raw, message):
        if raw.topic == POINTS:
            stamp = message.header.stamp
            stamp_ns = stamp.sec * 10**9 + stamp.nanosec + offset_ns
            stamp.sec, stamp.nanosec = divmod(stamp_ns, 10**9)
        return raw.stamp_ns, message

    return change


def replay(bag, out, *options):
    fixed = ["--model", MODEL, "--backend", "onnxruntime", "--no_evaluation", "true"]
    code = cli.main(["replay", str(bag), *fixed, "--out", str(out), *options])
    return code, json.loads((out / "metrics.json").read_text())


@pytest.mark.parametrize("offset_s", [18.0, 86_400.5])
def test_the_offset_is_measured_named_and_taken(small_bag, tmp_path, offset_s, capsys):
    """GPS time is 18 s ahead of UTC; a clock that was set to the wrong day."""
    bag = rewrite(small_bag, tmp_path / "bag", shifted(round(offset_s * 1e9)))
    code, _ = replay(bag, tmp_path / "out")
    assert code == 3
    said = capsys.readouterr().out
    assert f"set companion_offset to {offset_s:.3f}" in said
    with pytest.raises(Fault, match=f"set companion_offset to {offset_s:.3f}") as caught:
        Bags(bag)
    assert caught.value.reason == "other_clock"
    code, found = replay(bag, tmp_path / "given", "--companion_offset", str(offset_s))
    assert code == 0 and found["modalities"] == {"camera+lidar": FRAMES}
    for ours, theirs in zip(Bags(bag, companion_offset=offset_s), Bags(small_bag), strict=True):
        assert ours.companion.stamp_ns == theirs.companion.stamp_ns
        np.testing.assert_array_equal(ours.companion.points, theirs.companion.points)


def test_images_named_in_a_body_frame_are_camera_only_and_said(small_bag, tmp_path, capsys):
    """The static transform says that LiDAR and camera look the same way: x forward."""

    def change(raw, message):
        if raw.topic == STATIC:
            for one in message.transforms:
                rotation = one.transform.rotation
                rotation.x, rotation.y, rotation.z, rotation.w = 0.0, 0.0, 0.0, 1.0
        return raw.stamp_ns, message

    code, found = replay(rewrite(small_bag, tmp_path / "bag", change), tmp_path / "out")
    assert code == 3 and found["modalities"] == {"camera": FRAMES}
    assert "is this the optical frame?" in capsys.readouterr().out
