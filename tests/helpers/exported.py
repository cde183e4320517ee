"""One small model and its float32 graphs, exported once for all tests: an export takes seconds."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.helpers.built_once import built_once


@contextmanager
def two_blocks() -> Iterator[None]:
    """A tiny model has two blocks, not twelve: its graph holds the same operators."""
    from lemumo_core.model.config import SIZES

    share_translations()
    with patch.dict(SIZES, tiny=(*SIZES["tiny"][:2], 2)):
        yield


@functools.cache
def share_translations() -> None:
    """Let all exports of this process share the exporter's table of operators.

    It is made again for each, which takes more than a second, and none changes it.
    """
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))


def small_model(seed: int = 0):
    """Return a model of two blocks for 64x96 pixels."""
    from lemumo_core.model.config import ModelConfig
    from lemumo_core.model.perception import seeded_model

    with two_blocks():
        return seeded_model(ModelConfig("lemumo", "tiny", 64, 96), seed)


def float32_graphs(factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the paths of the graphs of ``small_model``: of batch 1, and of any batch."""
    from lemumo_core.export.graph import export_onnx

    def build(folder: Path) -> None:
        folder.mkdir()
        for dynamic in (False, True):
            export_onnx(small_model(), folder / f"{dynamic}.onnx", {"name": "test"}, dynamic)

    folder = built_once(factory, "float32_graphs", build)
    return folder / "False.onnx", folder / "True.onnx"


@contextmanager
def exported_before(factory: pytest.TempPathFactory) -> Iterator[None]:
    """Packages of ``small_model`` take those graphs; everything else of an export is real."""
    from lemumo_core.export import package

    graphs = float32_graphs(factory)

    def copied(model, path, metadata, dynamic, opset) -> None:
        shutil.copy(graphs[dynamic], path)

    with two_blocks(), patch.object(package, "export_onnx", copied):
        yield
