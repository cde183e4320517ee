"""Pretraining as a ``Task``."""

from __future__ import annotations

from lemumo_core.train.engine import Run, Task
from lemumo_core.train.pretrain_config import PretrainConfig
from lemumo_core.train.pretrainer import Pretrainer
from lemumo_core.train.summary import conclude


def _pretrainer(run: Run) -> Pretrainer:
    return Pretrainer(run.config, run.steps, run.place)


PRETRAINING = Task(PretrainConfig, _pretrainer, conclude)
