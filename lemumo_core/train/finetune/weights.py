"""Weights of pretraining or fine-tuning for a perception model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.faults import Fault
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import PerceptionModel
from lemumo_core.model.transformer import resize_tables
from lemumo_core.train import checkpoint
from lemumo_core.train.checkpoint import Checkpoint
from lemumo_core.train.finetune.class_rows import for_other_classes
from lemumo_core.train.weights import find_weights, read_weights

log = logging.getLogger(__name__)

TABLES = ("positions", "fusion_tokens")
"""Parameters with a row for each cell of the patch grid, and perhaps one for CLS before them."""
RELATIVE = "rpe_table"
"""Parameters of biases by distance, which are read relative to the size of the map."""
DETAILS = "neck.details.0.0.weight"
"""Layer that also sees, after all else, depths of the companion's returns where it has any."""
PRETRAINED = {"encoder", "neck", "depth"}
"""Parts that pretraining may export; a whole model has more."""


def trained_model(path: Path) -> PerceptionModel:
    """Load the whole model of fine-tuning, in evaluation mode.

    Args:
        path: a run's folder (of one that is not finished its newest checkpoint is taken, which is
            said), the folder of a checkpoint, or a .safetensors file with its ``model.json``.

    Raises:
        Fault: ``bad_model`` where there is none; ``wrong_weights`` for those of pretraining, which
            have no heads; as ``read_weights``.
    """
    try:
        tensors, options = read_weights(path)
    except FileNotFoundError:
        options = None
    if options is None:
        raise Fault(
            "bad_model",
            f"{path} holds no model: give a package, or a run or checkpoint of lemumo finetune (a "
            "run holds none before its first checkpoint)",
        )
    if {name.split(".")[0] for name in tensors} <= PRETRAINED:
        raise Fault(
            "wrong_weights",
            f"{path} is pretrained and has no heads: fine-tune it first (lemumo finetune "
            f"--weights {path}) and take that run",
        )
    found = find_weights(path)
    if isinstance(found, Checkpoint) and path.resolve() != found.path.resolve():
        log.warning("%s is not finished: its checkpoint %s is taken", path, found.path.name)
    model = PerceptionModel(ModelConfig.from_dict(options)).eval()
    checkpoint.load_model_tensors(model, tensors, path)
    return model


def load_perception(model: PerceptionModel, path: Path) -> None:
    """Load weights of fine-tuning, all of them, or what pretraining exports.

    Pretraining exports the encoder and perhaps the neck and the depth head, which are loaded where
    the model has such heads.

    Tables of positions are resized where the model's input has another size. Where the model has
    other classes, those that keep their names keep their weights, and the others start untrained;
    so do boxes where those of the weights are in space and the model's in the image, and what looks
    at the companion where the model takes another kind.

    Raises:
        Fault, FileNotFoundError: as ``read_weights``; ``wrong_weights``.
    """
    tensors, options = read_weights(path)
    if options is not None:
        there = ModelConfig.from_dict(options)
        grid = there.grid
        tensors = {
            name: resize_table(name, t, grid, model.config.grid) for name, t in tensors.items()
        }
        if there.companion != model.config.companion:
            tensors = for_other_companion(tensors, model.state_dict())
        has_heads = not {name.split(".")[0] for name in tensors} <= PRETRAINED
        if has_heads and there.head_family == model.config.head_family:
            tensors = for_other_classes(tensors, there, model.state_dict(), model.config)
    for name, tensor in model.state_dict().items():
        if name.endswith(RELATIVE) and name in tensors:
            tensors[name] = resize_relative(tensors[name], tensor.shape[1:])
    parts = {name.split(".")[0] for name in tensors}
    if not parts <= PRETRAINED:
        # A refinement that the weights lack stays untrained; one that the model lacks is left out.
        own = {name for name, _ in model.named_children()}
        if "refine" in parts - own:
            tensors = {n: tensor for n, tensor in tensors.items() if n.split(".")[0] != "refine"}
        whole = own - ({"refine"} - parts)
        modules = nn.ModuleDict({name: model.get_submodule(name) for name in sorted(whole)})
        checkpoint.load_model_tensors(modules, tensors, path)
        return
    if model.config.head_family != "deploy":
        parts = parts & {"encoder"}
    modules = nn.ModuleDict({part: model.get_submodule(part) for part in sorted(parts)})
    kept = {name: tensor for name, tensor in tensors.items() if name.split(".")[0] in parts}
    checkpoint.load_model_tensors(modules, kept, path)


def for_other_companion(
    tensors: Mapping[str, Tensor], initial: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the weights of a model for one that takes another kind of companion.

    Args:
        tensors: weights, by name.
        initial: untrained weights of the model that takes them: it keeps its embeddings of the
            companion's patches, and what the first layer of the neck's details sees of returns.
    """
    made = dict(tensors)
    for name, own in initial.items():
        if ".patch_embed.companion." in name and name in tensors:
            made[name] = own.detach().clone()
        elif name == DETAILS and name in tensors:
            common = min(own.shape[1], tensors[name].shape[1])
            made[name] = torch.cat([tensors[name][:, :common], own[:, common:].detach()], dim=1)
    return made


def resize_relative(table: Tensor, size: torch.Size) -> Tensor:
    """Return a table of biases by distance, (heads, rows, columns), for a map of another size."""
    if table.shape[1:] == size:
        return table
    resized = functional.interpolate(table[None], tuple(size), mode="bilinear", align_corners=True)
    return resized[0]


def resize_table(name: str, table: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Return a parameter for a patch grid of another size; only those of ``TABLES`` differ.

    Args:
        name: of the parameter.
        table: its values, (1, count, D) where it is one of ``TABLES``.
        grid: rows and columns of its grid.
        size: rows and columns of the new grid.
    """
    if grid == size or name.split(".")[-1] not in TABLES:
        return table
    cells = grid[0] * grid[1]
    first, rest = table.split([table.shape[1] % cells, table.shape[1] // cells * cells], dim=1)
    resized = resize_tables(rest[0].unflatten(0, (-1, cells)), grid, size)
    return torch.cat([first, resized.flatten(0, 1)[None]], dim=1)
