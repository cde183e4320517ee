"""A network that takes no time worth mentioning, for benchmarks of all that is around it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lemumo_core.inference.backends import TensorSpec
from lemumo_core.inference.manifest import Manifest, model_file
from lemumo_core.inference.package import Package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.preprocess import Inputs, InputSpec
from lemumo_core.taxonomy import DETECTION_CLASSES, SEGMENTATION_CLASSES

BOXES = 100
OBJECTS = 20
"""Number of boxes whose score is above the threshold."""
SLEEP_S = 1e-3


class Stub:
    """A network that says the same of everything, after ``SLEEP_S``."""

    def __init__(self, package: Package, name: str, batch: int):
        rng = np.random.default_rng(0)
        spec = package.manifest.input
        size = spec.height // 4, spec.width // 4
        self.name = "stub:fp32"
        self.answers = {
            "boxes": rng.uniform((-8, 0, 5, 3, 1, 1, -3), (8, 2, 50, 5, 2, 2, 3), (BOXES, 7)),
            "scores": np.where(np.arange(BOXES) < OBJECTS, 0.9, 0.1),
            "class_ids": np.arange(BOXES) % len(DETECTION_CLASSES),
            "depth": rng.uniform(2, 80, size),
            "depth_confidence": np.ones(size),
            "labels": rng.integers(0, len(SEGMENTATION_CLASSES), size),
        }
        kinds = {"class_ids": np.int64, "labels": np.uint8}
        self.answers = {k: v.astype(kinds.get(k, np.float32)) for k, v in self.answers.items()}
        self.outputs = {
            key: TensorSpec((batch, *value.shape), value.dtype)
            for key, value in self.answers.items()
        }

    def infer(self, inputs: Inputs, outputs: Mapping[str, np.ndarray]) -> None:
        """As ``Backend.infer``."""
        time.sleep(SLEEP_S)
        for key, array in outputs.items():
            array[:] = self.answers[key]

    def close(self) -> None:
        """Nothing to free."""


def stub_pipeline(spec: InputSpec, batch: int = 1) -> Pipeline:
    """Our pipeline over the stub, so many frames in one inference."""
    labels = tuple(SEGMENTATION_CLASSES), tuple(SEGMENTATION_CLASSES.values())
    files = {model_file(dynamic=True): ""}
    manifest = Manifest("stub", "1", False, {}, spec, DETECTION_CLASSES, *labels, files=files)
    return Pipeline(Package(Path(), manifest), "onnxruntime", 0.3, batch, load=Stub)
