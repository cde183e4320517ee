"""Options, configurations and checkpoints of version 0.1, translated once, with a note."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from lemumo_core.command_line import read_config
from lemumo_core.model.weight_names import current_names

log = logging.getLogger(__name__)

RENAMED = {"optimiser": "optimizer", "held_out": "val_frames"}
"""Options of all runs: old name, or its first part, to the new one."""
RENAMED_OF_PRETRAINING = {
    "objective.name": "method.objective",
    "objective.weight": "method.sigreg_weight",
    "objective.aux_unimodal": "method.aux_unimodal",
    "objective.tokens": "method.tokens",
    "objective.returns": "method.mask_returns",
    "views": "method.views",
    "modality_dropout": "method.modality_dropout",
}
PARTS = {"embedding": "projector.embedding", "projector": "projector.layers"}
"""First part of the name of a weight of pretraining: the old one to the new one."""


def arguments(given: Sequence[str], program: str) -> list[str]:
    """Translate the arguments of a training program.

    Args:
        given: the arguments; files of ``--config`` are translated, too.
        program: ``pretrain`` or ``finetune``.

    Returns:
        Arguments of this version.
    """
    translated = []
    files = False
    for argument in given:
        if argument.startswith("--"):
            name, *value = argument[2:].split("=", 1)
            new = _renamed(name.replace("-", "_"), program)
            if new is not None:
                log.warning("--%s is --%s since version 0.2", name, new)
                argument = "=".join([f"--{new}", *value])
            files = name == "config" and not value
            if name == "config" and value:
                argument = f"--config={_file(value[0], program)}"
        elif files:
            argument, files = _file(argument, program), False
        translated.append(argument)
    return translated


def config(values: Mapping[str, Any], program: str | None = None) -> dict[str, Any]:
    """Translate a configuration.

    Args:
        values: by names of options, nested.
        program: whose configuration it is; by default that of a whole one is found by its options.

    Returns:
        The configuration of this version; the same where there is nothing to translate.
    """
    program = program or ("pretrain" if "objective" in values else "finetune")
    found: dict[str, Any] = {}
    for name, value in values.items():
        nested = name == "objective" and isinstance(value, Mapping)
        leaves = {f"{name}.{k}": v for k, v in value.items()} if nested else {name: value}
        for old, leaf in leaves.items():
            *groups, last = (_renamed(old, program) or old).split(".")
            target = found
            for group in groups:
                target = target.setdefault(group, {})
            target[last] = leaf
    if program == "pretrain" and "method" not in values and "method" in found:
        of_then = {"objective": "lejepa", "masked_weight": 0.0}  # defaults of version 0.1
        options = {**of_then, **found["method"]}
        found["method"] = {"class_path": "LeMuMo", "init_args": options}
    return found


def file_name(name: str) -> str:
    """Translate the name of a file of a checkpoint, without suffix."""
    return name.replace("optimiser", "optimizer")


def method_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate the names of tensors; in pretraining the encoder held all parts of the method."""
    tensors = current_names(tensors)
    if any(name.startswith("encoder.") for name in tensors):
        return tensors
    return {_method_name(name): tensor for name, tensor in tensors.items()}


def _method_name(name: str) -> str:
    part, _, rest = name.partition(".")
    if part == "depth_branch":
        return name
    return f"{PARTS[part]}.{rest}" if part in PARTS else f"encoder.{name}"


def _renamed(name: str, program: str) -> str | None:
    table = RENAMED | (RENAMED_OF_PRETRAINING if program == "pretrain" else {})
    for old, new in table.items():
        if name == old or name.startswith(f"{old}."):
            return new + name[len(old) :]
    return None


def _file(path: str, program: str) -> str:
    """Return the path, or where a file has old options its translated content."""
    if not Path(path).is_file():
        return path
    values = read_config(Path(path))
    translated = config(values, program)
    if translated == values:
        return path
    old = sorted(values.keys() - translated.keys())
    log.warning("%s has options of version 0.1 (%s), which are translated", path, ", ".join(old))
    return yaml.safe_dump(translated)
