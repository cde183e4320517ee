"""CMCR so small that a step takes a tenth of a second."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from lemumo_core.data.photometric import PHOTOMETRIC
from lemumo_core.data.samples import Batch, collate, sample
from lemumo_core.data.views import MultiCropConfig
from lemumo_core.methods.cmcr.codebook import CodebookConfig
from lemumo_core.methods.cmcr.method import CMCR, CmcrMethod
from lemumo_core.methods.cmcr.views import DrawConfig
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.sparse.minkunet import SparseConfig
from lemumo_core.model.sparse.voxels import VoxelConfig
from lemumo_core.taxonomy import Taxonomy
from tests.helpers.small_frames import small_frames

MODEL = ModelConfig(height=96, width=160)
VIEWS = MultiCropConfig(
    global_views=1,
    local_views=0,
    global_size=(48, 80),
    global_scale=(0.5, 1.0),
    photometric=PHOTOMETRIC["none"],
)


def draw(purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(len(purpose))


def two_sweeps() -> Batch:
    """Two samples; red and green of a pixel are its column and row."""
    frames = small_frames(2)
    height, width = frames[0].image.shape[:2]
    rows, columns = np.indices((height, width))
    image = np.stack([columns, rows, np.zeros_like(rows)], -1).astype(np.uint8)
    frames = [replace(frame, image=image) for frame in frames]
    return collate([sample(frame, MODEL.input_spec, Taxonomy(), points=True) for frame in frames])


def small(**changes) -> CMCR:
    options = {
        "image_weights": "random",
        "network": SparseConfig(width=0.125, voxels=VoxelConfig(size_m=1.0, features="height")),
        "crop": VIEWS,
        "draw": DrawConfig(matches=64, queries=60, neighbors=8, mask_images=1.0),
        "width": 16,
        "codebook": CodebookConfig(60),
    }
    return CMCR(**{**options, **changes})


def built(**changes) -> CmcrMethod:
    torch.manual_seed(0)
    method = small(**changes).build(MODEL, MODEL.input_spec)
    assert isinstance(method, CmcrMethod)
    return method
