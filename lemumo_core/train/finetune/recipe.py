"""Fine-tuning as a ``Recipe``, and what a finished run leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import safetensors.torch
from torch import Tensor

from lemumo_core.data.sources import FrameSource, evenly_spaced
from lemumo_core.files import write_whole
from lemumo_core.frame import Labels
from lemumo_core.train import checkpoint, run_folder
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
    """Write the best weights and ``summary.json``.

    Where no validation frame has truth, the weights are the last ones.

    The summary holds ``steps``, and of the best weights the ``step`` after which they were so, the
    ``score`` (``validation.score_of``) and the ``metrics`` by mode.
    """
    out, which = run.out, "last"
    summary: dict[str, Any] = {"steps": run.steps}
    if (out / run_folder.BEST).exists():
        best, which = checkpoint.open_checkpoint(out / run_folder.BEST), "best"
        weights = best.tensors(checkpoint.MODEL)
        summary |= {name: best.state[name] for name in ("step", "score", "metrics")}
    run_folder.write_json(out / run_folder.MODEL_OPTIONS, asdict(run.config.model))
    cpu = {name: tensor.cpu().contiguous() for name, tensor in weights.items()}
    write_whole(out / run_folder.MODEL_WEIGHTS, safetensors.torch.save(cpu))
    run_folder.write_json(out / run_folder.SUMMARY, summary)
    return f"the {which} weights: {out / run_folder.MODEL_WEIGHTS}"


def check(config: FinetuneConfig, source: FrameSource) -> tuple[FinetuneConfig, list[str]]:
    """Refuse data without labels; warn of validation frames without, and of 2D boxes alone.

    Raises:
        Fault: ``no_labels``.
    """
    trained = len(source) - config.val_frames
    if not any_labels(source, range(trained)):
        raise no_labels(config.data)
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
