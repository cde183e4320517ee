"""TensorRT engines on disk: trusted only with a sidecar that says what they were made of.

An engine is code for one GPU, driver and TensorRT. Beside ``X.engine`` lies ``X.json`` with its key
and its sha256; the file itself is a plain engine that trtexec can load.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lemumo_core.faults import Fault
from lemumo_core.inference.cache import write_cached
from lemumo_core.inference.cuda_driver import Gpu

SCHEMA_VERSION = 1
PORTABLE = "any"
"""GPU and driver of a TensorRT-RTX engine, which the driver compiles further where it is run."""


@dataclass(frozen=True)
class EngineKey:
    """Everything that decides the bytes of an engine.

    Attributes:
        onnx_sha256: of the graph.
        flavour: ``tensorrt`` or ``tensorrt-rtx``.
        version: of TensorRT, in full.
        gpu, driver: of the machine, or ``PORTABLE``.
        precision: of the graph.
        batch: smallest, best and largest batch size.
        options: of the builder.
    """

    onnx_sha256: str
    flavour: str
    version: str
    gpu: str
    driver: str
    precision: str
    batch: tuple[int, int, int]
    options: Mapping[str, Any]
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def here(
        cls,
        onnx_sha256: str,
        flavour: str,
        version: str,
        gpu: Gpu | None,
        precision: str,
        batch: tuple[int, int, int],
        options: Mapping[str, Any],
    ) -> EngineKey:
        """The key of an engine for this machine's GPU. RTX engines are portable: any GPU."""
        name = driver = PORTABLE
        if gpu is not None and flavour != "tensorrt-rtx":
            name = f"{gpu.name}, {gpu.compute_capability}, {gpu.multiprocessors} SMs"
            driver = gpu.driver
        return cls(onnx_sha256, flavour, version, name, driver, precision, batch, options)

    def serves(self, wanted: EngineKey) -> bool:
        """Whether an engine of this key can do a job: any options, and a batch it holds."""
        mine, theirs = asdict(self), asdict(wanted)
        for free in ("batch", "options"):
            mine.pop(free), theirs.pop(free)
        low, _, high = self.batch
        return mine == theirs and low <= wanted.batch[0] and wanted.batch[2] <= high

    def file_name(self, model: str) -> str:
        """Return the file name of the engine of a model."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        readable = re.sub(r"[^A-Za-z0-9_.-]+", "_", model)
        return f"{readable}-{self.precision}-{digest[:16]}.engine"


def store_engine(
    folder: Path, model: str, key: EngineKey, engine: bytes | memoryview, facts: dict[str, Any]
) -> Path:
    """Write an engine and then its sidecar, each atomically.

    Args:
        folder: of the cache.
        model: name for the file.
        key: what it was made of.
        engine: serialised.
        facts: more for the sidecar (build log, layers, parity).

    Raises:
        Fault: ``cache`` if the folder cannot be written.
    """
    path = folder / key.file_name(model)
    sidecar = {"key": asdict(key), "sha256": hashlib.sha256(engine).hexdigest()} | facts
    write_cached(path, engine)
    write_cached(path.with_suffix(".json"), (json.dumps(sidecar, indent=2) + "\n").encode())
    return path


def read_engine(path: Path, key: EngineKey) -> bytes:
    """An engine that was made for ``key``, or for options and batch sizes that serve it.

    Raises:
        Fault: ``no_engine`` without one, ``wrong_engine`` if the sidecar is missing or of another
            key, or the file is truncated or changed.
    """
    if not path.is_file():
        raise Fault("no_engine", f"there is no engine {path}")
    made_for, digest = _sidecar(path)
    if not made_for.serves(key):
        ours, theirs = asdict(key), asdict(made_for)
        differing = ", ".join(
            f"{k} {theirs[k]}, not {ours[k]}" for k in ours if theirs[k] != ours[k]
        )
        raise Fault("wrong_engine", f"{path} was built for another job: {differing}")
    engine = path.read_bytes()
    if hashlib.sha256(engine).hexdigest() != digest:
        raise Fault("wrong_engine", f"{path} is truncated or was changed: its sha256 is another")
    return engine


def find_engine(folder: Path, key: EngineKey) -> tuple[Path, bytes]:
    """The newest sound engine of a cache that serves a key.

    Raises:
        Fault: ``no_engine``, naming what engines of this graph there are and why none serves.
    """
    found = sorted(folder.glob("*.engine"), key=lambda p: p.stat().st_mtime, reverse=True)
    problems = []
    for path in found:
        try:
            return path, read_engine(path, key)
        except Fault as fault:
            problems.append(str(fault))
    build = f"lemumo build-engine PACKAGE --runtime {key.flavour} --precision {key.precision}"
    shown = "".join(f"\n  {problem}" for problem in problems[:5])
    raise Fault("no_engine", f"{folder} has no engine for this machine; build it: {build}{shown}")


def _sidecar(path: Path) -> tuple[EngineKey, str]:
    sidecar = path.with_suffix(".json")
    try:
        document = json.loads(sidecar.read_text())
        key = dict(document["key"])
        key["batch"] = tuple(key["batch"])
        return EngineKey(**key), document["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Fault(
            "wrong_engine", f"{path} has no sound sidecar {sidecar.name} and is not trusted"
        ) from error
