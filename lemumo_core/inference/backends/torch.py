"""PyTorch, from the package's safetensors: the reference that the others are held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from lemumo_core.faults import Fault
from lemumo_core.inference.backends import TensorSpec
from lemumo_core.inference.inputs import random_inputs
from lemumo_core.inference.package import WEIGHTS_NAME, Package
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import load_model
from lemumo_core.preprocess import Inputs, InputSpec


class ModuleBackend:
    """Runs a network that is already built, where its weights are, e.g. one in training.

    Args:
        name: of the backend.
        model: in evaluation mode; called with ``Inputs`` of tensors.
        spec: of the input.
        device: of its weights.
        batch: samples in one call.
    """

    def __init__(
        self,
        name: str,
        model: torch.nn.Module,
        spec: InputSpec,
        device: torch.device | str,
        batch: int = 1,
    ):
        self.name, self._model, self._device = name, model, device
        example = self._run(random_inputs(spec, batch))
        self.outputs = {
            name: TensorSpec(tuple(t.shape), t.cpu().numpy().dtype) for name, t in example.items()
        }

    def infer(self, inputs: Inputs, outputs: Mapping[str, np.ndarray]) -> None:
        """Run once, see ``Backend.infer``."""
        results = self._run(inputs)
        for name, array in outputs.items():
            np.copyto(array, results[name].cpu().numpy())

    def close(self) -> None:
        """Free the module."""
        del self._model

    def _run(self, inputs: Inputs) -> dict[str, torch.Tensor]:
        tensors = Inputs(*(torch.from_numpy(array).to(self._device) for array in inputs))
        with torch.inference_mode():
            results: dict[str, torch.Tensor] = self._model(tensors)._asdict()
            return results


class TorchBackend(ModuleBackend):
    """Runs the network from ``weights.safetensors`` in float32, on a GPU where there is one.

    ``torch-compile`` compiles it, which takes from seconds to minutes; on a GPU it then replays a
    CUDA graph.

    Raises:
        Fault: ``backend_failed`` for any precision but fp32.
    """

    def __init__(self, runtime: str, package: Package, precision: str, batch: int):
        if precision != "fp32":
            raise Fault("backend_failed", f"{runtime} runs fp32 only, not {precision}")
        config = ModelConfig.from_dict(package.manifest.model)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.backends.cudnn.allow_tf32 = False  # the reference must be float32 all through
        model: Any = load_model(config, package.file(WEIGHTS_NAME)).to(device)
        if runtime == "torch-compile":
            mode = "reduce-overhead" if device == "cuda" else "default"
            model = torch.compile(model, mode=mode, dynamic=False)
        super().__init__(f"{runtime}:{precision}", model, config.input_spec, device, batch)
