"""Which pretraining helps? Every objective and encoder on the same streets, time and probes.

    python -m benchmarks.study                      three seeds on one core: hours, resumable
    python -m benchmarks.study --runs 1             the next unfinished run, then exit code 85
    python -m benchmarks.study --scale gpu          small encoder at 256 x 704, on one GPU
    python -m benchmarks.study --rows pruned lemumo --seeds 1
    python -m benchmarks.study --companion thermal  from scratch or from an encoder of LiDAR?

Each row is pretrained without labels on rendered streets for the same time: its steps follow from
the seconds that one takes. Then linear probes of depth and classes learn on its frozen features, to
convergence, with both sensors and with each alone (``lemumo_core.train.pretrain.probing``), and are
scored on validation frames. Stopped at any moment, the same command goes on. The table goes to
OUT/results.md, and with plots and the curves of each run to OUT/results.html.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._runs import finish, flags, folder_name, mean_and_deviation, positive, run
from benchmarks._study_page import write_page
from benchmarks._study_rows import ROWS, SCALES, TRANSFER_ROWS, Row, Scale
from benchmarks._timing import machine
from lemumo_core.data.samples import collate
from lemumo_core.inference.inputs import random_inputs
from lemumo_core.methods.method import FEATURE_MODALITIES
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.variants import build_encoder
from lemumo_core.preprocess import Inputs
from lemumo_core.signals import REQUEUE
from lemumo_core.train import checkpoint
from lemumo_core.train.batch_sampler import batch_sampler
from lemumo_core.train.loader import open_data, samples_of
from lemumo_core.train.parallel import DistInfo, has_bfloat16
from lemumo_core.train.pretrain.config import PretrainConfig
from lemumo_core.train.pretrain.learner import PretrainLearner, seeded_method
from lemumo_core.train.pretrain.raw_patches import raw_patches
from lemumo_core.train.pretrain.summary import frozen, probe_rows
from lemumo_core.train.run_config import command_line, from_dict, from_namespace
from lemumo_core.train.weights import read_tensors

TIMED_STEPS = 4
METRICS = ("depth_mae_m", "miou")
COLUMNS = [(modality, name) for modality in FEATURE_MODALITIES for name in METRICS]
TITLES = {"depth_mae_m": "depth MAE, m", "miou": "mIoU"}
SENSORS = {"lidar": "LiDAR", "thermal": "thermal"}
RIVALS = ("raw patches", "untrained", "pruned")
"""Rows that ``lemumo`` is compared with, seed by seed."""


class Run(NamedTuple):
    """One row with one seed, in its folder."""

    name: str
    seed: int
    out: Path

    @property
    def scores(self) -> Path:
        """File of its scores, once it is finished."""
        return self.out / "scores.json"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    parser.add_argument("--companion", choices=("lidar", "thermal"), default="lidar")
    parser.add_argument("--rows", nargs="+", choices=ROWS | TRANSFER_ROWS, help="default: all")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--seconds", type=float, help="of pretraining each row")
    parser.add_argument("--runs", type=positive, help="stop after so many unfinished runs")
    parser.add_argument("--out", type=Path, help="default: out/study-SCALE[-thermal]")
    parser.add_argument("--lidar", type=Path, help="study whose rows others begin with")
    args = parser.parse_args()
    rows, scale = ROWS, SCALES[args.scale]
    scale = scale._replace(seconds=args.seconds or scale.seconds, companion=args.companion)
    lidar = args.lidar or Path("out", f"study-{args.scale}")
    out = args.out or lidar
    if args.companion == "thermal":
        rows, out = TRANSFER_ROWS, args.out or Path(f"{lidar}-thermal")
    names = args.rows or list(rows)
    if unknown := sorted(set(names) - set(rows)):
        parser.error(f"no rows with {args.companion}: {', '.join(unknown)}")
    device = torch.device("cuda" if args.scale == "gpu" else "cpu")
    frames = prepare(scale, out, device.type)
    runs = [
        Run(name, seed, out / folder_name(name) / str(seed))
        for seed in range(args.seeds)
        for name in names
    ]
    todo = [one for one in runs if not one.scores.exists()]
    for one in todo[: args.runs]:
        print(f"== {one.name}, seed {one.seed}: {runs.index(one) + 1} of {len(runs)}", flush=True)
        finish_run(one, rows[one.name], scale, frames, lidar, device)
    found = found_scores(runs)
    table = results(found, scale)
    (out / "results.md").write_text(table)
    write_page(out, table, found, modalities(scale))
    print(table)
    return 0 if all(one.scores.exists() for one in runs) else REQUEUE


def prepare(scale: Scale, out: Path, device: str) -> Path:
    """Render the streets that all rows learn from, as shards."""
    frames = out / "frames"
    options = {"seed": 3, "frames": scale.frames, "frames_per_drive": 4, "rate_hz": 1}
    options |= {"height": scale.height, "width": scale.width, "device": device, "out": frames}
    options["companion"] = scale.companion
    run("prepare.py", ["synthetic"], options)
    return frames


def finish_run(
    one: Run, row: Row, scale: Scale, frames: Path, lidar: Path, device: torch.device
) -> None:
    """Pretrain a row, unless it learns nothing, and score its features.

    A row that begins with another takes the weights of that one's run in the study ``lidar``.
    """
    options = {"data": frames, "val_frames": scale.val_frames, "seed": one.seed}
    options |= {"batch": scale.batch, "scale.workers": scale.workers}
    options |= {
        f"model.{name}": getattr(scale, name) for name in ("size", "height", "width", "companion")
    }
    options |= {"log.probe_steps": scale.probe_steps}
    options |= {"log.probes": False, "scale.bfloat16": device.type == "cpu" and has_bfloat16()}
    options |= row.options(scale)
    pretrained = one.out / "pretrain"
    if row.begins:
        options["weights"] = lidar / folder_name(row.begins) / str(one.seed) / "pretrain"
    found: dict[str, Any] = {}
    if row.learns:
        step_s = seconds_a_step(one.out.parent / "step_s.json", options, device)
        options |= {"steps": max(1, round(scale.seconds / step_s)), "resume": "auto"}
        finish("pretrain.py", {**options, "out": pretrained})
        config = from_dict(PretrainConfig, yaml.safe_load((pretrained / "config.yaml").read_text()))
        found |= {"steps": config.steps, "step_s": step_s}
    else:
        config = config_of(options)
    config = replace(config, log=replace(config.log, probes=True))
    features = raw_patches
    if not row.raw:
        method = seeded_method(config)
        if row.learns:
            tensors = read_tensors(pretrained)
            checkpoint.load_model_tensors(method, tensors, pretrained)
        features = frozen(method, device)
        exported = method.exported()
        found["gflop"] = gflop(exported[0] if exported else config.model)
    source = open_data(config, one.out)
    count = batch_sampler(config, source).frames
    scores = probe_rows({one.name: features}, config, samples_of(config, source), count, device)
    one.out.mkdir(parents=True, exist_ok=True)
    part = one.scores.with_suffix(".part")
    part.write_text(json.dumps({**found, "scores": scores[one.name]}, indent=1))
    part.replace(one.scores)


def config_of(options: Mapping[str, Any]) -> PretrainConfig:
    """Return the configuration that options of the command line give."""
    parser = command_line(PretrainConfig)
    return from_namespace(PretrainConfig, parser, parser.parse_args(flags(options)))


def seconds_a_step(file: Path, options: Mapping[str, Any], device: torch.device) -> float:
    """Return the seconds that a step of pretraining takes, measured once for a row.

    On a CPU it is the least time of this process, which other processes disturb little; on a GPU
    the least time of the clock.
    """
    if file.exists():
        return float(json.loads(file.read_text()))
    config = config_of(options)
    source = open_data(config, file.parent)
    samples, sampler = samples_of(config, source), batch_sampler(config, source)
    batch = collate([samples[index] for index in sampler[0]]).to(device)
    learner = PretrainLearner(config, 1000, DistInfo(0, 1, device))
    clock: Callable[[], float] = time.perf_counter if device.type == "cuda" else time.process_time
    seconds = []
    for step in range(1, 1 + TIMED_STEPS):
        begin = clock()
        learner.learn(batch, step)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(clock() - begin)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(min(seconds[1:])))
    return min(seconds[1:])


def found_scores(runs: Iterable[Run]) -> dict[str, dict[int, dict[str, Any]]]:
    """Return the files of scores of those runs that are finished, by row and seed."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for one in runs:
        if one.scores.exists():
            found.setdefault(one.name, {})[one.seed] = json.loads(one.scores.read_text())
    return found


