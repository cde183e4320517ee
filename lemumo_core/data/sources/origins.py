"""Where frames come from in the end: of shards the source that they were made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def origins(described: Mapping[str, Any]) -> list[str]:
    """Return the names of the sources that recorded or rendered frames, each once.

    Args:
        described: of the frames, as ``FrameSource.describe`` returns it.
    """
    if "members" in described:
        found = [name for one in described["members"] for name in origins(one)]
    else:
        inner = described.get("of") or described.get("configuration", {}).get("source")
        found = origins(inner) if isinstance(inner, Mapping) else [str(described["source"])]
    if isinstance(labelled := described.get("labelled"), Mapping):
        found += origins(labelled)
    return list(dict.fromkeys(found))
