"""Fine-tuning on points as a ``Recipe``, and what a finished run leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import safetensors.torch
from torch import Tensor

from lemumo_core.data.sources import FrameSource, evenly_spaced
from lemumo_core.faults import Fault
from lemumo_core.files import write_whole
from lemumo_core.frame import Frame, LidarScan
from lemumo_core.progress import track
from lemumo_core.train import checkpoint, run_folder
from lemumo_core.train.loop import Recipe, Run
from lemumo_core.train.points.config import PointsConfig
from lemumo_core.train.points.learner import PointLearner
from lemumo_core.train.points.weights import POINT_OPTIONS, POINT_WEIGHTS

LOOKED_AT = 64
"""Frames in which labelled points are looked for."""


def finalize(run: Run, weights: Mapping[str, Tensor]) -> str:
    """Write the best weights, network and classes, and ``summary.json``.

    The summary holds ``steps``, and of the best weights the ``step`` after which they were so, the
    ``score`` (mIoU) and the ``metrics`` (``PointMetric.result``).
    """
    out, which = run.out, "last"
    summary: dict[str, Any] = {"steps": run.steps}
    if (out / run_folder.BEST).exists():
        best, which = checkpoint.open_checkpoint(out / run_folder.BEST), "best"
        weights = best.tensors(checkpoint.MODEL)
        summary |= {name: best.state[name] for name in ("step", "score", "metrics")}
    classes = list(run.config.model.segmentation_classes)
    options = {"network": asdict(run.config.network), "classes": classes}
    run_folder.write_json(out / POINT_OPTIONS, options)
    cpu = {name: tensor.cpu().contiguous() for name, tensor in weights.items()}
    write_whole(out / POINT_WEIGHTS, safetensors.torch.save(cpu))
    run_folder.write_json(out / run_folder.SUMMARY, summary)
    return f"the {which} weights: {out / POINT_WEIGHTS}"


def check(config: PointsConfig, source: FrameSource) -> tuple[PointsConfig, list[str]]:
    """Refuse data without labelled points.

    Raises:
        Fault: ``no_labels``.
    """
    trained = len(source) - config.val_frames
    looked_at = evenly_spaced(trained, LOOKED_AT)
    if not any(_has_labels(source[i]) for i in track(looked_at, "find labels")):
        raise Fault(
            "no_labels",
            f"none of {len(looked_at)} frames of {config.data} has labels of LiDAR points, which "
            "--task points learns from: the rendered street has them (--data synthetic)",
        )
    return config, []


def _has_labels(frame: Frame) -> bool:
    labelled = frame.labels is not None and frame.labels.point_labels is not None
    return labelled and isinstance(frame.companion, LidarScan)


POINT_FINETUNING = Recipe(PointsConfig, PointLearner, finalize, check)
