"""Classes of models: the default ones, users' own, and what data sets call them."""

from lemumo_core.taxonomy.class_file import shipped_names
from lemumo_core.taxonomy.taxonomy import (
    DETECTION_CLASSES,
    SEGMENTATION_CLASSES,
    SEGMENTATION_IDS,
    UNLABELLED,
    Taxonomy,
    legend_colors,
    read_classes,
)

__all__ = [
    "DETECTION_CLASSES",
    "SEGMENTATION_CLASSES",
    "SEGMENTATION_IDS",
    "UNLABELLED",
    "Taxonomy",
    "legend_colors",
    "read_classes",
    "shipped_names",
]
