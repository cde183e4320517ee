"""The data that a package's weights were trained on, by the provenance in its manifest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lemumo_core.inference.manifest import Manifest

RENDERED = "synthetic"
"""Name of the source of rendered streets."""
UNKNOWN = "unknown"


def training_sources(training: Mapping[str, Any]) -> set[str]:
    """Return the names of all sources that weights have seen, those of earlier runs among them.

    Args:
        training: ``Manifest.training``, with the ``starts`` of a run, each of which may name its
            ``sources`` and hold the same of the ``weights`` that it began with.

    Returns:
        Names of sources, and ``UNKNOWN`` where a part of the provenance is missing.
    """
    starts = training.get("starts")
    if not isinstance(starts, list) or not starts:
        return {UNKNOWN}
    found: set[str] = set()
    for start in starts:
        found |= set(start.get("sources") or [UNKNOWN])
    options = training.get("options") or {}
    if isinstance(weights := starts[0].get("weights"), Mapping):
        found |= training_sources(weights)
    elif options.get("weights"):
        found.add(UNKNOWN)
    of_method = (options.get("method") or {}).get("init_args") or {}
    if any(_is_file(name, value) for name, value in of_method.items()):
        found.add(UNKNOWN)  # an encoder that others pretrained
    return found


def in_words(sources: Iterable[str]) -> str:
    """Return names of sources as people read them."""
    return ", ".join("rendered streets" if name == RENDERED else name for name in sources)


def is_rendered_alone(manifest: Manifest) -> bool:
    """Return whether a model is known to have seen rendered streets and nothing else."""
    return manifest.trained and training_sources(manifest.training) == {RENDERED}


def rendered_note(manifest: Manifest, measured: str = "lemumo replay YOUR_BAG") -> str:
    """Return what is to be said of a model that has seen rendered streets alone; else nothing.

    Args:
        manifest: of the model.
        measured: how its worth on real sensors is measured, or where it is.
    """
    if not is_rendered_alone(manifest):
        return ""
    return (
        f"{manifest.name} was trained on rendered streets alone: what it is worth on real sensors "
        f"is only known once it is measured there ({measured})"
    )


def _is_file(option: str, value: Any) -> bool:
    """Return whether an option of a method names weights that others trained."""
    return option.endswith("weights") and isinstance(value, str) and value != "random"
