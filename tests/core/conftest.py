"""Fixtures of the tests of bags and of what reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lemumo_core.frame import Frame
from tests.helpers.bag_tools import FRAMES
from tests.helpers.built_once import built_once
from tests.helpers.small_frames import small_frames


@pytest.fixture(scope="session")
def frames() -> list[Frame]:
    return small_frames(FRAMES)


@pytest.fixture(scope="session")
def small_bag(frames: list[Frame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The six small frames, mcap; not to be changed."""
    pytest.importorskip("rosbags", reason="bags need: pip install '.[bags]'")
    from lemumo_core.bags.writer import write_bag

    return built_once(tmp_path_factory, "small_bag", lambda folder: write_bag(frames, folder))
