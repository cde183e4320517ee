"""Nodes under test, each serving the rows of one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: pip install '.[ros]'")
from tests.helpers.node_process import NODE, NodeUnderTest
from tests.helpers.paths import ROOT
from tests.helpers.rig import Rig
from tests.helpers.ros_domain import isolate_dds

IDENTITY = [float(i % 5 == 0) for i in range(16)]
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


@pytest.fixture(scope="module")
def fault(tmp_path_factory) -> Path:
    """What this file holds happens in the engine of a node of ``launch_faulty``."""
    path = tmp_path_factory.mktemp("fault") / "fault"
    path.write_text("")
    return path


@pytest.fixture(scope="module")
def launch_faulty(launch, fault) -> Callable[..., Rig]:
    """Starts such a node, in a rig, with the sensors in one place."""
    program = [str(ROOT / "tests" / "helpers" / "faulty_node.py")]

    def start(**parameters) -> Rig:
        environment = {"LEMUMO_FAULT": str(fault)}
        return Rig(launch(program, environment, extrinsics=IDENTITY, **parameters))

    return start


@pytest.fixture
def nothing_bad(rig: Rig) -> Iterator[None]:
    """No set that was sent as a bad one may have been answered."""
    yield
    assert not rig.published_bad()
