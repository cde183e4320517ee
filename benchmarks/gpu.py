"""Measure all that needs an NVIDIA GPU, in at most 12 minutes.

    python -m benchmarks.gpu [--package models/lemumo-tiny] [--only engines latency ...]

Each part runs in a process of its own with a limit of time, so that one that fails or hangs costs
the others nothing:

- package: fp16, int8 and fp8 graphs of the package, calibrated on rendered frames
- engines: TensorRT engines of every precision, held against ONNX Runtime
- latency: the network alone, and from a frame of 1080p with 120 000 points to boxes, by backend
- graph: an engine with its CUDA graph and without
- pretrain, finetune: samples a second with data and of compute alone (recipes for one GPU)
- world: rendered frames a second, on the GPU and on the CPU

Writes ``benchmarks/gpu/DEVICE.json`` and prints tables. Needs ``pip install '.[bags,gpu,train]'``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from lemumo_core.inference.cuda_driver import find_gpu, why_no_gpu
from lemumo_core.inference.measure import processor

OUT = Path(__file__).resolve().parent / "gpu"
ALL_S = 12 * 60.0
LIMITS_S = {
    **{"package": 150.0, "engines": 240.0, "latency": 120.0, "graph": 45.0},
    **{"pretrain": 120.0, "finetune": 90.0, "world": 60.0},
}
"""By part, in this order; what is over is cut off, as is what is over the whole limit."""
LIBRARIES = ("torch", "tensorrt", "tensorrt-rtx", "onnxruntime-gpu", "onnxruntime", "numpy")
PRECISIONS = ("fp16", "int8", "fp8")


def run_part(name: str, package: Path, work: Path) -> list[dict[str, Any]]:
    """Measure a part in this process; returns its rows."""
    import torch

    from benchmarks import _gpu_parts as parts

    cuda, calibrated = torch.device("cuda"), work / "package"
    used = calibrated if calibrated.exists() else package
    backends = [f"tensorrt:{p}" for p in ("fp32", *PRECISIONS)]
    backends += ["onnxruntime-cuda:fp32", "torch:fp32", "torch-compile:fp32", "onnxruntime:fp32"]
    found: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "package": lambda: parts.calibrated(package, calibrated, PRECISIONS),
        "engines": lambda: parts.engines(used),
        "latency": lambda: parts.latency(used, backends),
        "graph": lambda: parts.cuda_graph(used),
        "pretrain": lambda: parts.training("pretrain, preset lemumo", cuda),
        "finetune": lambda: parts.training("finetune", cuda),
        "world": lambda: parts.world(("cuda", "cpu")),
    }
    return found[name]()


def measured(command: Sequence[str], limit_s: float, file: Path) -> dict[str, Any]:
    """Run a command that writes rows to a file, at most so long; returns these or the error."""
    began = time.monotonic()
    found: dict[str, Any] = {}
    if limit_s <= 0:
        return {"error": "no time was left for it", "seconds": 0.0}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-8:]
            found["error"] = f"exit code {done.returncode}: " + "\n".join(last)
        else:
            found["rows"] = json.loads(file.read_text())
    except subprocess.TimeoutExpired:
        found["error"] = f"took more than {limit_s:.0f} s"
    return found | {"seconds": time.monotonic() - began}


def tables(document: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [f"{document['gpu']}; {document['machine']}; {document['seconds']:.0f} s", ""]
    for name, part in document["parts"].items():
        lines += [f"## {name} ({part['seconds']:.0f} s)", ""]
        if "error" in part:
            lines += [part["error"], ""]
            continue
        columns = list(dict.fromkeys(key for row in part["rows"] for key in row if key != "said"))
        lines += [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
        lines += [f"| {' | '.join(_shown(row.get(c)) for c in columns)} |" for row in part["rows"]]
        lines.append("")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _versions() -> dict[str, str]:
    installed = {}
    for name in LIBRARIES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the parts; returns 0, or 1 without a GPU or where a part failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--package", type=Path, default=Path("models/lemumo-tiny"))
    parser.add_argument("--only", nargs="+", choices=LIMITS_S, default=list(LIMITS_S))
    parser.add_argument("--part", choices=LIMITS_S, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, default=Path("out/gpu"), help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if reason := why_no_gpu():
        print(
            f"benchmarks.gpu needs an NVIDIA GPU: {reason}. Run it on the machine whose GPU is to "
            "be measured; without one, python -m benchmarks.launches counts a training step's "
            "launches",
            file=sys.stderr,
        )
        return 1
    args.work.mkdir(parents=True, exist_ok=True)
    if args.part:
        rows = run_part(args.part, args.package, args.work)
        (args.work / f"{args.part}.json").write_text(json.dumps(rows))
        return 0
    began, gpu, parts = time.monotonic(), find_gpu(), {}
    for name in (name for name in LIMITS_S if name in args.only):
        print(f"{name} ...", file=sys.stderr, flush=True)
        shared = ["--package", str(args.package), "--work", str(args.work)]
        command = [sys.executable, "-m", "benchmarks.gpu", "--part", name, *shared]
        left_s = ALL_S - (time.monotonic() - began)
        file = args.work / f"{name}.json"
        parts[name] = measured(command, min(LIMITS_S[name], left_s), file)
    document = {
        **{"gpu": gpu.name, "compute_capability": gpu.compute_capability, "driver": gpu.driver},
        **{"machine": processor(), "versions": _versions(), "package": str(args.package)},
        **{"command": "python -m benchmarks.gpu", "seconds": time.monotonic() - began},
        "parts": parts,
    }
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{gpu.name.replace(' ', '-').replace('/', '-')}.json"
    path.write_text(json.dumps(document, indent=2) + "\n")
    print(tables(document))
    print(f"written: {path}")
    return int(any("error" in part for part in parts.values()))


if __name__ == "__main__":
    sys.exit(main())
