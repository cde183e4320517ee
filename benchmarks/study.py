"""Which pretraining helps? Every objective and encoder on the same streets, budget and probes.

    python -m benchmarks.study --jobs 2             two CPU cores, about an hour; a stop costs a run
    python -m benchmarks.study --scale gpu          small encoder at 256 x 704, on one GPU
    python -m benchmarks.study --rows pruned lemumo --seeds 1

Each row is pretrained without labels on rendered streets, then the paper's probes (CenterNet 3D,
depth, segmentation) learn on its frozen encoder, from the same labels for the same steps, and are
evaluated on validation frames, as lemumo evaluate does. Runs that are finished are not repeated.
The table goes to OUT/results.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._runs import METRICS, finish, folder_name, fused, mean_and_deviation, positive, run
from benchmarks._timing import machine
from lemumo_core.inference.inputs import random_inputs
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.variants import build_encoder
from lemumo_core.preprocess import Inputs

PAPER = {"model.preset": "paper"}
LEMUMO = {"method.tokens": True, "method.modality_dropout": 0.2}
ROWS: dict[str, dict[str, Any]] = {
    "untrained": PAPER,
    "camera_only": {**PAPER, "model.variant": "camera_only"},
    "companion_only": {**PAPER, "model.variant": "companion_only"},
    "early": {**PAPER, "model.variant": "early"},
    "late": {**PAPER, "model.variant": "late"},
    "pruned, VICReg": {**PAPER, "method.objective": "vicreg"},
    "persistent": {**PAPER, "model.variant": "persistent"},
    "pruned": PAPER,
    "lemumo, no returns": {**LEMUMO, "method.mask_returns": 0},
    "lemumo": LEMUMO,
}
"""Options of pretraining beside those that all rows share; ``pruned`` is Le MuMo JEPA."""


class Scale(NamedTuple):
    """Size of the study: of the model, the data and the budget of either stage."""

    size: str
    height: int
    width: int
    frames: int
    val_frames: int
    batch: int
    steps: int
    lr: float
    probe_batch: int
    probe_steps: int
    probe_lr: float
    views: dict[str, Any]


SCALES = {
    "cpu": Scale(
        *("tiny", 128, 352, 384, 64, 16, 60, 1e-4, 4, 240, 4e-3),
        {
            "method.views.local_views": 2,
            "method.views.global_size": [80, 224],
            "method.views.local_size": [48, 128],
            "method.views.local_scale": [0.2, 0.5],
            "method.views.global_scale": [0.5, 1.0],
        },
    ),
    "gpu": Scale(
        *("small", 256, 704, 20000, 500, 128, 4000, 5e-4, 128, 2000, 1e-3),
        {
            "method.views.global_size": [160, 448],
            "method.views.local_size": [64, 176],
            "scale.workers": 12,
        },
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--jobs", type=positive, default=1, help="runs side by side, sharing cores")
    parser.add_argument("--out", type=Path, help="default: out/study-SCALE")
    args = parser.parse_args()
    scale, out = SCALES[args.scale], args.out or Path("out", f"study-{args.scale}")
    frames = prepare(scale, out, "cuda" if args.scale == "gpu" else "cpu")
    runs = [(row, seed) for seed in range(args.seeds) for row in args.rows]
    os.environ["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // args.jobs))

    def one(number: int) -> None:
        row, seed = runs[number]
        print(f"== {number + 1}/{len(runs)}: {row}, seed {seed}", flush=True)
        train(row, seed, scale, frames, out / folder_name(row) / str(seed))

    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(one, range(len(runs))))
    table = results(args.rows, args.seeds, scale, out)
    (out / "results.md").write_text(table)
    print(table)


def prepare(scale: Scale, out: Path, device: str) -> Path:
    """Shards of the streets that all rows learn from."""
    frames = out / "frames"
    options = {"seed": 3, "frames": scale.frames, "frames_per_drive": 4, "rate_hz": 1}
    options |= {"height": scale.height, "width": scale.width, "device": device, "out": frames}
    run("prepare.py", ["synthetic"], options)
    return frames


def train(row: str, seed: int, scale: Scale, frames: Path, out: Path) -> None:
    """Pretrain a row, unless it is the untrained one, and probe it."""
    model = {f"model.{name}": getattr(scale, name) for name in ("size", "height", "width")}
    shared = {"data": frames, "val_frames": scale.val_frames, "seed": seed, "resume": "auto"}
    weights = {**model, **PAPER}
    if row != "untrained":
        options = {**shared, **model, **scale.views, "batch": scale.batch, "steps": scale.steps}
        options |= {"optimizer.lr": scale.lr, "log.probes": False, "out": out / "pretrain"}
        finish("pretrain.py", {**options, "method.tokens": False, **ROWS[row]})
        weights = {"weights": out / "pretrain"}
    options = {**shared, "mode": "probe", "batch": scale.probe_batch, "steps": scale.probe_steps}
    options |= {"optimizer.lr": scale.probe_lr, "log.evaluate_every": scale.probe_steps}
    finish("finetune.py", {**options, **weights, "out": out / "probe"})


def results(rows: list[str], seeds: int, scale: Scale, out: Path) -> str:
    """The table: mean and standard deviation over seeds, and what the rows cost."""
    lines = [
        f"{machine()}; {scale.size} encoder at {scale.height} x {scale.width}, {scale.frames} "
        f"frames, {scale.steps} steps of {scale.batch}, probes {scale.probe_steps} of "
        f"{scale.probe_batch}, {seeds} seeds: mean ± standard deviation.",
        "",
        f"| row | {' | '.join(METRICS.values())} | GFLOP an image | s a step | peak GB |",
        f"| --- |{' ---: |' * (len(METRICS) + 3)}",
    ]
    for row in rows:
        folders = [out / folder_name(row) / str(seed) for seed in range(seeds)]
        probes = [fused(folder / "probe") for folder in folders]
        cells = [mean_and_deviation([probe[name] for probe in probes]) for name in METRICS]
        model = json.loads((folders[0] / "probe" / "model.json").read_text())
        cells.append(f"{gflop(ModelConfig.from_dict(model)):.2f}")
        cells += cost(folders, scale.batch) if row != "untrained" else ["", ""]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cost(folders: list[Path], batch: int) -> list[str]:
    """Seconds of a step of pretraining, and the most memory it took."""
    lines = [
        json.loads(line)
        for folder in folders
        for line in (folder / "pretrain" / "metrics.jsonl").read_text().splitlines()
    ]
    logged = [line for line in lines if "samples_per_s" in line]
    seconds = statistics.median(batch / line["samples_per_s"] for line in logged)
    return [f"{seconds:.2f}", f"{max(line['memory_gb'] for line in logged):.2f}"]


def gflop(config: ModelConfig) -> float:
    """Count the encoder's operations on one image, 2 for a multiplication and an addition."""
    inputs = random_inputs(config.input_spec, batch=1)
    encoder = build_encoder(config).eval()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder(Inputs(*map(torch.from_numpy, inputs)))
    return counter.get_total_flops() / 1e9


if __name__ == "__main__":
    main()
