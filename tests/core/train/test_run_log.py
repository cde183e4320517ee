"""What watches a training: its page, trackers that never stop it, and runs side by side."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import numpy as np
import pytest

from lemumo_core.cli.main import main
from lemumo_core.train import run_log as run_log_module
from lemumo_core.train import run_page, trackers
from lemumo_core.train.pretrain.config import PretrainLogConfig
from lemumo_core.train.run_folder import create, read_metrics, write_header
from lemumo_core.train.run_log import LateLog, RunLog
from lemumo_core.train.run_page import RunPage, section_of, thinned, title_of, write_samples
from tests.helpers.small_frames import small_frames
from tests.helpers.small_run import small_config
from tests.helpers.waiting import wait_until

STREET = {"source": "synthetic"}


class Frames(list):
    """Frames as a source."""

    def describe(self) -> dict:
        return STREET


def begin(out: Path, first: int, steps: int, *names: str, **changes) -> RunLog:
    log = PretrainLogConfig(tensorboard=False, trackers=names, progress_every=1000)
    config = small_config(log=log, out=str(out), resume="auto", **changes)
    create(out, config)
    write_header(out, config, 1, first, STREET)
    return RunLog(out, first, steps, config)


def train(run_log: RunLog, steps: range) -> None:
    for step in steps:
        values = {"loss": 1.0 / (step + 1), "lr": 1e-3, "probe_depth": 2.0}
        run_log.begun(waited_s=0.0)
        run_log.write(step, values | ({"rankme": 10.0 + step} if step % 5 == 0 else {}))


def test_speed_is_that_of_the_steps_though_values_are_read_one_step_late(
    tmp_path, monkeypatch
) -> None:
    """Also in the last step, whose values are read at once: it took no less than the others."""
    clock = SimpleNamespace(now=100.0)
    fake = SimpleNamespace(monotonic=lambda: clock.now)
    monkeypatch.setattr(run_log_module, "time", fake)
    run_log = begin(tmp_path / "run", 0, 3)
    run_log.every = 2
    late = LateLog(run_log)
    for step in range(3):
        clock.now += 2.0
        values = {"loss": 1.0, "lr": 1e-3}
        late.add(SimpleNamespace(step=step, read=lambda values=values: values), waited_s=0.5)
    late.flush()
    run_log.close()
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert [row["samples_per_s"] for row in logged] == [run_log.batch / 2.0] * 3
    assert [row["data_wait"] for row in logged] == [0.25] * 3


def test_the_page_is_of_the_run_as_it_is(tmp_path, monkeypatch, capsys) -> None:
    """It refreshes while the run trains, and shows a resumed run from its first step on."""
    out = tmp_path / "run"
    monkeypatch.setattr(run_page, "REFRESH_S", 0.0)
    out.mkdir()
    write_samples(out, Frames(small_frames(2)))
    run_log = begin(out, 0, 20)
    shown = capsys.readouterr().out
    assert f"watch it: {out / 'run.html'}" in shown and "tensorboard" not in shown
    train(run_log, range(8))
    page = (out / "run.html").read_text()
    assert 'http-equiv="refresh"' in page and "Step 8 of 20 (40%), running" in page
    run_log.close()
    assert "Step 8 of 20 (40%), stopped" in (out / "run.html").read_text()
    resumed = begin(out, 6, 20)
    train(resumed, range(6, 20))
    resumed.close()
    page = (out / "run.html").read_text()
    assert "refresh" not in page and "finished" in page and 'src="samples.jpg"' in page
    sections = [page.index(f"<h2>{name}") for name in ("Loss", "Probes", "Collapse", "Speed")]
    assert sections == sorted(sections) and "loss: 0.05" in page and "rankme: 25" in page
    assert "learning rate: 0.001" in page and "loss of the probe of depth: 2" in page
    assert page.count("<circle") == 20 * 3 + 4 + 3 * 3  # each step once; rankme; speed and memory
    assert [line["step"] for line in read_metrics(out)] == list(range(20))


def test_a_single_validation_is_a_point_on_the_axis_of_all_steps(tmp_path) -> None:
    """Steps are counted as the log counts them; titles are those of tables of metrics."""
    earlier = [{"step": step, "loss": 1.0} for step in range(11)]
    validated = {"step": 11, "loss": 1.0, "camera_only_depth_mae_m": 4.2, "fused_linear_mae_m": 2}
    RunPage(tmp_path, "short", 12, [*earlier, validated])
    page = (tmp_path / "run.html").read_text()
    plots = {re.search(r'"600"[^>]*>([^<]+)<', svg)[1]: svg for svg in page.split("<svg")[1:]}
    assert list(plots) == [
        "loss: 1",
        "camera only, depth MAE, m: 4.2",
        "fused, depth MAE of linear interpolation, m: 2",
    ]
    for svg in plots.values():
        assert re.findall(r'text-anchor="middle"[^>]*>([\d.]+)<', svg) == ["5", "10"]
    of_loss, *single = (
        re.findall(r'cx="([\d.]+)"[^>]* r="([\d.]+)"', svg) for svg in plots.values()
    )
    assert [len(of_loss), *map(len, single)] == [12, 1, 1]
    assert all(points == [(of_loss[-1][0], "3")] for points in single)


def test_metrics_of_labelled_frames_belong_to_validation() -> None:
    name = "labelled_companion_only_bev_map"
    assert section_of(name, True) == "Validation"
    assert title_of(name) == "labelled frames, companion only, BEV mAP"


def test_long_curves_are_means() -> None:
    curve = [(step, float(step % 7)) for step in range(1000)]
    steps, values = thinned(curve, 10)
    assert steps == [49.5 + 100 * i for i in range(10)]
    assert values == pytest.approx(np.array([v for _, v in curve]).reshape(10, 100).mean(1))
    assert section_of("fused_miou", True) == section_of("score", True) == "Validation"
    assert section_of("sigreg", False) == "Loss" and section_of("sigreg", True) != "Loss"


def test_memory_of_a_page_does_not_grow_with_the_run(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(run_page, "KEPT_POINTS", 64)
    page = RunPage(tmp_path, "long", 1000, [{"step": i, "loss": float(i)} for i in range(1000)])
    (curve,) = page._curves.values()
    assert 32 <= len(curve) < 64 and curve[-1] == (1000.0, 999.0)
    assert all(step == pytest.approx(value + 1) for step, value in curve)


def test_mlflow_and_wandb_go_on_in_the_same_run(tmp_path, monkeypatch) -> None:
    """Their own clients: MLflow's file store, W&B offline."""
    pytest.importorskip("wandb", reason="needs: pip install '.[wandb]'")
    for name, value in {
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
    }.items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "run"
    ids = check_mlflow(f"file://{tmp_path / 'store'}", out, monkeypatch, "wandb")
    assert ids.keys() == {"mlflow", "wandb"}
    files = list((out / "wandb").glob(f"offline-run-*/run-{ids['wandb']}.wandb"))
    assert files
    wait_until(  # its service writes on after the client has ended
        lambda: all(b"probe_depth" in file.read_bytes() for file in files), "W&B's files"
    )


