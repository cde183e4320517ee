"""Weights of a 3D network: of pretraining by CMCR, or of fine-tuning on points."""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor, nn

from lemumo_core.faults import Fault
from lemumo_core.model.sparse.minkunet import SparseConfig
from lemumo_core.model.sparse.segmenter import POINT_OPTIONS, POINT_WEIGHTS, network_from_dict
from lemumo_core.model.weight_file import read_weight_file
from lemumo_core.train import checkpoint
from lemumo_core.train.weights import find_weights


def read_network(path: Path) -> tuple[dict[str, Tensor], SparseConfig]:
    """Read the weights of a 3D network.

    Args:
        path: a run's folder or a checkpoint's, of either kind.

    Returns:
        Tensors by their names in ``PointSegmenter``, with or without the head, and the network.

    Raises:
        Fault: ``bad_checkpoint``; ``wrong_weights`` for a run without a 3D network.
        FileNotFoundError: nothing there.
    """
    if (path / POINT_WEIGHTS).is_file():
        options = json.loads((path / POINT_OPTIONS).read_text())
        return read_weight_file(path / POINT_WEIGHTS), network_from_dict(options["network"])
    found = find_weights(path)
    tensors, options = {}, None
    if not isinstance(found, Path):
        values = found.state["config"]
        options = values.get("network") or values.get("method", {}).get("init_args", {}).get(
            "network"
        )
        kept = ("network.", "head.")
        tensors = {n: t for n, t in found.tensors(checkpoint.MODEL).items() if n.startswith(kept)}
    if not tensors or options is None:
        raise Fault(
            "wrong_weights",
            f"{path} holds no 3D network: take a run of lemumo pretrain --method CMCR, or of "
            "lemumo finetune --task points",
        )
    return tensors, network_from_dict(options)


def load_network(model: nn.Module, path: Path) -> None:
    """Load the network into a ``PointSegmenter``, and the head where it has the same classes.

    Raises:
        Fault, FileNotFoundError: as ``read_network``; ``wrong_weights`` for another network.
    """
    tensors, _ = read_network(path)
    own = model.state_dict()
    head = {n: t for n, t in tensors.items() if n.startswith("head.")}
    if not head or any(own[n].shape != t.shape for n, t in head.items()):
        head = {n: t for n, t in own.items() if n.startswith("head.")}
    network = {n: t for n, t in tensors.items() if n.startswith("network.")}
    checkpoint.load_model_tensors(model, network | head, path)
