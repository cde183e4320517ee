"""Bad input over DDS to a running node: rows 1 to 3, 5 to 8 and 10 to 12 of the fault table.

One node serves them all, in this order, so each test also shows that it recovered from the last.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, PointField
from tf2_msgs.msg import TFMessage

from lemumo_core.geometry.camera import Camera
from lemumo_core.messages.stamps import stamp_to_ns
from lemumo_core.streaming.health import Level
from lemumo_ros.publish.rclpy_builder import build
from tests.helpers.rig import HEIGHT, PERIOD_S, WIDTH, Rig, cloud, transform

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("nothing_bad")]
FUSED, ALONE = "modalities/camera+lidar", "modalities/camera"


@pytest.fixture(scope="module")
def rig(launch) -> Rig:
    rig = Rig(launch())
    rig.connect()
    return rig


@pytest.fixture(autouse=True)
def recovers(rig: Rig) -> Iterator[None]:
    """After each test good input is answered again."""
    yield
    if rig.results():  # there are none before tf came
        since_ns = rig.now_ns()
        rig.run_until(lambda: rig.results(since_ns))


def count(rig: Rig, key: str) -> int:
    return int(rig.under_test.values.get(key, 0))


def more(rig: Rig, key: str) -> Callable[[], bool]:
    """Whether a counter has grown since now."""
    before = count(rig, key)
    return lambda: count(rig, key) > before


def without_points(messages: dict[str, Any]) -> None:
    messages["points"] = None


def equal_result(rig: Rig, reference: Any, change: Callable | None) -> float:
    """Send until a result equals the reference; the seconds that it took."""
    since_ns = rig.now_ns()
    wanted = bytes(reference.data)
    return rig.run_until(lambda: wanted in [bytes(m.data) for m in rig.results(since_ns)], change)


@pytest.fixture(scope="module")
def reference(rig: Rig) -> Any:
    """The fused result of a good set, and once more the same."""
    rig.run_until(more(rig, FUSED))
    result = rig.result_of()
    equal_result(rig, result, None)
    return result


@pytest.mark.fault(10)
def test_without_a_camera_info_there_is_no_result(rig, seen) -> None:
    without = lambda m: m.update(camera_info=None)  # noqa: E731
    rig.refused("no_camera_info", without)
    rig.run_until(lambda: "camera_info" in rig.status()[1], without, bad=True)
    assert rig.status()[0] in (Level.WARN, Level.ERROR)
    seen("no camera_info: dropped as no_camera_info")


@pytest.mark.fault(11)
def test_tf_that_is_missing_broken_or_late(rig, seen) -> None:
    rig.refused("missing_transform", lambda m: None)
    assert "static_transform_publisher" in rig.under_test.values["last_fault"]
    broken = transform("camera", "lidar")
    broken.transform.rotation.w = float("nan")
    bad = more(rig, "drops/bad_transform")
    rig.tf.publish(TFMessage(transforms=[broken]))
    rig.run_until(bad, bad=True)
    rig.transform("somewhere", "lidar")
    rig.transform("lidar", "somewhere")  # a cycle that does not reach the camera
    rig.refused("missing_transform", lambda m: None)
    assert not rig.results()
    rig.transform()
    took = rig.run_until(more(rig, FUSED))
    seen(f"no result until tf came, then fused (told after {took:.1f} s); NaN refused; cycle ends")


def test_a_covered_lens_is_named(rig) -> None:
    def covered(messages: dict[str, Any]) -> None:
        messages["image"].data = bytes(len(messages["image"].data))

    rig.run_until(lambda: "images are of one colour" in rig.status()[1], covered)
    assert rig.status()[0] == Level.WARN
    rig.run_until(more(rig, FUSED), covered)
    rig.run_until(lambda: "images are of one colour" not in rig.status()[1])


@pytest.mark.fault(1)
def test_lidar_stops_and_returns(rig, seen) -> None:
    rig.run_until(more(rig, FUSED))
    alone_s = rig.run_until(more(rig, ALONE), without_points)
    degraded = lambda: "degraded to camera-only" in rig.status()[1]  # noqa: E731
    rig.run_until(lambda: degraded() and rig.status()[0] == Level.WARN, without_points)
    since_ns = rig.now_ns()
    rig.run_until(lambda: rig.results(since_ns), without_points)
    fused_s = rig.run_until(more(rig, FUSED))
    seen(
        f"camera-only after the deadline (told after {alone_s:.1f} s), WARN; fused again (told "
        f"after {fused_s:.1f} s)"
    )


@pytest.mark.fault(2)
def test_camera_stops(rig, seen) -> None:
    """How soon it is stale is counted by the clocks of ``tests/core/streaming/test_health.py``."""
    rig.run(30 * PERIOD_S)
    rig.under_test.spin_until(lambda: rig.status()[0] == Level.STALE, pause_s=0.005)
    rig.under_test.spin(0.5)
    stamps_ns = [stamp_to_ns(m.header.stamp) for m in rig.results()]
    assert len(set(stamps_ns)) == len(stamps_ns)
    rig.run_until(lambda: rig.status()[0] != Level.STALE)
    seen("STALE, nothing repeated")


@pytest.mark.parametrize(
    ("offset_s", "reason"), [(-5, "too_old"), (None, "too_old"), (5, "future_stamp")]
)
@pytest.mark.fault(3)
def test_stamps_of_another_time(rig, seen, offset_s, reason) -> None:
    def change(messages: dict[str, Any]) -> None:
        stamp_ns = 0 if offset_s is None else rig.now_ns() + offset_s * 10**9
        for message in messages.values():
            message.header.stamp = build.stamp(stamp_ns)

    rig.refused(reason, change)
    if offset_s:
        rig.run_until(
            lambda: abs(float(rig.under_test.values["age_ms/image"]) + 1e3 * offset_s) < 500,
            change,
            bad=True,
        )
        seen(f"{offset_s:+} s: dropped as {reason}, age_ms says {-1e3 * offset_s:+.0f}")
    else:
        seen(f"stamp zero: dropped as {reason}")


@pytest.mark.fault(5)
def test_duplicates_late_ones_and_bursts(rig, seen) -> None:
    rig.run(0.3)

    def twice(messages: dict[str, Any]) -> None:
        rig.publishers["image"].publish(messages["image"])

    def newer_first(messages: dict[str, Any]) -> None:
        newer = copy.deepcopy(messages["image"])
        newer.header.stamp = build.stamp(stamp_to_ns(newer.header.stamp) + 10**7)
        rig.publishers["image"].publish(newer)

    rig.run_until(more(rig, "drops/duplicate"), twice)
    rig.run_until(more(rig, "drops/out_of_order"), newer_first)
    for _ in range(100):
        newest_ns = rig.send()
    rig.under_test.spin_until(
        lambda: any(stamp_to_ns(m.header.stamp) == newest_ns for m in rig.results())
    )
    seen("duplicate and out_of_order counted; of 100 at once the newest was answered")


CLOUDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "NaN": lambda p: np.full_like(p, np.nan),
    "infinite": lambda p: np.where(np.arange(3) == 2, np.inf, p),
    "1e38": lambda p: np.full_like(p, 1e38),
    "denormal": lambda p: np.full_like(p, 1e-40),
    "behind": lambda p: p * (1, 1, -1),
    "none": lambda p: p[:0],
}


@pytest.mark.fault(6)
def test_points_that_show_nothing_are_masked(rig, seen) -> None:
    def change(points: np.ndarray) -> Callable[[dict[str, Any]], None]:
        def with_points(messages: dict[str, Any]) -> None:
            header = messages["points"].header
            messages["points"] = cloud(points)
            messages["points"].header = header

        return with_points

    empty = rig.result_of(change(rig.points[:0]))
    for name, make in CLOUDS.items():
        with np.errstate(over="ignore"):
            equal_result(rig, empty, change(make(rig.points).astype(np.float32)))
        assert np.isfinite(np.frombuffer(empty.data, np.float32)).any(), name
    rig.refused("point_cloud_too_large", lambda m: setattr(m["points"], "width", 5_000_001))
    seen(f"{', '.join(CLOUDS)}: the result of a frame without depth; 5 000 001: refused")


def rebuilt(points: np.ndarray, **kind: Any) -> Callable[[dict[str, Any]], None]:
    def change(messages: dict[str, Any]) -> None:
        header = messages["points"].header
        messages["points"] = cloud(points, **kind)
        messages["points"].header = header

    return change


def padded_rows(messages: dict[str, Any]) -> None:
    message = messages["points"]
    message.height, message.width, message.row_step = 2, message.width // 2, message.row_step // 2
    rows = np.frombuffer(message.data, np.uint8).reshape(2, message.row_step)
    message.data = build.data(np.ascontiguousarray(np.pad(rows, ((0, 0), (0, 7)))))
    message.row_step += 7


def field(number: int, **values: Any) -> Callable[[dict[str, Any]], None]:
    def change(messages: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(messages["points"].fields[number], name, value)

    return change


MALFORMED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "data too short": lambda m: setattr(m["points"], "width", 401),
    "no z": lambda m: m["points"].fields.pop(),
    "unknown datatype": field(0, datatype=99),
    "count 2": field(1, count=2),
    "offset past the point": field(2, offset=10),
    "two x": field(1, name="x"),
    "point_step 0": lambda m: setattr(m["points"], "point_step", 0),
    "row_step too short": lambda m: (
        setattr(m["points"], "height", 2),
        setattr(m["points"], "row_step", 5),
    ),
}


@pytest.mark.fault(7)
def test_layouts_of_a_cloud(rig, reference, seen) -> None:
    exact = np.round(rig.points)  # the same in every type
    same = rig.result_of(rebuilt(exact))
    equal_result(rig, same, rebuilt(exact))
    for change in (
        rebuilt(exact, kind=PointField.FLOAT64, dtype="<f8"),
        rebuilt(exact, kind=PointField.FLOAT32, dtype=">f4"),
        rebuilt(exact, kind=PointField.INT16, dtype="<i2"),
    ):
        equal_result(rig, same, change)
    equal_result(rig, reference, padded_rows)
    for change in MALFORMED.values():
        rig.refused("bad_point_cloud", change)

    def overflow(messages: dict[str, Any]) -> None:
        messages["points"].height = messages["points"].width = 2**32 - 1

    rig.refused("point_cloud_too_large", overflow)
    seen(
        "float64, int16, big-endian, padded rows: same result as float32; "
        f"{', '.join(MALFORMED)}, width x height of 2^64: refused"
    )


def encoded(rgb: np.ndarray, encoding: str, padding: int = 0) -> Callable[[dict[str, Any]], None]:
    """The same picture in another encoding."""
    channels = {"rgb8": [0, 1, 2], "bgr8": [2, 1, 0], "rgba8": [0, 1, 2, 0], "bgra8": [2, 1, 0, 0]}

    def change(messages: dict[str, Any]) -> None:
        rows = np.ascontiguousarray(rgb[..., channels[encoding]]).reshape(len(rgb), -1)
        message = Image(header=messages["image"].header, encoding=encoding)
        message.height, message.width = rgb.shape[:2]
        message.step = rows.shape[1] + padding
        message.data = build.data(np.ascontiguousarray(np.pad(rows, ((0, 0), (0, padding)))))
        messages["image"] = message

    return change


@pytest.mark.fault(8)
def test_encodings(rig, reference, seen) -> None:
    for encoding in ("bgr8", "rgba8", "bgra8"):
        equal_result(rig, reference, encoded(rig.pixels, encoding, padding=5))
    swapped = rig.result_of(encoded(rig.pixels[..., ::-1], "rgb8"))
    assert bytes(swapped.data) != bytes(reference.data)
    for encoding in ("mono16", "16UC1", "32FC1", "martian16", ""):
        rig.refused(
            "unsupported_encoding", lambda m, e=encoding: setattr(m["image"], "encoding", e)
        )
    for name, value in {"step": 5, "height": 0, "width": 2**32 - 1}.items():
        rig.refused("bad_image", lambda m, n=name, v=value: setattr(m["image"], n, v))
    seen("bgr8, rgba8, bgra8, padded: the result of rgb8; mono16, 32FC1, unknown, sizes: refused")


@pytest.mark.fault(10)
def test_camera_info_that_is_wrong_or_changes(rig, reference, seen) -> None:
    wrong = {
        "bad_camera": [
            lambda m: setattr(m["camera_info"], "k", np.zeros(9)),
            lambda m: setattr(m["camera_info"], "d", [0.1, 0.2]),
            lambda m: setattr(m["camera_info"], "distortion_model", "martian"),
        ],
        "camera_info_mismatch": [lambda m: setattr(m["camera_info"], "width", 100)],
    }
    for reason, changes in wrong.items():
        for change in changes:
            rig.refused(reason, change)
    rig.run(0.3)

    def smaller(messages: dict[str, Any]) -> None:
        header = messages["image"].header
        camera = Camera(WIDTH, HEIGHT, 100.0, 100.0, 95.5, 47.5).scaled(WIDTH // 2, HEIGHT // 2)
        messages["camera_info"] = build.camera_info(camera, header)
        pixels = np.ascontiguousarray(rig.pixels[::2, ::2])
        messages["image"] = build.image(pixels, "rgb8", header)

    since_ns = rig.now_ns()
    first_ns = rig.send(smaller)
    rig.run_until(lambda: rig.results(since_ns), smaller)
    lost = (stamp_to_ns(rig.results(since_ns)[0].header.stamp) - first_ns) / 1e9 / PERIOD_S
    equal_result(rig, reference, None)
    seen(
        f"K zero, D of 2, unknown model, other size: refused; half the size: {lost:.0f} frames lost"
    )


@pytest.mark.fault(11)
def test_changed_extrinsics_count_from_the_next_frame(rig, reference, seen) -> None:
    rig.transform(x=2.0)
    since_ns = rig.now_ns()
    rig.run_until(
        lambda: any(bytes(m.data) != bytes(reference.data) for m in rig.results(since_ns)[-1:])
    )
    moved = rig.result_of()
    rig.transform(x=0.0)
    took = equal_result(rig, reference, None)
    assert bytes(moved.data) != bytes(reference.data)
    seen(f"changed extrinsics change the result, and back within {took:.2f} s")


@pytest.mark.fault(12)
def test_publishers_that_come_and_go_and_subscribers_that_do_not_read(rig, seen) -> None:
    rig.node.destroy_publisher(rig.publishers["image"])
    rig.under_test.spin(0.3)
    rig.publishers["image"] = rig.publisher("image")
    since_ns = rig.now_ns()
    back_s = rig.run_until(lambda: rig.results(since_ns))
    other = rig.publisher("image")
    double = more(rig, "drops/duplicate")
    rig.run_until(double, lambda m: other.publish(m["image"]))
    rig.node.destroy_publisher(other)
    deaf = rclpy.create_node("deaf")
    deaf.create_subscription(Image, "/lemumo/output/depth/image_raw", print, QoSProfile(depth=1))
    rig.run(0.5)
    since_ns = rig.now_ns()
    rig.run_until(lambda: len(rig.results(since_ns)) > 20)
    deaf.destroy_node()
    seen(
        f"publisher back: answered after {back_s:.2f} s; of two equal ones each frame once; beside "
        "a subscriber that does not read others get their results"
    )


@pytest.mark.fault(5)
def test_every_image_is_answered_or_counted(rig, seen) -> None:
    """At the very end, over all that this file sent."""
    values = rig.under_test.values

    def accounted() -> int:
        of_images = {k: int(v) for k, v in values.items() if k.startswith("drops/")}
        of_images.pop("drops/bad_transform", None)  # counts messages of tf
        return int(values["frames_out"]) + sum(of_images.values())

    rig.under_test.spin(2.5)  # all that was on its way is through, and in the diagnostics
    rig.under_test.spin_until(lambda: int(values["frames_in"]) == accounted())
    seen(f"{accounted()} images came in; each was answered or counted under a reason")
