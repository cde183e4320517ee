"""PyTorch, from the package's safetensors: the reference that the others are held against."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lemumo_core.inference.backends import TensorSpec
from lemumo_core.inference.package import Package

try:
    import torch
except ImportError as error:
    raise ImportError('PyTorch is missing: pip install "lemumo_ros[train]"') from error

from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import load_model


class TorchBackend:
    """Runs the network from ``weights.safetensors``, on the CPU, in float32."""

    name = "torch"

    def __init__(self, package: Package):
        config = ModelConfig.from_dict(package.manifest.model)
        self._model = load_model(config, package.file("weights.safetensors"))
        spec = config.input_spec
        empty = {
            "image": torch.zeros(1, spec.height, spec.width, 3, dtype=torch.uint8),
            "companion": torch.zeros(1, spec.height, spec.width, spec.companion_channels),
            "intrinsics": torch.eye(3)[None],
            "present": torch.ones(1, 2),
        }
        with torch.inference_mode():
            example = self._model(**empty)._asdict()
        self.outputs = {
            name: TensorSpec(tuple(t.shape), t.numpy().dtype) for name, t in example.items()
        }

    def infer(self, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> None:
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        with torch.inference_mode():
            results = self._model(**tensors)._asdict()
        for name, array in outputs.items():
            np.copyto(array, results[name].numpy())

    def close(self) -> None:
        del self._model
