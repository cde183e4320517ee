"""Road users: cars, trucks, buses, motorcycles, cyclists and pedestrians.

A split has its own catalogue of models, drawn from the same families with other proportions, so
that nobody is tested on the very shapes they learned from. Body frame: x forward, y left, z up,
origin on the ground.
"""

from __future__ import annotations

import numpy as np

from lemumo_core.taxonomy import DETECTION_CLASSES
from lemumo_core.world.palette import Rng
from lemumo_core.world.people import bicycle, motorcycle, pedestrian
from lemumo_core.world.vehicles import bus, car, truck

SPLITS = ("train", "val", "test")
MODELS_PER_CLASS = 8
_BUILDERS = {
    "car": car,
    "truck": truck,
    "bus": bus,
    "motorcycle": motorcycle,
    "bicycle": bicycle,
    "pedestrian": pedestrian,
}


def build(label: str, model: int, split: str, rng: Rng, moving: bool = True) -> np.ndarray:
    """Build one object.

    Args:
        label: a detection class.
        model: which of the catalogue's ``MODELS_PER_CLASS``.
        split: one of ``SPLITS``.
        rng: of what varies between two of one model: paint, clothes, pose.
        moving: people stride, engines and tyres are warm.

    Returns:
        ``SOLID`` (P,), body frame.
    """
    seed = (77, DETECTION_CLASSES.index(label), SPLITS.index(split), model)
    return _BUILDERS[label](np.random.default_rng(seed), rng, moving)
