"""The command that pretrains, as real processes: killed, stopped, on ranks, mistyped."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from lemumo_core.cli.pretrain import main
from lemumo_core.data.photometric import PHOTOMETRIC
from lemumo_core.data.shard_writer import write_shards
from lemumo_core.data.sources.pairs import RgbThermalPairs
from lemumo_core.methods.decur.method import DeCUR
from lemumo_core.methods.lemumo.method import LeMuMo
from lemumo_core.signals import REQUEUE
from lemumo_core.train.checkpoint import checkpoints
from lemumo_core.train.loop import NOT_FINITE
from lemumo_core.train.pretrain.config import PretrainConfig
from lemumo_core.train.pretrain.learner import PretrainLearner
from lemumo_core.train.run_config import command_line, from_dict, from_namespace, to_dict
from lemumo_core.train.run_folder import read_metrics
from tests.helpers.paths import ROOT
from tests.helpers.program import Program, run_ranks, world_of

PROGRAM = ROOT / "training" / "pretrain.py"
RECIPES = sorted(
    path for path in (ROOT / "training" / "recipes").glob("*.yaml") if "finetune" not in path.stem
)
STEPS, EVERY = 8, 4
OPTIONS = f"""
batch: 4
steps: {STEPS}
val_frames: 4
model: {{size: nano, height: 48, width: 64, companion: thermal}}
method:
  modality_dropout: 0.3
  views: {{local_views: 1, global_size: [32, 32], local_size: [16, 32]}}
scale: {{workers: 0}}
log: {{progress_every: 5, monitor_every: 100, checkpoint_every: {EVERY}, keep: 10, probe_steps: 2,
  tensorboard: false}}
"""


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """Shards of fourteen pairs of RGB and thermal images."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    for i in range(14):
        image = rng.integers(0, 255, (48, 64, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i:02d}_visible.png"), image)
        cv2.imwrite(str(folder / f"{i:02d}_lwir.png"), image[..., 0])
    write_shards(RgbThermalPairs(folder), folder / "shards", frames_per_shard=8, workers=1)
    return folder / "shards"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(OPTIONS)
    return path


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(PROGRAM), *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=ROOT)


def losses(out: Path) -> list[float]:
    lines = read_metrics(out)
    assert [line["step"] for line in lines] == list(range(len(lines)))
    return [line["loss"] for line in lines]


def starts(out: Path) -> int:
    """How often the run was started."""
    return len(json.loads((out / "run.json").read_text())) if (out / "run.json").exists() else 0


def start(out: Path, *arguments: object, after: int) -> Program:
    """The command, once the run has done so many steps."""
    before = starts(out)
    program = Program(out.parent / "log", "pretrain", *arguments)
    program.wait_until(lambda: starts(out) > before and len(read_metrics(out)) >= after)
    return program


