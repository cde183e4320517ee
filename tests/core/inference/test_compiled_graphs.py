"""Graphs that a runtime has prepared: kept for this processor, and trusted only when sound."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest

from lemumo_core.inference import compiled_graphs
from lemumo_core.inference.backends import load_backend
from lemumo_core.inference.inputs import random_inputs
from lemumo_core.inference.package import WEIGHTS_NAME, Package, load_package, write_package
from tests.helpers.toy_package import write_toy_package


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("LEMUMO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "graphs"


@pytest.fixture
def package(tmp_path) -> Package:
    return load_package(write_toy_package(tmp_path / "toy"))


def outputs(package: Package, name: str, batch: int) -> dict[str, np.ndarray]:
    backend = load_backend(package, name, batch)
    found = {key: np.empty(s.shape, s.dtype) for key, s in backend.outputs.items()}
    backend.infer(random_inputs(package.manifest.input, batch), found)
    backend.close()
    return found


def count_prepared(monkeypatch) -> list[Path]:
    stored = []
    store = compiled_graphs.store_engine

    def counted(*arguments):
        stored.append(store(*arguments))
        return stored[-1]

    monkeypatch.setattr(compiled_graphs, "store_engine", counted)
    return stored


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_what_is_kept_is_loaded_and_says_the_same(
    kept, package, monkeypatch, caplog, runtime, batch
) -> None:
    pytest.importorskip(runtime)
    stored = count_prepared(monkeypatch)
    first = outputs(package, runtime, batch)
    again = outputs(package, runtime, batch)
    assert len(stored) == 1 and stored[0].parent == kept
    assert all(np.array_equal(first[name], value) for name, value in again.items())
    # Another processor's is not this one's; nor is what was changed.
    stored[0].write_bytes(stored[0].read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        outputs(package, runtime, batch)
    assert "prepared again" in caplog.text and "truncated or was changed" in caplog.text
    monkeypatch.setattr(compiled_graphs, "processor", lambda: "another, 2 cores")
    outputs(package, runtime, batch)
    assert len(stored) == 3 and len({path.name for path in stored}) == 2


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_weights_may_stay_in_the_file_beside_the_graph(
    kept, package, tmp_path, monkeypatch, caplog, runtime
) -> None:
    """A runtime keeps the names of those that it left as they were."""
    import onnx

    outside = write_toy_package(tmp_path / "outside")
    file = outside / "model.onnx"
    graph = onnx.load(file)
    (weight,) = (one for one in graph.graph.initializer if one.name == "quarter")
    weight.CopyFrom(onnx.numpy_helper.from_array(np.full((1, 16, 24), 64, np.float32), "quarter"))
    onnx.save(graph, file, save_as_external_data=True, location=WEIGHTS_NAME, size_threshold=1024)
    moved = write_package(outside, package.manifest)
    stored = count_prepared(monkeypatch)
    first = outputs(moved, runtime, 1)
    with caplog.at_level(logging.WARNING):
        again = outputs(moved, runtime, 1)
    assert len(stored) == 1 and not caplog.records
    assert all(np.array_equal(first[name], value) for name, value in again.items())


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_what_a_runtime_refuses_is_prepared_again(
    kept, package, monkeypatch, caplog, runtime
) -> None:
    pytest.importorskip(runtime)
    stored = count_prepared(monkeypatch)
    expected = outputs(package, runtime, 1)
    monkeypatch.setattr(compiled_graphs, "read_engine", lambda path, key: b"of another release")
    with caplog.at_level(logging.WARNING):
        found = outputs(package, runtime, 1)
    assert "refuses" in caplog.text and len(stored) == 2
    assert all(np.array_equal(expected[name], value) for name, value in found.items())


def test_those_used_longest_ago_make_room(kept, tmp_path, monkeypatch) -> None:
    packages = [load_package(write_toy_package(tmp_path / name)) for name in ("a", "b", "c")]
    stored = count_prepared(monkeypatch)
    for number, package in enumerate(packages):
        monkeypatch.setattr(compiled_graphs, "processor", lambda number=number: f"cpu {number}")
        outputs(package, "onnxruntime", 1)
        os.utime(stored[-1], ns=(number, number))
        if number == 1:
            monkeypatch.setattr(compiled_graphs, "processor", lambda: "cpu 0")
            outputs(packages[0], "onnxruntime", 1)  # used again
            size = stored[0].stat().st_size
            monkeypatch.setattr(compiled_graphs, "MOST_BYTES", int(2.5 * size))
    assert len(stored) == 3
    left = (stored[0], stored[2])
    assert set(kept.iterdir()) == {*left, *(path.with_suffix(".json") for path in left)}


def test_without_room_for_it_the_graph_runs_all_the_same(kept, package, caplog) -> None:
    kept.parent.mkdir(parents=True)
    kept.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        outputs(package, "onnxruntime", 1)
    assert "the next start prepares onnxruntime:fp32 again" in caplog.text