def test_an_mlflow_server_has_the_run(tmp_path, monkeypatch) -> None:
    """The server needs MLflow whole, which wants another pyarrow: an environment of its own."""
    server = os.environ.get("MLFLOW_SERVER")
    if server is None:
        pytest.skip(
            "needs: python -m venv V && V/bin/pip install mlflow, and MLFLOW_SERVER=V/bin/mlflow"
        )
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "fleet")
    with mlflow_server(server, tmp_path) as url:
        check_mlflow(url, tmp_path / "run", monkeypatch)
        with urlopen(
            f"{url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=fleet"
        ) as answer:
            assert json.load(answer)["experiment"]["lifecycle_stage"] == "active"


@contextmanager
def mlflow_server(program: str, folder: Path) -> Iterator[str]:
    """Start MLflow's server on a database of its own; give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    log = folder / "mlflow.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, cwd=folder, start_new_session=True
        )

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/health") as answer:
            return answer.status == 200
        return False

    try:
        wait_until(answers, "MLflow's server", lambda: time.sleep(0.1))
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def check_mlflow(uri: str, out: Path, monkeypatch, *others: str) -> dict[str, str]:
    """Train, stop and resume a run that MLflow follows; return the ids of its runs by tracker."""
    pytest.importorskip("mlflow", reason="needs: pip install '.[mlflow]'")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(trackers, "CLOSING_S", 300.0)
    ids = []
    for first, last in ((0, 8), (6, 12)):
        run_log = begin(out, first, 12, "mlflow", *others)
        train(run_log, range(first, last))
        run_log.close()
        ids.append(json.loads((out / "trackers.json").read_text()))
    assert ids[0] == ids[1]
    client = MlflowClient(uri)
    run = client.get_run(ids[0]["mlflow"])
    history = {m.step: m.value for m in client.get_metric_history(run.info.run_id, "loss")}
    assert history == {step: 1.0 / (step + 1) for step in range(12)}
    assert run.info.status == "FINISHED" and run.data.params["optimizer.lr"] == "0.0007"
    assert run.info.run_name == out.name
    return ids[0]


def test_a_tracker_that_fails_is_named_once(tmp_path, monkeypatch, caplog) -> None:
    pytest.importorskip("mlflow", reason="needs: pip install '.[mlflow]'")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(trackers, "CLOSING_S", 300.0)
    run_log = begin(tmp_path / "run", 0, 50, "mlflow")
    train(run_log, range(50))
    run_log.close()
    said = [one.getMessage() for one in caplog.records if "mlflow" in one.getMessage()]
    assert len(said) == 1 and "the training goes on without it" in said[0]
    assert len(read_metrics(tmp_path / "run")) == 50


def test_a_tracker_that_hangs_never_stops_a_training(tmp_path, monkeypatch, caplog) -> None:
    release = threading.Event()

    class Hanging:
        def __init__(self, *_: object):
            self.id = "1"
            release.wait()

    monkeypatch.setitem(trackers.TRACKERS, "mlflow", Hanging)
    monkeypatch.setattr(trackers, "WAITING", 4)
    monkeypatch.setattr(trackers, "CLOSING_S", 0.01)
    run_log = begin(tmp_path / "run", 0, 50, "mlflow")
    train(run_log, range(50))
    run_log.close()
    release.set()
    said = [one.getMessage() for one in caplog.records if "mlflow" in one.getMessage()]
    assert len(said) == 1 and "too slow" in said[0]
    assert len(read_metrics(tmp_path / "run")) == 50


def test_runs_are_listed_and_compared(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for name, seed in (("a", 0), ("b", 1)):
        run_log = begin(Path("out") / "deep" / name, 0, 10, seed=seed)
        train(run_log, range(10 - seed))
        run_log.close()
    Path("out/deep/a/summary.json").write_text("{}")
    capsys.readouterr()
    assert main(["runs"]) == 0
    _, *rows = capsys.readouterr().out.splitlines()
    cells = sorted(row.split() for row in rows)
    assert [(c[0], c[3], c[4], c[5]) for c in cells] == [
        ("out/deep/a", "finished", "10", "synthetic"),
        ("out/deep/b", "running", "9", "synthetic"),
    ]
    assert main(["runs", "--compare", "out/deep/a", "out/deep/b"]) == 0
    differing, latest = capsys.readouterr().out.split("\n\n")
    assert [row.split() for row in differing.splitlines()[2:]] == [["seed", "0", "1"]]
    assert ["loss", "0.1", "0.1111"] in [row.split() for row in latest.splitlines()]
    shutil.copytree("out/deep/a", "out/later/a")
    assert main(["runs", "--compare", "out/deep/a", "out/later/a"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["deep/a", "later/a"]
    shutil.rmtree("out/later")
    assert main(["runs", "--compare", "out/deep/a"]) == 1
    assert "name two or more" in capsys.readouterr().err
    assert main(["runs", "elsewhere"]) == 1 and "no run of" in capsys.readouterr().err
    for file, content in (("run.json", "[]"), ("run.json", "[null]"), ("config.yaml", "a: [1")):
        broken = tmp_path / "out" / "broken"
        shutil.copytree(tmp_path / "out" / "deep" / "a", broken)
        (broken / file).write_text(content)
        capsys.readouterr()
        assert main(["runs"]) == 0
        shown = capsys.readouterr()
        assert "out/deep/b" in shown.out and f"out/broken/{file} is not" in shown.err
        assert main(["runs", "--compare", "out/deep/a", "out/broken"]) == 1
        shutil.rmtree(broken)
