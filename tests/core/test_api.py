"""lemumo from Python."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import lemumo_core
from lemumo_core.faults import Fault
from tests.helpers.small_frames import small_frames


def test_importing_it_loads_nothing_else() -> None:
    program = "import lemumo_core, sys; print({'numpy', 'torch', 'cv2'} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == "set()\n", result.stderr


def test_a_package_becomes_a_callable_on_frames(toy_package) -> None:
    model = lemumo_core.load(toy_package, backend="onnxruntime")
    perception = model(small_frames(1)[0])
    assert perception.depth_m.ndim == 2 and np.isfinite(perception.depth_m).any()
    assert isinstance(small_frames(1)[0], lemumo_core.Frame)


def test_what_is_no_package_is_named(tmp_path) -> None:
    with pytest.raises(Fault, match="is not a model package"):
        lemumo_core.load(tmp_path)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = lemumo_core.trian  # type: ignore[attr-defined]


def test_pretraining_then_fine_tuning(street_shards, tmp_path) -> None:
    pytest.importorskip("torch", reason="training needs PyTorch")
    from tests.helpers.small_run import small_config

    data = str(street_shards)
    config = small_config(batch=4, steps=2, data=data, out=str(tmp_path / "pretrain"))
    config = replace(config, log=replace(config.log, probes=False))
    run = lemumo_core.pretrain(config)
    assert run == tmp_path / "pretrain" and (run / "metrics.jsonl").exists()
    tuned = lemumo_core.finetune(
        lemumo_core.FinetuneConfig(
            data=data,
            model=config.model,
            scale=config.scale,
            val_frames=4,
            batch=4,
            steps=2,
            weights=str(run),
            out=str(tmp_path / "finetune"),
        )
    )
    assert (tuned / "model.safetensors").exists()
    with pytest.raises(Fault, match="holds a run"):
        lemumo_core.pretrain(config)
