"""Labels of a 3D network in place of people's: what the fusion model's segmentation learns of them.

    python -m benchmarks.cmcr_street                        first; its folder is --from
    python -m benchmarks.label_points [--from out/cmcr-street]

The 3D networks of that table, pretrained by CMCR and fine-tuned with 10 % of the labels, one a
seed, label all sweeps (``lemumo label points``), and a fusion model is fine-tuned on these labels
alone: the rendered ones are gone. Beside it stand the same training on the 10 % of rendered label
maps that the 3D network had learnt from, on all of them, and answers without a label: the most
frequent class. All start from the same encoder, pretrained without labels, and are judged on whole
label maps of rendered streets of the test split. Runs that are finished are not repeated. The table
goes to OUT/results.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch

from benchmarks._runs import flags, folder_name, mean_and_deviation, positive, run_here
from benchmarks._timing import machine

ALONE, NETWORK, ALL = "10 % of the label maps", "labels of the 3D network", "all label maps"
CONSTANT = "none: the most frequent class"
UNSEEN = "sky"
"""A class that no LiDAR return has."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="street", type=Path, default=Path("out", "cmcr-street"))
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--steps", type=positive, default=100)
    parser.add_argument("--test-frames", type=positive, default=60)
    parser.add_argument("--out", type=Path, default=Path("out", "label-points"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(args.seeds):
        network, labelled = args.street / "CMCR" / str(seed) / "10-%", args.out / f"points-{seed}"
        run_here(
            "label", "points", str(network), str(args.street / "frames"), "--out", str(labelled)
        )
        for name, data, fraction in (
            (ALONE, args.street / "frames", 0.1),
            (NETWORK, labelled, 1.0),
            (ALL, args.street / "frames", 1.0),
        ):
            tuned = args.out / folder_name(name) / str(seed)
            options = {"data": data, "fraction": fraction, "seed": seed, "out": tuned}
            if not (tuned / "summary.json").exists():
                run_here("finetune", *flags(options | recipe(args)))
            judged = args.out / "judged" / folder_name(name) / str(seed)
            if not (judged / "metrics.json").exists():
                options = {"limit": args.test_frames, "out": judged, "overwrite": True}
                run_here("evaluate", str(tuned), *flags(options))
    text = f"{machine()}; seeds: {args.seeds}\n\n{results(args.out / 'judged', args.seeds)}"
    (args.out / "results.md").write_text(text)
    print(text)


def recipe(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options that all trainings share."""
    return {
        "weights": args.street / "images",
        "steps": args.steps,
        "batch": 8,
        "val_frames": 48,
        "resume": "auto",
        "losses.detection": 0,
        "losses.depth": 0,
        "optimizer.lr": 1e-3,
        "log.evaluate_every": args.steps,
        "log.tensorboard": False,
    }


def results(judged: Path, seeds: int) -> str:
    """Return the table: mIoU with both sensors and with the camera alone, and without the sky."""
    lines = ["| labels | mIoU | camera alone | without the sky |", "| --- | ---: | ---: | ---: |"]
    for name in (ALONE, NETWORK, ALL):
        files = [judged / folder_name(name) / str(seed) / "metrics.json" for seed in range(seeds)]
        found = [json.loads(file.read_text()) for file in files]
        both = [one["fused"]["segmentation"] for one in found]
        if name == ALONE:
            lines.append(f"| {CONSTANT} | {both[0]['constant_miou']:.3f} | | |")
        seen = [statistics.mean(v for k, v in x["classes"].items() if k != UNSEEN) for x in both]
        columns = (
            [one["miou"] for one in both],
            [one["camera_only"]["segmentation"]["miou"] for one in found],
            seen,
        )
        lines.append(f"| {name} | {' | '.join(map(mean_and_deviation, columns))} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
