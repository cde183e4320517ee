"""The parts of ``benchmarks.gpu``: each measures something and returns rows of a table.

They take the device, so that they are tested on a CPU, where their figures mean nothing.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._recipes import run_of
from lemumo_core.cli.bench import bench
from lemumo_core.cli.main import main as lemumo
from lemumo_core.data.samples import collate
from lemumo_core.data.shard_writer import write_shards
from lemumo_core.data.shards import Shards
from lemumo_core.data.sources import FrameSource
from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.frame import Frame, LidarScan
from lemumo_core.geometry.camera import Camera
from lemumo_core.inference.backends import load_backend, unavailable_reason
from lemumo_core.inference.inputs import random_inputs
from lemumo_core.inference.package import load_package
from lemumo_core.inference.pipeline import Pipeline
from lemumo_core.train.batch_sampler import BatchSampler
from lemumo_core.train.loader import samples_of, training_batches
from lemumo_core.train.loop import Run
from lemumo_core.train.parallel import DistInfo
from lemumo_core.train.run_config import RunConfig

Row = dict[str, Any]
ENGINES = ("tensorrt", "tensorrt-rtx")
CAMERA = Camera(1920, 1080, 1200.0, 1200.0, 960.0, 540.0)
POINTS = 120_000
T_CAMERA_LIDAR = np.array([[0, -1, 0, 0.0], [0, 0, -1, -0.1], [1, 0, 0, -0.3], [0, 0, 0, 1]])
WARM_UPS = 3
DRIVE = 20
"""Frames of a rendered drive."""


def calibrated(package: Path, out: Path, precisions: Iterable[str], frames: int = 8) -> list[Row]:
    """Write a package's lower precisions beside its float32; those that fail are left out."""
    arguments = ["export", "--package", str(package), "--out", str(out), "--overwrite"]
    code = lemumo([*arguments, "--precision", *precisions, "--count", str(frames)])
    if code:
        raise SystemExit(code)
    return [{"precision": name} for name in load_package(out).manifest.precisions]


def engines(package: Path, frames: int = 8) -> list[Row]:
    """Build an engine of every precision for every TensorRT that is here, and prove it."""
    rows = []
    for runtime in ENGINES:
        if reason := unavailable_reason(runtime):
            rows.append({"runtime": runtime, "result": reason})
            continue
        shipped = load_package(package).manifest.precisions
        for precision in (name for name in shipped if name != "int8-cpu"):
            said, began = io.StringIO(), time.monotonic()
            arguments = ["build-engine", str(package), "--runtime", runtime, "--rebuild"]
            with contextlib.redirect_stdout(said):
                code = lemumo([*arguments, "--precision", precision, "--count", str(frames)])
            results = {0: "equal within the limits", 3: "refused"}
            rows.append(
                {
                    "runtime": runtime,
                    "precision": precision,
                    "result": results.get(code, f"exit code {code}"),
                    "build and parity (s)": time.monotonic() - began,
                    "said": said.getvalue().splitlines(),
                }
            )
    return rows


