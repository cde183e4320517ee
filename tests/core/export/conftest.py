"""One small model, exported once for all tests of this folder: an export takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lemumo_core.export.graph import export_onnx, half_precision
from lemumo_core.export.parity_inputs import Sample, random_samples
from lemumo_core.export.quantize import quantize
from lemumo_core.model.config import SIZES, ModelConfig
from lemumo_core.model.perception import PerceptionModel, seeded_model
from tests.helpers.built_once import built_once

CONFIG = ModelConfig("lemumo", "tiny", 64, 96)


@contextmanager
def small_tiny() -> Iterator[None]:
    """A tiny model of two blocks, not twelve: its graph holds the same operators."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "tiny", (*SIZES["tiny"][:2], 2))
        yield


@pytest.fixture(autouse=True, scope="module")
def two_blocks() -> Iterator[None]:
    with small_tiny():
        yield


@pytest.fixture(scope="session")
def model() -> PerceptionModel:
    with small_tiny():
        return seeded_model(CONFIG, 0)


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    return random_samples(CONFIG.input_spec, 1)


@pytest.fixture(scope="session")
def graphs(model, samples, tmp_path_factory) -> dict[str, Path]:
    """The model's static graphs by precision, ``dynamic`` the float32 one of any batch size."""

    def build(folder: Path) -> None:
        folder.mkdir()
        with small_tiny():
            export_all(model, samples, graph_paths(folder))

    return graph_paths(built_once(tmp_path_factory, "graphs", build))


def graph_paths(folder: Path) -> dict[str, Path]:
    names = ("fp32", "fp16", "int8", "fp8", "int8-cpu", "dynamic")
    return {name: folder / f"{name}.onnx" for name in names}


def export_all(model: PerceptionModel, samples: list[Sample], paths: dict[str, Path]) -> None:
    export_onnx(model, paths["fp32"], {"name": "test"})
    export_onnx(half_precision(model), paths["fp16"], {"name": "test"})
    for precision in ("int8", "fp8", "int8-cpu"):
        frames = [sample.inputs for sample in samples]
        quantize(paths["fp32"], paths[precision], precision, frames)
    export_onnx(model, paths["dynamic"], {"name": "test"}, dynamic=True)
