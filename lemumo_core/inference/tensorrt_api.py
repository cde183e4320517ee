"""One view of TensorRT 8.6 to 11 and of TensorRT for RTX.

Names are asked for with ``hasattr`` and numbers never stored: between versions flags vanish and
enums are renumbered. Used are only calls that all of them have: tensors by name, and
``execute_async_v3``.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections import deque
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from lemumo_core.faults import Fault

log = logging.getLogger(__name__)
MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
OLDEST = (8, 6)


def load_tensorrt(flavour: str) -> ModuleType:
    """Import TensorRT; the driver must have been asked for before (``cuda_driver.why_no_gpu``).

    Args:
        flavour: a key of ``MODULES``.

    Raises:
        ImportError: if it is not installed, with the line that installs it.
        Fault: ``old_tensorrt`` before 8.6.
    """
    try:
        trt = importlib.import_module(MODULES[flavour])
    except ImportError as error:
        raise ImportError(f"{flavour} is missing ({error}): pip install {flavour}") from error
    if flavour == "tensorrt" and version_of(trt) < OLDEST:
        raise Fault(
            "old_tensorrt", f"TensorRT {trt.__version__} is too old; 8.6 or later is needed"
        )
    return trt


def version_of(trt: ModuleType) -> tuple[int, ...]:
    """(major, minor) of the library."""
    return tuple(int(part) for part in trt.__version__.split(".")[:2])


def is_strongly_typed(trt: ModuleType) -> bool:
    """Whether the types in the graph decide the precision (TensorRT 10 on)."""
    return hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def network_flags(trt: ModuleType) -> int:
    """Return the flags of ``create_network``: strongly typed, or explicit batch where needed."""
    names = ["STRONGLY_TYPED"] if is_strongly_typed(trt) else ["EXPLICIT_BATCH"]
    return bits(trt.NetworkDefinitionCreationFlag, names)


def precision_flags(trt: ModuleType, precision: str) -> tuple[str, ...]:
    """Builder flags for a precision: none where the graph's own types decide.

    Raises:
        Fault: ``unsupported_precision`` if this version cannot build it.
    """
    if is_strongly_typed(trt):
        return ()
    needed = {"fp32": (), "fp16": ("FP16",), "int8": ("INT8",), "fp8": ("FP8",)}
    if precision not in needed or not all(
        hasattr(trt.BuilderFlag, name) for name in needed[precision]
    ):
        raise Fault("unsupported_precision", f"TensorRT {trt.__version__} cannot build {precision}")
    obey = "OBEY_PRECISION_CONSTRAINTS"
    keep = (obey,) if precision != "fp32" and hasattr(trt.BuilderFlag, obey) else ()
    return needed[precision] + keep


def bits(enum: Any, names: list[str]) -> int:
    """The bit mask of some members of an enum, whatever their numbers are today."""
    return sum(1 << int(getattr(enum, name)) for name in names)


def tensors(engine: Any) -> list[str]:
    """Names of the inputs and outputs of an engine."""
    return [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]


def is_input(trt: ModuleType, engine: Any, name: str) -> bool:
    """Whether a tensor of an engine goes in."""
    return bool(engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT)


def dtype_of(trt: ModuleType, engine: Any, name: str) -> np.dtype[Any]:
    """NumPy type of a tensor of an engine."""
    dtype: np.dtype[Any] = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
    return dtype


def set_shapes(context: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Choose the shapes of the inputs.

    Raises:
        Fault: ``wrong_engine`` if the engine's profile does not hold one.
    """
    for name, shape in shapes.items():
        if not context.set_input_shape(name, shape):
            raise Fault("wrong_engine", f"the engine does not take {name} of shape {shape}")


@functools.cache
def logger(trt: ModuleType) -> Any:
    """Return the one ILogger of this process.

    Warnings and worse go to ``logging``, and the last errors are kept in its ``errors``.

    TensorRT takes the first logger that it is given for all that follows, and keeps a bare pointer
    to it: there must be one, and it must not go away.
    """
    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: logging.CRITICAL,
        trt.ILogger.Severity.ERROR: logging.ERROR,
        trt.ILogger.Severity.WARNING: logging.WARNING,
    }

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=2)

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity, logging.DEBUG)
            log.log(level, "TensorRT: %s", message)
            if level >= logging.ERROR:
                self.errors.append(message.strip())

    return Logger()


def last_errors(trt: ModuleType) -> str:
    """Return what TensorRT complained of last, and forget it."""
    errors = logger(trt).errors
    words = "; ".join(errors) or "it gave no reason"
    errors.clear()
    return words
