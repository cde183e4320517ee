"""Pretraining as a ``Recipe``."""

from __future__ import annotations

from lemumo_core.train.loop import Recipe, Run
from lemumo_core.train.pretrain.config import PretrainConfig
from lemumo_core.train.pretrain.learner import PretrainLearner
from lemumo_core.train.pretrain.summary import finalize


def _learner(run: Run) -> PretrainLearner:
    return PretrainLearner(run.config, run.steps, run.dist)


PRETRAINING = Recipe(PretrainConfig, _learner, finalize)
