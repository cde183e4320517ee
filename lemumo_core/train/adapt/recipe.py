"""Adaptation as a ``Recipe``, and what a finished run leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from lemumo_core.data.sources import FrameSource
from lemumo_core.evaluation.modalities import SCORE_THRESHOLD
from lemumo_core.evaluation.tables import as_text, tables
from lemumo_core.inference.backends.torch import ModuleBackend
from lemumo_core.inference.model_manifest import manifest_of
from lemumo_core.inference.package import Package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import PerceptionModel
from lemumo_core.train import checkpoint, run_folder
from lemumo_core.train.adapt.config import AdaptConfig
from lemumo_core.train.adapt.frames import AdaptationFrames, open_frames, sampler_of
from lemumo_core.train.adapt.learner import BEFORE, AdaptLearner
from lemumo_core.train.adapt.page import NAME, before_and_after, verdict, write_page
from lemumo_core.train.adapt.verdict import objections
from lemumo_core.train.best_weights import write_best
from lemumo_core.train.loop import Recipe, Run
from lemumo_core.train.weights import read_weights


def finalize(run: Run, weights: Mapping[str, Tensor]) -> str:
    """Write the best weights, ``summary.json`` with the verdict, and the page."""
    out = run.out
    old, options = read_weights(Path(run.config.weights))
    model = ModelConfig.from_dict(options or {})
    files = run_folder.MODEL_WEIGHTS, run_folder.MODEL_OPTIONS
    write_best(run, weights, *files, asdict(model))
    summary: dict[str, Any] = json.loads((out / run_folder.SUMMARY).read_text())
    before = json.loads((out / BEFORE).read_text())
    summary["objections"] = objections(before, summary["metrics"])
    run_folder.write_json(out / run_folder.SUMMARY, summary)
    new, _ = read_weights(out)
    models = _pipeline(run, model, old), _pipeline(run, model, new)
    write_page(run, summary, before, models)
    shown = [before_and_after(before, summary["metrics"], labelled) for labelled in (False, True)]
    own, labelled = (as_text(tables(results)[0]) for results in shown)
    return (
        f"own frames, kept apart:\n{own}\n\nlabelled frames:\n{labelled}\n\n"
        f"{verdict(summary, before)} (after step {summary['step']}; {out / NAME})"
    )


def _pipeline(run: Run, config: ModelConfig, weights: Mapping[str, Tensor]) -> Pipeline:
    model = PerceptionModel(config).eval().to(run.dist.device)
    checkpoint.load_model_tensors(model, weights, run.out)
    manifest = manifest_of(config, run.out.name, trained=True)
    backend = ModuleBackend("torch", model, manifest.input, run.dist.device)
    return Pipeline(Package(run.out, manifest), backend, SCORE_THRESHOLD)


def check(config: AdaptConfig, source: FrameSource) -> tuple[AdaptConfig, list[str]]:
    """Count the frames that validate."""
    assert isinstance(source, AdaptationFrames)
    return replace(config, val_frames=len(source.own_val) + len(source.labelled_val)), []


ADAPTATION = Recipe(AdaptConfig, AdaptLearner, finalize, check, open_frames, sampler_of)