def modalities(scale: Scale) -> dict[str, str]:
    """Return what the modalities of features are called in tables."""
    return {"fused": "both", "image": "camera", "companion": SENSORS[scale.companion]}


def results(found: Mapping[str, Mapping[int, Mapping[str, Any]]], scale: Scale) -> str:
    """Return the table of finished runs: mean and standard deviation over seeds, and cost."""
    called = modalities(scale)
    titles = ["row", "seeds", *(f"{called[m]}: {TITLES[name]}" for m, name in COLUMNS)]
    titles += ["position share", "GFLOP an image", "steps", "s a step"]
    lines = [
        f"{machine()}; {scale.size} encoder at {scale.height} x {scale.width}, {scale.frames} "
        f"frames, {scale.seconds:g} s of steps of {scale.batch} a run, {scale.probe_steps} steps a "
        "probe: mean ± standard deviation over seeds.",
        "",
        f"| {' | '.join(titles)} |",
        f"| --- |{' ---: |' * (len(titles) - 1)}",
    ]
    for name, seeds in found.items():
        scores = [one["scores"] for one in seeds.values()]
        cells = [str(len(seeds))]
        for modality, metric in (*COLUMNS, ("fused", "position_share")):
            values = [one[modality][metric] for one in scores if modality in one]
            cells.append(mean_and_deviation(values) if values else "")
        for key, digits in (("gflop", 2), ("steps", 0), ("step_s", 2)):
            known = [one[key] for one in seeds.values() if key in one]
            cells.append(f"{statistics.mean(known):.{digits}f}" if known else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, *duels(found)]) + "\n"


def duels(found: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> list[str]:
    """Return in how many seeds ``lemumo`` is better than its rivals, column by column."""
    ours, lines = found.get("lemumo", {}), []
    for rival in RIVALS:
        theirs = found.get(rival, {})
        seeds = sorted(ours.keys() & theirs.keys())
        if not seeds:
            continue
        cells = []
        for modality, name in COLUMNS:
            sign = -1 if name == "depth_mae_m" else 1
            wins = sum(
                sign * ours[seed]["scores"][modality][name]
                > sign * theirs[seed]["scores"][modality][name]
                for seed in seeds
            )
            cells.append(f"{wins} of {len(seeds)}")
        lines.append(f"| lemumo beats {rival} | | {' | '.join(cells)} | | | | |")
    return lines


def gflop(config: ModelConfig) -> float:
    """Return operations of the encoder on one image, 2 for a multiplication and an addition."""
    # The counter does not know oneDNN's operator, which is not called without a device.
    inputs = (torch.from_numpy(x).to("meta") for x in random_inputs(config.input_spec, batch=1))
    encoder = build_encoder(config).eval().to("meta")
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder(Inputs(*inputs))
    return counter.get_total_flops() / 1e9


if __name__ == "__main__":
    sys.exit(main())
