"""Weights to start from: of a run, of a checkpoint, or of a file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from lemumo_core.faults import Fault
from lemumo_core.inference.package import MANIFEST_NAME, WEIGHTS_NAME, load_package
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import load_model
from lemumo_core.model.sparse.segmenter import POINT_WEIGHTS
from lemumo_core.model.weight_file import check_weight_file, read_weight_file
from lemumo_core.train import checkpoint, compatibility
from lemumo_core.train.checkpoint import Checkpoint
from lemumo_core.train.pretrain.config import PretrainConfig
from lemumo_core.train.run_config import from_dict
from lemumo_core.train.run_folder import CHECKPOINTS, MODEL_OPTIONS, MODEL_WEIGHTS


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors that a run saved: those of a method, or of a perception model.

    Args:
        path: a run's folder (a finished fine-tuning run gives its best weights, any other run
            those of its newest checkpoint), the folder of a checkpoint, a .safetensors file, or a
            model package that ships its weights.

    Raises:
        Fault: ``bad_checkpoint``; ``bad_package``; ``wrong_weights`` for a file of another format.
        FileNotFoundError: nothing there.
    """
    if (path / MANIFEST_NAME).is_file():
        return _of_package(path)[0]
    found = find_weights(path)
    if isinstance(found, Checkpoint):
        return found.tensors(checkpoint.MODEL)
    return compatibility.method_tensors(read_weight_file(found))


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Read weights of a perception model and the model options that lie beside them.

    Args:
        path: as of ``read_tensors``.

    Returns:
        Tensors by their names in ``PerceptionModel``, all or what pretraining exports
        (``Method.exported``), and the options of their ``ModelConfig``; None for a file that has
        no ``model.json`` beside it.

    Raises:
        Fault: ``bad_checkpoint``; ``bad_package``; ``wrong_weights`` for a file of another format;
            ``not_exported`` for a method that has no such weights.
        FileNotFoundError: nothing there.
    """
    if (path / MANIFEST_NAME).is_file():
        return _of_package(path)
    found = find_weights(path)
    if not isinstance(found, Checkpoint):
        options = found.with_name(MODEL_OPTIONS)
        tensors = _of_perception(compatibility.method_tensors(read_weight_file(found)))
        return tensors, json.loads(options.read_text()) if options.exists() else None
    tensors, values = found.tensors(checkpoint.MODEL), found.state["config"]
    if "method" not in values:
        return tensors, values["model"]
    config = from_dict(PretrainConfig, values)
    method = config.method.build(config.model, config.canvas_spec)
    checkpoint.load_model_tensors(method, tensors, found.path)
    exported = method.exported()
    if exported is None:
        raise Fault(
            "not_exported",
            f"{path} is of method {type(config.method).__name__}, which exports no encoder to "
            "fine-tune: compare it by its probes (summary.json), or take another run",
        )
    model, weights = exported
    return weights, json.loads(json.dumps(asdict(model)))


def _of_package(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    package = load_package(path)
    options = package.manifest.model
    if WEIGHTS_NAME not in package.manifest.files:
        raise Fault(
            "bad_package",
            f"{path} ships graphs alone, without {WEIGHTS_NAME}: take the run it was exported from",
        )
    model = load_model(ModelConfig.from_dict(options), package.file(WEIGHTS_NAME))
    return {name: tensor.float() for name, tensor in model.state_dict().items()}, options


def check_weights(path: Path) -> None:
    """Check that there are weights at a path, without reading them.

    Raises:
        Fault, FileNotFoundError: as ``find_weights`` and ``check_weight_file``.
    """
    if any((path / name).is_file() for name in (MANIFEST_NAME, POINT_WEIGHTS)):
        return
    found = find_weights(path)
    if not isinstance(found, Checkpoint):
        check_weight_file(found)


def find_weights(path: Path) -> Checkpoint | Path:
    """Return the checkpoint, or the .safetensors file, that a path stands for.

    Raises:
        Fault: ``bad_checkpoint``.
        FileNotFoundError: nothing there.
    """
    folder = path.parent if path.is_file() else path
    if (folder / checkpoint.STATE).exists():
        return checkpoint.open_checkpoint(folder)
    file = path if path.is_file() else path / MODEL_WEIGHTS
    if file.is_file():
        return file
    found = checkpoint.newest(path / CHECKPOINTS)
    if found is None:
        raise FileNotFoundError(f"{path} is no run, checkpoint, package or .safetensors file")
    return found


def _of_perception(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what a perception model takes of a file that holds tensors of LeMuMo."""
    if not any(name.startswith("projector.") for name in tensors):
        return tensors
    return {
        name.removeprefix("depth_branch."): tensor
        for name, tensor in tensors.items()
        if not name.startswith("projector.")
    }
