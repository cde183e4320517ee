"""A package is whole and verified; a precision ships only with its loss, a changed model never."""

from __future__ import annotations

import copy
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from lemumo_core.cli import main as cli
from lemumo_core.cli import parity as parity_command
from lemumo_core.export import package as export_module
from lemumo_core.export import verify
from lemumo_core.export.package import ExportOptions, ModelCard, export_package, gate
from lemumo_core.export.parity import REDUCED, Limits
from lemumo_core.export.parity_inputs import random_samples, source_samples
from lemumo_core.faults import Fault
from lemumo_core.inference.backends import load_backend, unavailable_reason
from lemumo_core.inference.package import Package, load_package
from lemumo_core.inference.selection import candidates
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import save_weights
from tests.helpers.paths import ROOT


@pytest.fixture(autouse=True, scope="module")
def any_cpu() -> Iterator[None]:
    """Let 8 bits pass on CPUs without VNNI, whose products of 8 bits saturate.

    An untrained model's scores lie close together, so that some detections then change places.
    The gate's own bounds are tested in ``test_parity.py``.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "REDUCED", replace(REDUCED, unmatched=0.1))
        yield


@pytest.fixture(scope="module")
def package(model, graphs, tmp_path_factory) -> Package:
    """Exported with graphs that are there already."""
    frames = source_samples("synthetic", model.config.input_spec, 2)
    out = tmp_path_factory.mktemp("package")
    options = ExportOptions(("int8", "int8-cpu"), dynamic=True)
    card = ModelCard("test", training={"seed": 0})
    (out / "model.fp16.onnx").write_bytes(b"of an earlier export")

    def copied(model, path, metadata, dynamic, opset) -> None:
        shutil.copy(graphs["dynamic" if dynamic else "fp32"], path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_module, "export_onnx", copied)
        return export_package(model, out, card, options, frames)


@pytest.fixture
def staged(package, tmp_path, monkeypatch) -> Package:
    """A copy without a manifest, as it is before its gate, which takes few inputs here."""
    monkeypatch.setattr(export_module, "RANDOM_SEEDS", 1)
    path = shutil.copytree(package.path, tmp_path / "staged")
    (path / "manifest.json").unlink()
    return Package(path, package.manifest)


def test_the_package_is_whole(package, model) -> None:
    manifest = load_package(package.path).manifest
    graphs = {f"model{p}{d}.onnx" for p in ("", ".int8", ".int8-cpu") for d in ("", ".dynamic")}
    assert set(manifest.files) == graphs | {"README.md", "weights.safetensors"}
    assert not manifest.trained and manifest.input == model.config.input_spec
    assert ModelConfig.from_dict(manifest.model) == model.config
    assert manifest.precisions == ("fp32", "int8", "int8-cpu")
    assert manifest.losses.keys() - {"openvino:int8"} == {"int8", "int8-cpu"}
    for loss in manifest.losses.values():
        assert 0 < loss["mean_depth"] < 0.02 and np.isfinite(loss["depth_mae_loss"])


def test_a_precision_that_loses_too_much_is_left_out(staged, monkeypatch, capsys) -> None:
    monkeypatch.setattr(verify, "REDUCED", Limits(mean_depth=1e-9))
    assert gate(staged, []).precisions == ("fp32",)
    names = {path.name for path in staged.path.glob("*.onnx")}
    assert names == {"model.onnx", "model.dynamic.onnx"}
    shown = capsys.readouterr().out
    assert "int8-cpu is refused" in shown and "mean_depth" in shown and "is above 1e-09" in shown


def test_a_disk_that_takes_no_more_leaves_the_package(package, tmp_path, capsys) -> None:
    """Files may not grow beyond some bytes, as on a full disk."""
    path = shutil.copytree(package.path, tmp_path / "package")
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limit[1]))
    try:
        assert cli.main(["export", "--package", str(path), "--out", str(path)]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "cannot be written: File too large; free space" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert list(tmp_path.iterdir()) == [path]


def test_openvino_runs_int8_in_8_bits_or_not_at_all(staged) -> None:
    if reason := unavailable_reason("openvino"):
        pytest.skip(reason)
    load_backend(staged, "openvino:int8").close()
    shutil.copy(staged.path / "model.onnx", staged.path / "model.int8.onnx")
    with pytest.raises(Fault, match=r"openvino:int8 would run here, of its layers, \d+ in f32$"):
        load_backend(staged, "openvino:int8")


@pytest.mark.parametrize("most_depth", [1.0, 1e-9])
def test_a_runtime_that_rounds_otherwise_has_a_gate_of_its_own(
    staged, monkeypatch, capsys, most_depth
) -> None:
    if reason := unavailable_reason("openvino"):
        pytest.skip(reason)
    real = verify.verify

    def verified(package, candidate, samples, reference="torch"):
        parity, limits = real(package, candidate, samples, reference)
        if candidate == "openvino:int8":
            limits = Limits(unmatched=None, mean_depth=most_depth)
        return parity, limits

    monkeypatch.setattr(export_module, "verify", verified)
    manifest = gate(staged, [])
    passed = most_depth == 1.0
    assert ("openvino:int8" in manifest.losses) == passed and "int8" in manifest.precisions
    assert ("openvino:int8 is refused: auto" in capsys.readouterr().out) != passed
    names, _ = candidates(Package(staged.path, manifest))
    assert ("openvino:int8" in names) == passed and "openvino:int8-cpu" not in names
    if passed:
        assert 0 < manifest.losses["openvino:int8"]["mean_depth"] < 0.02


def test_a_graph_of_other_weights_is_no_package(staged, model) -> None:
    """The weights are not those of the graph, as after a broken export."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.depth.chosen.layer.bias[-1] += 0.01
    save_weights(other, staged.path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"onnxruntime differs from torch: .*depth"):
        gate(staged, [])


