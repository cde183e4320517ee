"""Network input that needs no sensor: for warming up, measuring and comparing."""

from __future__ import annotations

import numpy as np

from lemumo_core.preprocess import Inputs, InputSpec


def random_inputs(spec: InputSpec, batch: int = 1, seed: int = 0) -> Inputs:
    """Return random numpy inputs of a batch that has both modalities."""
    rng = np.random.default_rng(seed)
    size = (batch, spec.height, spec.width)
    valid = rng.random((*size, 1)) < 0.05
    value = np.where(valid, rng.random((*size, spec.bands)), 0.0)
    companion = np.concatenate([value, valid], axis=-1)[..., : spec.companion_channels]
    if spec.has_subpixel:
        places = np.where(valid, rng.random((*size, 2)) - 0.5, 0.0)
        companion = np.concatenate([companion, places], axis=-1)
    K = [[spec.width, 0, spec.width / 2], [0, spec.width, spec.height / 2], [0, 0, 1]]
    return Inputs(
        image=rng.integers(0, 256, (*size, 3), np.uint8),
        companion=np.ascontiguousarray(companion, np.float32),
        intrinsics=np.tile(np.array(K, np.float32), (batch, 1, 1)),
        present=np.ones((batch, 2), np.float32),
    )
