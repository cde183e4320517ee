"""The node in a process of its own, fed over real DDS, good input and bad."""

from __future__ import annotations

import copy

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: pip install 'lemumo_ros[ros]'")

import rclpy
from geometry_msgs.msg import TransformStamped
from node_process import INPUTS, NodeUnderTest, isolate_dds
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from tf2_msgs.msg import TFMessage

from lemumo_core.data.sources.registry import open_source
from lemumo_core.geometry.camera import Camera
from lemumo_core.taxonomy import DETECTION_CLASSES
from lemumo_ros import convert_out
from lemumo_ros.bag_writer import write_bag

WIDTH, HEIGHT = 192, 96


@pytest.fixture
def start(tmp_path, monkeypatch, tiny_package):
    """Start a node; it is stopped, and must stop cleanly, at the end."""
    isolate_dds(monkeypatch)
    nodes = []

    def starter(**parameters):
        values = {"model": tiny_package, "score_threshold": 0.05, "companion_deadline_ms": 200.0}
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
    assert len(set(stamps["depth"])) == 8
    assert all(s == stamps["depth"] for s in stamps.values())
    depth, labels = node.messages["depth"][0], node.messages["labels"][0]
    assert (depth.encoding, depth.height, depth.width) == ("32FC1", 16, 24)
    assert (labels.encoding, labels.height, labels.width) == ("mono8", 16, 24)
    detections = node.messages["detections_3d"][0].detections
    assert detections[0].results[0].hypothesis.class_id in DETECTION_CLASSES


class Sensors:
    """Good messages of a camera and a LiDAR, and publishers for them."""

    def __init__(self, under_test: NodeUnderTest):
        self.under_test, node = under_test, under_test.node
        self.clock = node.get_clock()
        kinds = {"image": Image, "camera_info": CameraInfo, "points": PointCloud2}
        self.publishers = {
            name: node.create_publisher(kind, INPUTS[name], 10) for name, kind in kinds.items()
        }
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.tf = node.create_publisher(TFMessage, "/tf_static", latched)
        under_test.spin_until(
            lambda: all(p.get_subscription_count() for p in self.publishers.values())
        )
        under_test.spin(0.5)  # the subscriptions may yet have to learn of the publishers

    def publish_transform(self) -> None:
        transform = TransformStamped()
        transform.header.frame_id, transform.child_frame_id = "camera", "lidar"
        transform.transform.rotation.w = 1.0
        self.tf.publish(TFMessage(transforms=[transform]))
        self.under_test.spin(0.2)

    def messages(self) -> dict:
        stamp_ns = self.clock.now().nanoseconds
        header = convert_out.header(stamp_ns, "camera")
        camera = Camera(WIDTH, HEIGHT, 100.0, 100.0, 95.5, 47.5)
        points = np.random.default_rng(0).uniform(1, 20, (50, 3)).astype(np.float32)
        cloud = PointCloud2(header=convert_out.header(stamp_ns, "lidar"))
        cloud.height, cloud.width, cloud.point_step, cloud.row_step = 1, 50, 12, 600
        cloud.fields = [
            PointField(name=n, offset=4 * i, datatype=PointField.FLOAT32, count=1)
            for i, n in enumerate("xyz")
        ]
        convert_out.fill(cloud, points)
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        return {
            "image": convert_out.image(pixels, "rgb8", header),
            "camera_info": convert_out.camera_info(camera, header),
            "points": cloud,
        }

    def send(self, change=None) -> None:
        """Publish one set, changed by ``change(messages)``; the image goes last."""
        messages = copy.deepcopy(self.messages())
        if change:
            change(messages)
        for name in ("camera_info", "points", "image"):
            if messages.get(name) is not None:
                self.publishers[name].publish(messages[name])
                self.under_test.spin(0.05)


BAD_INPUT = {
    "short cloud": ("bad_point_cloud", lambda m: setattr(m["points"], "width", 51)),
    "cloud without z": ("bad_point_cloud", lambda m: m["points"].fields.pop()),
    "unknown datatype": (
        "bad_point_cloud",
        lambda m: setattr(m["points"].fields[0], "datatype", 99),
    ),
    "wrong step": ("bad_image", lambda m: setattr(m["image"], "step", 5)),
    "unknown encoding": (
        "unsupported_encoding",
        lambda m: setattr(m["image"], "encoding", "martian16"),
    ),
    "zero K": ("bad_camera", lambda m: setattr(m["camera_info"], "k", np.zeros(9))),
    "info of another size": (
        "camera_info_mismatch",
        lambda m: setattr(m["camera_info"], "width", 100),
    ),
    "old stamp": ("too_old", lambda m: setattr(m["image"].header.stamp, "sec", 5)),
}


def test_bad_input_is_counted_by_name_and_never_published(start) -> None:
    node = start()
    sensors = Sensors(node)

    def drops(reason: str) -> int:
        return int(node.values.get(f"drops/{reason}", 0))

    sensors.send()
    node.spin_until(lambda: drops("missing_transform") == 1)
    assert not node.messages["depth"]
    sensors.publish_transform()
    for name, (reason, change) in BAD_INPUT.items():
        before = drops(reason)
        sensors.send(change)
        node.spin_until(lambda r=reason, b=before: drops(r) == b + 1)
        assert not node.messages["depth"], name
    sensors.send()  # and it recovers at once
    node.spin_until(lambda: len(node.messages["depth"]) == 1)
    node.spin_until(lambda: node.values.get("modalities/camera+lidar") == "1")
    sensors.send(lambda m: m.update(points=None))
    node.spin_until(lambda: node.values.get("modalities/camera") == "1")


def test_extrinsics_can_be_a_parameter(start) -> None:
    identity = [float(i % 5 == 0) for i in range(16)]
    node = start(extrinsics=identity)
    Sensors(node).send()
    node.spin_until(lambda: node.values.get("modalities/camera+lidar") == "1")
    assert not [key for key in node.values if key.startswith("drops/")]


def test_the_lifecycle_can_be_driven_from_outside(start) -> None:
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    node = start(autostart="false")
    client = node.node.create_client(ChangeState, "/lemumo/change_state")
    assert client.wait_for_service(20.0)

    def change(transition: int) -> bool:
        future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
        rclpy.spin_until_future_complete(node.node, future, timeout_sec=20.0)
        return future.result().success

    for _ in range(2):
        assert change(Transition.TRANSITION_CONFIGURE)
        assert change(Transition.TRANSITION_ACTIVATE)
        assert change(Transition.TRANSITION_DEACTIVATE)
        assert change(Transition.TRANSITION_CLEANUP)


def test_a_damaged_package_keeps_the_node_unconfigured(start, tiny_package, tmp_path) -> None:
    import shutil

    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_package, damaged)
    data = bytearray((damaged / "model.onnx").read_bytes())
    data[100] ^= 1
    (damaged / "model.onnx").write_bytes(data)
    node = start(model=damaged)
    node.spin_until(lambda: "cannot configure" in node.log.read_text())
    assert "sha256" in node.log.read_text()
    node.spin(1.0)
    assert node.process.poll() is None
