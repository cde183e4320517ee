"""Weights that others trained: state dicts of timm, torchvision, TorchGeo and SegFormer.

They are mapped by name; those of ViTs by ``vit_weights``. Classifiers are left out. A first layer
for another number of channels has the mean over RGB for each, scaled so that a grey picture in all
of them answers as it did in RGB.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from lemumo_core.faults import Fault
from lemumo_core.model.weight_file import read_weight_file

WRAPPERS = ("state_dict", "model")
"""Keys under which files keep a state dict."""
PREFIXES = ("module.", "backbone.")
CLASSIFIERS = ("fc.", "head.", "head_drop.", "fc_norm.")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict from .safetensors, or from what ``torch.save`` wrote.

    Of the latter tensors alone are read, so that no code in it runs.

    Raises:
        FileNotFoundError: nothing there.
        Fault: ``wrong_weights`` for a file that holds no tensors by name.
    """
    if path.suffix == ".safetensors":
        return read_weight_file(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of weights")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError and others
        raise Fault("wrong_weights", f"{path} is no file of weights: {error}") from error
    for name in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not all(isinstance(x, Tensor) for x in found.values()):
        raise Fault("wrong_weights", f"{path} holds no state dict: tensors by their names")
    tensors = dict(found)
    for prefix in PREFIXES:
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def load_by_name(
    module: nn.Module, tensors: Mapping[str, Tensor], path: Path, own: tuple[str, ...] = ()
) -> None:
    """Load weights of the same names.

    Args:
        module: whose first layer may have another number of channels than the weights'.
        tensors: weights by name.
        path: of the file, for messages.
        own: beginnings of names that the file need not have.

    Raises:
        Fault: ``wrong_weights``, naming what is missing, unexpected or of another shape.
    """
    given = {name: t for name, t in tensors.items() if not name.startswith(CLASSIFIERS)}
    fitted, problems = {}, []
    for name, tensor in module.state_dict().items():
        free = name.startswith(own) if own else False
        if name not in given:
            if not free and not name.endswith("num_batches_tracked"):
                problems.append(f"missing {name}")
            continue
        value = given.pop(name)
        if value.ndim == 4 and value.shape[1] == 3 and tensor.shape[1] != 3:
            value = for_channels(value, tensor.shape[1])
        if value.shape != tensor.shape:
            problems.append(f"{name} is {tuple(value.shape)}, not {tuple(tensor.shape)}")
        fitted[name] = value
    problems += [f"unexpected {name}" for name in given]
    if problems:
        shown = "; ".join(problems[:5])
        raise Fault("wrong_weights", f"{path} does not fit ({len(problems)} problems): {shown}")
    module.load_state_dict(fitted, strict=False)


def for_channels(weight: Tensor, channels: int) -> Tensor:
    """Return the weights (D, 3, k, k) of a first layer for another number of channels."""
    return weight.mean(1, keepdim=True).expand(-1, channels, -1, -1) * (3 / channels)
