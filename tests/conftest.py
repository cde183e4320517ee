"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import os
import pickle
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.helpers import exported, program
from tests.helpers.built_once import built_once
from tests.helpers.exported import exported_before, small_model
from tests.helpers.paths import SHARED

pytest_plugins = ["tests.helpers.fault_table"]

# Small tensors gain nothing from a second thread, and lose much where other work holds the core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# All that test files import stays to the end: to look for garbage in it takes a fifth of the time.
gc.disable()

# Before anything imports PyTorch, which takes the function that this replaces.
program.fork_workers()

# A shell's background jobs ignore Ctrl-C, and so would the processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED_DATA = SHARED / "data"
LONG = (
    "core/methods/test_conformance.py",
    "core/export/test_to_trt.py",
    "test_install.py",
    "core/train/test_ending.py",
    "test_tutorial.py",
    "core/train/finetune/test_learner.py",
    "core/replay/test_results.py",
    "examples/test_examples.py",
    "core/export/test_graphs.py",
    "core/train/pretrain/test_program.py",
    "core/train/finetune/test_program.py",
    "core/export/test_to_onnx.py",
    "benchmarks/test_few_labels.py",
    "benchmarks/test_study.py",
    "faults/test_processes.py",
    "faults/test_inputs.py",
    "faults/test_engine.py",
)
"""Files that take longest. They come first: at the end one process would wait for the other."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    long = {Path(__file__).parent / name: place for place, name in enumerate(LONG)}
    assert all(path.is_file() for path in long), "LONG names a file that is not there"
    items.sort(key=lambda item: long.get(item.path, len(LONG)))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    gc.enable()


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
    pytest.importorskip("rosbags", reason="bags need: pip install '.[bags]'")
    from lemumo_core.bags.writer import write_bag
    from lemumo_core.data.sources.kitti_raw import KittiRaw

    source = KittiRaw(shared_data / "kitti_raw_seq" / "2011_09_26")

    def build(folder: Path) -> None:
        write_bag(source, folder, request.param, limit=4)

    path = built_once(tmp_path_factory, f"kitti_{request.param}", build)
    return SimpleNamespace(path=path, source=source)


@pytest.fixture(scope="session")
def rendered_drive(tmp_path_factory: pytest.TempPathFactory) -> list:
    """Six frames of a rendered street, half a second apart, of a camera and 32 beams."""
    pytest.importorskip("torch", reason='rendering needs: pip install "lemumo_ros[train]"')
    from lemumo_core.data.sources.synthetic import SyntheticStreet

    def build(folder: Path) -> None:
        source = SyntheticStreet(split="test", frames=42, frames_per_drive=6)
        frames = [replace(source[i], labels=None) for i in range(36, 42)]
        folder.mkdir()
        (folder / "frames.pkl").write_bytes(pickle.dumps(frames))

    folder = built_once(tmp_path_factory, "rendered_drive", build)
    return pickle.loads((folder / "frames.pkl").read_bytes())


@pytest.fixture(scope="session")
def tiny_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a package of random weights, 64x96 pixels, one graph of it with a free batch.

    Its torch model needs ``two_blocks``.
    """
    pytest.importorskip("torch", reason="making a model needs: pip install '.[train]'")
    from lemumo_core.export.package import ExportOptions, ModelCard, export_package

    def build(folder: Path) -> None:
        with exported_before(tmp_path_factory):
            export_package(small_model(), folder, ModelCard("t"), ExportOptions(dynamic=True))

    return built_once(tmp_path_factory, "tiny_package", build)


@pytest.fixture
def two_blocks() -> Iterator[None]:
    """Let tiny models have the two blocks of ``tiny_package``."""
    with exported.two_blocks():
        yield


@pytest.fixture(scope="session")
def street_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of fourteen rendered frames, 64x48 pixels, two a shard; not to be changed."""
    pytest.importorskip("torch", reason="rendering needs: pip install '.[train]'")
    from lemumo_core.data.shard_writer import write_shards
    from lemumo_core.data.sources.synthetic import SyntheticStreet

    def build(folder: Path) -> None:
        street = SyntheticStreet(frames=14, frames_per_drive=14, width=64, height=48)
        write_shards(street, folder, frames_per_shard=2, workers=1)

    return built_once(tmp_path_factory, "street_shards", build)


@pytest.fixture(scope="session")
def toy_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a package of a few operators, 64x96 pixels: quick to write, load and run."""
    pytest.importorskip("onnx", reason="writing a model needs: pip install '.[train]'")
    from tests.helpers.toy_package import write_toy_package

    return built_once(tmp_path_factory, "toy_package", write_toy_package)
