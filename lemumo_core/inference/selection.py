"""``auto``: the backend that costs the least, measured once per machine and model."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.files import cache_folder
from lemumo_core.inference.backends import RUNTIMES, split_name, unavailable_reason
from lemumo_core.inference.cache import write_cached
from lemumo_core.inference.cuda_driver import CudaError, find_gpu
from lemumo_core.inference.manifest import model_file
from lemumo_core.inference.measure import Measurement, measure, processor
from lemumo_core.inference.package import Package

log = logging.getLogger(__name__)

MAX_FOREIGN_CPU = 0.2
"""Share of the cores that others may take while backends are measured for the choice to be kept."""


@dataclass(frozen=True)
class Choice:
    """A backend to load.

    Attributes:
        backend: ``RUNTIME[:PRECISION]``, never ``auto``.
        reason: why it is this one, a phrase for people.
    """

    backend: str
    reason: str


def resolve_backend(package: Package, name: str) -> Choice:
    """Return a backend whose runtime is not ``auto``, which is measured here where need be.

    Args:
        package: to be run.
        name: ``RUNTIME[:PRECISION]``. ``auto`` is the one of the least cost of what the machine
            runs and the package holds, ``auto:fp32`` of that precision.

    Raises:
        Fault: ``unknown_backend``, ``no_backend``.
    """
    runtime, precision = split_name(name)
    return choose_backend(package, precision) if runtime == "auto" else Choice(name, "as asked")


def candidates(package: Package, precision: str | None = None) -> tuple[list[str], dict[str, str]]:
    """List what this machine could run of a package.

    Args:
        package: whose precisions count.
        precision: the only one wanted; None: all.

    Returns:
        ``RUNTIME:PRECISION`` names that have passed their gate, and the reason for each runtime
        that is left out. torch, the reference, is among the names only if nothing else is.
    """
    reasons = {name: reason for name in RUNTIMES if (reason := unavailable_reason(name))}
    names = [
        f"{name}:{each}"
        for name, kind in RUNTIMES.items()
        if name not in reasons
        for each in kind.precisions
        if each in package.manifest.precisions and precision in (None, each)
        if each not in kind.judged_alone or f"{name}:{each}" in package.manifest.losses
    ]
    runtimes = [name for name in names if not name.startswith("torch")]
    return runtimes or [name for name in names if name.startswith("torch:")], reasons


def choose_backend(package: Package, precision: str | None = None) -> Choice:
    """Return the backend whose call costs the least (``Measurement.cost_ms``).

    A choice that was measured while others took more than ``MAX_FOREIGN_CPU`` of the cores is not
    kept: the next call measures again. One that is kept is not measured again.

    Args:
        package: to be run.
        precision: the only one wanted; None: any that the package ships, which has passed its gate.

    Raises:
        Fault: ``no_backend`` if nothing can run it, naming what to install.
    """
    names, reasons = candidates(package, precision)
    if not names:
        shown = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        wanted = precision or "any precision"
        raise Fault("no_backend", f"no backend here runs {wanted} of {package.path} ({shown})")
    if len(names) == 1:
        log.info("backend auto: %s, the only one here", names[0])
        return Choice(names[0], "the only one here")
    path = cache_folder() / "choices" / f"{_fingerprint(package, names)}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(path.read_text())
        if kept["backend"] in names and kept["foreign_cpu"] <= MAX_FOREIGN_CPU:
            log.info("backend auto: %s, as measured before (%s)", kept["backend"], path)
            return Choice(kept["backend"], "measured before, undisturbed")
    print(f"backend auto: measuring {', '.join(names)}", file=sys.stderr)
    results = measure(package.path, names)
    print(table(results, package), file=sys.stderr, flush=True)
    sound = [result for result in results if not result.error]
    if not sound:
        raise Fault("no_backend", f"every backend failed on {package.path}; see the table above")
    chosen = min(sound, key=lambda result: result.cost_ms).backend
    foreign_cpu = float(np.max([result.foreign_cpu for result in sound]))
    costs_ms = {result.backend: result.cost_ms for result in sound}
    document = {"backend": chosen, "foreign_cpu": foreign_cpu, "cost_ms": costs_ms}
    choice = Choice(chosen, _keep(path, document))
    print(f"backend auto: {chosen} costs the least: {choice.reason}", file=sys.stderr, flush=True)
    return choice


def _keep(path: Path, document: dict[str, Any]) -> str:
    """Write a choice that was measured undisturbed; return what was done with it, and why."""
    foreign_cpu = document["foreign_cpu"]
    if not foreign_cpu <= MAX_FOREIGN_CPU:
        return (
            f"measured while other processes took {foreign_cpu:.0%} of the processor, so it is not "
            "kept, and the next start measures again; start once on a machine that is idle, or "
            "name a backend"
        )
    try:
        write_cached(path, (json.dumps(document, indent=2) + "\n").encode())
    except Fault as fault:
        return f"it is not kept, and the next start measures again: {fault}"
    return "measured undisturbed, and kept for this machine"


def table(results: list[Measurement], package: Package) -> str:
    """Measurements as text, one line each."""
    lines = [f"{'backend':26} batch  cost ms p50 ms  p99 ms  1/s     load s  MB    loss"]
    for r in results:
        if r.error:
            lines.append(f"{r.backend:26} {r.batch:5}  {r.error}")
            continue
        loss = package.manifest.losses_of(r.backend)
        shown = ", ".join(f"{name} {value:.2g}" for name, value in loss.items()) or "-"
        lines.append(
            f"{r.backend:26} {r.batch:5} {r.cost_ms:7.1f} {r.latency_ms(50):7.1f} "
            f"{r.latency_ms(99):7.1f} "
            f"{r.throughput:6.1f} {r.load_s:8.1f} {r.memory_mb:5.0f}  {shown}"
        )
    foreign = [r.foreign_cpu for r in results if not r.error]
    if foreign:
        lines.append("cost: tenth percentile of a call's processor time, on a GPU of its wall time")
        lines.append(f"{processor()}; other processes took {max(foreign):.0%} of it at most")
    return "\n".join(lines)


def _fingerprint(package: Package, names: list[str]) -> str:
    """Return a fingerprint of all that may change which backend costs the least."""
    gpu = None
    with contextlib.suppress(CudaError):
        gpu = str(find_gpu())
    versions = {}
    for module in sorted({RUNTIMES[name.partition(":")[0]].needs for name in names}):
        for distribution in (module, f"{module}-gpu"):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                versions[distribution] = importlib.metadata.version(distribution)
    graphs = [package.manifest.files.get(model_file(p)) for p in package.manifest.precisions]
    engines = sorted(path.name for path in (cache_folder() / "engines").glob("*.engine"))
    facts = [names, versions, graphs, engines, processor(), gpu]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
