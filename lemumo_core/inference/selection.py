"""``auto``: the fastest backend, measured once per machine and model."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import sys

from lemumo_core.faults import Fault
from lemumo_core.files import cache_folder
from lemumo_core.inference.backends import RUNTIMES, split_name, unavailable_reason
from lemumo_core.inference.cache import write_cached
from lemumo_core.inference.cuda_driver import CudaError, find_gpu
from lemumo_core.inference.manifest import model_file
from lemumo_core.inference.measure import Measurement, measure, processor
from lemumo_core.inference.package import Package

log = logging.getLogger(__name__)


def resolve_name(package: Package, name: str) -> str:
    """Return a name whose runtime is not ``auto``, which is measured here where it never was.

    Args:
        package: to be run.
        name: ``RUNTIME[:PRECISION]``. ``auto`` is the fastest of what the machine runs and the
            package holds, ``auto:fp32`` the fastest of that precision.

    Raises:
        Fault: ``unknown_backend``, ``no_backend``.
    """
    runtime, precision = split_name(name)
    return choose_backend(package, precision) if runtime == "auto" else name


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


def choose_backend(package: Package, precision: str | None = None) -> str:
    """Name of the fastest backend. Measures where the cache does not know it yet.

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
        return names[0]
    path = cache_folder() / "choices" / f"{_fingerprint(package, names)}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        chosen = json.loads(path.read_text())["backend"]
        if chosen in names:
            log.info("backend auto: %s, as measured before (%s)", chosen, path)
            return str(chosen)
    print(f"backend auto: measuring {', '.join(names)}, once for this machine", file=sys.stderr)
    results = measure(package.path, names)
    print(table(results, package), file=sys.stderr, flush=True)
    sound = [result for result in results if not result.error]
    if not sound:
        raise Fault("no_backend", f"every backend failed on {package.path}; see the table above")
    chosen = min(sound, key=lambda result: result.latency_ms(50)).backend
    print(f"backend auto: {chosen} is the fastest", file=sys.stderr, flush=True)
    document = {"backend": chosen, "p50_ms": {r.backend: r.latency_ms(50) for r in sound}}
    try:
        write_cached(path, (json.dumps(document, indent=2) + "\n").encode())
    except Fault as fault:
        log.warning("the choice is not kept, and will be measured again next time: %s", fault)
    return chosen


def table(results: list[Measurement], package: Package) -> str:
    """Measurements as text, one line each."""
    lines = [f"{'backend':26} batch  p50 ms  p99 ms  1/s     load s  MB    loss"]
    for r in results:
        if r.error:
            lines.append(f"{r.backend:26} {r.batch:5}  {r.error}")
            continue
        loss = package.manifest.losses_of(r.backend)
        shown = ", ".join(f"{name} {value:.2g}" for name, value in loss.items()) or "-"
        lines.append(
            f"{r.backend:26} {r.batch:5} {r.latency_ms(50):7.1f} {r.latency_ms(99):7.1f} "
            f"{r.throughput:6.1f} {r.load_s:8.1f} {r.memory_mb:5.0f}  {shown}"
        )
    foreign = [r.foreign_cpu for r in results if not r.error]
    if foreign:
        lines.append(f"{processor()}; other processes took {max(foreign):.0%} of it at most")
    return "\n".join(lines)


def _fingerprint(package: Package, names: list[str]) -> str:
    """Return a fingerprint of all that may change which backend is the fastest."""
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
