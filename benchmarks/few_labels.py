"""Does pretraining help where labels are few? Fine-tuning with and without it on the same labels.

    python -m benchmarks.few_labels --data out/street --weights out/pretrain

For each share of the labels and each seed (which also draws the labels) the same training runs four
times: from the weights and from random ones, each with the encoder frozen and with one that learns.
Where pretraining masked returns, the weights are also those of the neck and the depth head.
All are evaluated on the same validation frames. Runs that are finished are not repeated. The
table goes to OUT/results.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks._runs import (
    METRICS,
    ROOT,
    finish,
    folder_name,
    fused,
    mean_and_deviation,
    positive,
    trivial_answers,
)
from benchmarks._timing import machine
from lemumo_core.train.parallel import has_bfloat16
from lemumo_core.train.weights import read_weights

RECIPE = ROOT / "training" / "recipes" / "lemumo_tiny_finetune.yaml"
SIZE = "size", "height", "width"
BATCH = 8


class Arm(NamedTuple):
    """One side of the comparison: where the encoder begins, and whether it learns."""

    pretrained: bool
    learns: bool


ARMS = {
    "pretrained, frozen": Arm(pretrained=True, learns=False),
    "random, frozen": Arm(pretrained=False, learns=False),
    "pretrained": Arm(pretrained=True, learns=True),
    "from scratch": Arm(pretrained=False, learns=True),
}
DUELS = (
    ("pretrained, frozen", "random, frozen"),
    ("pretrained, frozen", "from scratch"),
    ("pretrained", "from scratch"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="labelled shards")
    parser.add_argument("--weights", type=Path, required=True, help="a run of pretraining on them")
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.01, 0.1])
    parser.add_argument(
        "--steps", type=positive, nargs="+", default=[150, 300], help="one a fraction"
    )
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--out", type=Path, default=Path("out", "few-labels"))
    args = parser.parse_args()
    if len(args.steps) != len(args.fractions):
        parser.error(f"{len(args.fractions)} fractions need as many --steps")
    _, model = read_weights(args.weights)
    assert model is not None, f"{args.weights} is no run of pretraining"
    same = {f"model.{name}": model[name] for name in ("preset", "variant", *SIZE)}
    for seed in range(args.seeds):
        for fraction, steps in zip(args.fractions, args.steps, strict=True):
            for name in args.arms:
                arm = ARMS[name]
                print(f"== {fraction:.0%} of the labels, {name}, seed {seed}", flush=True)
                start = {"weights": args.weights} if arm.pretrained else same
                out = folder(args.out, fraction, name, seed)
                train(args.data, {**start, **mode(arm)}, fraction, steps, seed, out)
    table = results(args.out, args.arms, args.fractions, args.steps, args.seeds)
    (args.out / "results.md").write_text(table)
    print(table)


def folder(out: Path, fraction: float, arm: str, seed: int) -> Path:
    """Return the folder of one run."""
    return out / f"{fraction:g}" / folder_name(arm) / str(seed)


def mode(arm: Arm) -> dict[str, Any]:
    """Return the options of what learns: all from the first step on, or the same heads alone."""
    if arm.learns:
        return {"heads_first": 0}
    return {"mode": "probe", "model.head_preset": "deploy"}


def train(
    data: str, arm: dict[str, Any], fraction: float, steps: int, seed: int, out: Path
) -> None:
    """One run of fine-tuning."""
    options: dict[str, Any] = {"config": RECIPE, "data": data, "fraction": fraction, "seed": seed}
    options |= {"batch": BATCH, "steps": steps, "log.evaluate_every": steps}
    options |= {"scale.bfloat16": has_bfloat16()}
    finish("finetune.py", {**options, **arm, "resume": "auto", "out": out})


def results(
    out: Path, arms: list[str], fractions: list[float], steps: list[int], seeds: int
) -> str:
    """The table: mean and standard deviation over seeds, and in how many seeds which arm won."""
    duels = [pair for pair in DUELS if set(pair) <= set(arms)]
    lines = [
        f"{machine()}; batches of {BATCH}, {seeds} seeds: mean ± standard deviation.",
        "",
        f"| labels | steps | encoder | {' | '.join(METRICS.values())} |",
        f"| ---: | ---: | --- |{' ---: |' * len(METRICS)}",
    ]
    every: list[dict[str, float]] = []
    for fraction, count in zip(fractions, steps, strict=True):
        found = {
            arm: [fused(folder(out, fraction, arm, seed)) for seed in range(seeds)] for arm in arms
        }
        every += [one for runs in found.values() for one in runs]
        for arm, runs in found.items():
            cells = [mean_and_deviation([one[name] for one in runs]) for name in METRICS]
            lines.append(f"| {fraction:.0%} | {count} | {arm} | {' | '.join(cells)} |")
        for ours, theirs in duels:
            wins = [better(name, found[ours], found[theirs]) for name in METRICS]
            cells = [f"{won} of {seeds}" for won in wins]
            lines.append(f"| {fraction:.0%} | | {ours} beats {theirs} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", trivial_answers(every)])


def better(name: str, ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> int:
    """Count the seeds of which a metric of ours is better."""
    sign = -1 if name == "depth_mae_m" else 1
    return sum(
        sign * one[name] > sign * other[name] for one, other in zip(ours, theirs, strict=True)
    )


if __name__ == "__main__":
    main()
