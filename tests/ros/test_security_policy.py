"""The SROS2 policy allows what the node really opens, and nothing besides."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.helpers.paths import ROOT

pytest.importorskip("rclpy", reason="needs ROS 2: pip install 'lemumo_ros[ros]'")

POLICY = ROOT / "config" / "sros2_policy.xml"
NOT_ALWAYS = {
    ("subscribe", "/clock"),  # with use_sim_time
    ("subscribe", "/parameter_events"),  # with use_sim_time
    ("subscribe", "/perception/input/image/compressed"),
    ("subscribe", "/perception/input/depth_image"),
    ("subscribe", "/perception/input/depth_image/compressedDepth"),
    ("subscribe", "/perception/input/depth_info"),
    ("subscribe", "/perception/input/thermal"),
    ("subscribe", "/perception/input/thermal_info"),
    ("publish", "/perception/output/occupancy"),  # with nav_msgs
    ("publish", "/perception/output/objects"),  # with autoware_perception_msgs
}


def allowed() -> set[tuple[str, str]]:
    """(what, name) of the policy."""
    rules = set()
    for group in ElementTree.parse(POLICY).getroot().iterfind(".//profile/*"):
        ((what, verdict),) = group.attrib.items()
        assert verdict == "ALLOW"
        rules |= {(what, entry.text.replace("~", "/perception")) for entry in group}
    return rules


def test_policy_is_the_list_of_what_the_node_opens(configured_node) -> None:
    node = configured_node
    of_node = (node.get_name(), node.get_namespace())
    opened = {("publish", n) for n, _ in node.get_publisher_names_and_types_by_node(*of_node)}
    opened |= {("subscribe", n) for n, _ in node.get_subscriber_names_and_types_by_node(*of_node)}
    opened |= {("reply", n) for n, _ in node.get_service_names_and_types_by_node(*of_node)}
    assert opened - allowed() == set()
    assert allowed() - opened - NOT_ALWAYS == set()
