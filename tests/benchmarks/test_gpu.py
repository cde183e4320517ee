"""The benchmark of GPUs, as far as it runs without one: figures of a CPU mean nothing in it."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from benchmarks import _gpu_parts, gpu
from lemumo_core.inference.cuda_driver import Gpu
from lemumo_core.model.config import ModelConfig
from lemumo_core.train.run_config import ScaleConfig
from tests.helpers.small_run import small_method
from tests.helpers.toy_package import write_toy_package

CPU = torch.device("cpu")
SMALL = {
    "model": ModelConfig(size="nano", height=48, width=64),
    "batch": 2,
    "scale": ScaleConfig(workers=0),
}


def test_without_a_gpu_it_says_what_is_missing(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setattr(gpu, "why_no_gpu", lambda: "no NVIDIA driver")
    monkeypatch.setattr(gpu, "OUT", tmp_path / "gpu")
    assert gpu.main([]) == 1
    assert "needs an NVIDIA GPU: no NVIDIA driver" in capsys.readouterr().err
    assert not (tmp_path / "gpu").exists()


def test_a_part_that_fails_costs_the_others_nothing(monkeypatch, capsys, tmp_path) -> None:
    device = Gpu("NVIDIA H200", "9.0", 132, "13.0")
    monkeypatch.setattr(gpu, "why_no_gpu", lambda: None)
    monkeypatch.setattr(gpu, "find_gpu", lambda: device)
    monkeypatch.setattr(gpu, "OUT", tmp_path)
    outcomes = {
        "engines": {"rows": [{"precision": "fp16", "build (s)": 12.345, "said": []}, {"x": None}]},
        "world": {"error": "exit code 1: out of memory"},
    }
    commands = []

    def measured(command, limit_s, file):
        commands.append(command)
        assert 0 < limit_s <= gpu.ALL_S
        return outcomes[file.stem] | {"seconds": 1.0}

    monkeypatch.setattr(gpu, "measured", measured)
    work = ["--work", str(tmp_path / "work")]
    assert gpu.main(["--only", "world", "engines", *work]) == 1
    assert [command[4] for command in commands] == ["engines", "world"]
    document = json.loads((tmp_path / "NVIDIA-H200.json").read_text())
    assert document["parts"]["world"]["error"] and document["gpu"] == device.name
    shown = capsys.readouterr().out
    assert "| fp16 | 12.3 |  |" in shown and "out of memory" in shown
    del outcomes["world"]
    assert gpu.main(["--only", "engines", *work]) == 0


@pytest.mark.parametrize(
    ("program", "limit_s", "words"),
    [
        ("import sys; sys.exit('no memory')", 60, "exit code 1: no memory"),
        ("import time; time.sleep(600)", 0.5, "took more than"),
        ("", 0, "no time was left"),
    ],
)
def test_what_went_wrong_in_a_part_is_kept(tmp_path, program, limit_s, words) -> None:
    found = gpu.measured([sys.executable, "-c", program], limit_s, tmp_path / "rows.json")
    assert words in found["error"] and "rows" not in found


def test_rows_of_a_part_come_from_its_file(tmp_path) -> None:
    program = f"import pathlib; pathlib.Path({str(tmp_path / 'a')!r}).write_text('[{{\"x\": 1}}]')"
    found = gpu.measured([sys.executable, "-c", program], 60, tmp_path / "a")
    assert found["rows"] == [{"x": 1}]


@pytest.mark.parametrize(
    ("row", "changes"),
    [("pretrain, preset lemumo", {"method": small_method()}), ("finetune", {})],
)
def test_training_counts_samples_with_data_and_without(row, changes) -> None:
    (found,) = _gpu_parts.training(row, CPU, 1, **SMALL, **changes)
    assert found["batch"] == 2
    assert found["with data (samples/s)"] > 0 and found["compute alone (samples/s)"] > 0


def test_a_batch_that_does_not_fit_is_halved(monkeypatch) -> None:
    tried = []

    def rates(recipe, config, device, steps):
        tried.append(config.batch)
        if config.batch > 2:
            raise torch.OutOfMemoryError
        return {}

    monkeypatch.setattr(_gpu_parts, "_rates", rates)
    changes = SMALL | {"batch": 8, "method": small_method()}
    (found,) = _gpu_parts.training("pretrain, preset lemumo", CPU, 1, **changes)
    assert tried == [8, 4, 2] and found["batch"] == 2


def test_frames_are_rendered_and_perceived(tmp_path) -> None:
    (rendered,) = _gpu_parts.world(["cpu"], drive=1, height=64)
    assert rendered["frames/s"] > 0
    package = write_toy_package(tmp_path / "toy")
    found = _gpu_parts.latency(package, ["onnxruntime:fp32", "onnxruntime:fp16"], calls=2)
    assert found[0]["frame p50 (ms)"] > 0 and "fp16" in found[1]["error"]


def test_engines_say_why_there_are_none(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(_gpu_parts, "unavailable_reason", lambda runtime: f"no {runtime}")
    found = _gpu_parts.engines(write_toy_package(tmp_path / "toy"))
    assert [row["result"] for row in found] == ["no tensorrt", "no tensorrt-rtx"]
