"""Names of weights as version 0.1 wrote them, and as the modules are called now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

RENAMED = {"stems": "patch_embed", "centre": "center"}
"""Names of modules: that of version 0.1 to the one of today."""

T = TypeVar("T")


def current_names(weights: Mapping[str, T]) -> dict[str, T]:
    """Return weights (or what else has their names) by the names of today's modules."""
    return {
        ".".join(RENAMED.get(part, part) for part in name.split(".")): weight
        for name, weight in weights.items()
    }
