"""The command that fine-tunes, as real processes: killed, stopped, on ranks, and to a package."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file

from lemumo_core.cli.export import main as export
from lemumo_core.cli.finetune import main
from lemumo_core.export import package
from lemumo_core.export.weights import of_run
from lemumo_core.inference.package import load_package
from lemumo_core.inference.provenance import training_sources
from lemumo_core.signals import REQUEUE
from lemumo_core.train.checkpoint import checkpoints
from lemumo_core.train.finetune import validation
from lemumo_core.train.finetune.config import FinetuneConfig
from lemumo_core.train.loop import NOT_FINITE
from lemumo_core.train.run_config import command_line, from_dict, from_namespace, to_dict
from lemumo_core.train.run_folder import provenance, read_metrics
from tests.helpers.paths import ROOT
from tests.helpers.program import Program, run_ranks

PROGRAM = ROOT / "training" / "finetune.py"
RECIPES = sorted((ROOT / "training" / "recipes").glob("*finetune*.yaml"))
STEPS, EVERY = 8, 4
OPTIONS = f"""
batch: 4
steps: {STEPS}
val_frames: 4
model: {{size: nano, height: 48, width: 64}}
log: {{progress_every: 5, checkpoint_every: {EVERY}, evaluate_every: 3, keep: 10,
  tensorboard: false}}
