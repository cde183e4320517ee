"""Pretraining as a ``Recipe``."""

from __future__ import annotations

from dataclasses import replace

from lemumo_core.data.sources import FrameSource, evenly_spaced
from lemumo_core.frame import Frame, Labels, LidarScan
from lemumo_core.train.loop import Recipe, Run
from lemumo_core.train.pretrain.config import PretrainConfig
from lemumo_core.train.pretrain.learner import PretrainLearner
from lemumo_core.train.pretrain.summary import finalize

LOOKED_AT = 16
"""Frames in which something to probe is looked for."""


def _learner(run: Run) -> PretrainLearner:
    return PretrainLearner(run.config, run.steps, run.dist)


def check(config: PretrainConfig, source: FrameSource) -> tuple[PretrainConfig, list[str]]:
    """Leave out probes where a sample of the frames has neither depth nor classes to probe."""
    looked_at = evenly_spaced(len(source), LOOKED_AT)
    if not config.log.probes or any(_has_truth(source[i]) for i in looked_at):
        return config, []
    note = (
        f"no probes: none of {len(looked_at)} frames, spread over the data, has LiDAR, depth or a "
        "label map to measure them by"
    )
    return replace(config, log=replace(config.log, probes=False)), [note]


def _has_truth(frame: Frame) -> bool:
    labels = frame.labels or Labels()
    dense = labels.depth_m is not None or labels.label_map is not None
    return dense or isinstance(frame.companion, LidarScan)


PRETRAINING = Recipe(PretrainConfig, _learner, finalize, check)
