"""Checkpoints that are whole or refused: folders of safetensors files, never pickle.

    step-00000100/model.safetensors        the whole method, by the names of its weights
                  optimizer.safetensors    WEIGHT.exp_avg, WEIGHT.exp_avg_sq, WEIGHT.step
                  probes.safetensors, probes_optimizer.safetensors     where there are probes
                  state.json               step, configuration, sha256 of the files and of itself

A folder gets its name after everything in it is on the disk. Random generators are not saved:
``seeds`` makes them functions of the step.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lemumo_core.faults import Fault
from lemumo_core.inference.package import sha256
from lemumo_core.train import compatibility
from lemumo_core.train.parallel import full, like

log = logging.getLogger(__name__)

MODEL, OPTIMIZER = "model", "optimizer"
PROBES, PROBES_OPTIMIZER = "probes", "probes_optimizer"
STATE = "state.json"
SCHEMA = 2
"""Version of ``state``; states of version 0.1 have none (``compatibility``)."""
PART = ".part"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found whole.

    Attributes:
        path: its folder.
        state: of ``state.json``: ``step``, the first that was not trained, and what ``save`` was
            given. The configuration is translated where another version wrote it.
        own_schema: whether this version wrote it.
    """

    path: Path
    state: dict[str, Any]
    own_schema: bool = True

    @property
    def names(self) -> list[str]:
        """Names of the files of tensors."""
        return [compatibility.file_name(Path(name).stem) for name in self.state["files"]]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Read the tensors of a file, e.g. ``MODEL``."""
        files = dict(zip(self.names, self.state["files"], strict=True))
        tensors = load_file(self.path / files[name])
        if name in (MODEL, OPTIMIZER) and not self.own_schema:
            return compatibility.method_tensors(tensors)
        return tensors


def save(
    folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
) -> None:
    """Write a checkpoint; whatever stops this, there is a whole one or none.

    Args:
        folder: of this checkpoint.
        tensors: file name without suffix to full tensors by name.
        state: JSON values.

    Raises:
        OSError: the disk is full or read-only; the message names the file.
    """
    part = folder.with_name(folder.name + PART)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    files = {}
    for name, values in tensors.items():
        path = part / f"{name}.safetensors"
        cpu = {key: value.detach().cpu().contiguous() for key, value in values.items()}
        try:
            save_file(cpu, path)
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written: {error}") from error
        files[path.name] = sha256(path)
        _sync(path)
    content = {**state, "files": files}
    # No newline at the end: cut off anywhere, it is no JSON.
    (part / STATE).write_text(json.dumps({"sha256": _digest(content), "state": content}))
    _sync(part / STATE)
    _sync(part)
    if folder.exists():  # damaged, or of a run that was resumed before it
        shutil.rmtree(folder)
    part.replace(folder)
    _sync(folder.parent)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Check every byte of a checkpoint.

    Raises:
        Fault: ``bad_checkpoint``, naming the file that is damaged or missing.
    """
    try:
        stored = json.loads((folder / STATE).read_text())
        state: dict[str, Any] = stored["state"]
        whole = stored["sha256"] == _digest(state)
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise Fault("bad_checkpoint", f"{folder / STATE} is damaged or missing")
    for name, digest in state["files"].items():
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            raise Fault("bad_checkpoint", f"{folder / name} is damaged or missing")
    if state.get("schema") == SCHEMA or "config" not in state:
        return Checkpoint(folder, state)
    return Checkpoint(folder, {**state, "config": compatibility.config(state["config"])}, False)


def newest(root: Path) -> Checkpoint | None:
    """Return the newest whole checkpoint of a run; damaged ones are named in the log."""
    for folder in reversed(checkpoints(root)):
        try:
            return open_checkpoint(folder)
        except Fault as fault:
            log.warning("%s; trying the checkpoint before it", fault)
    return None


def checkpoints(root: Path) -> list[Path]:
    """Return the folders of the checkpoints of a run, oldest first."""
    return sorted(path for path in root.glob("step-*") if not path.name.endswith(PART))


def checkpoint_folder(root: Path, step: int) -> Path:
    """Return the folder of the checkpoint whose next step is this one."""
    return root / f"step-{step:08d}"


def prune(root: Path, keep: int) -> None:
    """Delete all but the newest checkpoints, and what killed runs left of unfinished ones."""
    for path in [*checkpoints(root)[:-keep], *root.glob(f"step-*{PART}")]:
        shutil.rmtree(path)


def training_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, dict[str, Tensor]]:
    """Return weights and optimiser as ``save`` takes them; all ranks call this together."""
    return {MODEL: model_tensors(model), OPTIMIZER: optimizer_tensors(model, optimizer)}


def load_training_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, found: Checkpoint
) -> None:
    """Restore what ``training_tensors`` returned.

    Raises:
        Fault: ``wrong_weights``.
    """
    load_model_tensors(model, found.tensors(MODEL), found.path)
    load_optimizer_tensors(model, optimizer, found.tensors(OPTIMIZER))


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return weights and buffers; all ranks call this together."""
    return {name: full(value) for name, value in model.state_dict().items()}


def load_model_tensors(model: nn.Module, tensors: Mapping[str, Tensor], origin: object) -> None:
    """Set weights and buffers.

    Raises:
        Fault: ``wrong_weights``, naming tensors that are missing, unexpected or of another shape.
    """
    own = model.state_dict()
    wrong = [name for name in own.keys() | tensors.keys() if not _fits(name, own, tensors)]
    if wrong:
        shown = ", ".join(sorted(wrong)[:5])
        raise Fault(
            "wrong_weights",
            f"{origin} does not fit the model: {len(wrong)} tensors differ"
            f" in name or shape, e.g. {shown}; use the model.* options of its run",
        )
    model.load_state_dict({name: like(tensors[name], value) for name, value in own.items()})


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of an optimiser of a model's parameters; all ranks call this together."""
    return {
        f"{name}.{key}": full(value)
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Restore what ``optimizer_tensors`` returned."""
    states: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        parameter, _, key = name.rpartition(".")
        states.setdefault(parameter, {})[key] = value
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    numbered = optimizer.state_dict()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, parameter in enumerate(parameters):
        state = states.get(names[id(parameter)], {})
        numbered["state"][number] = {
            key: value if key == "step" else like(value, parameter) for key, value in state.items()
        }
    optimizer.load_state_dict(numbered)


def _fits(name: str, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> bool:
    return name in own and name in tensors and own[name].shape == tensors[name].shape


def _digest(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
