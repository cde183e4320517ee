"""The default classes. A trained model's own list travels in its manifest and wins."""

from __future__ import annotations

DETECTION_CLASSES = ("car", "truck", "bus", "motorcycle", "bicycle", "pedestrian")

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
