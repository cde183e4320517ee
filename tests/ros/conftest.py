"""A node in this process, for what needs no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers.ros_domain import isolate_dds


@pytest.fixture
def make_node(monkeypatch) -> Iterator[Any]:
    """Make a node that was started with arguments such as ``-p``; several are one after another."""
    rclpy = pytest.importorskip("rclpy", reason="needs ROS 2: pip install '.[ros]'")
    pytest.importorskip("vision_msgs", reason="needs vision_msgs: python interfaces/build.py")
    from lemumo_ros.node import PerceptionNode

    isolate_dds(monkeypatch)
    made: list[PerceptionNode] = []

    def close() -> None:
        for node in made:
            node.close()
            node.destroy_node()
        made.clear()
        rclpy.try_shutdown()

    def make(*arguments: str) -> PerceptionNode:
        close()
        rclpy.init(args=["--ros-args", *arguments])
        made.append(PerceptionNode())
        return made[0]

    yield make
    close()


@pytest.fixture
def configured_node(make_node, toy_package) -> Any:
    """A node that was configured with a model of a few operators."""
    node = make_node("-p", f"model:={toy_package}", "-p", "backend:=onnxruntime")
    assert node.start_by_itself()
    return node
