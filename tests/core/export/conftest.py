"""One small model in every precision, exported once for all tests of this folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lemumo_core.export.graph import export_onnx, half_precision
from lemumo_core.export.parity_inputs import Sample, random_samples
from lemumo_core.export.quantize import quantize
from lemumo_core.model.perception import PerceptionModel
from tests.helpers import exported
from tests.helpers.built_once import built_once
from tests.helpers.exported import float32_graphs, small_model


@pytest.fixture(autouse=True, scope="module")
def two_blocks() -> Iterator[None]:
    with exported.two_blocks():
        yield


@pytest.fixture(scope="session")
def model() -> PerceptionModel:
    return small_model()


@pytest.fixture(scope="session")
def samples(model) -> list[Sample]:
    return random_samples(model.config.input_spec, 1)


@pytest.fixture(scope="session")
def graphs(model, samples, tmp_path_factory) -> dict[str, Path]:
    """The model's static graphs by precision, ``dynamic`` the float32 one of any batch size."""
    names = ("fp32", "fp16", "int8", "fp8", "int8-cpu", "dynamic")

    def build(folder: Path) -> None:
        folder.mkdir()
        paths = {name: folder / f"{name}.onnx" for name in names}
        static, dynamic = float32_graphs(tmp_path_factory)
        shutil.copy(static, paths["fp32"])
        shutil.copy(dynamic, paths["dynamic"])
        with exported.two_blocks():
            export_onnx(half_precision(model), paths["fp16"], {"name": "test"})
            for precision in ("int8", "fp8", "int8-cpu"):
                frames = [sample.inputs for sample in samples]
                quantize(paths["fp32"], paths[precision], precision, frames)

    folder = built_once(tmp_path_factory, "graphs", build)
    return {name: folder / f"{name}.onnx" for name in names}
