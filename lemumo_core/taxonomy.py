"""Default classes. A trained model's own list travels in its manifest and wins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DETECTION_CLASSES = ("car", "truck", "bus", "motorcycle", "bicycle", "pedestrian")

KINDS = {
    "truck": "truck/bus",
    "bus": "truck/bus",
    "motorcycle": "two-wheeler",
    "bicycle": "two-wheeler",
}
"""Kinds of classes that look alike, and that sources divide differently."""

SEGMENTATION_CLASSES: dict[str, tuple[int, int, int]] = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "pole": (153, 153, 153),
    "sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "pedestrian": (220, 20, 60),
    "two_wheeler": (119, 11, 32),
    "car": (0, 0, 142),
    "large_vehicle": (0, 60, 100),
}
"""Name to RGB colour, in the order of the label ids."""

SEGMENTATION_IDS = {name: index for index, name in enumerate(SEGMENTATION_CLASSES)}

_DETECTION_ALIASES = {
    # KITTI
    "van": "car",
    "cyclist": "bicycle",
    "person_sitting": "pedestrian",
    # Waymo Open Dataset
    "vehicle": "car",
    # FLIR ADAS, COCO
    "person": "pedestrian",
    "bike": "bicycle",
    "motor": "motorcycle",
    # nuScenes
    "vehicle.car": "car",
    "vehicle.truck": "truck",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.bicycle": "bicycle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
}


def detection_class(name: str) -> str | None:
    """Return which of ``DETECTION_CLASSES`` a source's class name is; None where none fits."""
    name = name.lower()
    return name if name in DETECTION_CLASSES else _DETECTION_ALIASES.get(name)


_OTHER_OBJECTS = frozenset(
    (
        # KITTI, Waymo
        *("misc", "tram", "sign", "unknown"),
        # FLIR ADAS, COCO on the road
        *("train", "light", "traffic light", "hydrant", "fire hydrant", "street sign"),
        *("stop sign", "parking meter", "dog", "deer", "cat", "bird", "horse", "cow", "sheep"),
        *("skateboard", "stroller", "scooter", "boat", "airplane", "other vehicle"),
    )
)
_OTHER_FAMILIES = ("animal", "movable_object.", "static_object.", "human.", "vehicle.")
"""nuScenes' categories, of which the aliases name those that are ours."""


def is_known(name: str) -> bool:
    """Return whether a class name is one of ours, or of what is known to be none of ours.

    What is known to be none of our classes is background. A name that nobody knows may be any
    object: misspelled, or in another language.
    """
    name = name.lower()
    other = name in _OTHER_OBJECTS or name.startswith(_OTHER_FAMILIES)
    return other or detection_class(name) is not None


def kinds_of(classes: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the kinds of a model's classes, and the kind of each class as an int64 index.

    Kinds are those of ``KINDS``; any other class is its own.
    """
    named = [KINDS.get(name, name) for name in classes]
    kinds = tuple(dict.fromkeys(named))
    return kinds, np.array([kinds.index(name) for name in named], np.int64)


def detection_ids(names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Map class names of any source to ids into a model's classes, int64; -1 for none of them.

    A name is that of the model's class itself, in any case, or maps to one by ``detection_class``.
    """
    number = {name.lower(): i for i, name in enumerate(classes)}
    ids = [number.get(name.lower(), number.get(detection_class(name) or "", -1)) for name in names]
    return np.array(ids, np.int64)