@pytest.mark.parametrize("candidate", ["onnxruntime", "openvino", "onnxruntime:int8-cpu"])
def test_verify_passes_what_is_equal(package, candidate, tmp_path, capsys) -> None:
    if reason := unavailable_reason(candidate.partition(":")[0]):
        pytest.skip(reason)
    arguments = [str(package.path), "--candidate", candidate, "--count", "1"]
    assert parity_command.main([*arguments, "--out", str(tmp_path)]) == 0
    assert "passes" in capsys.readouterr().out
    assert (tmp_path / "parity.json").exists() and (tmp_path / "index.html").exists()


def test_a_batch_that_mixes_its_samples_is_noticed(package, monkeypatch) -> None:
    samples = random_samples(package.manifest.input, 1)
    parity, limits = verify.verify_batch(package, "onnxruntime", samples, "torch")
    assert parity.samples == 3 and parity.failures(limits) == []
    real = verify.load_backend

    class Swapped:
        def __init__(self, *arguments):
            self.backend = real(*arguments)
            self.outputs = self.backend.outputs

        def infer(self, inputs, outputs) -> None:
            self.backend.infer(inputs, outputs)
            outputs["depth"][:] = outputs["depth"][::-1].copy()

        def close(self) -> None:
            self.backend.close()

    monkeypatch.setattr(verify, "load_backend", Swapped)
    parity, limits = verify.verify_batch(package, "onnxruntime", samples, "torch")
    assert any("depth" in failure for failure in parity.failures(limits))


def test_a_failing_gate_exits_with_3(package, monkeypatch, capsys) -> None:
    monkeypatch.setattr(verify, "REDUCED", Limits(mean_depth=1e-9))
    arguments = [str(package.path), "--candidate", "onnxruntime:int8", "--count", "1"]
    assert parity_command.main(arguments) == 3
    assert "FAILS: mean_depth" in capsys.readouterr().out
    assert REDUCED.mean_depth == 0.02


def test_nothing_to_compare_exits_with_1(package, tmp_path, capsys) -> None:
    assert parity_command.main([str(tmp_path)]) == 1
    assert "is not a model package" in capsys.readouterr().err
    arguments = [str(package.path), "--candidate", "onnxruntime:fp16", "--count", "1"]
    assert parity_command.main(arguments) == 1
    assert "holds no model.fp16.onnx" in capsys.readouterr().err


def test_it_starts_as_a_program() -> None:
    command = [sys.executable, str(ROOT / "export" / "to_onnx.py"), "--help"]
    result = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert result.returncode == 0, result.stderr
