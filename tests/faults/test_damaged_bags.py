"""Bags that are not whole, through the command: row 19 of the fault table."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("rosbags", reason='bags need: pip install "lemumo_ros[bags]"')

from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_typestore

from lemumo_core.data.sources.registry import open_source
from lemumo_ros.bag_writer import write_bag
from lemumo_ros.cli import main

pytestmark = pytest.mark.fault(19)
FRAMES = 2


@pytest.fixture(scope="module")
def street(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("street") / "bag"
    write_bag(open_source("synthetic", seed=0, frames=FRAMES), path)
    return path


@pytest.fixture
def bag(street, tmp_path) -> Path:
    """A copy of a whole bag, to be damaged."""
    return Path(shutil.copytree(street, tmp_path / "bag"))


@pytest.fixture
def replay(toy_package, capsys):
    """Replays a bag; returns the exit code and all that was said."""

    def run(path: Path) -> tuple[int, str]:
        code = main(["replay", str(path), "--model", str(toy_package), "--backend", "onnxruntime"])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def test_without_metadata_it_is_read(bag, replay, seen) -> None:
    (bag / "metadata.yaml").unlink()
    code, said = replay(bag)
    assert code == 0 and f"frames_out   {FRAMES}" in said
    seen("no metadata.yaml: read whole, exit 0")


def test_cut_off_it_is_refused_with_the_way_to_save_it(bag, replay, seen) -> None:
    file = next(bag.glob("*.mcap"))
    whole = file.read_bytes()
    for share in (0.0, 0.5, 0.99):
        file.write_bytes(whole[: int(share * len(whole))])
        code, said = replay(bag)
        assert code == 1 and "mcap recover" in said and str(bag) in said
    seen("truncated, so without index: refused, exit 1, names the command that saves the rest")


def test_empty_and_of_foreign_types_it_is_refused_by_name(tmp_path, replay, seen) -> None:
    types = get_typestore(Stores.ROS2_JAZZY)
    for kind in ("sensor_msgs/msg/Image", "std_msgs/msg/String"):
        with Writer(tmp_path / kind.replace("/", "_"), version=8) as writer:
            writer.add_connection("/camera/image_raw", kind, typestore=types)
        code, said = replay(tmp_path / kind.replace("/", "_"))
        assert code == 1 and "no colour camera image" in said and f"[{kind}] x 0" in said
    seen("no messages, no images: exit not 0, with the reason")
