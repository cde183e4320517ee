"""However a run is stopped, or its data fails, it ends: with the reason, and able to go on."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lemumo_core.data.shard_writer import write_shards
from lemumo_core.data.shards import Shards
from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.faults import Fault
from lemumo_core.signals import REQUEUE
from tests.helpers.paths import ROOT

PRETRAIN = [sys.executable, str(ROOT / "training" / "pretrain.py")]
FINETUNE = [sys.executable, str(ROOT / "training" / "finetune.py")]
TORCHRUN = [
    *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
    str(ROOT / "training" / "pretrain.py"),
]
SMALL = [
    *("--batch", "4", "--val_frames", "4", "--model.size", "nano"),
    *("--model.height", "48", "--model.width", "64"),
    *("--log.tensorboard", "false", "--log.progress_every", "1"),
]
LONG = ["--steps", "100000"]
END_S = 400
"""Generous: a run that does not end waits for ever."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("street") / "shards"
    street = SyntheticStreet(frames=14, frames_per_drive=14, width=64, height=48)
    write_shards(street, folder, frames_per_shard=2, workers=1)
    return folder


def start(command: list[str], *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*command, *SMALL, *options],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
    )


def wait_for_line(process: subprocess.Popen[str], text: str) -> None:
    seen = []
    assert process.stdout is not None
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return
    raise AssertionError("".join(seen))


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and last lines; none of its processes is left."""
    try:
        printed = process.communicate(timeout=END_S)[0]
        wait_until_empty(process.pid)
    finally:
        if group_lives(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, printed


def wait_until_empty(group: int) -> None:
    deadline = time.monotonic() + END_S
    while group_lives(group):
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.1)


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def loaders(pid: int) -> list[int]:
    """Processes of a run that load data."""
    return [
        child
        for child in children(pid)
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


@pytest.mark.parametrize(
    ("command", "workers"), [(PRETRAIN, 0), (PRETRAIN, 2), (TORCHRUN, 1)], ids=["0", "2", "ranks"]
)
def test_a_damaged_frame_ends_the_run_by_its_name(command, workers, shards, tmp_path) -> None:
    data = tmp_path / "data"
    shutil.copytree(shards, data)
    damaged = data / Shards(data).names[2]
    damaged.write_bytes(damaged.read_bytes()[:100])
    process = start(
        command,
        *("--data", str(data), "--out", str(tmp_path / "run"), "--log.probes", "false"),
        *(*LONG, "--scale.workers", str(workers)),
    )
    code, printed = end(process)
    assert code == 1 and f"{damaged.name} is damaged" in printed, printed


def test_a_loading_process_that_is_killed_ends_the_run(shards, tmp_path) -> None:
    process = start(
        PRETRAIN,
        *("--data", str(shards), "--out", str(tmp_path / "run"), "--log.probes", "false"),
        *(*LONG, "--scale.workers", "2"),
    )
    wait_for_line(process, "step 2/")
    os.kill(loaders(process.pid)[0], signal.SIGKILL)
    code, printed = end(process)
    assert code == 1 and "a process that loads data died" in printed, printed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("everyone", [False, True], ids=["process", "group"])
def test_stopped_while_frames_are_rendered_it_can_go_on(number, everyone, tmp_path) -> None:
    out = tmp_path / "run"
    process = start(PRETRAIN, "--data_options.frames", "4000", "--out", str(out))
    wait_until(lambda: any((out / "frames").glob("shard-*.arrow")), process)
    (os.killpg if everyone else os.kill)(process.pid, number)
    code, printed = end(process)
    assert code == REQUEUE and f"--out {out} --resume auto" in printed, printed
    assert not (out / "metrics.jsonl").exists()


def test_stopped_in_closing_probes_it_can_go_on(shards, tmp_path) -> None:
    options = [
        *("--data", str(shards), "--out", str(tmp_path / "run"), "--steps", "1"),
        *("--resume", "auto", "--scale.workers", "1"),
    ]
    process = start(PRETRAIN, *options, "--log.probe_steps", "100000")
    wait_for_line(process, "probe raw patches")
    os.killpg(process.pid, signal.SIGTERM)
    code, printed = end(process)
    assert code == REQUEUE, printed
    code, printed = end(start(PRETRAIN, *options, "--log.probe_steps", "2"))
    assert code == 0 and (tmp_path / "run" / "summary.json").exists(), printed


def wait_until(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not there():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def test_faults_can_be_sent_between_processes() -> None:
    fault = pickle.loads(pickle.dumps(Fault("bad_image", "a torn image")))
    assert (fault.reason, str(fault)) == ("bad_image", "a torn image")