@pytest.fixture(scope="module")
def uninterrupted(shards, recipe, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    result = run("--config", recipe, "--data", shards, "--out", out)
    assert result.returncode == 0, result.stderr
    assert f"step {STEPS}/{STEPS}  loss" in result.stdout and "waiting for data" in result.stdout
    return out


def test_a_run_leaves_what_it_promises(uninterrupted, shards) -> None:
    kept = {path.name for path in uninterrupted.iterdir()}
    promised = {"config.yaml", "run.json", "metrics.jsonl", "checkpoints", "summary.json"}
    assert kept == promised | {"run.html", "samples.jpg"}
    config = from_dict(PretrainConfig, yaml.safe_load((uninterrupted / "config.yaml").read_text()))
    assert config.data == str(shards) and config.steps == STEPS and config.optimizer.lr == 7e-4
    assert (config.method.masked_weight, config.method.mask_returns) == (3.0, 0)  # no LiDAR
    (about,) = json.loads((uninterrupted / "run.json").read_text())
    git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    head = subprocess.run(git, capture_output=True, text=True)
    assert head.returncode or about["git"].startswith(head.stdout.strip())
    summary = json.loads((uninterrupted / "summary.json").read_text())
    assert all(np.isfinite(summary[name]) for name in ("loss_first", "loss_last"))
    assert "probes" not in summary  # nothing to probe in pairs of images
    assert summary["loss_first"] == pytest.approx(np.mean(losses(uninterrupted)[: STEPS // 2]))
    steps = [int(path.name[5:]) for path in checkpoints(uninterrupted / "checkpoints")]
    assert steps == [EVERY, STEPS]


def test_the_comparison_at_the_end_is_announced_and_can_be_left_out(
    recipe, street_shards, tmp_path, caplog
) -> None:
    words = [
        "--config",
        recipe,
        "--data",
        street_shards,
        "--steps",
        1,
        "--model.companion",
        "lidar",
    ]
    for name, options, is_there in (("a", [], True), ("b", ["--log.probes", "false"], False)):
        caplog.clear()
        assert main([*map(str, words), "--out", str(tmp_path / name), *options]) == 0
        assert ("probes" in json.loads((tmp_path / name / "summary.json").read_text())) == is_there
        said = "linear probes of 2 steps on 10 frames; --log.probes false leaves this out"
        assert (said in caplog.text) == is_there


def test_killed_stopped_and_resumed_the_losses_are_the_same(
    uninterrupted, recipe, shards, tmp_path, caplog
) -> None:
    out = tmp_path / "run"
    again = "--config", recipe, "--data", shards, "--out", out, "--resume", "auto"
    steps = int(np.random.default_rng().integers(1, STEPS - 2))
    program = start(out, *again, after=steps)
    program.signal(signal.SIGKILL)
    assert program.end()[0] == -signal.SIGKILL
    assert len(read_metrics(out)) < STEPS
    first = max((int(path.name[5:]) for path in checkpoints(out / "checkpoints")), default=0)
    program = start(out, *again, after=first + 1)
    program.signal(signal.SIGTERM)
    code, errors = program.end()
    assert code == REQUEUE == 85, errors
    done = len(read_metrics(out))
    assert f"SIGTERM after step {done}" in errors and done < STEPS
    assert (out / "checkpoints" / f"step-{done:08d}").is_dir()
    assert main(list(map(str, again))) == 0
    assert f"resuming from {out}/checkpoints/step-{done:08d}" in caplog.text
    assert losses(out) == losses(uninterrupted)
    last = f"checkpoints/step-{STEPS:08d}/model.safetensors"
    ours, theirs = load_file(out / last), load_file(uninterrupted / last)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert starts(out) == 3


def test_two_ranks_and_going_on_on_one(uninterrupted, recipe, shards, tmp_path, caplog) -> None:
    out = tmp_path / "run"
    options = ["--config", str(recipe), "--data", str(shards), "--out", str(out)]
    run_ranks(2, tmp_path, "pretrain", *options)
    whole = losses(uninterrupted)
    assert losses(out)[0] == pytest.approx(whole[0], rel=1e-5)
    assert losses(out)[:3] == pytest.approx(whole[:3], rel=1e-3)
    # Rounding grows from step to step (benchmarks/rank_drift.py).
    assert losses(out)[3] == pytest.approx(whole[3], rel=1e-2)
    # As if it had been stopped halfway.
    shutil.rmtree(checkpoints(out / "checkpoints")[-1])
    before = losses(out)
    assert main([*options, "--resume", "auto"]) == 0
    assert "saved on 2 ranks and resumes on 1" in caplog.text
    assert losses(out)[:EVERY] == before[:EVERY]
    assert losses(out)[EVERY] == pytest.approx(before[EVERY], rel=1e-5)
    assert losses(out)[EVERY:6] == pytest.approx(before[EVERY:6], rel=1e-3)


def end_rank(rank: int, environment: dict[str, str], out: str, options: list[str]) -> None:
    """Note how many DDP modules there are where the process group ends."""
    torch.set_num_threads(1)
    os.environ |= {**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}
    alive, destroy = [], distributed.destroy_process_group

    def noting() -> None:
        found = (one for one in gc.get_objects() if isinstance(one, DistributedDataParallel))
        alive.append(len(list(found)))
        destroy()

    distributed.destroy_process_group = noting
    assert main([*options, "--out", out]) == 0
    Path(f"{out}-{rank}.json").write_text(json.dumps(alive))


def test_what_ddp_holds_ends_before_the_process_group(recipe, shards, tmp_path) -> None:
    """The last holder frees the group; were it DDP's reducer, a rank might wait for ever."""
    options = ["--config", str(recipe), "--data", str(shards), "--steps", "1"]
    arguments = world_of(2), str(tmp_path / "run"), options
    multiprocessing.start_processes(end_rank, arguments, nprocs=2, start_method="forkserver")
    assert [json.loads((tmp_path / f"run-{rank}.json").read_text()) for rank in (0, 1)] == [
        [0],
        [0],
    ]


def test_a_step_that_is_not_finite_is_captured_and_repeated(
    recipe, shards, tmp_path, capsys
) -> None:
    out = tmp_path / "run"
    options = ["--config", recipe, "--data", shards, "--out", out, "--optimizer.lr", "1e30"]
    options += ["--optimizer.final_lr", "1e30", "--optimizer.warmup", "0"]
    assert main(list(map(str, options))) == NOT_FINITE
    (capture,) = out.glob("non_finite-*")
    done = losses(out)
    state = json.loads((capture / "state.json").read_text())["state"]
    assert state["step"] == len(done) and len(state["batch"]) == 4
    assert "optimizer.safetensors" not in state["files"] and not (out / "summary.json").exists()
    capsys.readouterr()
    assert main(["--replay", str(capture)]) == 0
    printed = capsys.readouterr().out.splitlines()
    lines = dict(line.split(": ", 1) for line in printed if ": " in line)
    for name, value in state["values"].items():
        assert lines[name] == f"{value} then, {value} now"
    assert {"nan", "inf"} & set(state["values"].values())


@pytest.mark.parametrize("bad", [EVERY - 1, EVERY])
def test_nothing_is_saved_after_a_step_that_was_not_finite(
    bad, uninterrupted, recipe, shards, tmp_path, monkeypatch, caplog
) -> None:
    """It is known before the checkpoint behind it, or once the next step is under way."""
    out, forward = tmp_path / "run", PretrainLearner.forward

    def spoiled(learner, views, step):
        outcome = forward(learner, views, step)
        loss = outcome.loss._replace(total=outcome.loss.total * (torch.nan if step == bad else 1.0))
        return outcome._replace(loss=loss)

    options = ["--config", str(recipe), "--data", str(shards), "--out", str(out)]
    with monkeypatch.context() as patch:
        patch.setattr(PretrainLearner, "forward", spoiled)
        assert main(options) == NOT_FINITE
    assert f"step {bad + 1} is not finite: loss, gradient_norm" in caplog.text
    assert losses(out) == losses(uninterrupted)[:bad]
    saved = [path.name for path in checkpoints(out / "checkpoints")]
    assert saved == ([f"step-{EVERY:08d}"] if bad == EVERY else [])
    (capture,) = out.glob("non_finite-*")
    assert capture.name.endswith(f"{bad:08d}")
    if bad == EVERY:
        before = load_file(out / "checkpoints" / saved[0] / "model.safetensors")
        after = load_file(capture / "model.safetensors")
        learnt = [name for name in before if "running" not in name and "batches" not in name]
        assert all(np.array_equal(before[name], after[name]) for name in learnt)
        assert main([*options, "--resume", "auto"]) == 0
        assert losses(out) == losses(uninterrupted)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.sizee", "small"], "did you mean --model.size?"),
        (["--model.size", "smal"], "did you mean 'small'?"),
        (["--resume", "auto"], "add --out"),
        (["--optimizer.warmup", "3"], "warmup is 3"),
        (["--batch", "1"], "at least 2"),
        (["--method.mask_returns", "-1"], "must not be negative"),
        (["--model.companion", "thermal", "--method.mask_returns", "1"], "needs LiDAR"),
        (["--model.preset", "paper", "--method.mask_returns", "1"], "lidar and paper heads"),
        (["--method.tokenz", "true"], "did you mean --tokens?"),
        (["--method", "Nothing"], "Nothing"),
    ],
)
def test_mistakes_are_named(arguments, message, capsys) -> None:
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = ended.code
    assert code and message in capsys.readouterr().err


def test_an_unknown_key_of_a_file_is_named(tmp_path, capsys) -> None:
    path = tmp_path / "typo.yaml"
    path.write_text("optimizer:\n  clp: 2\n")
    with pytest.raises(SystemExit):
        command_line(PretrainConfig).parse_args(["--config", str(path)])
    assert "did you mean --optimizer.clip?" in capsys.readouterr().err


def test_another_run_in_the_folder_is_not_overwritten(
    uninterrupted, recipe, shards, capsys
) -> None:
    options = ["--config", str(recipe), "--data", str(shards), "--out", str(uninterrupted)]
    files = "config.yaml", "run.json", "metrics.jsonl"
    before = [(uninterrupted / name).read_bytes() for name in files]
    assert main(options) == 1
    assert "--resume auto" in capsys.readouterr().err
    assert main([*options, "--resume", "auto", "--seed", "7"]) == 1
    assert "seed: 0 then, 7 now" in capsys.readouterr().err
    assert [(uninterrupted / name).read_bytes() for name in files] == before


def test_the_default_run_is_described_by_its_own_file(tmp_path) -> None:
    config = PretrainConfig()
    assert from_dict(PretrainConfig, to_dict(config)) == config
    assert (config.data, config.model.size) == ("synthetic", "nano")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_parse(path) -> None:
    parser = command_line(PretrainConfig)
    config = from_namespace(PretrainConfig, parser, parser.parse_args(["--config", str(path)]))
    assert from_dict(PretrainConfig, to_dict(config)) == config
    assert str(path.relative_to(ROOT)) in path.read_text()  # says how it is used
    if path.stem.startswith("decur"):
        assert isinstance(config.method, DeCUR)
        if path.stem != "decur_cpu_smoke":  # a run of minutes
            common = 0.875 if path.stem == "decur_rgb_radar" else 0.75  # the paper's by data set
            assert (config.method.dimensions, config.method.common) == (8192, common)
            assert config.optimizer.per_epoch and config.optimizer.warmup == 0.0
            by_lars = config.method.backbone in ("resnet18", "resnet50")
            assert (config.optimizer.name == "lars") == by_lars
    elif path.stem not in ("cpu_smoke", "lemumo_tiny_pretrain"):  # runs of minutes
        views = config.method.views
        paper = path.stem.startswith("paper")
        assert config.method.objective == ("lejepa" if paper else "vicreg")
        assert views.global_scale == (0.4, 1.0) and views.local_scale == (0.05, 0.4)
        assert config.scale.workers > 0
    if path.stem.startswith("paper"):
        assert (config.model.preset, config.model.size) == ("paper", "small")
        paper = LeMuMo(None, "lejepa", 0.1, mask_returns=0.0, masked_weight=0.0, views=views)
        paper = replace(paper, masked=config.method.masked)  # of no use at its weight, 0
        assert config.method == paper, "the paper's loss, nothing else"
        assert (config.optimizer.lr, config.optimizer.decay_all) == (1e-4, True)
        steps_of_an_epoch = round(config.optimizer.warmup * config.total_steps(6400))
        assert steps_of_an_epoch == 100
        source = path.stem.split("_")[1]
        assert config.data == source
        assert asdict(views.photometric) == asdict(PHOTOMETRIC[source])
        height, width = config.canvas or (0, 0)
        low, high = (aspect * width / height for aspect in views.aspect)
        assert low == pytest.approx(3 / 4, abs=0.01) and high >= 4 / 3


def test_the_recipes_are_those_of_the_plan() -> None:
    names = {path.stem for path in RECIPES}
    paper = {"paper_waymo", "paper_nuscenes", "paper_flir", "paper_flir_from_waymo"}
    pairs = ("rgb_lidar", "rgb_thermal", "rgb_depth", "rgb_elevation", "rgb_radar")
    decur = {f"decur_{name}" for name in ("cpu_smoke", *pairs)}
    ours = {"single_24gb", "eight_gpus", "cpu_smoke", "lemumo_tiny_pretrain"}
    assert names == paper | decur | ours
    assert os.access(ROOT / "training" / "slurm" / "pretrain.sbatch", os.R_OK)
