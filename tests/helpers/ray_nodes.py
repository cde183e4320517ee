"""A Ray cluster of several nodes on this machine, and work that hangs on one of them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lemumo_core.executor.executor import RayExecutor
from lemumo_core.executor.pool import Pool
from lemumo_core.executor.worker import Setup
from tests.helpers.paths import ROOT

NODES = 3
BYTES = 80_000_000
"""Object store of a node; Ray takes no less."""
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}
QUICK |= {"health_check_timeout_ms": 3000, "health_check_failure_threshold": 3}


@contextmanager
def ray_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start nodes of one CPU each, which import what this process does; yield the cluster.

    Its ``client_address`` is that for ``ray://``.
    """
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="needs: pip install '.[ray]'")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S", "120")  # of a busy machine
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    node = {"num_cpus": 1, "object_store_memory": BYTES}
    cluster = cluster_utils.Cluster(
        initialize_head=True,
        head_node_args={
            **node,
            "include_dashboard": False,
            "ray_client_server_port": port,
            "_system_config": QUICK,
        },
    )
    try:
        for _ in range(NODES - 1):
            cluster.add_node(**node)
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        cluster.client_address = f"ray://127.0.0.1:{port}"
        yield cluster
    finally:
        cluster.shutdown()


@dataclass(frozen=True)
class Hanging:
    """Sets a worker up that works until ``victim`` names its node, and then hangs.

    It hangs after a task is done and before it is reported. Of what is begun, it leaves notes.
    """

    setup: Setup
    notes: Path

    def __call__(self) -> Callable[[Any], Any]:
        import ray

        node = ray.get_runtime_context().get_node_id()
        work = self.setup()

        def hang(task: Any) -> Any:
            (self.notes / node).touch()
            value = work(task)
            while len(list(self.notes.iterdir())) < NODES:  # all have begun
                time.sleep(0.02)
            victim = self.notes.with_suffix(".victim")
            while not victim.exists():
                time.sleep(0.02)
            if victim.read_text() == node:
                self.notes.with_suffix(".hangs").touch()
                time.sleep(3600)
            return value

        return hang


@dataclass(frozen=True)
class HangingExecutor(RayExecutor):
    """Makes such workers.

    Attributes:
        notes: folder for their notes.
    """

    notes: Path = Path()

    def pool(self, setup: Setup, one_thread: bool = False) -> Pool:
        """See ``Executor``."""
        return super().pool(Hanging(setup, self.notes), one_thread)
