"""A Ray cluster of three nodes: one is killed at work, and the results are those of one process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lemumo_core.bags.named_bags import named_bags
from lemumo_core.bags.recovery import RecoveredBag
from lemumo_core.cli.main import main
from lemumo_core.data.bag_shards import BagShardOptions, write_bag_shards
from lemumo_core.executor.executor import Executor, SerialExecutor, open_executor
from lemumo_core.faults import Fault
from lemumo_core.folders.local import LocalFolder
from lemumo_core.inference.package import load_package
from lemumo_core.replay.evaluator import Evaluator
from lemumo_core.replay.run import Replay
from lemumo_core.replay.settings import Settings
from lemumo_core.signals import REQUEUE, SIGNALLED
from tests.helpers.many_bags import contents, write_many_bags
from tests.helpers.program import Program
from tests.helpers.ray_nodes import HangingExecutor, ray_cluster
from tests.helpers.waiting import wait_until

BAGS = 8


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of three nodes, which the environment names."""
    with pytest.MonkeyPatch.context() as monkeypatch, ray_cluster(monkeypatch) as cluster:
        yield cluster


def kill_one(cluster, notes: Path) -> None:
    """Kill a node whose worker has written a bag, which it has not reported."""
    node = next(iter(cluster.worker_nodes))
    notes.with_suffix(".victim").write_text(node.node_id)
    wait_until(notes.with_suffix(".hangs").exists, "a task that hangs", limit_s=300)
    cluster.remove_node(node, allow_graceful=False)


def do(bags: Path, model: Path, out: Path, executor: Executor) -> None:
    """Prepare the bags, and replay them."""
    found = named_bags(bags)
    summary = write_bag_shards(found, BagShardOptions({}), out / "shards", executor)
    assert (summary.frames, summary.failed) == (12, {})
    evaluator = Evaluator(Settings(model, backend="onnxruntime"), load_package(model))
    with RecoveredBag() as recovered:
        replay = Replay(evaluator, LocalFolder(out / "results"), recovered)
        replay.finalize(replay.run_bags(found, executor), report=True)
    assert replay.frames == 12


def test_without_a_cluster_the_cure_is_named(monkeypatch) -> None:
    """The first one: Ray finds clusters of this machine by itself."""
    pytest.importorskip("ray", reason="needs: pip install '.[ray]'")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with (
        pytest.raises(Fault, match=r"no Ray cluster at auto: .*; start one"),
        open_executor("ray"),
    ):
        pass


def test_a_cluster_that_cannot_serve_yet_is_asked_again(cluster, monkeypatch, caplog) -> None:
    """So a busy head node answers: it has given up the process that it began for the client."""
    import ray

    failing = ["RuntimeError: Starting Ray client server failed."]
    connect = ray.init

    def init(**settings: Any) -> Any:
        if failing:
            said = ["Initialization failure from server:", "Traceback:", failing.pop()]
            raise ConnectionAbortedError("\n".join(said))
        return connect(**settings)

    monkeypatch.setattr(ray, "init", init)
    with open_executor(cluster.client_address) as executor:
        assert executor.workers == 3
    assert "client server failed.); trying again" in caplog.text
    failing.extend(["RuntimeError: No."] * 3)
    with pytest.raises(Fault, match=r"no Ray cluster at .*\(RuntimeError: No\.\)"):
        open_executor(cluster.client_address).__enter__()


def test_signals_stop_a_driver_and_its_tasks(cluster, toy_package, tmp_path) -> None:
    """Exit codes are those without Ray, what is finished stays, and the same command goes on."""
    write_many_bags(tmp_path / "bags", BAGS)
    prepare = "prepare", "bags", "--executor", cluster.client_address, "--path"
    replay = "replay", "--executor", "ray", "--backend", "onnxruntime", "--model", toy_package
    for words, number, status in (
        (replay, signal.SIGINT, SIGNALLED + signal.SIGINT),
        (prepare, signal.SIGTERM, REQUEUE),
    ):
        out = tmp_path / words[0]
        command = *words, tmp_path / "bags", "--out", out
        stopped = Program(tmp_path / "stopped.log", *command)
        stopped.wait_until(lambda out=out: finished(out))
        stopped.signal(number)
        code, text = stopped.end()
        assert code == status and f"stopped by {number.name}" in text, text
        assert 0 < finished(out) < BAGS and "Traceback" not in text
        with open_executor("ray"):
            import ray

            wait_until(lambda: ray.available_resources().get("CPU") == 3, "idle nodes")
    code, text = Program(tmp_path / "again.log", *command).end()
    assert code == 0, text
    local = str(tmp_path / "local")
    assert main(["prepare", "bags", "--path", str(tmp_path / "bags"), "--out", local]) == 0
    assert contents(Path(local)) == contents(out)


def finished(out: Path) -> int:
    """Return how many bags are whole in a folder."""
    return len(list(out.glob("*/bag.json")))


def test_hosts_propose_labels_together(cluster, toy_package, tmp_path) -> None:
    write_many_bags(tmp_path / "bags", 2)
    propose = ["label", "propose", str(tmp_path / "bags"), "--model", str(toy_package)]
    propose += ["--backend", "onnxruntime", "--out"]
    assert main([*propose, str(tmp_path / "on_ray"), "--executor", "ray"]) == 0
    assert main([*propose, str(tmp_path / "here")]) == 0
    assert contents(tmp_path / "on_ray") == contents(tmp_path / "here") != {}


def test_a_lost_node_costs_only_its_task(cluster, toy_package, tmp_path, caplog) -> None:
    """The last one: afterwards the cluster has two nodes."""
    write_many_bags(tmp_path / "bags", BAGS)
    (notes := tmp_path / "notes").mkdir()
    killer = threading.Thread(target=kill_one, args=(cluster, notes))
    with open_executor("ray") as executor:
        assert executor.workers == 3
        killer.start()
        hanging = HangingExecutor(notes=notes)
        do(tmp_path / "bags", toy_package, tmp_path / "ray", hanging)
        killer.join()
        assert executor.workers == 2
        with (
            executor.pool(refusing) as pool,
            pytest.raises(Fault, match=f"5 on {os.uname().nodename}: no such task"),
        ):
            list(pool.map([5]))
    assert "its worker was lost" in caplog.text and "it is done again" in caplog.text
    do(tmp_path / "bags", toy_package, tmp_path / "local", SerialExecutor())
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def refusing():
    """Set up work that refuses all tasks."""

    def work(task: int) -> None:
        raise Fault("bad_task", "no such task")

    return work
