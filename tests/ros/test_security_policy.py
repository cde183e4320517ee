"""The SROS2 policy allows what the node really opens, and nothing besides."""

from __future__ import annotations

import contextlib
import os
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


NAME = f"policy_{os.getpid()}"
"""The graph is asked by name: another ``perception`` on this machine may answer for ours."""


def allowed() -> set[tuple[str, str]]:
    """(what, name) of the policy."""
    rules = set()
    for group in ElementTree.parse(POLICY).getroot().iterfind(".//profile/*"):
        ((what, verdict),) = group.attrib.items()
        assert verdict == "ALLOW"
        rules |= {(what, entry.text.replace("~", "/perception")) for entry in group}
    return rules


def opened(node: Any) -> set[tuple[str, str]]:
    """(what, name) of what the graph says that a node has opened, as if it were ``perception``."""
    of_node = (node.get_name(), node.get_namespace())
    found = {("publish", n) for n, _ in node.get_publisher_names_and_types_by_node(*of_node)}
    found |= {("subscribe", n) for n, _ in node.get_subscriber_names_and_types_by_node(*of_node)}
    found |= {("reply", n) for n, _ in node.get_service_names_and_types_by_node(*of_node)}
    return {(what, name.replace(f"/{NAME}/", "/perception/")) for what, name in found}


def test_policy_is_the_list_of_what_the_node_opens(make_node, toy_package) -> None:
    options = ("-p", f"model:={toy_package}", "-p", "backend:=onnxruntime")
    node = make_node("-r", f"__node:={NAME}", *options)
    assert node.start_by_itself()
    always = allowed() - NOT_ALWAYS
    with contextlib.suppress(AssertionError):  # the next line says what is not there
        wait_until(lambda: always <= opened(node))
    assert always - opened(node) == set()
    assert opened(node) <= allowed()
