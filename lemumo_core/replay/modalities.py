"""Metrics of a replay by modality: of the images that are compared, and of every image.

An image that is compared is judged with both sensors and by the camera alone, beside trivial
answers. Of the others their own result alone is judged. Figures that stand beside each other are of
the same images.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from lemumo_core.evaluation.tables import Results, Table, tables
from lemumo_core.metrics.perception import PerceptionMetric

REPLAY_MODALITIES = ("fused", "camera_only")
"""Modalities in which a result that is compared is scored."""
EVERY_IMAGE = "every_image"
"""Name of the metrics of every image's own result, whatever sensors it had."""
Metrics = Mapping[str, PerceptionMetric]


def own_part(modality: str) -> str:
    """Return the name of the metrics of images that were judged in one modality alone."""
    return f"{modality}_own"


def shown_metrics(parts: Metrics, empty: PerceptionMetric) -> dict[str, PerceptionMetric]:
    """Return the metrics that results are shown by.

    Args:
        parts: of the images that were compared by modality, of the others by ``own_part``.
        empty: a metric of the same settings, without baselines.

    Returns:
        By modality, of the images that were compared; where some were not, also of
        ``EVERY_IMAGE``, without trivial answers. Where none was, those of all images.
    """
    compared = {name: parts[name] for name in REPLAY_MODALITIES if name in parts}
    own = {name: parts[own_part(name)] for name in REPLAY_MODALITIES if own_part(name) in parts}
    if not compared or not own:
        return compared or own
    first = next(iter(compared.values()))
    return {**compared, EVERY_IMAGE: _joined([first, *own.values()], empty)}


def judged_metrics(parts: Metrics, empty: PerceptionMetric) -> dict[str, PerceptionMetric]:
    """Return by modality the metrics of all images that were judged in it; as ``shown_metrics``."""
    found = {}
    for name in REPLAY_MODALITIES:
        ours = [parts[part] for part in (name, own_part(name)) if part in parts]
        if ours:
            found[name] = ours[0] if len(ours) == 1 else _joined(ours, empty)
    return found


def result_tables(results: Results) -> list[Table]:
    """Make the tables of what was compared, and of every image apart from it."""
    compared = {name: one for name, one in results.items() if not name.endswith(EVERY_IMAGE)}
    whole = {name: one for name, one in results.items() if name.endswith(EVERY_IMAGE)}
    if not (compared and whole):
        return tables(results) if results else []
    first, *others = tables(compared)
    headline, *more = tables(whole)
    first = first._replace(caption="on the images that were compared")
    return [first, *others, headline._replace(caption="on every image"), *more]


def _joined(metrics: Sequence[PerceptionMetric], empty: PerceptionMetric) -> PerceptionMetric:
    whole = copy.deepcopy(empty)
    for metric in metrics:
        whole.merge(metric)
    return whole
