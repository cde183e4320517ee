"""Measure a model on frames with ground truth: fused, camera only and companion only.

    lemumo evaluate MODEL                          on rendered streets of the test split
    lemumo evaluate MODEL --data DIR_or_URI        shards of lemumo prepare
    lemumo evaluate MODEL --data kitti --data_options.root /data/kitti --limit 500
    lemumo evaluate MODEL --mask random            other LiDAR returns masked: beams, random, blocks
    lemumo evaluate MODEL --out out/evaluation     metrics.json and a page with pictures
    lemumo evaluate MODEL --requirements requirements.yaml     whether it keeps your limits

MODEL is a model package, or a run or checkpoint folder of lemumo finetune. Where a source has no
dense depth, or a mask is given, LiDAR returns are masked from the model and its depth is measured
on these: by default every second beam. Beside it stand the trivial answers on the same pixels,
which see the returns that the model sees: the nearest one, linear interpolation, and their mean.

"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lemumo_core.cli.path_kinds import CURES, cure_of, path_kind
from lemumo_core.command_line import run_function
from lemumo_core.data.sources import FrameSource, evenly_spaced
from lemumo_core.data.sources.members import Data, data_name, members_of
from lemumo_core.data.sources.options import SourceOptions
from lemumo_core.data.sources.registry import open_members
from lemumo_core.data.statistics import empty_views
from lemumo_core.evaluation import verdict
from lemumo_core.evaluation.modalities import (
    SCORE_THRESHOLD,
    FrameEvaluation,
    evaluate,
    evaluate_at,
    merge_frames,
)
from lemumo_core.evaluation.report import depth_truth, results_of, write_metrics, write_page
from lemumo_core.evaluation.requirements import read_requirements
from lemumo_core.evaluation.tables import as_text, reasons, tables
from lemumo_core.executor.executor import open_executor
from lemumo_core.faults import Fault
from lemumo_core.folders.addresses import open_folder
from lemumo_core.inference.backends import Backend
from lemumo_core.inference.manifest import Manifest
from lemumo_core.inference.measure import processor
from lemumo_core.inference.package import Package, load_package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.inference.provenance import rendered_note
from lemumo_core.metrics.bands import BAND_EDGES_M
from lemumo_core.metrics.masked_returns import Mask
from lemumo_core.progress import track

EXIT_CODES = f"""exit codes:
  0  done, and every limit of --requirements is met
  1  an error, also where the source has no frame
{verdict.EXIT_CODES}"""
STREETS = {"split": "test", "frames": 200, "frames_per_drive": 4}
"""Options of the synthetic world: many streets."""
EVALUATED = {"fine-tuning run", "checkpoint", "weights", "unknown"}
"""Kinds of path that may hold a model beside a package."""


def evaluate_model(
    model: Path,
    *,
    data: Data = "synthetic",
    data_options: SourceOptions | None = None,
    mask: Mask | None = None,
    limit: int = 200,
    out: str | None = None,
    overwrite: bool = False,
    backend: str = "auto",
    requirements: Path | None = None,
    workers: int | None = None,
    executor: str = "local",
) -> int:
    """Measure a model and print its metrics.

    Args:
        model: package, or run or checkpoint folder of ``lemumo finetune``.
        data: name of a source, a bag or a folder of bags, a video, or a folder or URI of shards; or
            several, each with its options: ``--data data/mine kitti,root=/data/kitti``.
        data_options: of a single source, e.g. ``--data kitti --data_options.root /data/kitti``.
        mask: which LiDAR returns are masked from the model and are its depth's truth; by default
            every second beam where a source has no dense depth, and none where it has.
        limit: frames at most, spread evenly over the source.
        out: folder for metrics.json and index.html, or its URI (s3, gs).
        overwrite: replace an earlier evaluation in ``out``.
        backend: RUNTIME[:PRECISION] of a package; a run is evaluated in torch.
        requirements: YAML file of the limits that the model must keep, see docs/evaluation.md.
        workers: frames at once; by default one, or as many as the cluster has room for.
        executor: where they are evaluated: local, or on a Ray cluster: ray, ray://HOST:10001,
            ray?cpus=2&gpus=0.5.

    Returns:
        The exit code.

    Raises:
        Fault: ``no_frames``; as ``Folder.check``, ``read_requirements``, ``open_model``,
            ``open_executor``, ``Pipeline`` and the source.
    """
    required = None if requirements is None else read_requirements(requirements)
    if out is not None:
        open_folder(out).check("metrics.json", overwrite)
    package, trained = open_model(model)
    manifest = package.manifest
    if required is not None:
        required.check_classes(manifest.classes)
    if note := rendered_note(manifest):
        print(f"lemumo evaluate: {note}", file=sys.stderr)
    source = open_source(data, data_options or {}, manifest)
    indices = evenly_spaced(len(source), limit)
    if not indices:
        name = data_name(data, data_options or {})
        raise Fault("no_frames", f"no frame of the {len(source)} of {name} is left: raise --limit")
    if cause := empty_views(source):
        print(f"lemumo evaluate: {cause}", file=sys.stderr)
    band_edges_m = BAND_EDGES_M if required is None else required.band_edges_m
    with open_executor(executor, workers, local_default=1) as opened:
        pipeline = Pipeline(package, trained or backend, SCORE_THRESHOLD)
        if opened.spans_hosts or opened.workers > 1:
            backend = pipeline.backend.name
            work = FrameWork(model, backend, data, data_options or {}, mask, band_edges_m)
            with opened.pool(work) as pool:
                found = pool.map(indices, in_order=True, name=lambda index: f"frame {index}")
                frames = (one.value for one in track(found, "evaluate", len(indices)))
                evaluation = merge_frames(manifest, frames, mask, band_edges_m)
        else:
            evaluation = evaluate(pipeline, manifest, source, indices, mask, band_edges_m)
    verdicts = [] if required is None else verdict.assess(required, evaluation.metrics)
    results = results_of(evaluation)
    about = {
        "model": f"{manifest.name} {manifest.version}",
        "trained": manifest.trained,
        **({"trained_on": "rendered streets alone"} if note else {}),
        "backend": pipeline.backend.name,
        "data": source.describe(),
        "machine": f"{processor()}, Python {platform.python_version()}",
    }
    print("\n\n".join(as_text(table) for table in tables(results)))
    print("\n".join(["", f"depth evaluated on: {depth_truth(evaluation)}", *reasons(results)]))
    print("\n".join(verdict.as_lines(verdicts)))
    if out is not None:
        with open_folder(out).mirror() as folder:
            write_metrics(folder, evaluation, about, verdicts)
            write_page(folder, evaluation, about, pipeline, manifest, source, verdicts)
        print(f"written: {out}/metrics.json, {out}/index.html")
    return verdict.exit_code(verdicts)


@dataclass(frozen=True)
class FrameWork:
    """Sets a worker up to evaluate frames; attributes as of ``evaluate_model``.

    Attributes:
        backend: that the evaluation has chosen.
    """

    model: Path
    backend: str
    data: Data
    data_options: SourceOptions
    mask: Mask | None
    band_edges_m: tuple[float, ...]

    def __call__(self) -> Callable[[int], FrameEvaluation]:
        """Return what evaluates the frame of an index.

        Raises:
            Fault: as ``load`` and the source.
        """
        pipeline = load(self.model, self.backend)
        manifest = pipeline.package.manifest
        source = open_source(self.data, self.data_options, manifest)
        mask, edges_m = self.mask, self.band_edges_m
        return lambda index: evaluate_at(pipeline, manifest, source, index, mask, edges_m)


def load(model: Path, backend: str) -> Pipeline:
    """The pipeline of a package, or of what a fine-tuning run has learnt.

    Raises:
        Fault: as ``open_model`` and ``Pipeline``.
    """
    package, trained = open_model(model)
    return Pipeline(package, trained or backend, SCORE_THRESHOLD)


def open_model(model: Path) -> tuple[Package, Backend | None]:
    """Open a package, or what a fine-tuning run has learnt, of which torch is the backend.

    Raises:
        Fault: ``bad_model``; as ``load_package`` or ``trained_model``.
    """
    kind = path_kind(model)
    if kind == "package":
        return load_package(model), None
    if kind in CURES.keys() - EVALUATED:
        raise Fault("bad_model", f"{model} {cure_of(kind, model)}")
    import torch

    from lemumo_core.inference.backends.torch import ModuleBackend
    from lemumo_core.inference.model_manifest import manifest_of
    from lemumo_core.train.finetune.weights import trained_model

    network = trained_model(model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    manifest = manifest_of(network.config, model.resolve().name, trained=True)
    module = ModuleBackend("torch:fp32", network.to(device), manifest.input, device)
    return Package(model, manifest), module


def open_source(data: Data, options: SourceOptions, manifest: Manifest) -> FrameSource:
    """The frames; the synthetic world as the encoder sees it, unless the options say otherwise.

    So a package that refines depth in a larger view is judged on the frames of the model that it
    was exported from. Finer ones show, and count, objects that a coarser camera does not resolve.
    """
    spec, factor = manifest.input, manifest.model.get("encoder_reduction", 1)
    size = {"height": spec.height // factor, "width": spec.width // factor}
    streets = {**STREETS, **size, "companion": spec.companion}
    members = [
        member._replace(options={**streets, **member.options})
        if member.data == "synthetic"
        else member
        for member in members_of(data, options)
    ]
    return open_members(members)


def main(arguments: list[str]) -> int:
    """Run ``lemumo evaluate``; return its exit code."""
    return run_function("lemumo evaluate", evaluate_model, arguments, f"{__doc__}\n{EXIT_CODES}")
