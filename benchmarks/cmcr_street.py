"""CMCR on rendered streets: what it brings to classes of LiDAR points, and what each part does.

    python -m benchmarks.cmcr_street                        one thread; stop and repeat at will
    python -m benchmarks.cmcr_street --rows CMCR "random weights" --seeds 1

An image encoder is pretrained without labels first, once; then every row pretrains a 3D network
(preset ``adapted``, but voxels of 0.4 m) on the same frames for the same steps. Each network is
judged by a linear probe with all labels, and by fine-tuning with 1 %, 10 % and all of them; the
ablations by the probe and 10 %. Rows are compared with random weights, whose batch norms have seen
the frames, and with the most frequent class. The probe is a logistic regression on points of the
training sweeps, fitted until it converges. Runs that are finished are not repeated; --only-missing
runs one unfinished run and ends. The table, mIoU over the points of whole validation sweeps, goes
to OUT/results.md after each seed. It takes about 100 minutes of one core of an EPYC.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks._point_probe import linear_probe
from benchmarks._runs import flags, folder_name, mean_and_deviation, positive, run_here
from benchmarks._timing import machine
from lemumo_core.data.sources import evenly_spaced
from lemumo_core.data.sources.registry import source_of

HEIGHT, WIDTH = 96, 192
CODEBOOK_OFF = {"method.terms.commitment": 0, "method.terms.matching": 0}
OCCUPANCY_OFF = {"method.terms.occupancy": 0, "method.terms.intensity": 0}
MASKING_OFF = {"method.terms.reconstruction": 0}
CONTRAST_ALONE = CODEBOOK_OFF | OCCUPANCY_OFF | MASKING_OFF | {"method.terms.orthogonality": 0}
ROWS: dict[str, dict[str, Any]] = {
    "random weights": CONTRAST_ALONE | {"optimizer.lr": 0, "optimizer.final_lr": 0, "steps": 40},
    "PPKT": CONTRAST_ALONE,
    "CMCR": {},
}
"""Options of pretraining beside those that all rows share; a rate of 0 moves the statistics of
batch norms and nothing else. PPKT is the contrast alone."""
ABLATIONS: dict[str, dict[str, Any]] = {
    "without occupancy": OCCUPANCY_OFF,
    "plain masked image modelling": {"method.geometry": False},
    "without masked image modelling": MASKING_OFF,
    "without codebook": CODEBOOK_OFF,
}
PROBE, PRETRAINED = "linear probe", "pretrain"
FRACTIONS = {"1 %": 0.01, "10 %": 0.1, "100 %": 1.0}
STEPS = {"1 %": 40, "10 %": 60, "100 %": 100}
"""Fine-tuning takes so many steps, of four sweeps each."""
PROBE_SWEEPS = 80
CONSTANT = "most frequent class"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = ROWS | ABLATIONS
    parser.add_argument("--rows", nargs="+", choices=every, default=list(every))
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--frames", type=positive, default=640)
    parser.add_argument("--val-frames", type=positive, default=48)
    parser.add_argument("--image-steps", type=positive, default=120)
    parser.add_argument("--steps", type=positive, default=200)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--image-weights", help="in place of pretraining an image encoder here")
    parser.add_argument("--only-missing", action="store_true", help="one unfinished run, then end")
    parser.add_argument("--out", type=Path, default=Path("out", "cmcr-street"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    options = {"seed": 3, "frames": args.frames, "frames_per_drive": 4, "rate_hz": 1}
    options |= {"height": HEIGHT, "width": WIDTH, "out": args.out / "frames"}
    run_here("prepare", "synthetic", *flags(options))
    for seeds in range(1, args.seeds + 1):
        for folder, finish in runs(args, seeds):
            if not (folder / "summary.json").exists():
                finish()
                if args.only_missing:
                    return
        text = f"{machine()}; seeds: {seeds}\n\n{results(args.rows, seeds, args.out)}"
        (args.out / "results.md").write_text(text)
        print(text)


def runs(args: argparse.Namespace, seeds: int) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Yield the folder of every run of the first seeds, and what finishes it."""
    shared = {
        "data": args.out / "frames",
        "val_frames": args.val_frames,
        "resume": "auto",
        "model.height": HEIGHT,
        "model.width": WIDTH,
        "log.checkpoint_every": 50,
        "log.tensorboard": False,
    }
    images = args.image_weights or args.out / "images"
    if not args.image_weights:
        options = {"batch": 32, "steps": args.image_steps, "optimizer.lr": 3e-4}
        options |= {"log.probes": False, "out": images}
        yield images, partial(run_here, "pretrain", *flags(shared | options))
    networks = {
        "method": "CMCR",
        "method.image_weights": images,
        "method.network.width": 0.25,
        "method.network.voxels.size_m": 0.4,
        "method.network.voxels.features": "height",
        "batch": 4,
        "steps": args.steps,
        "optimizer.lr": args.lr,
        "log.probes": False,
    }
    tuning = {"task": "points", "optimizer.lr": 4e-3, "network_rate": 1.0, "wedge_deg": 100}
    for seed in range(seeds):
        for row in args.rows:
            folder = args.out / folder_name(row) / str(seed)
            weights = folder / PRETRAINED
            options = shared | networks | {"seed": seed, "out": weights} | (ROWS | ABLATIONS)[row]
            yield weights, partial(run_here, "pretrain", *flags(options))
            probed = folder / folder_name(PROBE)
            yield probed, partial(probe, args, weights, seed, probed)
            for name in scores_of(row)[1:]:
                tuned = folder / folder_name(name)
                options = {"weights": weights, "seed": seed, "fraction": FRACTIONS[name]}
                options |= {"steps": STEPS[name], "log.evaluate_every": STEPS[name], "out": tuned}
                yield tuned, partial(run_here, "finetune", *flags(shared | tuning | options))


def probe(args: argparse.Namespace, weights: Path, seed: int, out: Path) -> None:
    """Score a pretrained network by a linear probe, and write its summary."""
    source = source_of(str(args.out / "frames"))
    train = len(source) - args.val_frames
    sweeps = evenly_spaced(train, PROBE_SWEEPS)
    metrics = linear_probe(weights, source, sweeps, range(train, len(source)), seed)
    out.mkdir(parents=True, exist_ok=True)
    (out / "summary.json").write_text(json.dumps({"metrics": metrics}))
    print(f"{out}: mIoU {metrics['miou']:.3f}")


def scores_of(row: str) -> tuple[str, ...]:
    """Return the names of what a row is scored by."""
    return (PROBE, *FRACTIONS) if row in ROWS else (PROBE, "10 %")


def results(rows: Sequence[str], seeds: int, out: Path) -> str:
    """Return the table."""
    names = (PROBE, *FRACTIONS)
    lines = [f"| row | {' | '.join(names)} |", f"| --- |{' ---: |' * len(names)}"]
    found: dict[str, Any] = {}
    for row in rows:
        cells = []
        for name in names:
            if name not in scores_of(row):
                cells.append("")
                continue
            folders = [out / folder_name(row) / str(s) / folder_name(name) for s in range(seeds)]
            scores = []
            for folder in folders:
                found = json.loads((folder / "summary.json").read_text())["metrics"]
                scores.append(found["miou"])
            cells.append(mean_and_deviation(scores))
        lines.append(f"| {row} | {' | '.join(cells)} |")
    constant = f" {found['constant_miou']:.3f} |"
    lines.insert(2, f"| {CONSTANT} |{constant * len(names)}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
