"""Messages out: read back through ``lemumo_core.messages`` or checked number by number."""

from __future__ import annotations

import array
import sys
from typing import Any

import cv2
import numpy as np
import pytest

from lemumo_core.frame import Detections
from lemumo_core.geometry.boxes import box_corners
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T, rotation_from_quaternion, transform
from lemumo_core.messages.camera_info import camera_from_info
from lemumo_core.messages.images import image_to_rgb, thermal_to_array
from lemumo_core.messages.markers import markers
from lemumo_core.messages.stamps import stamp_to_ns

pytest.importorskip("rclpy", reason="needs rclpy: pip install '.[ros]'")
pytest.importorskip("vision_msgs", reason="needs vision_msgs: python interfaces/build.py")

from lemumo_ros.publish.rclpy_builder import build

STAMP_NS = 1_700_000_000_123_456_789
HEADER = build.header(STAMP_NS, "camera_optical")
NAMES = ("car", "pedestrian")
COLORS = [(255, 0, 0), (0, 51, 255)]
# The camera looks along the vehicle's x axis from 1.5 m above its origin and 2 m ahead of it.
T_BASE_CAMERA = make_T(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.array([2.0, 0.0, 1.5]))


def some_detections(count: int = 5) -> Detections:
    rng = np.random.default_rng(0)
    boxes = np.c_[
        rng.uniform([-5, 0, 4], [5, 2, 40], (count, 3)),
        rng.uniform(0.5, 5, (count, 3)),
        rng.uniform(-np.pi, np.pi, count),
    ]
    corners = rng.uniform(0, 300, (count, 2))
    return Detections(
        boxes_3d=boxes.astype(np.float32),
        boxes_2d=np.c_[corners, corners + rng.uniform(5, 50, (count, 2))].astype(np.float32),
        scores=np.sort(rng.uniform(0, 1, count))[::-1].astype(np.float32),
        class_ids=np.arange(count) % 2,
    )


def pose_matrix(pose: Any) -> np.ndarray:
    q, p = pose.orientation, pose.position
    return make_T(rotation_from_quaternion(q.w, q.x, q.y, q.z), np.array([p.x, p.y, p.z]))


def serialized(msg: Any) -> Any:
    """The message after a trip through CDR: what a subscriber gets."""
    from rclpy.serialization import deserialize_message, serialize_message

    return deserialize_message(serialize_message(msg), type(msg))


def test_stamp_round_trip() -> None:
    for stamp_ns in (0, 999_999_999, 1_000_000_000, STAMP_NS):
        assert stamp_to_ns(build.stamp(stamp_ns)) == stamp_ns
    assert HEADER.frame_id == "camera_optical" and stamp_to_ns(HEADER.stamp) == STAMP_NS


def test_images_come_back() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    for encoding, pixels in (("rgb8", rgb), ("bgr8", rgb[..., ::-1])):
        msg = serialized(build.image(pixels, encoding, HEADER))
        assert (msg.height, msg.width, msg.step, msg.header) == (7, 5, 15, HEADER)
        np.testing.assert_array_equal(image_to_rgb(msg), rgb)
    counts = np.random.default_rng(0).integers(0, 65536, (7, 10), np.uint16)[:, ::2]
    np.testing.assert_array_equal(
        thermal_to_array(serialized(build.image(counts, "mono16", HEADER))), counts
    )
    assert build.image(np.empty((0, 4), np.uint8), "mono8", HEADER).data == array.array("B")


@pytest.mark.parametrize(
    ("pixels", "encoding"),
    [
        (np.zeros((4, 4), np.uint8), "rgb8"),
        (np.zeros((4, 4, 4), np.uint8), "rgb8"),
        (np.zeros((4, 4, 1), np.uint8), "mono8"),
        (np.zeros((4, 4), np.int16), "mono16"),
        (np.zeros((4, 4), np.float64), "32FC1"),
        (np.zeros((4, 4, 3), np.uint8), "8UC3"),
    ],
)
def test_array_that_does_not_fit_its_encoding(pixels: np.ndarray, encoding: str) -> None:
    with pytest.raises(ValueError, match=encoding):
        build.image(pixels, encoding, HEADER)


def test_big_image_goes_out_through_array() -> None:
    """A NumPy array assigned to ``data`` would take half a second."""
    rgb = np.zeros((1080, 1920, 3), np.uint8)
    msg = build.image(rgb, "rgb8", HEADER)
    assert type(msg.data) is array.array and len(msg.data) == rgb.nbytes


