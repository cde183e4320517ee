"""Weights to start from: of a run, of a checkpoint, or of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import PerceptionModel
from lemumo_core.model.transformer import resize_tables
from lemumo_core.train import checkpoint
from lemumo_core.train.run_folder import CHECKPOINTS, MODEL_OPTIONS, MODEL_WEIGHTS

TABLES = ("positions", "fusion_tokens")
"""Parameters with a row for each cell of the patch grid, and perhaps one for CLS before them."""
BRANCH = "depth_branch."
"""What pretraining with hidden returns calls the neck and the depth head of its model."""


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Weights and the model options that lie beside them.

    Args:
        path: a run's folder (a finished fine-tuning run gives its best weights, any other run
            those of its newest checkpoint), the folder of a checkpoint, or a .safetensors file.

    Returns:
        Tensors by name, and the options of their ``ModelConfig``; None for a file that has no
        ``model.json`` beside it.

    Raises:
        Fault: ``bad_checkpoint``.
        FileNotFoundError: nothing there.
    """
    if (path / checkpoint.STATE).exists():
        found: checkpoint.Checkpoint | None = checkpoint.open_checkpoint(path)
    elif path.is_file() or (path / MODEL_WEIGHTS).is_file():
        file = path if path.is_file() else path / MODEL_WEIGHTS
        options = file.with_name(MODEL_OPTIONS)
        return load_file(file), json.loads(options.read_text()) if options.exists() else None
    else:
        found = checkpoint.newest(path / CHECKPOINTS)
    if found is None:
        raise FileNotFoundError(f"{path} is no run, checkpoint or .safetensors file")
    return found.tensors(checkpoint.MODEL), found.state["config"]["model"]


def load_perception(model: PerceptionModel, path: Path) -> None:
    """Load a whole model, or where the weights are those of pretraining the encoder and, if they
    were learnt and the model has such heads, the neck and the depth head.

    Tables of positions are resized where the model's input has another size.

    Raises:
        Fault, FileNotFoundError: as ``read_weights``; ``wrong_weights``.
    """
    tensors, options = read_weights(path)
    whole = any(name.startswith("encoder.") for name in tensors)
    part: nn.Module = model if whole else model.encoder
    if options is not None:
        grid = ModelConfig.from_dict(options).grid
        tensors = {name: _resized(name, t, grid, model.config.grid) for name, t in tensors.items()}
    unused = () if whole else model.encoder.FOR_PRETRAINING
    kept = {name: t for name, t in tensors.items() if name.split(".")[0] not in unused}
    checkpoint.load_model_tensors(part, kept, path)
    branch = {n.removeprefix(BRANCH): t for n, t in tensors.items() if n.startswith(BRANCH)}
    if branch and model.config.head_family == "deploy":
        heads = nn.ModuleDict({"neck": model.neck, "depth": model.depth})
        checkpoint.load_model_tensors(heads, branch, path)


def _resized(name: str, table: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    if grid == size or name.split(".")[-1] not in TABLES:
        return table
    cells = grid[0] * grid[1]
    first, rest = table.split([table.shape[1] % cells, table.shape[1] // cells * cells], dim=1)
    resized = resize_tables(rest[0].unflatten(0, (-1, cells)), grid, size)
    return torch.cat([first, resized.flatten(0, 1)[None]], dim=1)
