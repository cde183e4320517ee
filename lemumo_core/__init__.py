"""lemumo's core: frames, geometry, the model and its runtimes. Knows nothing of ROS.

The names of ``__all__`` are imported when they are first used, so that a program that needs only a
part of lemumo loads only that part.
"""

import os
from importlib import import_module

_SILENCED = {
    "ORT_DISABLE_TELEMETRY": "1",
    "ORT_TELEMETRY_DISABLED": "1",  # its name in some versions of ONNX Runtime
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "true",  # huggingface_hub, MLflow
}
"""Environment variables by which libraries call nobody unless their user asks for it: ONNX Runtime
sends what machine it runs on as soon as it is imported. OpenVINO has none, see its backend."""
for _name, _value in _SILENCED.items():
    os.environ.setdefault(_name, _value)

_HOME = {
    "FinetuneConfig": "lemumo_core.train.finetune.config",
    "Frame": "lemumo_core.frame",
    "PretrainConfig": "lemumo_core.train.pretrain.config",
    "finetune": "lemumo_core.api",
    "load": "lemumo_core.api",
    "pretrain": "lemumo_core.api",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
