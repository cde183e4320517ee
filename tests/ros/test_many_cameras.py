"""Three cameras and one LiDAR on a node in a process of its own, over DDS: one test file, one node.

``front`` and ``left`` send at 10 Hz, ``rear`` never sends anything.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: pip install '.[ros]'")
pytest.importorskip("onnx", reason="writing a model needs: pip install '.[train]'")

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    ListParameters,
    SetParametersAtomically,
)
from rclpy.parameter import Parameter, parameter_value_to_python
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray, LabelInfo

from lemumo_core.geometry.camera import Camera
from lemumo_core.messages.stamps import stamp_to_ns
from lemumo_ros.publish.rclpy_builder import build
from tests.helpers.node_process import NodeUnderTest
from tests.helpers.rig import HEIGHT, LATCHED, WIDTH, cloud, transform
from tests.helpers.ros_domain import isolate_dds
from tests.helpers.toy_package import write_toy_package
from tests.helpers.waiting import LIMIT_S

SENDING = ("front", "left")
NAMES = (*SENDING, "rear")
PERIOD_S = 0.1
SPEED_M_S = 2.0


class Robot:
    """Sends what the sensors of a robot that moves along x send, and hears the node."""

    def __init__(self, under_test: NodeUnderTest):
        self.under_test, self.node = under_test, under_test.node
        make = self.node.create_publisher
        prefix = "/lemumo/input"
        self.images = {name: make(Image, f"{prefix}/{name}/image", 5) for name in NAMES}
        self.infos = {name: make(CameraInfo, f"{prefix}/{name}/camera_info", 5) for name in NAMES}
        self.points = make(PointCloud2, "/lidar/points", 5)
        self.tf = make(TFMessage, "/tf", 10)
        self.tf_static = make(TFMessage, "/tf_static", LATCHED)
        self.heard: dict[str, list] = defaultdict(list)
        for name in NAMES:
            topic = f"/lemumo/output/{name}"
            self.node.create_subscription(
                Detection3DArray, f"{topic}/detections_3d", self.heard[name].append, 10
            )
            self.node.create_subscription(
                LabelInfo, f"{topic}/label_info", self.heard[f"{name}/label_info"].append, LATCHED
            )
        self.pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        self._due = 0.0

    def now_ns(self) -> int:
        return self.node.get_clock().now().nanoseconds

    def connect(self) -> None:
        publishers = [*self.images.values(), *self.infos.values(), self.points, self.tf]
        self.under_test.spin_until(lambda: all(p.get_subscription_count() for p in publishers))
        fixed = [transform("base", name) for name in (*NAMES, "lidar")]
        self.tf_static.publish(TFMessage(transforms=fixed))
        self.under_test.spin(0.5)

    def send(self) -> None:
        now_ns = self.now_ns()
        moved = transform("map", "base", SPEED_M_S * (now_ns % 10**12) / 1e9)
        moved.header.stamp = build.stamp(now_ns)
        self.tf.publish(TFMessage(transforms=[moved]))
        stamp_ns = now_ns - 20_000_000  # an image is a little older than the newest transform
        points = cloud(np.tile([0.0, 0.0, 5.0], (50, 1)))  # ahead of every camera
        points.header = build.header(stamp_ns, "lidar")
        self.points.publish(points)
        camera = Camera(WIDTH, HEIGHT, 100.0, 100.0, 95.5, 47.5)
        for name in SENDING:
            header = build.header(stamp_ns, name)
            self.infos[name].publish(build.camera_info(camera, header))
            self.images[name].publish(build.image(self.pixels, "rgb8", header))

    def run_until(self, condition, timeout_s: float = LIMIT_S) -> None:
        """Send at the rate until the condition holds."""

        def step():
            if time.monotonic() >= self._due:
                self._due = time.monotonic() + PERIOD_S
                self.send()
            return condition()

        self.under_test.spin_until(step, timeout_s, pause_s=0.01)

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.run_until(lambda: time.monotonic() > end, seconds + LIMIT_S)

    def call(self, kind, service: str, request):
        """Call a service of the node, sending all the while."""
        client = self.node.create_client(kind, f"/lemumo/{service}")
        assert client.wait_for_service(LIMIT_S)
        future = client.call_async(request)
        self.run_until(future.done)
        return future.result()

    def set(self, **values) -> str:
        """Set parameters together; why it was refused, empty where it was not."""
        messages = [
            Parameter(name, value=value).to_parameter_msg() for name, value in values.items()
        ]
        request = SetParametersAtomically.Request(parameters=messages)
        result = self.call(SetParametersAtomically, "set_parameters_atomically", request).result
        assert result.successful or result.reason
        return result.reason

    def change(self, transition: int) -> None:
        """Drive the lifecycle without sending."""
        client = self.node.create_client(ChangeState, "/lemumo/change_state")
        assert client.wait_for_service(LIMIT_S)
        future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
        rclpy.spin_until_future_complete(self.node, future, timeout_sec=LIMIT_S)
        assert future.result().success

    def status(self, name: str) -> dict[str, str]:
        return self.under_test.statuses.get(f"lemumo: {name}", (0, "", {}))[2]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("models")
    models = {name: write_toy_package(folder / name, name) for name in ("first", "second")}
    models["thermal"] = write_toy_package(folder / "thermal", "thermal", "thermal")
    models["damaged"] = folder / "damaged"
    shutil.copytree(models["second"], models["damaged"])
    (models["damaged"] / "model.onnx").write_bytes(b"no network")
    return models


@pytest.fixture(scope="module")
def robot(models, tmp_path_factory):
    log = tmp_path_factory.mktemp("node") / "node.log"
    with pytest.MonkeyPatch.context() as monkeypatch:
        isolate_dds(monkeypatch)
        node = NodeUnderTest(
            log,
            model=models["first"],
            backend="onnxruntime",
            score_threshold=0.3,
            cameras="[front, left, rear]",
            output_frame="map",
            companion_deadline_ms=60.0,
        )
        robot = Robot(node)
        robot.connect()
        yield robot
        assert node.close() == 0, log.read_text()


@pytest.mark.fault(1)
def test_each_camera_has_its_outputs_and_a_dead_one_delays_nobody(robot) -> None:
    robot.run_until(lambda: all(len(robot.heard[name]) > 30 for name in SENDING))
    assert "3 frames in one inference" in robot.under_test.log.read_text()
    assert not robot.heard["rear"]
    for name in SENDING:
        message = robot.heard[name][-1]
        assert message.header.frame_id == "map"
        found = [(d.results[0].hypothesis.class_id, d.bbox.size.x) for d in message.detections]
        assert found == [("car", pytest.approx(4.0)), ("cyclist", pytest.approx(4.0))]
        assert robot.heard[f"{name}/label_info"][0].class_map[0].class_name == "road"
    robot.run_until(lambda: int(robot.status("front").get("modalities/camera+lidar", 0)) > 20)
    assert robot.status("rear")["frames_in"] == "0"
    assert robot.under_test.statuses["lemumo: rear"][0] != 0  # not OK: it says so


def test_boxes_are_where_the_robot_was_when_the_image_was_taken(robot) -> None:
    """/tf comes every 100 ms, the image lies 20 ms before: 40 mm are between them."""
    robot.run_until(lambda: robot.heard["left"])
    message = robot.heard["left"][-1]
    stamp_s = stamp_to_ns(message.header.stamp) % 10**12 / 1e9
    x = message.detections[0].bbox.center.position.x
    assert x - 2.0 == pytest.approx(SPEED_M_S * stamp_s, abs=2e-3)


@pytest.mark.fault(16)
def test_thresholds_are_live_and_all_or_none_of_a_request_counts(robot) -> None:
    def count_is(number: int) -> bool:
        return bool(robot.heard["front"]) and len(robot.heard["front"][-1].detections) == number

    assert robot.set(score_threshold=0.7) == ""
    robot.run_until(lambda: count_is(1))
    robot.run_until(lambda: robot.heard["front/label_info"][-1].threshold == pytest.approx(0.7))
    for refused, words in (
        ({"score_threshold": 0.1, "max_age_ms": -5.0}, "max_age_ms"),
        ({"score_threshold": 0.1, "cameras": ["front"]}, "clean up the node first"),
        ({"score_threshold": 0.1, "publish_depth_as": "8UC1"}, "publish_depth_as is '8UC1'"),
        ({"score_threshold": float("nan")}, "score_threshold"),
        ({"front.image_transport": "compressed"}, "clean up the node first"),
    ):
        assert words in robot.set(**refused)
    robot.run(0.5)
    assert count_is(1)
    assert robot.set(**{"score_threshold": 0.3, "front.companion_offset": 0.005}) == ""
    robot.run_until(lambda: count_is(2))
    request = DescribeParameters.Request(names=["score_threshold", "front.extrinsics"])
    for described in robot.call(DescribeParameters, "describe_parameters", request).descriptors:
        assert "takes effect" in described.description and described.type


def test_every_parameter_has_a_value(robot) -> None:
    """One without would leave the answer, and with it `ros2 param dump`, empty."""
    names = robot.call(ListParameters, "list_parameters", ListParameters.Request()).result.names
    assert {"front.extrinsics", "cameras", "thermal_window"} <= set(names)
    request = GetParameters.Request(names=names)
    values = robot.call(GetParameters, "get_parameters", request).values
    assert len(values) == len(names) and all(value.type for value in values)


def test_a_model_is_swapped_while_frames_go_on(robot, models) -> None:
    assert robot.set(model=str(models["second"])) == ""
    answer = robot.call(Trigger, "load_model", Trigger.Request())
    assert answer.success and "second" in answer.message
    robot.run_until(lambda: robot.status("engine").get("model") == "second")
    before = len(robot.heard["front"])
    robot.run_until(lambda: len(robot.heard["front"]) > before + 3)


@pytest.mark.fault(15)
@pytest.mark.parametrize(
    ("name", "words"), [("damaged", "sha256"), ("missing", "no manifest"), ("thermal", "thermal")]
)
def test_a_model_that_does_not_load_leaves_the_old_one(robot, models, name, words) -> None:
    assert robot.set(model=str(models.get(name, "/missing"))) == ""
    answer = robot.call(Trigger, "load_model", Trigger.Request())
    assert not answer.success
    assert "was kept" in answer.message and words in answer.message
    before = len(robot.heard["front"])
    robot.run_until(lambda: len(robot.heard["front"]) > before + 3)
    assert robot.status("engine")["model"] == "second"
    values = robot.call(GetParameters, "get_parameters", GetParameters.Request(names=["model"]))
    assert parameter_value_to_python(values.values[0]) == str(models["second"])


def test_activation_does_not_load_the_model_again(robot) -> None:
    def loads() -> int:
        return robot.under_test.log.read_text().count("in one inference")

    before = loads()
    assert before
    for _ in range(5):
        robot.change(Transition.TRANSITION_DEACTIVATE)
        robot.change(Transition.TRANSITION_ACTIVATE)
    assert loads() == before
    before = len(robot.heard["left"])
    robot.run_until(lambda: len(robot.heard["left"]) > before)


def test_nothing_is_inferred_for_nobody(robot) -> None:
    """rear has sent nothing; front's listeners go, and with them its work."""
    topic = "/lemumo/output/front/detections_3d"
    (subscription,) = (s for s in robot.node.subscriptions if s.topic_name == topic)
    robot.node.destroy_subscription(subscription)
    robot.run_until(lambda: int(robot.status("front").get("drops/unwatched", 0)) > 5)
    out = robot.status("front")["frames_out"]
    robot.run(2.5)
    assert robot.status("front")["frames_out"] == out
    assert int(robot.status("left")["frames_out"]) > 0
