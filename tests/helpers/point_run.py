"""Write what a finished run of fine-tuning on points leaves, with random weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from lemumo_core.model.sparse.minkunet import SparseConfig
from lemumo_core.model.sparse.segmenter import POINT_OPTIONS, POINT_WEIGHTS, PointSegmenter
from lemumo_core.model.sparse.voxels import VoxelConfig
from lemumo_core.taxonomy import SEGMENTATION_CLASSES

STD = 0.1
"""The head's weights deviate so much that confidence varies."""


def write_point_run(out: Path, classes: Sequence[str] = tuple(SEGMENTATION_CLASSES)) -> Path:
    """Write a run whose network is small, and confident of some points and not of others."""
    config = SparseConfig(width=0.125, voxels=VoxelConfig(size_m=1.0, features="height"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PointSegmenter(config, len(classes))
        torch.nn.init.normal_(model.head.weight, std=STD)
    out.mkdir(parents=True)
    save_file(model.state_dict(), out / POINT_WEIGHTS)
    options = {"network": asdict(config), "classes": list(classes)}
    (out / POINT_OPTIONS).write_text(json.dumps(options))
    return out
