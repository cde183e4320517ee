"""The SROS2 policy allows what the node really opens, and nothing besides."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.waiting import wait_until

pytest.importorskip("rclpy", reason="needs ROS 2: pip install '.[ros]'")

POLICY = ROOT / "config" / "sros2_policy.xml"
NOT_ALWAYS = {
    ("subscribe", "/clock"),  # with use_sim_time
    ("subscribe", "/parameter_events"),  # with use_sim_time
    ("subscribe", "/perception/input/image/compressed"),
    ("subscribe", "/perception/input/image/ffmpeg"),
    ("subscribe", "/perception/input/image/foxglove"),
    ("subscribe", "/perception/input/points/draco"),
    ("subscribe", "/perception/input/points/zlib"),
    ("subscribe", "/perception/input/points/zstd"),
    ("subscribe", "/perception/input/depth_image"),
    ("subscribe", "/perception/input/depth_image/compressedDepth"),
    ("subscribe", "/perception/input/depth_info"),
    ("subscribe", "/perception/input/thermal"),
    ("subscribe", "/perception/input/thermal_info"),
    ("publish", "/perception/output/occupancy"),  # with nav_msgs
    ("publish", "/perception/output/objects"),  # with autoware_perception_msgs
    ("publish", "/perception/output/tracked_objects"),  # likewise, with tracking
}


def allowed() -> set[tuple[str, str]]:
    """(what, name) of the policy."""
    rules = set()
    for group in ElementTree.parse(POLICY).getroot().iterfind(".//profile/*"):
        ((what, verdict),) = group.attrib.items()
        assert verdict == "ALLOW"
        rules |= {(what, entry.text.replace("~", "/perception")) for entry in group}
    return rules


def opened(node: Any) -> set[tuple[str, str]]:
    """(what, name) of what the graph says that a node has opened."""
    of_node = (node.get_name(), node.get_namespace())
    found = {("publish", n) for n, _ in node.get_publisher_names_and_types_by_node(*of_node)}
    found |= {("subscribe", n) for n, _ in node.get_subscriber_names_and_types_by_node(*of_node)}
    return found | {("reply", n) for n, _ in node.get_service_names_and_types_by_node(*of_node)}


def test_policy_is_the_list_of_what_the_node_opens(configured_node) -> None:
    always = allowed() - NOT_ALWAYS
    wait_until(lambda: always <= opened(configured_node), "the graph to show all of the node")
    assert opened(configured_node) <= allowed()
