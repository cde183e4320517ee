"""PyTorch, from the package's safetensors: the reference that the others are held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from lemumo_core.faults import Fault
from lemumo_core.inference.backends import TensorSpec
from lemumo_core.inference.inputs import random_inputs
from lemumo_core.inference.package import Package
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import load_model


class TorchBackend:
    """Runs the network from ``weights.safetensors`` in float32, on a GPU where there is one.

    ``torch-compile`` compiles it, which takes from seconds to minutes; on a GPU it then replays a
    CUDA graph.

    Raises:
        Fault: ``backend_failed`` for any precision but fp32.
    """

    def __init__(self, runtime: str, package: Package, precision: str, batch: int):
        if precision != "fp32":
            raise Fault("backend_failed", f"{runtime} runs fp32 only, not {precision}")
        self.name = f"{runtime}:{precision}"
        config = ModelConfig.from_dict(package.manifest.model)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.backends.cudnn.allow_tf32 = False  # the reference must be float32 all through
        model = load_model(config, package.file("weights.safetensors")).to(self._device)
        self._model: torch.nn.Module = model
        if runtime == "torch-compile":
            mode = "reduce-overhead" if self._device == "cuda" else "default"
            compiled: Any = torch.compile(model, mode=mode, dynamic=False)
            self._model = compiled
        example = self._run(random_inputs(config.input_spec, batch))
        self.outputs = {
            name: TensorSpec(tuple(t.shape), t.cpu().numpy().dtype) for name, t in example.items()
        }

    def infer(self, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> None:
        results = self._run(inputs)
        for name, array in outputs.items():
            np.copyto(array, results[name].cpu().numpy())

    def close(self) -> None:
        del self._model

    def _run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        tensors = {name: torch.from_numpy(a).to(self._device) for name, a in inputs.items()}
        with torch.inference_mode():
            results: dict[str, torch.Tensor] = self._model(**tensors)._asdict()
            return results
