"""What came of a run: did the loss fall, did the rank rise, do the tokens hold more than those of
an encoder that never learnt?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lemumo_core.data.views import View, clean_view
from lemumo_core.model.encoder import Encoder
from lemumo_core.train import checkpoint, run_folder
from lemumo_core.train.loader import FrameOrder, Samples, batches
from lemumo_core.train.loop import Run
from lemumo_core.train.pretrain.config import PretrainConfig
from lemumo_core.train.pretrain.learner import seeded_encoder
from lemumo_core.train.pretrain.probes import Probes, tokens_of

AVERAGED = 10
"""Steps at either end over which the loss is averaged, at most half of the run."""
BATCH = 16


def conclude(run: Run, weights: Mapping[str, Tensor]) -> str:
    """Sum a finished run up, write ``summary.json``, and say it for people."""
    summary = summarise(run, weights)
    run_folder.write_json(run.out / run_folder.SUMMARY, summary)
    return describe(summary, run.out)


def summarise(run: Run, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Sum a finished run up.

    Args:
        run: with its data.
        weights: of the trained encoder.

    Returns:
        ``steps``; ``loss_first`` and ``loss_last``, each the mean of ten steps; ``rankme_first``,
        of the untrained encoder, and ``rankme_last``; with probes and held-out frames ``probe`` and
        ``probe_untrained``, each with ``depth_mae_m`` and ``miou`` on these frames, as far as the
        data has such truth.
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
        "rankme_first": ranks[0],
        "rankme_last": ranks[-1],
    }
    if config.log.probes and config.held_out:
        trained = seeded_encoder(config)
        checkpoint.load_model_tensors(trained, weights, "the trained encoder")
        encoders = {
            "probe": trained,
            "probe_untrained": seeded_encoder(config),
        }
        summary |= compare(encoders, config, run.samples, run.order, run.place.device)
    return summary


def compare(
    encoders: Mapping[str, Encoder],
    config: PretrainConfig,
    samples: Samples,
    order: FrameOrder,
    device: torch.device,
) -> dict[str, dict[str, float]]:
    """Scores on held-out frames of new linear probes over frozen encoders: the same probes, from
    the same start, for the same steps on the same clean views."""
    classes = len(config.model.segmentation_classes)
    probes = {}
    for name, encoder in encoders.items():
        encoder.to(device).eval().requires_grad_(False)
        probes[name] = Probes(config.model.token_dim, classes).to(device)
    learnt = FrameOrder(order.frames, BATCH, config.seed)
    steps = (learnt[step] for step in range(config.log.probe_steps))
    for view in _clean_views(config, samples, steps, device):
        for name, encoder in encoders.items():
            probes[name].step(tokens_of(encoder, view), view)
    last = range(order.frames, order.frames + config.held_out)
    held_out = [list(last[i : i + BATCH]) for i in range(0, len(last), BATCH)]
    views = list(_clean_views(config, samples, iter(held_out), device))
    return {name: probes[name].evaluate(encoder, views) for name, encoder in encoders.items()}


def describe(summary: Mapping[str, Any], out: Path) -> str:
    """The summary for people."""
    lines = [
        f"loss    {summary['loss_first']:.4f} -> {summary['loss_last']:.4f}",
        f"RankMe  {summary['rankme_first']:.1f} -> {summary['rankme_last']:.1f}",
    ]
    for name, unit in (("depth_mae_m", " m"), ("miou", "")):
        if name in summary.get("probe", {}):
            ours, untrained = (summary[key][name] for key in ("probe", "probe_untrained"))
            lines.append(f"probe {name}  {ours:.3f}{unit}, on an untrained encoder {untrained:.3f}")
    lines.append(f"written: {out / run_folder.SUMMARY}, {out / run_folder.CHECKPOINTS}")
    return "\n".join(lines)


def _clean_views(
    config: PretrainConfig, samples: Samples, indices: Iterator[list[int]], device: torch.device
) -> Iterator[View]:
    for batch in batches(samples, indices, config.scale.workers, device.type == "cuda"):
        yield clean_view(batch.to(device))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
