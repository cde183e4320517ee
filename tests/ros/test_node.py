"""The node in a process of its own over real DDS, as it should be; tests/faults/ has the rest."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: pip install '.[ros]'")

import rclpy
import yaml

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.writer import write_bag
from lemumo_core.data.sources.registry import open_source
from lemumo_core.taxonomy import DETECTION_CLASSES
from tests.helpers.bag_tools import copy_topic, rewrite, without
from tests.helpers.node_process import NodeUnderTest
from tests.helpers.rig import Rig
from tests.helpers.ros_domain import isolate_dds
from tests.helpers.small_frames import small_frames
from tests.helpers.waiting import LIMIT_S


@pytest.fixture
def start(tmp_path, monkeypatch, toy_package):
    """Start a node; it is stopped, and must stop cleanly, at the end."""
    isolate_dds(monkeypatch)
    nodes = []

    def starter(**parameters):
        values = {"model": toy_package, "score_threshold": 0.05, "companion_deadline_ms": 200.0}
        nodes.append(NodeUnderTest(tmp_path / "node.log", **(values | parameters)))
        return nodes[-1]

    yield starter
    for node in nodes:
        assert node.close() == 0, node.log.read_text()


def test_a_bag_played_over_dds_gives_every_output_for_every_frame(start, tmp_path) -> None:
    bag = tmp_path / "bag"
    write_bag(open_source("synthetic", seed=0, frames=8), bag)
    node = start(use_sim_time="true")
    node.spin_until(lambda: "model" in node.values)
    node.play(bag, rate=0.4)
    node.spin_until(lambda: node.values.get("frames_out") == "8")
    node.spin_until(lambda: all(len(node.messages[name]) == 8 for name in node.messages))
    assert node.values["frames_in"] == "8"
    assert node.values["modalities/camera+lidar"] == "8"
    assert not [key for key in node.values if key.startswith("drops/")]
    stamps = {
        name: [(m.header.stamp.sec, m.header.stamp.nanosec) for m in messages]
        for name, messages in node.messages.items()
        if name != "markers"
    }
    assert len(set(stamps["depth/image_raw"])) == 8
    assert all(s == stamps["depth/image_raw"] for s in stamps.values())
    depth, labels = node.messages["depth/image_raw"][0], node.messages["labels"][0]
    assert (depth.encoding, depth.height, depth.width) == ("32FC1", 16, 24)
    assert (labels.encoding, labels.height, labels.width) == ("mono8", 16, 24)
    detections = node.messages["detections_3d"][0].detections
    assert detections[0].results[0].hypothesis.class_id in DETECTION_CLASSES


def test_extrinsics_can_be_a_parameter(start) -> None:
    identity = [float(i % 5 == 0) for i in range(16)]
    node = start(extrinsics=identity)
    rig = Rig(node)
    rig.connect()
    rig.run_until(lambda: "modalities/camera+lidar" in node.values)
    assert "drops/missing_transform" not in node.values


def test_a_start_that_failed_is_tried_again_where_that_is_asked(
    start, toy_package, tmp_path
) -> None:
    model = tmp_path / "copied_later"
    node = start(model=model, autostart_retry_s=0.2)
    node.spin_until(lambda: "copied_later" in node.statuses.get("lemumo: engine", (0, ""))[1])
    model.symlink_to(toy_package)
    node.spin_until(lambda: node.values.get("lifecycle") == "active")


def test_the_lifecycle_can_be_driven_from_outside(start) -> None:
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    node = start(autostart="false")
    client = node.node.create_client(ChangeState, "/lemumo/change_state")
    assert client.wait_for_service(LIMIT_S)

    def change(transition: int) -> bool:
        future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
        rclpy.spin_until_future_complete(node.node, future, timeout_sec=LIMIT_S)
        return future.result().success

    for _ in range(2):
        assert change(Transition.TRANSITION_CONFIGURE)
        assert change(Transition.TRANSITION_ACTIVATE)
        assert change(Transition.TRANSITION_DEACTIVATE)
        assert change(Transition.TRANSITION_CLEANUP)


def test_video_and_several_lidars_over_dds(start, tmp_path) -> None:
    """Each image of a video gives a result of both LiDARs; the calibration comes from a file."""
    pytest.importorskip("av", reason="video needs: pip install '.[video]'")
    line = "needs: python interfaces/build.py foxglove_msgs"
    pytest.importorskip("foxglove_msgs", reason=line)
    bag, file = tmp_path / "bag", tmp_path / "front.yaml"
    write_bag(small_frames(4), tmp_path / "one", video="h264")
    with BagReader(tmp_path / "one") as reader:
        info = reader.first("/camera/camera_info")
    content = {"image_width": info.width, "image_height": info.height}
    content |= {"camera_matrix": info.k.tolist(), "distortion_coefficients": info.d.tolist()}
    file.write_text(yaml.safe_dump(content))
    bare = rewrite(tmp_path / "one", tmp_path / "bare", without("/camera/camera_info"))
    copy_topic(bare, bag, "/lidar/points", "/rear/points")
    node = start(
        use_sim_time="true",
        image_transport="foxglove",
        lidars="[top, rear]",
        camera_info_url=f"file://{file}",
        companion_deadline_ms=10000.0,
    )
    node.spin_until(lambda: "model" in node.values)
    node.play(bag, rate=0.4)
    node.spin_until(lambda: node.values.get("frames_out") == "4")
    assert node.values["modalities/camera+lidar"] == "4"
    assert (node.values["received/top"], node.values["received/rear"]) == ("4", "4")
    assert not [key for key in node.values if key.startswith("drops/")]