def latency(package: Path, backends: Iterable[str], calls: int = 100) -> list[Row]:
    """Measure a frame of 1080p and 120 000 points to a Perception, and the network alone."""
    loaded = load_package(package)
    alone, _ = bench(loaded, list(backends), [1], max(2, calls // 10))
    rows = []
    for measured in alone:
        row = {"backend": measured.backend, "batch": 1}
        if measured.error:
            rows.append({**row, "error": measured.error})
            continue
        row |= {"network p50 (ms)": measured.latency_ms(50), "load (s)": measured.load_s}
        pipeline = Pipeline(loaded, load_backend(loaded, measured.backend))
        rows.append({**row, **_percentiles("frame", lambda p=pipeline: p(_frame()), calls)})
        pipeline.close()
    return rows


def _frame() -> Frame:
    rng = np.random.default_rng(0)
    points = rng.uniform([-60, -60, -2, 0], [60, 60, 4, 1], (POINTS, 4)).astype(np.float32)
    image = rng.integers(0, 256, (CAMERA.height, CAMERA.width, 3), np.uint8)
    return Frame(1, "c", CAMERA, image, LidarScan(points, T_CAMERA_LIDAR, 1))


def _percentiles(name: str, call: Callable[[], Any], calls: int) -> Row:
    times_ms = []
    for _ in range(WARM_UPS + calls):
        began = time.perf_counter()
        call()
        times_ms.append(1e3 * (time.perf_counter() - began))
    p50, p99 = np.percentile(times_ms[WARM_UPS:], [50, 99])
    return {f"{name} p50 (ms)": float(p50), f"{name} p99 (ms)": float(p99)}


def cuda_graph(package: Path, precision: str = "fp16", calls: int = 200) -> list[Row]:
    """Measure an engine with the CUDA graph that its backend records, and without."""
    loaded = load_package(package)
    backend: Any = load_backend(loaded, f"tensorrt:{precision}")
    inputs = random_inputs(loaded.manifest.input)
    outputs = {name: np.empty(s.shape, s.dtype) for name, s in backend.outputs.items()}
    graph, rows = backend._graph, []
    for name, used in (("CUDA graph", graph), ("no graph", None)):
        if name == "CUDA graph" and graph is None:
            rows.append({"run": name, "error": "the engine cannot be captured"})
            continue
        backend._graph = used
        found = _percentiles("network", lambda: backend.infer(inputs, outputs), calls)
        rows.append({"run": name, **found})
    backend._graph = graph
    backend.close()
    return rows


def training(row: str, device: torch.device, steps: int = 10, **changes: Any) -> list[Row]:
    """Measure samples a second of a recipe with its data, and of the same step without.

    Where memory runs out, the batch is halved.
    """
    recipe, config = run_of(row, **changes)
    while True:
        try:
            return [{"run": row, "batch": config.batch, **_rates(recipe, config, device, steps)}]
        except torch.OutOfMemoryError:
            if config.batch < 4:  # batch statistics need two samples
                raise
            config = replace(config, batch=config.batch // 2)
            torch.cuda.empty_cache()


def _rates(recipe: Any, config: RunConfig, device: torch.device, steps: int) -> Row:
    config = replace(config, steps=WARM_UPS + steps)
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        source = _shards(config, Path(folder), device)
        samples = samples_of(config, source)
        sampler = BatchSampler(len(source), config.batch, config.seed)
        learner = recipe.learner(
            Run(config, Path(folder), DistInfo(0, 1, device), samples, sampler)
        )
        with training_batches(config, samples, sampler, 0, 0, 1) as coming:
            for step, batch in enumerate(coming):
                if step == WARM_UPS:
                    began = _finished(device)
                learner.learn(batch.to(device, non_blocking=True), step)
            with_data_s = _finished(device) - began
        batch = collate([samples[i] for i in sampler[0]]).to(device)
        began = _finished(device)
        for step in range(steps):
            learner.learn(batch, step)
        alone_s = _finished(device) - began
    rates = (config.batch * steps / spent_s for spent_s in (with_data_s, alone_s))
    with_data, alone = rates
    return {
        "with data (samples/s)": with_data,
        "compute alone (samples/s)": alone,
        "share": with_data / alone,
        "workers": config.scale.workers,
        "memory (GB)": torch.cuda.max_memory_allocated() / 1e9 if on_gpu else None,
    }


def _finished(device: torch.device) -> float:
    """Return the time, seconds, when all that was launched is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _shards(config: RunConfig, folder: Path, device: torch.device) -> FrameSource:
    size = {"height": config.canvas_spec.height, "width": config.canvas_spec.width}
    kind = {"frames_per_drive": DRIVE, "device": device.type}
    street = SyntheticStreet(frames=2 * config.batch, **size, **kind)
    write_shards(street, folder / "frames", frames_per_shard=DRIVE, workers=1)
    return Shards(str(folder / "frames"))


def world(devices: Iterable[str], drive: int = DRIVE, height: int = 256) -> list[Row]:
    """Measure rendered frames a second of two drives, after a first one."""
    rows = []
    for device in devices:
        size = {"height": height, "width": height * 11 // 4}
        street = SyntheticStreet(frames=3 * drive, frames_per_drive=drive, device=device, **size)
        for i in range(len(street)):
            if i == drive:
                began = time.perf_counter()
            street[i]
        rows.append({"device": device, "frames/s": 2 * drive / (time.perf_counter() - began)})
    return rows
