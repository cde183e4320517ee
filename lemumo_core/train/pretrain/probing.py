"""Linear probes of frozen features, of any method and by modality, beside what they must beat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from lemumo_core.data.samples import Batch
from lemumo_core.data.views import clean_view
from lemumo_core.methods.method import FEATURE_MODALITIES, Features
from lemumo_core.metrics.collapse import position_share
from lemumo_core.progress import track
from lemumo_core.train.pretrain.linear_probe import STEPS, FrozenTokens, fit, score
from lemumo_core.train.pretrain.probe_truth import truth

FRAMES = 512
"""Frames that probes learn from, at most."""

FeaturesOf = Callable[[Batch, Sequence[str]], Features]
"""``Method.features``, ``raw_patches``, or anything alike."""
Scores = dict[str, dict[str, float]]
"""By modality ``depth_mae_m`` and ``miou``, as far as there is truth, and ``position_share``."""


def probe_features(
    rows: Mapping[str, FeaturesOf],
    training: Sequence[Batch],
    validation: Sequence[Batch],
    classes: int,
    steps: int = STEPS,
) -> dict[str, Scores]:
    """Train and score a linear probe for every row and each modality that it has.

    All probes start alike and learn for the same steps from the same samples. Every row encodes
    every sample once.

    Args:
        rows: functions that give features, by name.
        training: batches with labels to learn from, on the device of the rows' networks.
        validation: batches with labels to be scored on.
        classes: of the segmentation.
        steps: of each probe.

    Returns:
        Scores by name.

    Raises:
        ValueError: a batch has no labels.
    """
    known = [_truth(batches) for batches in (training, validation)]
    found: dict[str, Scores] = {}
    for name, features in rows.items():
        train, val = (
            _encode(features, batches, truths, f"encode {name}")
            for batches, truths in zip((training, validation), known, strict=True)
        )
        found[name] = {}
        for modality in train:
            probe = fit(train[modality], classes, steps, f"probe {name}, {modality}")
            share = {"position_share": position_share(val[modality].tokens.cpu().numpy())}
            found[name][modality] = score(probe, val[modality]) | share
    return found


def _truth(batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Return depth (S, h/4, w/4) and label maps uint8 (S, h, w) of all samples."""
    depths_m, label_maps = zip(*(truth(clean_view(batch)) for batch in batches), strict=True)
    return torch.cat(depths_m), torch.cat(label_maps).to(torch.uint8)


def _encode(
    features: FeaturesOf, batches: Sequence[Batch], truths: tuple[Tensor, Tensor], label: str
) -> dict[str, FrozenTokens]:
    """Encode all samples, once, into tokens by modality."""
    parts = [features(batch, FEATURE_MODALITIES) for batch in track(batches, label)]
    return {
        modality: FrozenTokens(
            torch.cat([part[modality].tokens.float() for part in parts]),
            torch.cat([part[modality].valid for part in parts]),
            *truths,
        )
        for modality in parts[0]
    }
