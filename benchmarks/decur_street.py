"""DeCUR on rendered streets, beside what it must beat, and its share of common dimensions.

    python -m benchmarks.decur_street                       one thread; stop and repeat at will
    python -m benchmarks.decur_street --companion thermal
    python -m benchmarks.decur_street --rows DeCUR VICReg --seeds 1 --steps 200

Every row is pretrained without labels on the same frames for the same steps. Converged linear
probes (``lemumo_core.train.pretrain.probing``) then score its tokens with both sensors and with
each alone, on validation frames, beside raw patches and the untrained encoder. Slices of DeCUR's
embedding are scored by ridge regression from one vector a frame to the mean log depth and the share
of each class in the frame (mean R^2 over these). Runs that are finished are not repeated;
--only-missing runs one unfinished run and ends. The tables go to OUT/results.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks._runs import PAPERS_LOSS, finish, folder_name, mean_and_deviation, positive, run
from benchmarks._timing import machine
from lemumo_core.data.samples import collate, sample
from lemumo_core.data.sources.registry import source_of
from lemumo_core.methods.decur.method import DecurMethod
from lemumo_core.methods.decur.slices import frame_truth, ridge_r2, slices_of, varying
from lemumo_core.train.checkpoint import load_model_tensors
from lemumo_core.train.pretrain.config import PretrainConfig
from lemumo_core.train.pretrain.learner import seeded_method
from lemumo_core.train.run_config import from_dict
from lemumo_core.train.weights import read_tensors

HEIGHT, WIDTH = 96, 192
DECUR: dict[str, Any] = {"method": "DeCUR"}
BARLOW = {"image": 0.0, "companion": 0.0, "common": 1.0, "unique": 0.0}
ROWS: dict[str, dict[str, Any]] = {
    "DeCUR": DECUR,
    "Barlow Twins between modalities": DECUR | {"method.common": 1, "method.weights": BARLOW},
    "VICReg": PAPERS_LOSS | {"method.objective": "vicreg"},
    "Le MuMo JEPA": PAPERS_LOSS,
    "DeCUR, shared crop": DECUR | {"method.crops.shared_crop": True},
    **{f"DeCUR, common {c}": DECUR | {"method.common": c} for c in (0, 0.25, 0.5, 0.875, 1)},
}
"""Options of pretraining beside those that all rows share."""
BASELINES = {"raw patches": "raw patches", "untrained": "untrained"}
"""Rows that the first row's summary holds, and their names there."""
SLICES = ("both", "image", "companion", "image, common", "image, unique")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--companion", choices=("lidar", "thermal"), default="lidar")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--frames", type=positive, default=640)
    parser.add_argument("--val-frames", type=positive, default=96)
    parser.add_argument("--steps", type=positive, default=400)
    parser.add_argument("--batch", type=positive, default=32)
    parser.add_argument("--only-missing", action="store_true", help="one unfinished run, then end")
    parser.add_argument("--out", type=Path, help="default: out/decur-COMPANION")
    args = parser.parse_args()
    torch.set_num_threads(1)
    out = args.out or Path("out", f"decur-{args.companion}")
    frames = out / "frames"
    options = {"seed": 3, "frames": args.frames, "frames_per_drive": 4, "rate_hz": 1, "out": frames}
    options |= {"height": HEIGHT, "width": WIDTH, "companion": args.companion}
    run("prepare.py", ["synthetic"], options)
    shared = {
        "data": frames,
        "val_frames": args.val_frames,
        "batch": args.batch,
        "steps": args.steps,
        "resume": "auto",
        "model.height": HEIGHT,
        "model.width": WIDTH,
        "model.companion": args.companion,
        "optimizer.lr": 3e-4,
        "log.checkpoint_every": 100,
        "log.tensorboard": False,
    }
    for seed in range(args.seeds):
        for row in args.rows:
            folder = out / folder_name(row) / str(seed)
            missing = not (folder / "summary.json").exists()
            finish("pretrain.py", {**ROWS[row], **shared, "seed": seed, "out": folder})
            if missing and args.only_missing:
                return
    text = results(args.rows, args.seeds, out, frames, args.val_frames)
    text = f"{machine()}; tiny encoder, {args.steps} steps of {args.batch} samples\n\n{text}"
    (out / "results.md").write_text(text)
    print(text)


def results(rows: Sequence[str], seeds: int, out: Path, frames: Path, val_frames: int) -> str:
    """Return both tables: probes by modality, and slices of DeCUR's embedding."""
    heads = [f"{m}: {n}" for m in ("fused", "image", "companion") for n in ("depth MAE, m", "mIoU")]
    lines = [f"| row | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
    folders = {row: [out / folder_name(row) / str(s) for s in range(seeds)] for row in rows}
    for name, key in BASELINES.items():
        lines.append(f"| {name} | {' | '.join(probe_cells(folders[rows[0]], key))} |")
    for row in rows:
        lines.append(f"| {row} | {' | '.join(probe_cells(folders[row], 'pretrained'))} |")
    lines += ["", f"| R² of one vector a frame | {' | '.join(SLICES)} |"]
    lines.append(f"| --- |{' ---: |' * len(SLICES)}")
    for row in rows:
        if ROWS[row]["method"] == "DeCUR":
            for trained in (True, False) if row == "DeCUR" else (True,):
                scores = [slices(one, frames, val_frames, trained) for one in folders[row]]
                cells = [cell([one.get(name) for one in scores]) for name in SLICES]
                name = row if trained else f"{row}, untrained"
                lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def probe_cells(folders: Sequence[Path], key: str) -> list[str]:
    """Return mean and deviation of the scores of runs, by modality."""
    found = [json.loads((one / "summary.json").read_text())["probes"][key] for one in folders]
    return [
        cell([one.get(modality, {}).get(name) for one in found])
        for modality in ("fused", "image", "companion")
        for name in ("depth_mae_m", "miou")
    ]


def cell(values: Sequence[float | None]) -> str:
    """Return mean and deviation of what is known."""
    known = [value for value in values if value is not None]
    return mean_and_deviation(known) if known else "-"


@torch.no_grad()
def slices(folder: Path, frames: Path, val_frames: int, trained: bool) -> dict[str, float]:
    """Score the slices of the embedding of a run, or of its untrained method."""
    config = from_dict(PretrainConfig, yaml.safe_load((folder / "config.yaml").read_text()))
    method = seeded_method(config).eval()
    assert isinstance(method, DecurMethod)
    if trained:
        load_model_tensors(method, read_tensors(folder), folder)
    source, classes = source_of(str(frames)), config.model.classes
    vectors, targets = [], []
    for start in range(0, len(source), 16):
        indices = range(start, min(start + 16, len(source)))
        batch = collate([sample(source[i], config.canvas_spec, classes) for i in indices])
        vectors.append(method.embeddings(batch).numpy())
        targets.append(frame_truth(batch, len(config.model.segmentation_classes)))
    z, truth = np.concatenate(vectors, axis=1), np.concatenate(targets)
    fitted = np.arange(len(truth)) < len(truth) - val_frames
    y = varying(truth, fitted)
    parts = slices_of(z, method.loss.common_dims(z.shape[2]))
    return {name: ridge_r2(parts[name], y, fitted) for name in SLICES if name in parts}


if __name__ == "__main__":
    main()
