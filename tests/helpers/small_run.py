"""A run so small that a step takes a tenth of a second."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch

from lemumo_core.data.samples import Batch, collate, sample
from lemumo_core.data.views import MultiCropConfig
from lemumo_core.methods.lemumo.method import LeMuMo
from lemumo_core.model.config import ModelConfig
from lemumo_core.train.pretrain.config import PretrainConfig, PretrainLogConfig
from lemumo_core.train.run_config import ScaleConfig
from tests.helpers.small_frames import small_frames

SMALL_VIEWS = MultiCropConfig(local_views=2, global_size=(32, 32), local_size=(16, 32))
"""Two global views of 32 x 32 pixels, two local ones of 16 x 32."""


def small_method(**changes: Any) -> LeMuMo:
    """A method with ``SMALL_VIEWS``."""
    return LeMuMo(**{"views": SMALL_VIEWS, **changes})


def small_config(**changes: Any) -> PretrainConfig:
    """Eight samples a step of a small method."""
    options: dict[str, Any] = {
        "batch": 8,
        "steps": 6,
        "val_frames": 4,
        "model": ModelConfig(size="nano", height=48, width=64),
        "method": small_method(),
        "scale": ScaleConfig(workers=0),
        "log": PretrainLogConfig(monitor_every=100, probe_steps=2, tensorboard=False),
    }
    return PretrainConfig(**{**options, **changes})


def small_batch(config: PretrainConfig) -> Batch:
    """The samples of one step, random ones with labels."""
    classes = config.model.classes
    frames = small_frames(config.batch)
    batch = collate(
        [sample(frame, config.canvas_spec, classes, config.needs.points) for frame in frames]
    )
    assert batch.labels is not None
    return batch


def share(batch: Batch, rank: int, world: int) -> Batch:
    """A rank's part of a batch."""

    def part(value):
        if is_dataclass(value) and not isinstance(value, type):
            kept = {f.name: part(getattr(value, f.name)) for f in fields(value)}
            return replace(value, **kept) if not hasattr(value, "depth_max_m") else value
        return value.chunk(world)[rank] if isinstance(value, torch.Tensor) else value

    return part(batch)
