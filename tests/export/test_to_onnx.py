"""A package is whole and verified; a precision ships only with its loss, a changed model never."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from export import to_onnx, verify
from export.parity import REDUCED, Limits
from export.samples import source_samples
from export.to_onnx import export_package
from lemumo_core.inference.backends import why_not
from lemumo_core.inference.package import Package, load_package
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import save_weights

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def package(model, tmp_path_factory) -> Package:
    frames = source_samples("synthetic", model.config.input_spec, 2)
    out = tmp_path_factory.mktemp("package")
    wanted = ("int8", "int8-cpu")
    return export_package(model, out, "test", False, {"seed": 0}, wanted, frames=frames)


def test_the_package_is_whole(package, model) -> None:
    manifest = load_package(package.path).manifest
    assert set(manifest.files) == {
        "model.onnx",
        "model.int8.onnx",
        "model.int8-cpu.onnx",
        "weights.safetensors",
    }
    assert not manifest.trained and manifest.input == model.config.input_spec
    assert ModelConfig.from_dict(manifest.model) == model.config
    assert manifest.precisions == ("fp32", "int8", "int8-cpu")
    for loss in manifest.losses.values():
        assert 0 < loss["mean_depth"] < 0.02 and np.isfinite(loss["depth_mae_loss"])


def test_a_precision_that_loses_too_much_is_left_out(model, tmp_path, monkeypatch, capsys) -> None:
    strict = Limits(mean_depth=1e-9)
    monkeypatch.setattr(verify, "REDUCED", strict)
    manifest = export_package(model, tmp_path, "t", False, precisions=["int8-cpu"]).manifest
    assert manifest.precisions == ("fp32",)
    assert "model.int8-cpu.onnx" not in manifest.files
    assert not (tmp_path / "model.int8-cpu.onnx").exists()
    shown = capsys.readouterr().out
    assert "int8-cpu is refused" in shown and "mean_depth" in shown and "is above 1e-09" in shown


def test_a_graph_of_other_weights_is_no_package(package, model, tmp_path, monkeypatch) -> None:
    """The weights change between the graph and the check, as in a broken exporter."""

    def changed(model, path) -> None:
        with torch.no_grad():
            model.depth.layers[-1].bias += 0.01
        save_weights(model, path)

    monkeypatch.setattr(to_onnx, "save_weights", changed)
    bias = model.depth.layers[-1].bias.detach().clone()
    try:
        with pytest.raises(ValueError, match=r"onnxruntime differs from torch: raw|depth"):
            export_package(model, tmp_path, "t", False)
    finally:
        model.depth.layers[-1].bias.data = bias
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize("candidate", ["onnxruntime", "openvino", "onnxruntime:int8-cpu"])
def test_verify_passes_what_is_equal(package, candidate, tmp_path, capsys) -> None:
    if reason := why_not(candidate.partition(":")[0]):
        pytest.skip(reason)
    arguments = [str(package.path), "--candidate", candidate, "--count", "1"]
    assert verify.main([*arguments, "--out", str(tmp_path)]) == 0
    assert "passes" in capsys.readouterr().out
    assert (tmp_path / "parity.json").exists() and (tmp_path / "index.html").exists()


def test_a_failing_gate_exits_with_1(package, monkeypatch, capsys) -> None:
    monkeypatch.setattr(verify, "REDUCED", Limits(mean_depth=1e-9))
    arguments = [str(package.path), "--candidate", "onnxruntime:int8", "--count", "1"]
    assert verify.main(arguments) == 1
    assert "FAILS: mean_depth" in capsys.readouterr().out
    assert REDUCED.mean_depth == 0.02


def test_nothing_to_compare_exits_with_2(package, tmp_path, capsys) -> None:
    assert verify.main([str(tmp_path)]) == 2
    assert "is not a model package" in capsys.readouterr().err
    assert verify.main([str(package.path), "--candidate", "onnxruntime:fp16"]) == 2
    assert "holds no model.fp16.onnx" in capsys.readouterr().err


def test_both_start_as_programs() -> None:
    for name in ("to_onnx", "verify", "to_trt"):
        command = [sys.executable, str(ROOT / "export" / f"{name}.py"), "--help"]
        result = subprocess.run(command, capture_output=True, text=True, cwd="/")
        assert result.returncode == 0, result.stderr
