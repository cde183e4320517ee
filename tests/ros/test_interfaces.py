"""Our message definitions are the official ones on the wire: same hashes, same values back."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.ros_domain import isolate_dds

INTERFACES = ROOT / "interfaces"
VISION_MSGS = {
    "BoundingBox2D": "008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f",
    "BoundingBox2DArray": "2464e82838009386d371b523211c21c91d74d313fcdd6788223c531d621cf691",
    "BoundingBox3D": "bbb73a65c163d7f9bb29009c7bde9f7faa576bd2d23299c4511d19230dab4698",
    "BoundingBox3DArray": "a81938db9576b10c2eecd7c5a5da3eac496efd00221b25ed051dfbc81fb56da6",
    "Classification": "f74db28d0eaef3afb78f48bf2161cd709a1383a0309d3454383b25be11345143",
    "Detection2D": "0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea",
    "Detection2DArray": "214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
    "Detection3D": "ddd703be132ab0b69d33121f1bb034132bfbb3b0ac5f9fb1516005ba1c8a265b",
    "Detection3DArray": "793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018",
    "LabelInfo": "3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783",
    "ObjectHypothesis": "51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90",
    "ObjectHypothesisWithPose": "41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc",
    "Point2D": "eab0e83f44ab4de92ceaf76dd7d0e7638f2bdd1d16ffbe16c7a136c48e407247",
    "Pose2D": "b0b5d1d7b4c20dd4fcde3ed1d4b289a919290572007d67a97043814db25d3648",
    "VisionClass": "1e4a11f0fed50b5623cb8ff26ca0e37952a48a9c074d16f804b44e9164c2037a",
    "VisionInfo": "95d3116a17484ad91c9a2686e1d54890bbfc3ff6c6a2de137738c4950d45d284",
}
TF2_MSGS = {
    "TF2Error": "db2485e7d6a0ec75bf087e058ee45df682acc3a621ca7780503d10aac141809a",
    "TFMessage": "e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087",
}
SENSORS = {
    "ffmpeg_image_transport_msgs/msg/FFMPEGPacket": (
        "648d84e0d33cbf76daf54b094d8f06154b8a24800a19c14371754df799fbaf79"
    ),
    "foxglove_msgs/msg/CompressedVideo": (
        "32039eafc3770e589c86c4dabff9c392ce9955ebffd43f5f60763011d43d8d1d"
    ),
    "livox_ros_driver2/msg/CustomMsg": (
        "2eb17e5e35bf5a2d6cd079f3c57f33abf95e5bf7d71b42cddc05daace73d815a"
    ),
    "livox_ros_driver2/msg/CustomPoint": (
        "3289ac5e30c215e055e9b48fe0df5c2fb916abbb0c3a75315071bb7d735067f5"
    ),
    "point_cloud_interfaces/msg/CompressedPointCloud2": (
        "4b38df4932a156a54c53e80a7f34e54e2966b20e54a4d14ded34a165a389c0c1"
    ),
}
"""Of these no official values were at hand: rosbags and rosidl agree on them."""
OFFICIAL = {
    **{f"vision_msgs/msg/{name}": digest for name, digest in VISION_MSGS.items()},
    **{f"tf2_msgs/msg/{name}": digest for name, digest in TF2_MSGS.items()},
}
"""RIHS01 of each type, as the official packages have it."""

needs_ros = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("rclpy", "vision_msgs", "tf2_msgs")),
    reason="rclpy, vision_msgs or tf2_msgs is not installed; make setup",
)


@pytest.fixture(scope="module")
def build():
    """The builder, loaded from its file."""
    spec = importlib.util.spec_from_file_location("lemumo_build", INTERFACES / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def definitions() -> dict[str, str]:
    """Text of every definition, by type name."""
    paths = sorted(INTERFACES.glob("*/msg/*.msg"))
    return {f"{path.parts[-3]}/msg/{path.stem}": path.read_text() for path in paths}


def test_every_type_and_no_other_is_defined() -> None:
    assert definitions().keys() == OFFICIAL.keys() | SENSORS.keys()


def test_definitions_have_the_official_hashes() -> None:
    typesys = pytest.importorskip("rosbags.typesys")
    store = typesys.get_typestore(typesys.Stores.ROS2_KILTED)
    for name, text in definitions().items():
        store.fielddefs.pop(name, None)  # so that ours counts, not the library's own
        store.register(typesys.get_types_from_msg(text, name))
    expected = OFFICIAL | SENSORS
    assert {n: store.hash_rihs01(n).removeprefix("RIHS01_") for n in expected} == expected


def test_bags_without_definitions_are_read_by_the_same() -> None:
    """Those of Humble in sqlite3."""
    types = pytest.importorskip("lemumo_core.bags.types")
    store = types.sensor_typestore()
    assert {n: store.hash_rihs01(n).removeprefix("RIHS01_") for n in SENSORS} == SENSORS


PUBLISH = """
import importlib, sys, rclpy
rclpy.init()
node = rclpy.create_node("holder")
kept = []
for name in sys.argv[1:]:
    package, _, kind = name.split("/")
    message = getattr(importlib.import_module(package + ".msg"), kind)
    kept.append(node.create_publisher(message, "/hash/" + name, 1))
