"""Graphs as a runtime prepared them for this processor, kept in the cache.

Preparing takes a runtime most of a start's time. What is read back must be what was written, for
this graph, runtime and processor (``engine_cache``); anything else is prepared again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lemumo_core.faults import Fault
from lemumo_core.files import cache_folder, make_room, note_use
from lemumo_core.inference.engine_cache import EngineKey, read_engine, store_engine
from lemumo_core.inference.measure import processor
from lemumo_core.inference.package import Package

T = TypeVar("T")

MOST_BYTES = 1 << 30
"""Room for all of them; those that were not used for longest go."""

log = logging.getLogger(__name__)


def compiled_graph(
    package: Package,
    graph: Path,
    name: str,
    version: str,
    batch: int,
    options: Mapping[str, Any],
    load: Callable[[bytes], T],
    prepare: Callable[[], tuple[T, bytes]],
) -> T:
    """Return a prepared graph, from the cache where it is there.

    Args:
        package: that holds the graph.
        graph: its file.
        name: ``RUNTIME:PRECISION``.
        version: of the runtime.
        batch: most samples in one call.
        options: of the runtime.
        load: makes of what was kept what the caller wants; raises RuntimeError where it cannot.
        prepare: makes it of the graph, and returns also what to keep.
    """
    runtime, _, precision = name.partition(":")
    sha256, batches = package.graph_sha256(graph.name), (1, batch, batch)
    key = EngineKey(sha256, runtime, version, processor(), "", precision, batches, dict(options))
    folder = cache_folder() / "graphs"
    path = folder / key.file_name(package.manifest.name)
    try:
        found = load(read_engine(path, key))
        note_use(path)
        return found
    except Fault as fault:
        if fault.reason != "no_engine":
            log.warning("%s is prepared again: %s", name, fault)
    except RuntimeError as error:
        log.warning("%s refuses %s, which is prepared again: %s", name, path, error)
    found, kept = prepare()
    try:
        store_engine(folder, package.manifest.name, key, kept, {})
        for old in make_room(folder.glob("*.engine"), MOST_BYTES):
            old.with_suffix(".json").unlink(missing_ok=True)
    except Fault as fault:
        log.warning("the next start prepares %s again: %s", name, fault)
    return found
