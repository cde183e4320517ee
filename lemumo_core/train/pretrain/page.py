"""The page of a finished run: what its method shows of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from lemumo_core import web_page
from lemumo_core.data.samples import Batch
from lemumo_core.data.sources import evenly_spaced
from lemumo_core.evaluation.tables import metric_name
from lemumo_core.files import write_whole
from lemumo_core.methods.method import FEATURE_MODALITIES, Method
from lemumo_core.progress import track
from lemumo_core.train import checkpoint
from lemumo_core.train.loader import batches
from lemumo_core.train.loop import Run
from lemumo_core.train.pretrain.learner import seeded_method
from lemumo_core.train.pretrain.probing import Scores

NAME = "report.html"
MOST_SAMPLES = 256
BATCH = 16


def write_page(
    run: Run, weights: Mapping[str, Tensor], probes: Mapping[str, Scores]
) -> Path | None:
    """Write the page of a finished run, with samples spread over its data.

    Args:
        run: the run with its data.
        weights: of the trained method.
        probes: what linear probes find, by row; none without.

    Returns:
        The page; None where the method has nothing to show.
    """
    method = seeded_method(run.config).to(run.dist.device).eval()
    if type(method).report is Method.report:
        return None
    checkpoint.load_model_tensors(method, weights, "the trained method")
    parts = method.report(_batches(run))
    if not parts:
        return None
    name = type(run.config.method).__name__
    path: Path = run.out / NAME
    parts = [*_probe_table(probes), *parts]
    write_whole(path, web_page.page(f"{name}: {run.out.name}", parts).encode())
    return path


def _probe_table(probes: Mapping[str, Scores]) -> list[str]:
    """Return what linear probes find with both sensors and with each alone."""
    names = ("depth_mae_m", "miou")
    columns = [
        (modality, name)
        for modality in FEATURE_MODALITIES
        for name in names
        if any(name in scores.get(modality, {}) for scores in probes.values())
    ]
    if not columns:
        return []
    rows = []
    for row, scores in probes.items():
        found = [scores.get(modality, {}).get(name) for modality, name in columns]
        rows.append([row, *(None if one is None else f"{one:.3f}" for one in found)])
    head = ("features", *(f"{modality}: {metric_name(name)}" for modality, name in columns))
    return ["<h2>Linear probes</h2>", web_page.table("validation frames", rows, head)]


def _batches(run: Run) -> Iterator[Batch]:
    chosen = evenly_spaced(len(run.samples.source), MOST_SAMPLES)
    rows = [chosen[i : i + BATCH] for i in range(0, len(chosen), BATCH)]
    pin = run.dist.device.type == "cuda"
    workers = run.config.scale.workers
    with batches(run.samples, track(rows, "embed samples"), workers, pin) as coming:
        for batch in coming:
            yield batch.to(run.dist.device)