def test_every_image_is_filled_through_array() -> None:
    depth = np.ones((4, 6), np.float32)
    for msg in (
        build.depth_image(depth, "32FC1", HEADER),
        build.depth_image(depth, "16UC1", HEADER),
        build.label_image(depth.astype(np.uint8), HEADER),
    ):
        assert type(msg.data) is array.array
    msg.data = build.data(np.arange(6, dtype=np.uint16).reshape(2, 3).T)
    assert msg.data.tobytes() == np.array([[0, 3], [1, 4], [2, 5]], np.uint16).tobytes()


def test_depth_encodings() -> None:
    depth = np.array([[1.2344, np.nan, np.inf, -1], [0, 65.535, 65.536, 1e30]], np.float32)
    msg = serialized(build.depth_image(depth, "32FC1", HEADER))
    metres = np.frombuffer(msg.data, np.float32).reshape(msg.height, -1)
    np.testing.assert_array_equal(metres, depth)
    msg = serialized(build.depth_image(depth, "16UC1", HEADER))
    assert msg.is_bigendian == (sys.byteorder == "big")
    millimetres = np.frombuffer(msg.data, np.uint16).reshape(msg.height, -1)
    np.testing.assert_array_equal(millimetres, [[1234, 0, 0, 0], [0, 65535, 0, 0]])
    with pytest.raises(ValueError, match="mono8"):
        build.depth_image(depth, "mono8", HEADER)


@pytest.mark.parametrize(
    ("model", "distortion"),
    [
        ("pinhole", ()),
        ("plumb_bob", (-0.1, 0.02, 0.001, -0.002)),
        ("plumb_bob", (-0.1, 0.02, 0.001, -0.002, 0.01)),
        ("rational_polynomial", (0.1, 0.2, 0.01, 0.02, 0.3, 0.4, 0.5, 0.6)),
        ("equidistant", (0.1, 0.01, 0.001, 0.0001)),
    ],
)
def test_camera_round_trip(model: str, distortion: tuple[float, ...]) -> None:
    camera = Camera(704, 256, 550.5, 551.5, 350.25, 120.75, model, distortion)
    msg = serialized(build.camera_info(camera, HEADER))
    again = camera_from_info(msg)
    points = np.random.default_rng(0).uniform([-2, -1, 5], [2, 1, 9], (20, 3))
    np.testing.assert_array_equal(again.project(points)[0], camera.project(points)[0])
    assert (again.width, again.height, again.model) == (704, 256, model)
    assert camera_from_info(msg, True) == Camera(704, 256, 550.5, 551.5, 350.25, 120.75)
    np.testing.assert_array_equal(np.reshape(msg.r, (3, 3)), np.eye(3))
    if model in ("pinhole", "plumb_bob"):
        assert msg.distortion_model == "plumb_bob" and len(msg.d) == 5


def test_labels() -> None:
    labels = np.array([[0, 1], [255, 2]], np.uint8)
    msg = serialized(build.label_image(labels, HEADER))
    assert msg.encoding == "mono8" and msg.data.tobytes() == labels.tobytes()
    info = serialized(build.label_info(("road", "sky"), 0.3, HEADER))
    assert [(c.class_id, c.class_name) for c in info.class_map] == [(0, "road"), (1, "sky")]
    assert info.threshold == pytest.approx(0.3)


def test_3d_detection_is_the_same_box() -> None:
    """Corners built from the published pose and size are the model's corners, moved."""
    detections = some_detections()
    msg = serialized(
        build.detections_3d(detections, NAMES, T_BASE_CAMERA, build.header(STAMP_NS, "base"))
    )
    assert msg.header.frame_id == "base" and len(msg.detections) == 5
    signs = np.array([[x, y, z] for x in (1, -1) for y in (1, -1) for z in (-1, 1)]) / 2
    for i, detection in enumerate(msg.detections):
        size = detection.bbox.size
        local = signs * [size.x, size.y, size.z]
        corners = transform(pose_matrix(detection.bbox.center), local)
        expected = transform(T_BASE_CAMERA, box_corners(detections.boxes_3d[i : i + 1])[0])
        np.testing.assert_allclose(corners, expected, atol=1e-5)
        (result,) = detection.results
        assert result.hypothesis.class_id == NAMES[i % 2]
        assert result.hypothesis.score == pytest.approx(detections.scores[i])
        assert result.pose.pose == detection.bbox.center
        assert detection.header == msg.header


