"""However a run is stopped, or its data fails, it ends: with the reason, and able to go on."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lemumo_core.data.shards import Shards
from lemumo_core.faults import Fault
from lemumo_core.signals import REQUEUE
from tests.helpers.paths import ROOT
from tests.helpers.program import Program

TORCHRUN = [
    *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
    str(ROOT / "training" / "pretrain.py"),
]
SMALL = [
    *("--batch", "4", "--val_frames", "4", "--model.size", "nano"),
    *("--model.height", "48", "--model.width", "64"),
    *("--log.tensorboard", "false", "--log.progress_every", "1"),
]


@pytest.fixture
def start(tmp_path) -> Callable[..., Program]:
    """Start a small pretraining with more options."""

    def starter(*options: object) -> Program:
        return Program(tmp_path / "log", "pretrain", *SMALL, *options)

    return starter


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def loaders(pid: int) -> list[int]:
    """Processes of a run that load data."""
    return [
        child
        for child in children(pid)
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


@pytest.fixture
def damaged(street_shards, tmp_path) -> Path:
    """A shard of a copy, cut off."""
    shutil.copytree(street_shards, tmp_path / "data")
    path = tmp_path / "data" / Shards(street_shards).names[2]
    path.write_bytes(path.read_bytes()[:100])
    return path


def long_run(data: Path, out: Path, workers: int) -> list[str]:
    paths = ["--data", str(data), "--out", str(out), "--log.probes", "false"]
    return [*paths, "--steps", "100000", "--scale.workers", str(workers)]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_frame_ends_the_run_by_its_name(start, workers, damaged, tmp_path) -> None:
    code, printed = start(*long_run(damaged.parent, tmp_path / "run", workers)).end()
    assert code == 1 and f"{damaged.name} is damaged" in printed, printed


def test_a_damaged_frame_ends_all_ranks(damaged, tmp_path) -> None:
    options = long_run(damaged.parent, tmp_path / "run", 1)
    done = subprocess.run([*TORCHRUN, *SMALL, *options], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and f"{damaged.name} is damaged" in done.stderr, done.stderr


def test_a_loading_process_that_is_killed_ends_the_run(start, street_shards, tmp_path) -> None:
    program = start(*long_run(street_shards, tmp_path / "run", 1))
    program.wait_for("step 2/")
    os.kill(loaders(program.pid)[0], signal.SIGKILL)
    code, printed = program.end()
    assert code == 1 and "a process that loads data died" in printed, printed


@pytest.mark.parametrize(
    ("number", "everyone"),
    [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, True)],
    ids=["scheduler", "group", "Ctrl-C"],
)
def test_stopped_while_frames_are_rendered_it_can_go_on(start, number, everyone, tmp_path) -> None:
    out = tmp_path / "run"
    small = ("--data_options.width", "64", "--data_options.height", "48")
    program = start("--data_options.frames", "4000", *small, "--out", out)
    program.wait_until(lambda: any((out / "frames").glob("shard-*.arrow")))
    program.signal(number, everyone)
    code, printed = program.end()
    assert code == REQUEUE and f"--out {out} --resume auto" in printed, printed
    assert not (out / "metrics.jsonl").exists()


def test_stopped_in_closing_probes_it_can_go_on(start, street_shards, tmp_path) -> None:
    options = [
        "--data",
        street_shards,
        "--out",
        tmp_path / "run",
        "--steps",
        "1",
        "--resume",
        "auto",
    ]
    options += ["--scale.workers", "0"]
    program = start(*options, "--log.probe_steps", "100000")
    program.wait_for("probe raw patches")
    program.signal(signal.SIGTERM, everyone=True)
    code, printed = program.end()
    assert code == REQUEUE, printed
    code, printed = start(*options, "--scale.workers", "0", "--log.probe_steps", "2").end()
    assert code == 0 and (tmp_path / "run" / "summary.json").exists(), printed


def test_faults_can_be_sent_between_processes() -> None:
    fault = pickle.loads(pickle.dumps(Fault("bad_image", "a torn image")))
    assert (fault.reason, str(fault)) == ("bad_image", "a torn image")
