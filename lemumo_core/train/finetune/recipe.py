"""Fine-tuning as a ``Recipe``, and what a finished run leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from torch import Tensor

from lemumo_core.data.sources import FrameSource, evenly_spaced
from lemumo_core.data.sources.members import data_name
from lemumo_core.frame import Labels
from lemumo_core.train import run_folder
from lemumo_core.train.best_weights import write_best
from lemumo_core.train.finetune.config import FinetuneConfig
from lemumo_core.train.finetune.learner import FinetuneLearner
from lemumo_core.train.loop import Recipe, Run
from lemumo_core.train.selection import any_labels, no_labels

LOOKED_AT = 16
"""Frames in which 3D boxes are looked for."""
FLAT = (
    "objects have 2D boxes alone, of which a 3D detection head learns nothing: take "
    "--model.detection 2d"
)


def finalize(run: Run, weights: Mapping[str, Tensor]) -> str:
    """Write the best weights by ``validation.score_of``, with metrics by mode: ``write_best``."""
    files = run_folder.MODEL_WEIGHTS, run_folder.MODEL_OPTIONS
    return write_best(run, weights, *files, asdict(run.config.model))


def check(config: FinetuneConfig, source: FrameSource) -> tuple[FinetuneConfig, list[str]]:
    """Refuse data without labels; warn of validation frames without, and of 2D boxes alone.

    Raises:
        Fault: ``no_labels``.
    """
    trained = len(source) - config.val_frames
    if not any_labels(source, range(trained)):
        raise no_labels(data_name(config.data, config.data_options))
    notes = [FLAT] if config.model.detection == "3d" and _is_flat(source, trained) else []
    if not config.val_frames or any_labels(source, range(trained, len(source))):
        return config, notes
    warning = (
        f"none of the {config.val_frames} validation frames has labels: the best weights would be "
        "chosen by depth alone, where they have LiDAR, or be the last ones; --val recordings, or "
        "more --val_frames, takes others"
    )
    return config, [*notes, warning]


def _is_flat(source: FrameSource, trained: int) -> bool:
    """Return whether the frames that are looked at have 2D boxes alone."""
    looked_at = [source[i].labels or Labels() for i in evenly_spaced(trained, LOOKED_AT)]
    solid = any(labels.boxes_3d is not None and len(labels.boxes_3d) for labels in looked_at)
    return not solid and any(labels.class_names for labels in looked_at)


FINETUNING = Recipe(FinetuneConfig, FinetuneLearner, finalize, check)
