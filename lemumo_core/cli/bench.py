"""Measure how fast a model package runs on this machine, by backend and precision.

    lemumo bench PACKAGE
    lemumo bench PACKAGE --backend onnxruntime openvino:int8 --batch 1 4 --json bench.json

Exit codes: 0 done, 1 an error, or nothing could be measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.cli.path_kinds import require_package
from lemumo_core.command_line import run_function
from lemumo_core.files import check_output
from lemumo_core.inference.backends import split_name
from lemumo_core.inference.manifest import model_file
from lemumo_core.inference.measure import Measurement, measure, processor
from lemumo_core.inference.package import Package, load_package
from lemumo_core.inference.selection import candidates, table

ROUNDS = 20
NO_DYNAMIC = "no dynamic graph: export it with --dynamic"


def bench_package(
    package: Path,
    *,
    backend: list[str] | None = None,
    batch: tuple[int, ...] = (1,),
    rounds: int = ROUNDS,
    json: Path | None = None,
) -> int:
    """Measure a package and print what was found.

    Args:
        package: folder of the model package.
        backend: RUNTIME[:PRECISION] of each; by default all that ``auto`` would try on
            this machine; torch only when asked.
        batch: batch sizes, e.g. ``--batch 1 2 4 8``; those above 1 need the package's
            dynamic graph.
        rounds: turns of each backend.
        json: file to write the numbers to.

    Returns:
        0, or 1 where nothing could be measured.
    """
    if json is not None:
        check_output(json.parent, option="--json")
    require_package(package, "PACKAGE")
    loaded = load_package(package)
    results, skipped = bench(loaded, backend, list(batch), rounds)
    print(table(results, loaded))
    for name, reason in skipped.items():
        print(f"{name:26}        {reason}")
    if not loaded.manifest.trained:
        print("the weights are UNTRAINED: speed counts, losses do not")
    if json is not None:
        document = {
            "model": loaded.manifest.name,
            "trained": loaded.manifest.trained,
            "machine": processor(),
            "measures": "the network alone, from host memory to host memory",
            "results": [_record(result, loaded) for result in results],
            "skipped": skipped,
        }
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(dumps(document, indent=2) + "\n")
    return 0 if any(not result.error for result in results) else 1


def main(arguments: Sequence[str]) -> int:
    """Run ``lemumo bench``; return its exit code."""
    return run_function("lemumo bench", bench_package, arguments, __doc__)


def bench(
    package: Package, names: list[str] | None, batches: list[int], rounds: int
) -> tuple[list[Measurement], dict[str, str]]:
    """Measure backends at each batch size.

    Args:
        package: verified.
        names: ``RUNTIME[:PRECISION]``; None: everything that ``auto`` would try.
        batches: sizes; those above 1 need the package's dynamic graph.
        rounds: as in ``measure``.

    Returns:
        The measurements, and a reason for what was left out.

    Raises:
        Fault: ``unknown_backend``.
    """
    skipped: dict[str, str] = {}
    if names is None:
        names, skipped = candidates(package)
    full = ["{}:{}".format(*(part or "fp32" for part in split_name(name))) for name in names]
    results: list[Measurement] = []
    for batch in batches:
        able = [name for name in full if batch == 1 or _takes_batches(package, name)]
        for name in full:
            if name not in able:
                skipped[f"{name} batch {batch}"] = NO_DYNAMIC
        results += measure(package.path, able, batch, rounds)
    return results, skipped


def _takes_batches(package: Package, name: str) -> bool:
    runtime, precision = split_name(name)
    graph = model_file(precision or "fp32", dynamic=True)
    return runtime.startswith("torch") or graph in package.manifest.files


def _record(result: Measurement, package: Package) -> dict[str, Any]:
    """One result; names as in NVIDIA's ros2_benchmark where they mean the same."""
    runtime, precision = split_name(result.backend)
    record: dict[str, Any] = {"backend": runtime, "precision": precision, "batch": result.batch}
    if result.error:
        return record | {"error": result.error}
    latencies = np.array(result.latencies_ms)
    return record | {
        "Mean Frame Rate (fps)": result.throughput,
        "Mean End-to-End Latency (ms)": float(latencies.mean()),
        "Min. End-to-End Latency (ms)": float(latencies.min()),
        "Max. End-to-End Latency (ms)": float(latencies.max()),
        "p50 (ms)": result.latency_ms(50),
        "p99 (ms)": result.latency_ms(99),
        "cost (ms)": result.cost_ms,
        "calls": len(latencies),
        "load (s)": result.load_s,
        "memory (MB)": result.memory_mb,
        "foreign CPU share": None if np.isnan(result.foreign_cpu) else result.foreign_cpu,
        "metric loss": package.manifest.losses_of(result.backend),
    }
