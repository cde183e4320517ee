"""auto takes what costs the least, keeps what it measured undisturbed, else measures again."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import replace
from unittest.mock import MagicMock

import numpy as np
import pytest

from lemumo_core.faults import Fault
from lemumo_core.files import cache_folder
from lemumo_core.inference import measure as measuring
from lemumo_core.inference import selection
from lemumo_core.inference.backends import TensorSpec
from lemumo_core.inference.measure import Measurement, measure
from lemumo_core.inference.pipeline import OUTPUT_SHAPES, Pipeline
from lemumo_core.inference.selection import Choice, candidates, choose_backend, table
from lemumo_core.signals import Stopped, stop_request
from tests.helpers.waiting import wait_until


def test_every_backend_is_measured_in_its_own_process(toy) -> None:
    names = ["onnxruntime:fp32", "onnxruntime:fp16"]
    good, bad = measure(toy.path, names, rounds=2, slice_s=0.05)
    assert good.backend == names[0] and not good.error
    assert len(good.latencies_ms) >= 2 and 0 < good.latency_ms(50) <= good.latency_ms(99)
    assert good.load_s > 0 and np.isfinite(good.memory_mb)
    assert len(good.cpu_ms) == len(good.latencies_ms) and 0 < good.cost_ms <= max(good.cpu_ms)
    assert 0 <= good.foreign_cpu <= 1
    assert "holds no model.fp16.onnx" in bad.error and np.isnan(bad.latency_ms(50))


def test_a_crash_is_an_error_of_one_backend_only(toy, monkeypatch, tmp_path) -> None:
    """A runtime that takes its process down, as TensorRT can, is reported and the rest goes on."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'openvino:fp32' in sys.orig_argv: os.kill(os.getpid(), 11)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    results = measure(toy.path, ["openvino:fp32", "onnxruntime:fp32"], rounds=1, slice_s=0.01)
    assert "exit code -11" in results[0].error
    assert not results[1].error


def test_a_backend_that_hangs_is_given_up(toy, monkeypatch, tmp_path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(60)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(measuring, "LIMIT_S", 0.2)
    (result,) = measure(toy.path, ["onnxruntime:fp32"], rounds=1)
    assert "hung for 0.2 s" in result.error


def test_a_signal_ends_a_backend_that_still_loads(toy, monkeypatch, tmp_path) -> None:
    begun = tmp_path / "begun"
    (tmp_path / "sitecustomize.py").write_text(
        f"import os, time\nos.symlink(str(os.getpid()), {str(begun)!r})\ntime.sleep(600)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def send() -> None:
        wait_until(begun.is_symlink, "the backend's process")
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(Stopped), stop_request():
        measure(toy.path, ["onnxruntime:fp32", "openvino:fp32"], rounds=1)
    sender.join()
    with pytest.raises(ProcessLookupError):
        os.kill(int(os.readlink(begun)), 0)
    # A timer's thread would keep the command alive; that of a cancelled one may be about to end.
    timers = [one for one in threading.enumerate() if isinstance(one, threading.Timer)]
    assert all(timer.finished.is_set() for timer in timers)


def test_throughput_counts_samples() -> None:
    result = Measurement("x:fp32", 4, latencies_ms=(10.0, 30.0))
    assert result.throughput == pytest.approx(8 / 0.040)
    assert result.latency_ms(50) == 20.0


def test_a_gpu_is_judged_by_its_wall_time_since_the_process_only_waits() -> None:
    times = {"latencies_ms": (9.0, *[7.0] * 9), "cpu_ms": (4.0, *[3.0] * 9)}
    assert Measurement("onnxruntime:fp32", 1, **times).cost_ms == 3.0
    assert Measurement("tensorrt:fp16", 1, **times).cost_ms == 7.0


def test_foreign_load_is_what_the_worker_did_not_take_of_the_cores_it_may_use(monkeypatch) -> None:
    """Beside a counter of idle time: 4 s on two of three cores, 3 s idle, 1 s of our own."""
    idle_ticks = iter([(100, 0), (350, 50)])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2})
    monkeypatch.setattr(os, "sysconf", lambda _: 100)
    monkeypatch.setattr(measuring.time, "monotonic", iter([10.0, 12.0]).__next__)

    def stat(_) -> str:
        idle, waiting = next(idle_ticks)
        other = "cpu1 7 7 7 999 999 0 0 0 0 0"  # may not be used here
        return f"cpu 9 9 9 9 9\ncpu0 0 0 0 {idle} {waiting} 0\n{other}\ncpu2 0 0 0 0 0 0\nintr 3"

    monkeypatch.setattr(measuring.Path, "read_text", stat)
    worker = measuring._Worker("package", "onnxruntime:fp32", 1)
    worker.process = MagicMock()
    worker._answer = lambda: {"latencies_ms": [500.0], "cpu_ms": [200.0]}
    worker.turn(1.0)
    assert worker.measurement().foreign_cpu == pytest.approx((4.0 - 3.0 - 0.2) / 4.0)


@pytest.fixture
def foreign_cpu() -> list[float]:
    """Share of the processor that others take in each measurement to come; none after the last."""
    return []


