"""Summary of a finished run: loss, rank, and probes beside those of an untrained method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lemumo_core.data.samples import Batch
from lemumo_core.methods.method import Method
from lemumo_core.progress import track
from lemumo_core.train import checkpoint, run_folder
from lemumo_core.train.loader import BatchSampler, Samples, batches
from lemumo_core.train.loop import Run
from lemumo_core.train.pretrain.config import PretrainConfig
from lemumo_core.train.pretrain.learner import seeded_method
from lemumo_core.train.pretrain.probes import Probes

AVERAGED = 10
"""Steps at either end over which the loss is averaged, at most half of the run."""
BATCH = 16


def finalize(run: Run, weights: Mapping[str, Tensor]) -> str:
    """Summarise a finished run, write ``summary.json``, and return the summary as text."""
    summary = summarise(run, weights)
    run_folder.write_json(run.out / run_folder.SUMMARY, summary)
    return describe(summary, run.out)


def summarise(run: Run, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Summarise a finished run.

    Args:
        run: the run with its data.
        weights: of the trained method.

    Returns:
        ``steps``; ``loss_first`` and ``loss_last``, each the mean of ten steps; where the method
        monitors it ``rankme_first``, of the untrained method, and ``rankme_last``; with probes and
        validation frames ``probe`` and ``probe_untrained``, each with ``depth_mae_m`` and ``miou``
        on these frames, as far as the data has such truth.
    """
    config = run.config
    lines = run_folder.read_metrics(run.out)
    losses = [line["loss"] for line in lines]
    ends = max(1, min(AVERAGED, len(losses) // 2))
    ranks = [line["rankme"] for line in lines if "rankme" in line]
    summary: dict[str, Any] = {
        "steps": len(lines),
        "loss_first": _mean(losses[:ends]),
        "loss_last": _mean(losses[-ends:]),
    }
    if ranks:
        summary |= {"rankme_first": ranks[0], "rankme_last": ranks[-1]}
    if config.log.probes and config.val_frames:
        trained = seeded_method(config)
        checkpoint.load_model_tensors(trained, weights, "the trained method")
        methods = {"probe": trained, "probe_untrained": seeded_method(config)}
        summary |= compare(methods, config, run.samples, run.sampler, run.dist.device)
    return summary


def compare(
    methods: Mapping[str, Method],
    config: PretrainConfig,
    samples: Samples,
    sampler: BatchSampler,
    device: torch.device,
) -> dict[str, dict[str, float]]:
    """Score new linear probes over frozen methods on validation frames.

    The probes are the same, from the same start, for the same steps on the same samples.
    """
    classes = len(config.model.segmentation_classes)
    probes = {}
    for name, method in methods.items():
        method.to(device).eval().requires_grad_(False)
        probes[name] = Probes(method.token_dim, classes).to(device)
    learnt = BatchSampler(sampler.frames, BATCH, config.seed)
    steps = [learnt[step] for step in range(config.log.probe_steps)]
    for batch in _batches(config, samples, steps, "train closing probes", device):
        for name, method in methods.items():
            probes[name].learn(method, batch)
    last = range(sampler.frames, sampler.frames + config.val_frames)
    validation = [list(last[i : i + BATCH]) for i in range(0, len(last), BATCH)]
    kept = list(_batches(config, samples, validation, "read validation frames", device))
    return {
        name: probes[name].evaluate(method, track(kept, f"evaluate {name}"))
        for name, method in methods.items()
    }


def describe(summary: Mapping[str, Any], out: Path) -> str:
    """Return the summary as text."""
    lines = [f"loss    {summary['loss_first']:.4f} -> {summary['loss_last']:.4f}"]
    if "rankme_first" in summary:
        lines.append(f"RankMe  {summary['rankme_first']:.1f} -> {summary['rankme_last']:.1f}")
    for name, unit in (("depth_mae_m", " m"), ("miou", "")):
        if name in summary.get("probe", {}):
            ours, untrained = (summary[key][name] for key in ("probe", "probe_untrained"))
            lines.append(f"probe {name}  {ours:.3f}{unit}, untrained {untrained:.3f}")
    lines.append(f"written: {out / run_folder.SUMMARY}, {out / run_folder.CHECKPOINTS}")
    return "\n".join(lines)


def _batches(
    config: PretrainConfig,
    samples: Samples,
    indices: Sequence[list[int]],
    label: str,
    device: torch.device,
) -> Iterator[Batch]:
    pin = device.type == "cuda"
    with batches(samples, track(indices, label), config.scale.workers, pin) as coming:
        for batch in coming:
            yield batch.to(device)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
