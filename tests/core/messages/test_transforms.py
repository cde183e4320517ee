"""The transform buffer: chains, replaced parents, cycles, missing frames."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lemumo_core.faults import Fault
from lemumo_core.geometry.se3 import make_T
from lemumo_core.messages import transforms
from lemumo_core.messages.transforms import (
    HISTORY_NS,
    MAX_HISTORY,
    TransformBuffer,
    transform_to_matrix,
)
from tests.helpers.message_builders import FUZZ, NUMBER, fault_of, survives, transform_message

SECOND_NS = 1_000_000_000


def translation(x: float, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    return make_T(np.eye(3), np.array([x, y, z]))


def random_transform(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return make_T(q if np.linalg.det(q) > 0 else -q, rng.normal(size=3))


def stamped(parent: str, child: str, x: float = 0.0, w: float = 1.0) -> SimpleNamespace:
    return SimpleNamespace(
        header=SimpleNamespace(frame_id=parent),
        child_frame_id=child,
        transform=SimpleNamespace(
            translation=SimpleNamespace(x=x, y=0.0, z=0.0),
            rotation=SimpleNamespace(x=0.0, y=0.0, z=0.0, w=w),
        ),
    )


def test_chain_up_and_down_equals_products() -> None:
    rng = np.random.default_rng(0)
    T_base_roof, T_roof_camera, T_base_lidar = (random_transform(rng) for _ in range(3))
    buffer = TransformBuffer()
    buffer.set("base", "roof", T_base_roof)
    buffer.set("/roof", "/camera", T_roof_camera)
    buffer.set("base", "lidar", T_base_lidar)

    T_camera_lidar = buffer.lookup("camera", "/lidar")

    expected = np.linalg.inv(T_base_roof @ T_roof_camera) @ T_base_lidar
    np.testing.assert_allclose(T_camera_lidar, expected, atol=1e-12)
    np.testing.assert_allclose(
        buffer.lookup("lidar", "camera"), np.linalg.inv(expected), atol=1e-12
    )
    np.testing.assert_allclose(buffer.lookup("base", "camera"), T_base_roof @ T_roof_camera)
    np.testing.assert_array_equal(buffer.lookup("camera", "camera"), np.eye(4))


def test_new_parent_replaces_the_old() -> None:
    buffer = TransformBuffer()
    buffer.set("base", "lidar", translation(1))
    buffer.set("roof", "lidar", translation(2))
    assert buffer.lookup("roof", "lidar")[0, 3] == 2
    with pytest.raises(Fault):
        buffer.lookup("base", "lidar")


def test_missing_transform_names_frames_and_the_way_out() -> None:
    buffer = TransformBuffer()
    buffer.set("base", "lidar", translation(1))
    with pytest.raises(Fault) as caught:
        buffer.lookup("camera", "lidar")
    assert caught.value.reason == "missing_transform"
    for word in ("'camera'", "'lidar'", "base, lidar", "static_transform_publisher", "extrinsics"):
        assert word in str(caught.value)


def test_cycles_do_not_hang() -> None:
    buffer = TransformBuffer()
    for parent, child in [("a", "b"), ("b", "c"), ("c", "a"), ("c", "leaf"), ("x", "y")]:
        buffer.set(parent, child, translation(1))
    assert np.isfinite(buffer.lookup("leaf", "a")).all()
    with pytest.raises(Fault):
        buffer.lookup("leaf", "y")


def test_version_grows_only_with_content() -> None:
    buffer = TransformBuffer()
    assert buffer.version == 0
    buffer.add(SimpleNamespace(transforms=[stamped("base", "lidar", 1.0)]))
    assert buffer.version == 1
    buffer.add(SimpleNamespace(transforms=[stamped("/base", "lidar", 1.0)]))
    assert buffer.version == 1
    buffer.add(SimpleNamespace(transforms=[stamped("base", "lidar", 1.5)]))
    buffer.add(SimpleNamespace(transforms=[stamped("roof", "lidar", 1.5)]))
    assert buffer.version == 3


def test_bad_transform_is_named_and_the_others_count() -> None:
    buffer = TransformBuffer()
    message = SimpleNamespace(
        transforms=[
            stamped("base", "broken", w=float("nan")),
            stamped("base", "half", w=0.5),
            stamped("base", "lidar", 3.0),
        ]
    )
    with pytest.raises(Fault, match="'broken' to 'base'") as caught:
        buffer.add(message)
    assert caught.value.reason == "bad_transform"
    assert buffer.lookup("base", "lidar")[0, 3] == 3
    with pytest.raises(Fault):
        buffer.lookup("base", "half")


@pytest.mark.parametrize(
    ("parent", "child", "T"),
    [
        ("a", "a", np.eye(4)),
        ("", "a", np.eye(4)),
        ("a", "/", np.eye(4)),
        ("a", "b", np.diag([1, 1, -1, 1])),
        ("a", "b", 2 * np.eye(4)),
        ("a", "b", np.eye(3)),
    ],
)
def test_set_refuses_what_is_no_transform(parent: str, child: str, T: np.ndarray) -> None:
    buffer = TransformBuffer()
    with pytest.raises(Fault) as caught:
        buffer.set(parent, child, T)
    assert caught.value.reason == "bad_transform"
    assert buffer.version == 0


def test_frames_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "MAX_FRAMES", 3)
    buffer = TransformBuffer()
    for i in range(3):
        buffer.set("base", f"frame {i}", np.eye(4))
    with pytest.raises(Fault, match="one frame more than 3"):
        buffer.set("base", "frame 3", np.eye(4), stamp_ns=1)
    buffer.set("base", "frame 2", np.eye(4))


def test_caller_cannot_change_what_was_set() -> None:
    buffer = TransformBuffer()
    T = translation(1)
    buffer.set("a", "b", T)
    T[0, 3] = 9
    buffer.lookup("a", "b")[0, 3] = 7
    assert buffer.lookup("a", "b")[0, 3] == 1


def test_lookup_while_another_thread_fills() -> None:
    buffer = TransformBuffer()
    buffer.set("base", "lidar", translation(1))
    errors: list[Exception] = []

    def fill() -> None:
        for i in range(2000):
            buffer.set("base", f"frame{i % 50}", translation(i))

    def ask() -> None:
        try:
            for _ in range(2000):
                assert buffer.lookup("base", "lidar")[0, 3] == 1
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=target) for target in (fill, ask)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert buffer.version == 2001


def moving_arm(seed: int = 0) -> tuple[TransformBuffer, list, np.ndarray]:
    """A base that moves in the map at 10 Hz with a camera fixed to it; the base's transforms."""
    rng = np.random.default_rng(seed)
    buffer = TransformBuffer()
    T_base_camera = random_transform(rng)
    buffer.set("base", "camera", T_base_camera)
    moves = [(i * SECOND_NS // 10, random_transform(rng)) for i in range(20)]
    for stamp_ns, T in moves:
        buffer.set("map", "base", T, stamp_ns)
    return buffer, moves, T_base_camera


def test_moving_frames_are_interpolated_as_scipy_does() -> None:
    spatial = pytest.importorskip("scipy.spatial.transform")
    buffer, moves, T_base_camera = moving_arm()
    stamps = [stamp_ns for stamp_ns, _ in moves]
    rotations = spatial.Rotation.from_matrix([T[:3, :3] for _, T in moves])
    slerp = spatial.Slerp(stamps, rotations)
    positions = np.array([T[:3, 3] for _, T in moves])
    for stamp_ns in [*np.random.default_rng(1).integers(0, stamps[-1], 200).tolist(), *stamps]:
        t = [np.interp(stamp_ns, stamps, positions[:, axis]) for axis in range(3)]
        expected = make_T(slerp(stamp_ns).as_matrix(), np.array(t)) @ T_base_camera
        found = buffer.lookup("map", "camera", stamp_ns)
        np.testing.assert_allclose(found, expected, atol=1e-9)
        back = buffer.lookup("camera", "map", stamp_ns)
        np.testing.assert_allclose(back, np.linalg.inv(expected), atol=1e-9)


def test_moving_frames_are_interpolated_as_tf2_does() -> None:
    tf2_ros = pytest.importorskip("tf2_ros", reason="comes with an apt ROS only")
    from geometry_msgs.msg import TransformStamped
    from rclpy.time import Time

    from lemumo_core.geometry.se3 import quaternion_from_rotation

    _, moves, _ = moving_arm()
    buffer, theirs = TransformBuffer(), tf2_ros.Buffer()
    for index in np.argsort(np.arange(len(moves)) + np.random.default_rng(2).normal(0, 3, 20)):
        stamp_ns, T = moves[index]
        buffer.set("map", "base", T, stamp_ns)
        stamped = TransformStamped(child_frame_id="base")
        stamped.header.frame_id = "map"
        stamped.header.stamp = Time(nanoseconds=stamp_ns).to_msg()
        names = ("w", "x", "y", "z")
        for name, number in zip(names, quaternion_from_rotation(T[:3, :3]), strict=True):
            setattr(stamped.transform.rotation, name, number)
        for name, number in zip("xyz", T[:3, 3].tolist(), strict=True):
            setattr(stamped.transform.translation, name, number)
        theirs.set_transform(stamped, "test")
    for stamp_ns in np.random.default_rng(1).integers(0, moves[-1][0], 100).tolist():
        expected = theirs.lookup_transform("map", "base", Time(nanoseconds=stamp_ns)).transform
        found = buffer.lookup("map", "base", stamp_ns)
        np.testing.assert_allclose(found, transform_to_matrix(expected), atol=1e-9)


def test_a_moving_frame_is_never_extrapolated_but_refused_by_name() -> None:
    buffer, moves, T_base_camera = moving_arm()
    newest_ns, T_map_base = moves[-1]
    for stamp_ns in (newest_ns, None):
        np.testing.assert_allclose(
            buffer.lookup("map", "camera", stamp_ns), T_map_base @ T_base_camera
        )
    for stamp_ns in (newest_ns + 1, -1):
        with pytest.raises(Fault, match="'base' in 'map' is known from") as caught:
            buffer.lookup("map", "camera", stamp_ns)
        assert caught.value.reason == "old_transform"
    np.testing.assert_array_equal(buffer.lookup("base", "camera", -1), T_base_camera)


def test_transforms_from_before_the_clock_went_back_are_forgotten() -> None:
    buffer = TransformBuffer()
    for i in range(20):
        buffer.set("map", "base", translation(i), HISTORY_NS + i * SECOND_NS)
    buffer.set("map", "base", translation(5), SECOND_NS)
    assert buffer.lookup("map", "base", SECOND_NS)[0, 3] == 5
    with pytest.raises(Fault, match="known from"):
        buffer.lookup("map", "base", HISTORY_NS + 5 * SECOND_NS)


def test_a_lookup_waits_for_transforms_that_are_still_to_come() -> None:
    buffer = TransformBuffer()
    buffer.set("base", "camera", translation(0))
    buffer.set("map", "base", translation(10), SECOND_NS)
    assert buffer.is_ahead("map", "camera", SECOND_NS + 1)
    assert not buffer.is_ahead("camera", "base", SECOND_NS + 1)
    assert not buffer.is_ahead("map", "nowhere", SECOND_NS + 1)
    later = threading.Timer(0.05, buffer.set, ("map", "base", translation(20), 2 * SECOND_NS))
    later.start()
    assert buffer.lookup("map", "camera", SECOND_NS * 3 // 2, timeout_s=60)[0, 3] == 15
    later.join()
    with pytest.raises(Fault, match="known from"):
        buffer.lookup("map", "camera", 3 * SECOND_NS, timeout_s=0.01)


class ReferenceTimeCache:
    """tf2's TimeCache by its definition (geometry2, tf2/src/cache.cpp), for one axis of x.

    A list of all transforms, newest first. An insertion goes before the first entry that is not
    newer; entries older than the newest by more than 10 s are dropped. A look-up takes an exact
    end, refuses what lies outside, and interpolates between the two entries around the stamp.
    """

    def __init__(self) -> None:
        self.entries: list[tuple[int, float]] = []

    def insert(self, stamp_ns: int, x: float) -> None:
        if self.entries and self.entries[0][0] > stamp_ns + HISTORY_NS:
            return
        at = 0
        while at < len(self.entries) and self.entries[at][0] > stamp_ns:
            at += 1
        self.entries.insert(at, (stamp_ns, x))
        while self.entries[-1][0] + HISTORY_NS < self.entries[0][0]:
            self.entries.pop()

    def x(self, stamp_ns: int) -> float | None:
        if not self.entries[-1][0] <= stamp_ns <= self.entries[0][0]:
            return None
        if stamp_ns == self.entries[0][0]:
            return self.entries[0][1]
        at = next(i for i, (entry_ns, _) in enumerate(self.entries) if entry_ns <= stamp_ns)
        (one_ns, one), (two_ns, two) = self.entries[at], self.entries[at - 1]
        return one + (two - one) * (stamp_ns - one_ns) / (two_ns - one_ns)


@pytest.mark.parametrize("seed", range(5))
def test_late_transforms_are_inserted_in_order_as_tf2_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rate_ns = int(rng.choice([5, 20, 100])) * 1_000_000
    sent = np.arange(0, 15 * SECOND_NS, rate_ns)
    # Network jitter, a tenth of all held back for long, some sent twice, some beyond the history.
    delay = rng.exponential(2 * rate_ns, len(sent)) + (rng.random(len(sent)) < 0.1) * 3e8
    sent = np.concatenate([sent, rng.choice(sent, 20)])
    arrived = np.concatenate([sent[: len(delay)] + delay, rng.uniform(0, 15e9, 20)])
    buffer, reference = TransformBuffer(), ReferenceTimeCache()
    newest, compared = 0, 0
    for i in np.argsort(arrived, kind="stable"):
        stamp_ns, x = int(sent[i]), float(rng.normal())
        if stamp_ns < newest - HISTORY_NS:
            continue  # here the two differ: see the test of the clock
        newest = max(newest, stamp_ns)
        buffer.set("map", "base", translation(x), stamp_ns)
        reference.insert(stamp_ns, x)
        asked = int(rng.integers(max(0, newest - SECOND_NS), newest + 1))
        expected = reference.x(asked)
        if expected is None:
            with pytest.raises(Fault, match="known from"):
                buffer.lookup("map", "base", asked)
            continue
        compared += 1
        assert buffer.lookup("map", "base", asked)[0, 3] == pytest.approx(expected, abs=1e-12)
    assert compared > 100


def test_the_history_of_a_moving_frame_is_bounded() -> None:
    buffer = TransformBuffer()
    for i in range(MAX_HISTORY + 100):
        buffer.set("map", "fast", translation(i), i)
        buffer.set("map", "slow", translation(i), i * SECOND_NS)
    assert buffer.lookup("map", "fast", 100)[0, 3] == 100
    newest = MAX_HISTORY + 99
    kept = HISTORY_NS // SECOND_NS
    assert buffer.lookup("map", "slow", (newest - kept) * SECOND_NS)[0, 3] == newest - kept
    for frame, stamp_ns in (("fast", 99), ("slow", (newest - kept) * SECOND_NS - 1)):
        with pytest.raises(Fault) as caught:
            buffer.lookup("map", frame, stamp_ns)
        assert caught.value.reason == "old_transform"
    assert buffer.edges() == [] and buffer.version == 0


def test_messages_of_tf_move_and_those_of_tf_static_do_not() -> None:
    buffer = TransformBuffer()
    for second, x in ((1, 10.0), (2, 20.0)):
        message = stamped("map", "base", x)
        message.header.stamp = SimpleNamespace(sec=second, nanosec=0)
        buffer.add(SimpleNamespace(transforms=[message]), moving=True)
    assert buffer.lookup("map", "base", 1_250_000_000)[0, 3] == 12.5
    buffer.add(SimpleNamespace(transforms=[stamped("map", "base", 7.0)]))
    assert buffer.lookup("map", "base", 1_250_000_000)[0, 3] == 7


def test_known_transforms() -> None:
    # The quaternion from a camera's optical axes to REP-103 body axes.
    T = transform_to_matrix(transform_message([1, 2, 3], [-0.5, 0.5, -0.5, 0.5]))
    np.testing.assert_allclose(T[:3, :3] @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(T[:3, :3] @ [1, 0, 0], [0, -1, 0], atol=1e-12)
    np.testing.assert_array_equal(T[:, 3], [1, 2, 3, 1])
    T = transform_to_matrix(transform_message([0, 0, 0], [0, 0, 0, 1.0005]))
    np.testing.assert_array_equal(T, np.eye(4))
    # Written by hand with two decimals, which tf2 takes: a quarter turn about z.
    T = transform_to_matrix(transform_message([0, 0, 0], [0, 0, 0.71, 0.71]))
    np.testing.assert_allclose(T[:3, :3] @ [1, 0, 0], [0, 1, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("t", "q"),
    [
        ([0, 0, 0], [0, 0, 0, 0]),
        ([0, 0, 0], [0, 0, 0, 1.0051]),
        ([0, 0, 0], [0, 0, 0, 0.9949]),
        ([0, 0, 0], [0, 0, np.nan, 1]),
        ([0, 0, 0], [0, 0, np.inf, 1]),
        ([np.nan, 0, 0], [0, 0, 0, 1]),
    ],
)
def test_bad_transforms(t: list[float], q: list[float]) -> None:
    assert fault_of(transform_to_matrix, transform_message(t, q)).reason == "bad_transform"


@FUZZ
@given(st.lists(NUMBER, min_size=3, max_size=3), st.lists(NUMBER, min_size=4, max_size=4))
def test_corrupt_transforms(t: list[float], q: list[float]) -> None:
    survives(transform_to_matrix, transform_message(t, q))