def test_box_that_drives_ahead_has_no_rotation_in_the_vehicle_frame() -> None:
    """Yaw -90 degrees points the length along the optical axis, the vehicle's x."""
    detections = Detections(
        np.array([[1, 0.5, 10, 4, 2, 1.5, -np.pi / 2]], np.float32),
        np.zeros((1, 4), np.float32),
        np.ones(1, np.float32),
        np.zeros(1, np.int64),
    )
    (detection,) = build.detections_3d(detections, NAMES, T_BASE_CAMERA, HEADER).detections
    np.testing.assert_allclose(
        pose_matrix(detection.bbox.center),
        make_T(np.eye(3), np.array([12.0, -1.0, 1.0])),
        atol=1e-6,
    )


def test_2d_detections() -> None:
    detections = some_detections()
    detections.boxes_2d[3] = 0  # what image_bounds gives for a box that the image does not show
    msg = serialized(build.detections_2d(detections, NAMES, HEADER))
    assert len(msg.detections) == 4
    shown = [0, 1, 2, 4]
    for i, detection in zip(shown, msg.detections, strict=True):
        box, center = detection.bbox, detection.bbox.center.position
        edges = [
            center.x - box.size_x / 2,
            center.y - box.size_y / 2,
            center.x + box.size_x / 2,
            center.y + box.size_y / 2,
        ]
        np.testing.assert_allclose(edges, detections.boxes_2d[i], atol=1e-4)
        assert detection.results[0].hypothesis.class_id == NAMES[i % 2]


def test_markers() -> None:
    detections = some_detections()
    base = build.header(STAMP_NS, "base")
    msg = serialized(markers(build, detections, NAMES, COLORS, T_BASE_CAMERA, base))
    first, *rest = msg.markers
    assert first.action == first.DELETEALL
    assert len({marker.id for marker in rest}) == len(rest) == 10
    boxes = build.detections_3d(detections, NAMES, T_BASE_CAMERA, base).detections
    for i, (cube, text) in enumerate(zip(rest[::2], rest[1::2], strict=True)):
        assert cube.type == cube.CUBE and text.type == text.TEXT_VIEW_FACING
        assert cube.pose == boxes[i].bbox.center and cube.scale == boxes[i].bbox.size
        red, green, blue = COLORS[i % 2]
        assert np.allclose([cube.color.r, cube.color.g, cube.color.b],
                           [red / 255, green / 255, blue / 255])  # fmt: skip
        assert 0 < cube.color.a < 1 and text.color.a == 1
        assert text.text == f"{NAMES[i % 2]} {detections.scores[i]:.2f}"
        above = text.pose.position.z - cube.pose.position.z
        assert above > cube.scale.z / 2
        assert text.pose.position.x == pytest.approx(cube.pose.position.x)
        assert text.pose.position.y == pytest.approx(cube.pose.position.y)
        for marker in (cube, text):
            assert (marker.lifetime.sec, marker.lifetime.nanosec) == (0, 500_000_000)
            assert marker.header.frame_id == "base"


def test_nothing_detected_is_published_too() -> None:
    empty = Detections(
        np.empty((0, 7), np.float32),
        np.empty((0, 4), np.float32),
        np.empty(0, np.float32),
        np.empty(0, np.int64),
    )
    assert len(build.detections_3d(empty, NAMES, T_BASE_CAMERA, HEADER).detections) == 0
    assert len(build.detections_2d(empty, NAMES, HEADER).detections) == 0
    assert len(markers(build, empty, NAMES, COLORS, T_BASE_CAMERA, HEADER).markers) == 1


def test_images_equal_cv_bridge() -> None:
    cv_bridge = pytest.importorskip("cv_bridge", reason="needs an apt ROS (ros-*-cv-bridge)")
    rgb = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    bridge = cv_bridge.CvBridge()
    theirs = bridge.cv2_to_imgmsg(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), "bgr8", HEADER)
    ours = build.image(rgb[..., ::-1], "bgr8", HEADER)
    assert ours == theirs


def test_a_field_that_shares_a_word_of_the_constructor() -> None:
    fields = {"level": b"\x01", "name": "camera", "message": "late", "hardware_id": ""}
    status = build.new("diagnostic_msgs/DiagnosticStatus", **fields, values=[])
    assert serialized(status) == status and status.message == "late"
