"""Weights of heads for other classes: rows of classes that stay are kept, others begin anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from lemumo_core.model.config import ModelConfig

SEGMENTATION_LAYERS = {"deploy": "segmentation.layers.1", "paper": "segmentation.layers.0"}
"""Layer that gives the logits of the labels, by family of the heads."""


def for_other_classes(
    tensors: Mapping[str, Tensor],
    there: ModelConfig,
    initial: Mapping[str, Tensor],
    here: ModelConfig,
) -> dict[str, Tensor]:
    """Return the weights of a model for the classes of another one.

    Args:
        tensors: weights of the model ``there``, by name.
        there: configuration that they were trained with.
        initial: untrained weights of the model ``here``, which new classes keep.
        here: configuration of the model that takes the weights, of the same heads.
    """
    layers = {
        "centernet.heatmap": (there.detection_classes, here.detection_classes),
        SEGMENTATION_LAYERS[here.head_family]: (
            there.segmentation_classes,
            here.segmentation_classes,
        ),
    }
    made = dict(tensors)
    for layer, (old, new) in layers.items():
        for name in (f"{layer}.weight", f"{layer}.bias"):
            if old != new and name in tensors:
                made[name] = _rows(tensors[name], old, initial[name], new)
    return made


def _rows(there: Tensor, old: Sequence[str], initial: Tensor, new: Sequence[str]) -> Tensor:
    """Return ``initial`` with the rows of the classes that both name taken from ``there``."""
    made = initial.detach().clone()
    rows, trained = made.unflatten(0, (len(new), -1)), there.unflatten(0, (len(old), -1))
    for i, name in enumerate(new):
        if name in old:
            rows[i] = trained[old.index(name)]
    return made
