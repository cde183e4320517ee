"""Models to export: of a package, of a fine-tuning run, of a weights file, or of a seed."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from lemumo_core.data.sources.origins import origins
from lemumo_core.evaluation.modalities import MODALITIES
from lemumo_core.export.package import ModelCard
from lemumo_core.faults import Fault
from lemumo_core.inference.package import WEIGHTS_NAME, load_package
from lemumo_core.inference.provenance import in_words
from lemumo_core.metrics.baselines import ROWS
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.perception import PerceptionModel, load_model, seeded_model
from lemumo_core.train.checkpoint import Checkpoint
from lemumo_core.train.finetune.validation import SHOWN
from lemumo_core.train.finetune.weights import resize_table, trained_model
from lemumo_core.train.run_folder import SUMMARY, origin
from lemumo_core.train.weights import find_weights
from lemumo_core.wording import count_of

log = logging.getLogger(__name__)


def of_package(path: Path, name: str) -> tuple[PerceptionModel, ModelCard]:
    """Load the model of a package and its card, under a new name.

    Raises:
        Fault: ``bad_package``, also where the package ships no weights.
    """
    package = load_package(path)
    manifest = package.manifest
    if WEIGHTS_NAME not in manifest.files:
        raise Fault("bad_package", f"{path} ships no {WEIGHTS_NAME}")
    model = load_model(ModelConfig.from_dict(manifest.model), package.file(WEIGHTS_NAME))
    return model, ModelCard(
        name, manifest.trained, manifest.training, manifest.metrics, manifest.license
    )


def of_run(path: Path, name: str) -> tuple[PerceptionModel, ModelCard]:
    """Load the model of a fine-tuning run, with its provenance and validation metrics.

    Args:
        path: as of ``trained_model``. A checkpoint, also that of a run that is not finished, has no
            metrics.
        name: of the package.

    Raises:
        Fault: as ``trained_model``.
    """
    model, found = trained_model(path), find_weights(path)
    training, metrics = origin(path) or {}, {}
    if isinstance(found, Checkpoint):
        starts = {"starts": training["starts"]} if training else {}
        training = {"options": found.state["config"], **starts, "checkpoint": found.path.name}
    elif (summary := found.with_name(SUMMARY)).is_file():
        metrics = main_metrics(json.loads(summary.read_text()).get("metrics", {}))
        training |= {"measured_on": "the run's validation frames"} if metrics else {}
    return model, ModelCard(name, True, training, metrics)


def of_file(weights: Path, config: ModelConfig, name: str) -> tuple[PerceptionModel, ModelCard]:
    """Load a trained model from a safetensors file.

    Raises:
        Fault: ``wrong_weights`` for those of another architecture; as ``load_model``.
    """
    try:
        return load_model(config, weights), ModelCard(name, trained=True)
    except ValueError as error:
        raise Fault("wrong_weights", f"{error}; --model gives their architecture") from error


def of_seed(seed: int, config: ModelConfig, name: str) -> tuple[PerceptionModel, ModelCard]:
    """Make a model of random weights."""
    return seeded_model(config, seed), ModelCard(name, training={"seed": seed})


def resized(
    model: PerceptionModel,
    card: ModelCard,
    height: int | None,
    width: int | None,
    encoder_reduction: int | None = None,
) -> tuple[PerceptionModel, ModelCard]:
    """Return a model for inputs of another size, and its card.

    Tables of positions are resized as the encoder does for views of another size. Metrics that were
    measured at the old size are left out of the card, which keeps that size as provenance.

    Args:
        model: to be resized.
        card: of that model.
        height: of the input, pixels; None keeps it.
        width: likewise.
        encoder_reduction: ``ModelConfig.encoder_reduction``; None keeps it. The view grows with it,
            unless its size is given, so that the encoder sees what it saw.

    Raises:
        ValueError: for a size that ``InputSpec`` refuses.
    """
    old = model.config
    factor = encoder_reduction or old.encoder_reduction
    config = replace(
        old,
        encoder_reduction=factor,
        height=height or old.seen.height * factor,
        width=width or old.seen.width * factor,
    )
    if config == old:
        return model, card
    tensors = {
        name: resize_table(name, tensor, old.grid, config.grid)
        for name, tensor in model.state_dict().items()
    }
    network = PerceptionModel(config)
    network.load_state_dict(tensors)
    training = card.training | {"resized_from": {"height": old.height, "width": old.width}}
    was = f"at {old.width}x{old.height} pixels"
    return network.eval(), _unmeasured(replace(card, training=training), was)


def with_vote(
    model: PerceptionModel, card: ModelCard, share: float
) -> tuple[PerceptionModel, ModelCard]:
    """Return a model of the same weights with another ``ModelConfig.companion_vote``, and its card.

    Raises:
        ValueError: as ``ModelConfig``.
    """
    old = model.config.companion_vote
    if share == old:
        return model, card
    network = PerceptionModel(replace(model.config, companion_vote=share))
    network.load_state_dict(model.state_dict())
    return network.eval(), _unmeasured(card, f"with a companion_vote of {old:g}")


def _unmeasured(card: ModelCard, was: str) -> ModelCard:
    """Return a card without metrics; a warning says how they ``was`` measured."""
    if card.metrics:
        log.warning(
            "the metrics of the weights were measured %s and are left out: measure this package "
            "with lemumo evaluate",
            was,
        )
    return replace(card, metrics={})


def measured(card: ModelCard, evaluation: dict[str, Any]) -> ModelCard:
    """Return a card with the metrics of an evaluation, and on what they were measured."""
    data = evaluation.get("data")
    frames = evaluation.get("fused", evaluation.get("camera_only", {})).get("frames")
    on = {}
    if isinstance(data, dict) and "source" in data and frames is not None:
        on = {"measured_on": f"{count_of(frames, 'frame')} of {in_words(origins(data))}"}
    training = {name: value for name, value in card.training.items() if name != "measured_on"}
    return replace(card, metrics=main_metrics(evaluation), training=training | on)


def main_metrics(metrics: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Select the metrics that a manifest shows, by modalities, of a run or an evaluation."""
    found = {}
    for mode in [mode for mode in MODALITIES if mode in metrics]:
        values = {name: metrics[mode].get(name) for name in SHOWN}
        depth, labels = (metrics[mode].get(part, {}) for part in ("depth", "segmentation"))
        values["rows_mae_m"] = depth.get("baselines", {}).get(ROWS, {}).get("mae_m")
        values["constant_miou"] = labels.get("constant_miou")
        found[mode] = {name: value for name, value in values.items() if value is not None}
    return found
