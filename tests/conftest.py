"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.helpers.built_once import built_once
from tests.helpers.paths import SHARED

pytest_plugins = ["tests.helpers.fault_table"]

# Small tensors gain nothing from a second thread, and lose much where other work holds the core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell's background jobs ignore Ctrl-C, and so would the processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED_DATA = SHARED / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files with slow tests first: at the end one process would wait for the other."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Engines and choices of backends go to a folder of this run, not to the user's."""
    os.environ["LEMUMO_CACHE"] = str(tmp_path_factory.mktemp("lemumo_cache"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real recordings; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real recordings are not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session", params=["mcap", "sqlite3"])
def kitti_bag(request, shared_data, tmp_path_factory) -> SimpleNamespace:
    """Four frames of KITTI as a bag (``path``, not to be changed), and their ``source``."""
    pytest.importorskip("rosbags", reason='bags need: pip install "lemumo_ros[bags]"')
    from lemumo_core.bags.writer import write_bag
    from lemumo_core.data.sources.kitti_raw import KittiRaw

    source = KittiRaw(shared_data / "kitti_raw_seq" / "2011_09_26")

    def build(folder: Path) -> None:
        write_bag(source, folder, request.param, limit=4)

    path = built_once(tmp_path_factory, f"kitti_{request.param}", build)
    return SimpleNamespace(path=path, source=source)


@pytest.fixture(scope="session")
def tiny_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a package of random weights, 64x96 pixels, one graph of it with a free batch."""
    pytest.importorskip("torch", reason='making a model needs: pip install "lemumo_ros[train]"')
    from lemumo_core.export.package import ExportOptions, ModelCard, export_package
    from lemumo_core.model.config import ModelConfig
    from lemumo_core.model.perception import seeded_model

    def build(folder: Path) -> None:
        model = seeded_model(ModelConfig("lemumo", "nano", 64, 96), 0)
        export_package(model, folder, ModelCard("t"), ExportOptions(dynamic=True))

    return built_once(tmp_path_factory, "tiny_package", build)


@pytest.fixture(scope="session")
def toy_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a package of a few operators, 64x96 pixels: quick to write, load and run."""
    pytest.importorskip("onnx", reason='writing a model needs: pip install "lemumo_ros[train]"')
    from tests.helpers.toy_package import write_toy_package

    return built_once(tmp_path_factory, "toy_package", write_toy_package)