@pytest.fixture
def fake_measure(monkeypatch, foreign_cpu):
    """Replaces measuring; returns the list of what was measured."""
    calls: list[list[str]] = []

    def fake(path, names, **_):
        calls.append(list(names))
        cost = {"onnxruntime:int8-cpu": 5.0, "onnxruntime:fp32": 9.0}
        load = foreign_cpu.pop(0) if foreign_cpu else 0.0
        return [  # what others take prolongs the wall time of the cheaper one the most
            Measurement(
                n, 1, latencies_ms=(60 / cost[n],), cpu_ms=(99.0, cost[n]), foreign_cpu=load
            )
            if n in cost
            else Measurement(n, 1, error="it crashed")
            for n in names
        ]

    monkeypatch.setattr(selection, "measure", fake)
    monkeypatch.setattr(
        selection,
        "unavailable_reason",
        lambda n: None if n in ("onnxruntime", "openvino") else "not here",
    )
    return calls


def test_the_cheapest_is_chosen_and_kept(toy, fake_measure, capsys) -> None:
    choice = choose_backend(toy)
    assert choice.backend == "onnxruntime:int8-cpu" and "kept for this machine" in choice.reason
    shown = capsys.readouterr().err
    assert "it crashed" in shown and "depth 0.01" in shown and "costs the least" in shown
    assert choose_backend(toy) == Choice("onnxruntime:int8-cpu", "measured before, undisturbed")
    assert len(fake_measure) == 1
    assert choose_backend(toy, "fp32").backend == "onnxruntime:fp32"
    assert fake_measure[1] == ["onnxruntime:fp32", "openvino:fp32"]


def test_what_was_measured_beside_load_is_not_kept(toy, fake_measure, foreign_cpu, capsys) -> None:
    foreign_cpu += [0.21, 0.2]
    disturbed, undisturbed = choose_backend(toy), choose_backend(toy)
    assert disturbed.backend == undisturbed.backend == "onnxruntime:int8-cpu"
    assert "took 21% of the processor" in disturbed.reason
    assert disturbed.reason in capsys.readouterr().err
    choose_backend(toy)
    assert len(fake_measure) == 2


def test_a_pipeline_says_why_it_runs_on_a_backend(toy, fake_measure, foreign_cpu) -> None:
    foreign_cpu.append(0.5)
    sizes = {"K": 5, "box": 7, "h": 8, "w": 8}
    outputs = {
        name: TensorSpec((1, *(sizes.get(size, size) for size in shape)), np.dtype(np.float32))
        for name, shape in OUTPUT_SHAPES.items()
    }
    load = MagicMock(return_value=MagicMock(outputs=outputs))
    pipeline = Pipeline(toy, "auto:fp32", load=load)
    load.assert_called_once_with(toy, "onnxruntime:fp32", 1)
    assert "50% of the processor" in pipeline.backend_reason
    assert Pipeline(toy, pipeline.backend).backend_reason == "as given"


def test_another_graph_or_engine_is_measured_anew(toy, fake_measure) -> None:
    choose_backend(toy)
    files = toy.manifest.files | {"model.onnx": "0" * 64}
    choose_backend(replace(toy, manifest=replace(toy.manifest, files=files)))
    assert len(fake_measure) == 2
    (cache_folder() / "engines").mkdir()
    (cache_folder() / "engines" / "new.engine").touch()
    choose_backend(toy)
    assert len(fake_measure) == 3


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"backend": "gone:fp32", "foreign_cpu": 0}',
        '{"backend": 3}',
        '{"backend": "onnxruntime:fp32", "p50_ms": {}}',
        '{"backend": "onnxruntime:fp32", "foreign_cpu": 0.4}',
    ],
)
def test_a_damaged_choice_is_measured_again(toy, fake_measure, content) -> None:
    choose_backend(toy)
    (kept,) = (cache_folder() / "choices").glob("*.json")
    kept.write_text(content)
    assert choose_backend(toy).backend == "onnxruntime:int8-cpu"
    assert len(fake_measure) == 2
    assert json.loads(kept.read_text())["backend"] == "onnxruntime:int8-cpu"


def test_without_a_cache_the_choice_is_made_all_the_same(toy, fake_measure, monkeypatch) -> None:
    blocked = toy.path / "model.onnx" / "cache"  # below a file: no folder can be made there
    monkeypatch.setenv("LEMUMO_CACHE", str(blocked))
    choice = choose_backend(toy)
    assert choice.backend == "onnxruntime:int8-cpu" and "cache folder" in choice.reason


def test_nothing_to_run_names_what_to_install(toy, monkeypatch) -> None:
    monkeypatch.setattr(
        selection, "unavailable_reason", lambda name: f"not installed: pip install {name}"
    )
    with pytest.raises(Fault, match="onnxruntime: not installed: pip install onnxruntime"):
        choose_backend(toy)


def test_torch_is_a_candidate_only_where_nothing_else_is(toy, monkeypatch) -> None:
    monkeypatch.setattr(
        selection, "unavailable_reason", lambda n: None if "torch" in n else "not here"
    )
    assert candidates(toy)[0] == ["torch:fp32"]
    monkeypatch.setattr(selection, "unavailable_reason", lambda n: None)
    assert not any(name.startswith("torch") for name in candidates(toy)[0])


def test_the_table_has_a_line_each(toy) -> None:
    results = [
        Measurement("onnxruntime:fp32", 1, 0.5, 80.0, (10.0, 12.0), (8.0, 9.0), 0.25),
        Measurement("tensorrt:fp16", 1, error="no engine"),
    ]
    lines = table(results, toy).splitlines()
    assert "8.1    11.0" in lines[1] and "no engine" in lines[2] and "25%" in lines[4]
