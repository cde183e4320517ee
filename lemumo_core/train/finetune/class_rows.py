"""Weights for other classes or boxes: classes that stay keep theirs, others start untrained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from lemumo_core.model.config import ModelConfig

SEGMENTATION_LAYERS = {
    "deploy": ("segmentation.layers.1",),
    "paper": ("segmentation.layers.0",),
    "fcn": tuple(f"segmentation.stages.{i}.4" for i in range(3)),
}
"""Layers that give the logits of the labels, by family of the heads."""


def for_other_classes(
    tensors: Mapping[str, Tensor],
    there: ModelConfig,
    initial: Mapping[str, Tensor],
    here: ModelConfig,
) -> dict[str, Tensor]:
    """Return the weights of a model for the classes, and the kind of boxes, of another one.

    Args:
        tensors: weights of the model ``there``, by name.
        there: configuration that they were trained with.
        initial: untrained weights of the model ``here``, which new classes keep; and boxes in the
            image where the others are in space, or the reverse.
        here: configuration of the model that takes the weights, of the same heads.
    """
    segmentation = there.segmentation_classes, here.segmentation_classes
    layers = dict.fromkeys(SEGMENTATION_LAYERS[here.head_family], segmentation)
    made = dict(tensors)
    if there.detection == here.detection:
        layers["centernet.heatmap"] = there.detection_classes, here.detection_classes
    else:
        made = {name: tensor for name, tensor in tensors.items() if not _is_of_boxes(name)}
        made |= {name: tensor for name, tensor in initial.items() if _is_of_boxes(name)}
    for layer, (old, new) in layers.items():
        for name in (f"{layer}.weight", f"{layer}.bias"):
            if old != new and name in tensors:
                made[name] = _rows(tensors[name], old, initial[name], new)
    return made


def _is_of_boxes(name: str) -> bool:
    return name.startswith("centernet.")


def _rows(there: Tensor, old: Sequence[str], initial: Tensor, new: Sequence[str]) -> Tensor:
    """Return ``initial`` with the rows of the classes that both name taken from ``there``."""
    made = initial.detach().clone()
    rows, trained = made.unflatten(0, (len(new), -1)), there.unflatten(0, (len(old), -1))
    for i, name in enumerate(new):
        if name in old:
            rows[i] = trained[old.index(name)]
    return made
