"""lemumo's core: frames, geometry, the model and its runtimes. Knows nothing of ROS.

The names of ``__all__`` are imported when they are first used, so that a program that needs only a
part of lemumo loads only that part.
"""

from importlib import import_module

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
