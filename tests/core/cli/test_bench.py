"""lemumo bench reports what was measured, under ros2_benchmark's names, and what was left out."""

from __future__ import annotations

import json

import pytest

from lemumo_core.cli import bench
from lemumo_core.cli import main as cli
from lemumo_core.inference.manifest import Manifest
from lemumo_core.inference.measure import Measurement
from lemumo_core.inference.package import write_package
from lemumo_core.preprocess import InputSpec

GRAPH = b"\x08\x08"  # a ModelProto that holds its IR version alone


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    for name in ("model.onnx", "model.dynamic.onnx", "model.int8-cpu.onnx"):
        (folder / name).write_bytes(GRAPH)
    spec, losses = InputSpec(64, 96, "lidar", 2), {"int8-cpu": {"mean_depth": 0.01}}
    return write_package(
        folder, Manifest("m", "1", False, {}, spec, ("car",), ("road",), ((1, 2, 3),), losses)
    )


@pytest.fixture
def measured(monkeypatch):
    """Replaces measuring; returns what was asked for: (names, batch)."""
    asked: list[tuple[list[str], int]] = []

    def fake(path, names, batch, rounds):
        asked.append((list(names), batch))
        return [
            Measurement(name, batch, error="it crashed")
            if name == "openvino:fp32"
            else Measurement(name, batch, 1.5, 80.0, (10.0, 20.0, 40.0), (9.0, 9.0, 30.0), 0.25)
            for name in names
        ]

    monkeypatch.setattr(bench, "measure", fake)
    return asked


def run(package, *arguments) -> int:
    return cli.main(["bench", str(package.path), *arguments])


def test_table_and_json(package, measured, tmp_path, capsys) -> None:
    backends = ["--backend", "onnxruntime:int8-cpu", "onnxruntime", "openvino"]
    target = tmp_path / "new" / "bench.json"
    assert run(package, *backends, "--batch", "1", "2", "--json", str(target)) == 0
    names = ["onnxruntime:int8-cpu", "onnxruntime:fp32", "openvino:fp32"]
    assert measured == [(names, 1), (names[1:], 2)]
    shown = capsys.readouterr().out
    assert "it crashed" in shown and "mean_depth 0.01" in shown and "UNTRAINED" in shown
    document = json.loads(target.read_text())
    assert document["skipped"] == {"onnxruntime:int8-cpu batch 2": bench.NO_DYNAMIC}
    first, _, failed, double, _ = document["results"]
    assert (first["backend"], first["precision"], first["batch"]) == ("onnxruntime", "int8-cpu", 1)
    assert first["Mean End-to-End Latency (ms)"] == pytest.approx(70 / 3)
    assert first["Min. End-to-End Latency (ms)"] == 10 and first["p50 (ms)"] == 20
    assert first["cost (ms)"] == 9
    assert first["Mean Frame Rate (fps)"] == pytest.approx(3000 / 70)
    assert first["metric loss"] == {"mean_depth": 0.01} and first["foreign CPU share"] == 0.25
    assert double["Mean Frame Rate (fps)"] == pytest.approx(2 * 3000 / 70)
    assert failed["error"] == "it crashed"


def test_by_default_the_runtimes_of_auto_with_one_sample(package, measured) -> None:
    assert run(package) == 0
    ((names, batch),) = measured
    assert "onnxruntime:fp32" in names and "onnxruntime:int8-cpu" in names
    assert not any(name.startswith("torch") for name in names) and batch == 1


def test_nothing_measured_is_a_failure(package, measured, capsys) -> None:
    assert run(package, "--backend", "openvino", "--batch", "1") == 1
    assert run(package, "--backend", "cuda") == 1
    assert "unknown backend 'cuda'" in capsys.readouterr().err
    assert cli.main(["bench", str(package.path / "nothing")]) == 1
    assert "is not a model package" in capsys.readouterr().err
