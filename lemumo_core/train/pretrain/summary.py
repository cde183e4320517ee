"""Summary of a finished run: its loss, and what probes find in its features and in simpler ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lemumo_core.data.samples import Batch
from lemumo_core.data.sources import evenly_spaced
from lemumo_core.methods.method import FEATURE_MODALITIES, Method
from lemumo_core.progress import track
from lemumo_core.train import checkpoint, run_folder
from lemumo_core.train.loader import Samples, batches
from lemumo_core.train.loop import Run
from lemumo_core.train.pretrain.config import PretrainConfig
from lemumo_core.train.pretrain.learner import seeded_method
from lemumo_core.train.pretrain.page import write_page
from lemumo_core.train.pretrain.probing import FRAMES, FeaturesOf, Scores, probe_features
from lemumo_core.train.pretrain.raw_patches import raw_patches

log = logging.getLogger(__name__)

AVERAGED = 10
"""Steps at either end over which the loss is averaged, at most half of the run."""
BATCH = 16
RAW, UNTRAINED, TRAINED = "raw patches", "untrained", "pretrained"


def finalize(run: Run, weights: Mapping[str, Tensor]) -> str:
    """Write ``summary.json`` and the page of a finished run; return the summary as text."""
    summary = summarise(run, weights)
    run_folder.write_json(run.out / run_folder.SUMMARY, summary)
    page = write_page(run, weights, summary.get("probes", {}))
    text = describe(summary, run.out)
    return f"{text}, {page}" if page else text


def summarise(run: Run, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Summarise a finished run.

    Args:
        run: the run with its data.
        weights: of the trained method.

    Returns:
        ``steps``; ``loss_first`` and ``loss_last``, each the mean of ten steps; with probes and
        validation frames ``probes``: what ``probe_features`` returns for raw patches, the untrained
        method and the pretrained one, on these frames.
    """
    config = run.config
    lines = run_folder.read_metrics(run.out)
    losses = [line["loss"] for line in lines]
    ends = max(1, min(AVERAGED, len(losses) // 2))
    summary: dict[str, Any] = {
        "steps": len(lines),
        "loss_first": _mean(losses[:ends]),
        "loss_last": _mean(losses[-ends:]),
    }
    if config.log.probes and config.val_frames:
        log.warning(
            "comparing %s, the %s and the %s method: linear probes of %d steps on %d frames; "
            "--log.probes false leaves this out",
            *(RAW, UNTRAINED, TRAINED, config.log.probe_steps, min(FRAMES, run.sampler.frames)),
        )
        trained = seeded_method(config)
        checkpoint.load_model_tensors(trained, weights, "the trained method")
        device = run.dist.device
        rows = {
            RAW: raw_patches,
            UNTRAINED: frozen(seeded_method(config), device),
            TRAINED: frozen(trained, device),
        }
        summary["probes"] = probe_rows(rows, config, run.samples, run.sampler.frames, device)
    return summary


def frozen(method: Method, device: torch.device) -> FeaturesOf:
    """Return the features of a method that learns no more, on a device."""
    return method.to(device).eval().requires_grad_(False).features


def probe_rows(
    rows: Mapping[str, FeaturesOf],
    config: PretrainConfig,
    samples: Samples,
    frames: int,
    device: torch.device,
) -> dict[str, Scores]:
    """Probe features on the validation frames of a run.

    Args:
        rows: functions that give features, by name.
        config: of the run.
        samples: of all its frames, with labels.
        frames: how many of them, the first ones, are trained on; at most ``FRAMES`` of these,
            evenly spread, teach the probes.
        device: of the batches.
    """
    training, validation = (
        _batches(config, samples, list(indices), label, device)
        for indices, label in (
            (evenly_spaced(frames, FRAMES), "read frames to probe"),
            (range(frames, frames + config.val_frames), "read validation frames"),
        )
    )
    classes = len(config.model.segmentation_classes)
    return probe_features(rows, training, validation, classes, config.log.probe_steps)


def describe(summary: Mapping[str, Any], out: Path) -> str:
    """Return the summary as text."""
    lines = [f"loss    {summary['loss_first']:.4f} -> {summary['loss_last']:.4f}"]
    for modality in FEATURE_MODALITIES:
        for name, unit in (("depth_mae_m", " m"), ("miou", "")):
            scores = {
                row: found[modality][name]
                for row, found in summary.get("probes", {}).items()
                if name in found.get(modality, {})
            }
            if scores:
                shown = ", ".join(f"{row} {value:.3f}{unit}" for row, value in scores.items())
                lines.append(f"probe {modality} {name}: {shown}")
    lines.append(f"written: {out / run_folder.SUMMARY}, {out / run_folder.CHECKPOINTS}")
    return "\n".join(lines)


def _batches(
    config: PretrainConfig,
    samples: Samples,
    frames: Sequence[int],
    label: str,
    device: torch.device,
) -> list[Batch]:
    pin = device.type == "cuda"
    indices = [list(frames[i : i + BATCH]) for i in range(0, len(frames), BATCH)]
    with batches(samples, track(indices, label), config.scale.workers, pin) as coming:
        return [batch.to(device) for batch in coming]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