print("ready", flush=True)
sys.stdin.read()
"""
LISTEN = """
import json, sys, time, rclpy
rclpy.init()
node = rclpy.create_node("reader")
found, end = {}, time.monotonic() + 90
while len(found) < len(sys.argv) - 1 and time.monotonic() < end:
    for name in sys.argv[1:]:
        for info in node.get_publishers_info_by_topic("/hash/" + name):
            found[name] = [info.topic_type, bytes(info.topic_type_hash.value).hex()]
    time.sleep(0.1)
print(json.dumps(found))
"""


@needs_ros
@pytest.mark.ros
def test_another_process_sees_the_official_hashes(monkeypatch) -> None:
    """A publisher of every type in one process, the hashes it announces read in another."""
    if os.environ.get("ROS_DISTRO") == "humble":
        pytest.skip("Humble announces no type hashes")
    isolate_dds(monkeypatch)
    pipe = {"stdout": subprocess.PIPE, "text": True}
    publisher = subprocess.Popen(
        [sys.executable, "-c", PUBLISH, *OFFICIAL], stdin=subprocess.PIPE, **pipe
    )
    try:
        assert publisher.stdout.readline().strip() == "ready"
        reader = subprocess.run([sys.executable, "-c", LISTEN, *OFFICIAL], check=True, **pipe)
    finally:
        publisher.communicate()
    assert json.loads(reader.stdout) == {name: [name, digest] for name, digest in OFFICIAL.items()}


@needs_ros
@pytest.mark.parametrize("name", OFFICIAL)
def test_the_installed_package_has_our_fields(name: str) -> None:
    """Same fields, in the same order, as the definitions here; also where apt provides them."""
    package, _, kind = name.split("/")
    message = getattr(importlib.import_module(f"{package}.msg"), kind)
    lines = [line.split("#")[0].split() for line in definitions()[name].splitlines()]
    fields = [line[1] for line in lines if len(line) == 2]
    constants = {line[1]: int(line[3]) for line in lines if len(line) == 4}
    assert list(message.get_fields_and_field_types()) == fields
    assert {key: getattr(message, key) for key in constants} == constants


@needs_ros
def test_detections_survive_serialization() -> None:
    from rclpy.serialization import deserialize_message, serialize_message
    from vision_msgs.msg import (
        BoundingBox3D,
        Detection3D,
        Detection3DArray,
        ObjectHypothesis,
        ObjectHypothesisWithPose,
    )

    box = BoundingBox3D()
    box.center.position.x, box.center.orientation.w = 12.5, 0.25
    box.size.x, box.size.y, box.size.z = 4.5, 1.75, 1.5
    result = ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id="car", score=0.875))
    result.pose.covariance[35] = 0.125
    sent = Detection3DArray(detections=[Detection3D(bbox=box, results=[result], id="é7")])
    sent.header.frame_id = "camera_optical"
    sent.header.stamp.sec, sent.header.stamp.nanosec = 1_700_000_000, 999_999_999
    received = deserialize_message(serialize_message(sent), Detection3DArray)
    assert received == sent
    assert received.detections[0].results[0].hypothesis.class_id == "car"


@needs_ros
def test_transforms_survive_serialization() -> None:
    from geometry_msgs.msg import TransformStamped
    from rclpy.serialization import deserialize_message, serialize_message
    from tf2_msgs.msg import TFMessage

    one = TransformStamped(child_frame_id="lidar")
    one.header.frame_id = "base_link"
    one.transform.translation.z, one.transform.rotation.w = 1.875, 1.0
    sent = TFMessage(transforms=[one, one])
    assert deserialize_message(serialize_message(sent), TFMessage) == sent


def test_builder_leaves_a_foreign_package_alone(build, tmp_path, monkeypatch, capsys) -> None:
    for name in build.message_packages():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(build, "build", lambda package: pytest.fail(f"built {package}"))
    assert build.main([]) == 0
    assert capsys.readouterr().out.count("provided by") == 2


def test_builder_builds_what_changed_or_is_absent(build, tmp_path, monkeypatch) -> None:
    package = tmp_path / "vision_msgs"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "vision_msgs", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    (package / build.STAMP).write_text(build.content_hash("vision_msgs"))
    assert build.state("vision_msgs") == "current"
    (package / build.STAMP).write_text("older")
    assert build.state("vision_msgs") == "stale"
    assert build.state("no_such_msgs") == "missing"


def test_builder_says_what_to_install(build, monkeypatch, capsys) -> None:
    monkeypatch.setattr(build, "state", lambda package: "missing")
    monkeypatch.setattr(build.sys, "prefix", "/somewhere")
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    monkeypatch.setattr(build.shutil, "which", lambda tool: None)
    assert build.main([]) == 1
    assert "apt install gcc g++" in capsys.readouterr().err
    monkeypatch.setattr(build.shutil, "which", lambda tool: tool)
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    assert build.main([]) == 1
    assert "pip install '.[ros]'" in capsys.readouterr().err
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    assert build.main([]) == 1
    assert "ros-jazzy-vision-msgs" in capsys.readouterr().err