"""


@pytest.fixture(scope="module")
def options(street_shards, tmp_path_factory) -> list[str]:
    """A small run over fourteen rendered frames."""
    path = tmp_path_factory.mktemp("options") / "small.yaml"
    path.write_text(OPTIONS)
    return ["--config", str(path), "--data", str(street_shards)]


@pytest.fixture(scope="module")
def uninterrupted(options, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main([*options, "--out", str(out)]) == 0
    return out


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(out)]


def test_a_run_leaves_what_it_promises(uninterrupted) -> None:
    kept = {path.name for path in uninterrupted.iterdir()}
    promised = {"config.yaml", "run.json", "metrics.jsonl", "checkpoints", "summary.json", "best"}
    assert kept == promised | {"model.json", "model.safetensors", "run.html", "samples.jpg"}
    lines = read_metrics(uninterrupted)
    evaluated = {line["step"] + 1: line["score"] for line in lines if "score" in line}
    assert list(evaluated) == [3, 6, 8]
    assert {"fused_miou", "camera_only_depth_mae_m", "companion_only_miou"} <= lines[2].keys()
    summary = json.loads((uninterrupted / "summary.json").read_text())
    assert summary["score"] == max(evaluated.values()) == evaluated[summary["step"]]
    assert set(summary["metrics"]) == {"fused", "camera_only", "companion_only"}
    best = load_file(uninterrupted / "best" / "model.safetensors")
    ours = load_file(uninterrupted / "model.safetensors")
    assert ours.keys() == best.keys()
    assert all(np.array_equal(ours[name], best[name]) for name in best)


def test_killed_stopped_and_resumed_it_is_the_same_run(uninterrupted, options, tmp_path) -> None:
    out = tmp_path / "run"
    again = [*options, "--out", str(out), "--resume", "auto"]
    for number, after in ((signal.SIGKILL, EVERY + 1), (signal.SIGTERM, EVERY + 2)):
        program = Program(tmp_path / "log", "finetune", *again)
        program.wait_until(
            lambda: len(read_metrics(out)) >= after and (out / "checkpoints").exists()  # noqa: B023
        )
        program.signal(number)
        code, errors = program.end()
        assert code == (REQUEUE if number == signal.SIGTERM else -9), errors
        assert EVERY < len(read_metrics(out)) < STEPS
    assert main(again) == 0
    assert losses(out) == losses(uninterrupted)
    for name in ("model.safetensors", f"checkpoints/step-{STEPS:08d}/model.safetensors"):
        ours, theirs = load_file(out / name), load_file(uninterrupted / name)
        assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)
    ours, theirs = (json.loads((run / "summary.json").read_text()) for run in (out, uninterrupted))
    assert ours == theirs


def test_stopped_in_validation_it_is_the_same_run(
    uninterrupted, options, tmp_path, monkeypatch
) -> None:
    again = [*options, "--out", str(tmp_path / "run"), "--resume", "auto"]

    def stop(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(validation, "evaluate_frame", stop)
        assert main(again) == REQUEUE
    assert len(read_metrics(tmp_path / "run")) == 2  # the third step's line awaits its validation
    assert main(again) == 0
    names = ("step", "loss", "lr", "score", "fused_miou")
    ours, theirs = (
        [{name: line.get(name) for name in names} for line in read_metrics(run)]
        for run in (tmp_path / "run", uninterrupted)
    )
    assert ours == theirs
    summaries = [
        json.loads((run / "summary.json").read_text()) for run in (tmp_path / "run", uninterrupted)
    ]
    assert summaries[0] == summaries[1]


def test_two_ranks_are_one(uninterrupted, options, tmp_path) -> None:
    out = tmp_path / "run"
    printed, _ = run_ranks(2, tmp_path, "finetune", *options, "--out", out)
    assert printed.count("after step 8: score") == 1
    whole = losses(uninterrupted)
    assert losses(out)[:4] == pytest.approx(whole[:4], rel=1e-3)
    assert losses(out) == pytest.approx(whole, rel=0.02)  # rounding grows from step to step


def test_from_its_weights_a_probe_and_a_larger_model_start(
    uninterrupted, options, tmp_path, capsys
) -> None:
    out = tmp_path / "run"
    more = ["--weights", str(uninterrupted), "--steps", "3", "--out", str(out), "--mode", "full"]
    config = tmp_path / "taller.yaml"
    config.write_text(
        yaml.safe_dump(yaml.safe_load(OPTIONS) | {"model": {"size": "nano", "width": 96}})
    )
    assert main(["--config", str(config), *options[2:], *more]) == 0
    model = json.loads((out / "model.json").read_text())
    assert (model["height"], model["width"], model["size"]) == (48, 96, "nano")
    assert losses(out)[0] < losses(uninterrupted)[0]  # it goes on from what was learnt
    (start,) = provenance(out)["starts"]
    assert start["weights"] == provenance(uninterrupted)
    assert start["weights"]["options"]["steps"] == STEPS
    assert training_sources(provenance(out)) == {"synthetic"}
    assert main([*options, *more[:2], "--out", str(tmp_path / "probe"), "--mode", "probe"]) == 1
    assert "does not fit the model" in capsys.readouterr().err  # deploy heads, and a probe's


def test_a_step_that_is_not_finite_is_captured_and_repeated(options, tmp_path, capsys) -> None:
    out = tmp_path / "run"
    wild = ["--optimizer.lr", "1e30", "--optimizer.final_lr", "1e30", "--optimizer.warmup", "0"]
    assert main([*options, *wild, "--out", str(out), "--val_frames", "0"]) == NOT_FINITE
    (capture,) = out.glob("non_finite-*")
    assert not (out / "summary.json").exists()
    capsys.readouterr()
    assert main(["--replay", str(capture)]) == 0
    printed = capsys.readouterr().out.splitlines()
    lines = dict(line.split(": ", 1) for line in printed if ": " in line)
    values = json.loads((capture / "state.json").read_text())["state"]["values"]
    for name, value in values.items():
        assert lines[name] == f"{value} then, {value} now"
    assert {"nan", "inf"} & set(values.values())


def test_the_card_of_a_run_holds_the_metrics_of_its_validation(uninterrupted) -> None:
    _, card = of_run(uninterrupted, "mine")
    summary = json.loads((uninterrupted / "summary.json").read_text())
    for mode, found in card.metrics.items():
        measured = summary["metrics"][mode]
        measured["constant_miou"] = measured["segmentation"]["constant_miou"]
        assert found == {name: measured[name] for name in found}
        trivial = {"nearest_mae_m", "linear_mae_m", "constant_miou"}
        assert {"bev_map", "depth_mae_m", "miou", *trivial} == found.keys()
    assert card.metrics.keys() == summary["metrics"].keys()


def test_a_run_becomes_a_package_with_the_metrics_of_an_evaluation(
    uninterrupted, toy_package, tmp_path, monkeypatch
) -> None:
    """Graphs and their gate, which have tests of their own, are left out."""

    def graph(model, path, *_: object) -> None:
        shutil.copy(toy_package / "model.onnx", path)

    monkeypatch.setattr(package, "export_onnx", graph)
    monkeypatch.setattr(package, "gate", lambda given, _: replace(given.manifest, files={}))
    evaluated = {"bev_map": 0.25, "depth_mae_m": 1.5, "miou": 0.5, "ap50": None, "aoe": 0.1}
    found = {"data": "elsewhere", "fused": evaluated, "by_frame": []}
    (tmp_path / "metrics.json").write_text(json.dumps(found))
    arguments = ["--run", str(uninterrupted), "--out", str(tmp_path / "package")]
    assert export([*arguments, "--metrics", str(tmp_path / "metrics.json")]) == 0
    manifest = load_package(tmp_path / "package").manifest
    assert manifest.trained and manifest.input.width == 64
    assert manifest.metrics == {"fused": {"bev_map": 0.25, "depth_mae_m": 1.5, "miou": 0.5}}
    training = manifest.training
    assert training["options"]["seed"] == 0 and training["steps"] == STEPS
    assert {"command", "git", "machine"} <= training["starts"][0].keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode", "prob"], "mode"),
        (["--weights", "/nowhere"], "/nowhere is no run"),
        (["--layer_decay", "2"], "layer_decay is 2"),
        (["--losses.consistency", "1", "--modality_dropout", "0"], "views that lost a sensor"),
        (["--scale.sharding", "fsdp"], "fine-tune with ddp"),
        (["--losses.depth", "-1"], "must not be negative"),
        (["--out", "s3://bucket/run"], "is a URI, and this"),
    ],
)
def test_mistakes_are_named(arguments, message, options, tmp_path, capsys) -> None:
    try:
        code = main([*options, "--out", str(tmp_path / "run"), *arguments])
    except SystemExit as ended:
        code = ended.code
    assert code and message in capsys.readouterr().err


def test_other_weights_are_another_run(uninterrupted, options, tmp_path, capsys) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    again = [*options, "--out", str(tmp_path / "run"), "--resume", "auto"]
    assert main([*again, "--weights", str(uninterrupted)]) == 1
    assert "weights: None then" in capsys.readouterr().err
    assert [path.name for path in checkpoints(tmp_path / "run" / "checkpoints")]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_parse(path) -> None:
    parser = command_line(FinetuneConfig)
    config = from_namespace(FinetuneConfig, parser, parser.parse_args(["--config", str(path)]))
    assert from_dict(FinetuneConfig, to_dict(config)) == config
    assert str(path.relative_to(ROOT)) in path.read_text()  # says how it is used
