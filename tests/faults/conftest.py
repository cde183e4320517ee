"""Nodes under test, each serving the rows of one file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: pip install 'lemumo_ros[ros]'")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ros"))

from node_process import NODE, NodeUnderTest, isolate_dds
from rig import Rig

SETTINGS = {"backend": "onnxruntime", "score_threshold": 0.05, "companion_deadline_ms": 100.0}


@pytest.fixture(scope="module")
def launch(toy_package, tmp_path_factory) -> Iterator:
    """Starts a node process; at the end of the file it must stop cleanly."""
    nodes = []

    def start(program=NODE, environment=None, **parameters) -> NodeUnderTest:
        log = tmp_path_factory.mktemp("node") / "node.log"
        values = {"model": toy_package, **SETTINGS, **parameters}
        nodes.append(NodeUnderTest(log, program, environment, **values))
        return nodes[-1]

    with pytest.MonkeyPatch.context() as monkeypatch:
        isolate_dds(monkeypatch)
        yield start
        for node in nodes:
            assert node.close() == 0, node.log.read_text()


@pytest.fixture
def nothing_bad(rig: Rig) -> Iterator[None]:
    """No set that was sent as a bad one may have been answered."""
    yield
    assert not rig.published_bad()
