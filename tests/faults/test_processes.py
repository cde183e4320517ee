"""Nodes that are killed, stopped and driven through their lifecycle, and packages that are not
whole: rows 15 and 17 of the fault table."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from lemumo_core.faults import Fault
from lemumo_core.inference.package import load_package
from lemumo_core.streaming.health import Level
from tests.helpers.paths import ROOT
from tests.helpers.rig import Rig
from tests.helpers.segments import segment_locks, segment_of
from tests.helpers.waiting import LIMIT_S, wait_until

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def damaged(toy_package, tmp_path_factory) -> Path:
    """A package with a flipped bit."""
    folder = tmp_path_factory.mktemp("damaged") / "toy"
    shutil.copytree(toy_package, folder)
    flip(folder / "model.onnx", 100)
    return folder


@pytest.fixture(scope="module")
def rig(launch_faulty, damaged) -> Rig:
    return launch_faulty(model=damaged)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def call(rig: Rig, kind: type, service: str, request):
    client = rig.node.create_client(kind, f"/lemumo/{service}")
    assert client.wait_for_service(LIMIT_S)
    future = client.call_async(request)
    rclpy.spin_until_future_complete(rig.node, future, timeout_sec=LIMIT_S)
    rig.node.destroy_client(client)
    return future.result()


def change_state(rig: Rig, transition: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=transition))
    return call(rig, ChangeState, "change_state", request).success


@pytest.mark.fault(15)
def test_a_damaged_package_is_refused_and_a_whole_one_taken(rig, toy_package, seen) -> None:
    rig.under_test.spin_until(lambda: rig.status("engine")[0] == Level.ERROR)
    assert "sha256" in rig.status("engine")[1]
    assert not change_state(rig, Transition.TRANSITION_CONFIGURE)
    model = Parameter("model", value=str(toy_package)).to_parameter_msg()
    answer = call(rig, SetParameters, "set_parameters", SetParameters.Request(parameters=[model]))
    assert answer.results[0].successful
    assert change_state(rig, Transition.TRANSITION_CONFIGURE)
    assert change_state(rig, Transition.TRANSITION_ACTIVATE)
    rig.run_until(rig.results)
    assert rig.status("engine")[0] == Level.OK
    seen("flipped bit: stays unconfigured, ERROR names the file; a whole package is taken after")


@pytest.mark.fault(15)
def test_a_package_cut_off_anywhere_is_refused(toy_package, tmp_path, seen) -> None:
    folder = tmp_path / "toy"
    for name in ("model.onnx", "manifest.json"):
        data = (toy_package / name).read_bytes()
        for sixteenth in range(16):
            shutil.copytree(toy_package, folder)
            (folder / name).write_bytes(data[: len(data) * sixteenth // 16])
            with pytest.raises(Fault) as error:
                load_package(folder)
            assert error.value.reason == "bad_package"
            shutil.rmtree(folder)
    seen("graph and manifest empty and cut at every sixteenth: refused as bad_package")


@pytest.mark.fault(17)
def test_killed_and_started_again_it_publishes(rig, toy_package, damaged, seen) -> None:
    """It also frees the shared memory that its predecessor could not."""
    node = rig.under_test
    node.command = [part.replace(str(damaged), str(toy_package)) for part in node.command]
    rig.run_until(rig.results)
    dead = segment_locks(node.process.pid)
    node.process.kill()
    node.process.wait()
    for lock in dead:
        os.utime(lock, (0, 0))  # one that has just been made is left alone
    node.start()
    since_ns = rig.now_ns()
    took_s = rig.run_until(lambda: rig.results(since_ns))
    assert dead and not any(path.exists() for lock in dead for path in (lock, segment_of(lock)))
    living = segment_locks(node.process.pid)
    assert living and all(segment_of(lock).exists() for lock in living)
    seen(f"kill -9 and started again: a result after {took_s:.1f} s; its shared memory is freed")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.fault(17)
def test_a_signal_amid_an_inference_ends_the_process(rig, fault, seen, number) -> None:
    rig.run_until(rig.results)
    fault.write_text("sleep 0.5")
    since_ns = rig.now_ns()
    rig.run_until(lambda: rig.results(since_ns))  # the next one is under way at once
    rig.run(0.1)
    rig.under_test.process.send_signal(number)
    process = rig.under_test.process
    took_s = wait_until(lambda: process.poll() is not None, "the end of the process")
    assert process.returncode == 0, rig.under_test.log.read_text()
    fault.write_text("")
    rig.under_test.start()
    since_ns = rig.now_ns()
    rig.run_until(lambda: rig.results(since_ns))
    seen(f"{signal.Signals(number).name} amid an inference of 500 ms: exit 0 after {took_s:.1f} s")


@pytest.mark.fault(17)
def test_200_lifecycle_cycles_leak_nothing(toy_package, seen) -> None:
    program = ROOT / "tests" / "helpers" / "lifecycle_cycles.py"
    command = [sys.executable, str(program), "200", "--ros-args", "--log-level", "error"]
    command += ["-p", f"model:={toy_package}", "-p", "backend:=onnxruntime"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    early, late = json.loads(result.stdout)
    assert late["threads"] <= early["threads"] and late["files"] <= early["files"]
    assert late["python_threads"] == 1
    grown_mb = late["memory_mb"] - early["memory_mb"]
    assert grown_mb < 10, (early, late)
    seen(f"200 cycles: no thread, no file, {grown_mb:+.1f} MB from the 50th to the 200th")
