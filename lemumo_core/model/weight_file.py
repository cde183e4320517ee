"""Files of weights in the format safetensors."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from lemumo_core.faults import Fault


def read_weight_file(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a .safetensors file, by name.

    Raises:
        Fault, FileNotFoundError: as ``check_weight_file``.
    """
    from safetensors.torch import load_file

    check_weight_file(path)
    return load_file(path)


def check_weight_file(path: Path) -> None:
    """Check that a file begins as a .safetensors file and is as long as it says.

    Raises:
        FileNotFoundError: nothing there.
        Fault: ``wrong_weights`` for a folder, and for a file of another format or a damaged one.
    """
    from safetensors import SafetensorError, safe_open

    if path.is_dir():
        raise Fault("wrong_weights", f"{path} is a folder: give a .safetensors file")
    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise Fault("wrong_weights", f"{path} is no whole .safetensors file: {error}") from error
