"""The dense point cloud, and detections as Autoware takes them."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: pip install '.[ros]'")

from geometry_msgs.msg import PoseWithCovariance, TwistWithCovariance, Vector3

from lemumo_core.frame import NO_TRACK, Detections, Frame, Tracks
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T
from lemumo_core.messages.points import points_to_array
from lemumo_core.streaming.points import colored_points
from lemumo_ros.publish import autoware as autoware_out
from lemumo_ros.publish.rate_limit import RateLimit
from lemumo_ros.publish.rclpy_builder import build

HEADER = build.header(1_500_000_000, "camera")
FISHEYE = Camera(64, 48, 30.0, 31.0, 31.0, 24.0, "equidistant", (0.01, -0.002, 0.0, 0.0))


@pytest.mark.parametrize("camera", [Camera(64, 48, 50.0, 52.0, 31.0, 24.0), FISHEYE])
@pytest.mark.parametrize("shrink", [1, 2])
def test_points_project_to_the_pixels_they_came_from_in_their_colors(camera, shrink) -> None:
    rng = np.random.default_rng(0)
    height, width = camera.height // shrink, camera.width // shrink
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    view = camera.scaled(32, 24).cropped(0, 4, 32, 20)
    depth_m = rng.uniform(1, 50, (20, 32)).astype(np.float32)
    depth_m[rng.random(depth_m.shape) < 0.3] = np.nan
    cloud = colored_points(build, Frame(1, "c", camera, image), depth_m, view, HEADER)

    assert (cloud.header, cloud.point_step, cloud.row_step) == (HEADER, 16, 16 * cloud.width)
    points = points_to_array(cloud)[:, :3]
    uv, valid = view.project(points)
    pixels = np.rint(uv).astype(int)
    assert valid.all() and np.abs(uv - pixels).max() < 1e-2
    known = np.isfinite(depth_m)
    assert {tuple(p) for p in pixels.tolist()} == {(u, v) for v, u in np.argwhere(known).tolist()}
    np.testing.assert_allclose(points[:, 2], depth_m[pixels[:, 1], pixels[:, 0]], rtol=1e-6)
    packed = np.frombuffer(cloud.data, np.uint32).reshape(-1, 4)[:, 3]
    colors = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=1)
    # A pixel of the view is 2x2 of the camera's: its colour is one of theirs.
    for (u, v), color in zip(pixels[::7].tolist(), colors[::7], strict=True):
        step = 2 // shrink
        row, column = (v + 4) * step, u * step
        around = image[row : row + step, column : column + step].reshape(-1, 3)
        assert color.tolist() in around.tolist()


def message_class(name: str, constants: dict | None = None, **fields) -> type:
    """A stand-in of a generated message: keywords are its fields, and nothing else is taken."""

    def init(self, **values) -> None:
        assert values.keys() <= fields.keys(), f"{name} has no {values.keys() - fields.keys()}"
        for field, default in fields.items():
            setattr(self, field, values[field] if field in values else default())

    return type(name, (), {"__init__": init, **(constants or {})})


@pytest.fixture
def autoware(monkeypatch) -> None:
    """Fields and constants of autoware_perception_msgs 1.x, as its definitions have them."""
    labels = ("UNKNOWN", "CAR", "TRUCK", "BUS", "TRAILER", "MOTORCYCLE", "BICYCLE", "PEDESTRIAN")
    module = ModuleType("autoware_perception_msgs.msg")
    module.ObjectClassification = message_class(
        "ObjectClassification",
        {label: i for i, label in enumerate(labels)},
        label=int,
        probability=float,
    )
    module.DetectedObjectKinematics = message_class(
        "DetectedObjectKinematics",
        {"UNAVAILABLE": 0, "SIGN_UNKNOWN": 1, "AVAILABLE": 2},
        pose_with_covariance=PoseWithCovariance,
        has_position_covariance=bool,
        orientation_availability=int,
        twist_with_covariance=object,
        has_twist=bool,
        has_twist_covariance=bool,
    )
    shapes = {"BOUNDING_BOX": 0, "CYLINDER": 1, "POLYGON": 2}
    module.Shape = message_class("Shape", shapes, type=int, footprint=object, dimensions=Vector3)
    module.DetectedObject = message_class(
        "DetectedObject",
        existence_probability=float,
        classification=list,
        kinematics=module.DetectedObjectKinematics,
        shape=module.Shape,
    )
    module.TrackedObjectKinematics = message_class(
        "TrackedObjectKinematics",
        {"UNAVAILABLE": 0, "SIGN_UNKNOWN": 1, "AVAILABLE": 2},
        pose_with_covariance=PoseWithCovariance,
        orientation_availability=int,
        twist_with_covariance=TwistWithCovariance,
        acceleration_with_covariance=object,
        is_stationary=bool,
    )
    module.TrackedObject = message_class(
        "TrackedObject",
        object_id=object,
        existence_probability=float,
        classification=list,
        kinematics=module.TrackedObjectKinematics,
        shape=module.Shape,
    )
    module.TrackedObjects = message_class("TrackedObjects", header=object, objects=list)
    module.DetectedObjects = message_class("DetectedObjects", header=object, objects=list)
    monkeypatch.setitem(sys.modules, "autoware_perception_msgs", ModuleType("package"))
    monkeypatch.setitem(sys.modules, "autoware_perception_msgs.msg", module)


def test_autoware_gets_the_same_boxes(autoware) -> None:
    rng = np.random.default_rng(0)
    boxes = rng.uniform((-5, 0, 4, 1, 1, 1, -3), (5, 2, 40, 5, 2, 2, 3), (3, 7)).astype(np.float32)
    found = Detections(
        boxes, np.ones((3, 4), np.float32), np.array([0.9, 0.5, 0.3], np.float32), np.arange(3)
    )
    names, T = ("pedestrian", "car", "stroller"), np.eye(4)

    message = autoware_out.detected_objects(found, names, T, HEADER)

    standard = build.detections_3d(found, names, T, HEADER)
    assert message.header is HEADER
    assert [one.classification[0].label for one in message.objects] == [7, 1, 0]
    for ours, theirs in zip(message.objects, standard.detections, strict=True):
        assert ours.kinematics.pose_with_covariance.pose == theirs.bbox.center
        assert ours.kinematics.orientation_availability == 2 and not ours.kinematics.has_twist
        assert (ours.shape.type, ours.shape.dimensions) == (0, theirs.bbox.size)
        assert ours.existence_probability == theirs.results[0].hypothesis.score


def test_autoware_gets_tracks_with_twist_and_covariance(autoware) -> None:
    """A car that drives to the right of the camera, which looks along x of the output frame."""
    boxes = np.array([[3, 1, 20, 4, 2, 1.5, 0.0], [0, 1, 9, 4, 2, 1.5, 1.0]], np.float32)
    found = Detections(
        boxes, np.ones((2, 4), np.float32), np.array([0.9, 0.5], np.float32), np.zeros(2, int)
    )
    covariances = np.zeros((2, 6, 6), np.float32)
    covariances[0] = np.diag([1, 2, 3, 4, 5, 6])
    velocities = np.array([[7, 0, 0.5], [np.nan] * 3], np.float32)
    tracks = Tracks(np.array([5, NO_TRACK]), boxes[:, :3] + 0.5, velocities, covariances)
    T = make_T(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.array([1.0, 2, 3]))

    message = autoware_out.tracked_objects(found, tracks, ("car",), T, HEADER)

    (one,) = message.objects
    assert bytes(one.object_id.uuid[8:]) == (5).to_bytes(8, "big")
    pose, twist = one.kinematics.pose_with_covariance, one.kinematics.twist_with_covariance
    position = pose.pose.position
    np.testing.assert_allclose([position.x, position.y, position.z], [21.5, -1.5, 1.5], atol=1e-6)
    np.testing.assert_allclose(np.diag(np.reshape(pose.covariance, (6, 6))), [3, 1, 2, 0, 0, 0])
    # At yaw 0 it heads along the camera's x; left of that is the camera's z.
    linear = twist.twist.linear
    np.testing.assert_allclose([linear.x, linear.y, linear.z], [7, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(np.diag(np.reshape(twist.covariance, (6, 6))), [4, 6, 5, 0, 0, 0])
    assert one.classification[0].label == 1 and one.existence_probability == pytest.approx(0.9)


def test_overlays_pass_at_their_rate_and_not_at_all_at_zero() -> None:
    now_s = 10.0
    limit = RateLimit(lambda: now_s)
    passed = []
    for _ in range(100):  # ten seconds of images at 10 Hz
        passed.append(limit.passes(rate_hz=2.0))
        now_s += 0.1
    assert sum(passed) == pytest.approx(20, abs=4) and passed[0]
    now_s += 100.0
    assert not limit.passes(rate_hz=0.0)
    assert limit.passes(rate_hz=2.0)
