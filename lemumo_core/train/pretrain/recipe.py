"""Pretraining as a ``Task``."""

from __future__ import annotations

from lemumo_core.train.loop import Run, Task
from lemumo_core.train.pretrain.config import PretrainConfig
from lemumo_core.train.pretrain.learner import Pretrainer
from lemumo_core.train.pretrain.summary import conclude


def _pretrainer(run: Run) -> Pretrainer:
    return Pretrainer(run.config, run.steps, run.place)


PRETRAINING = Task(PretrainConfig, _pretrainer, conclude)
