"""The calibration of each image of a bag: replay takes what training takes, wherever it lies."""

from __future__ import annotations

import numpy as np
import pytest

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import find_topics
from lemumo_core.data.sources.bags import Bags
from lemumo_core.depth_projection import project_returns
from lemumo_core.replay.camera_feed import BagClock, CameraFeed
from lemumo_core.replay.image_events import feed
from lemumo_core.streaming.camera_input import CameraInput
from lemumo_core.streaming.camera_options import CameraOptions
from lemumo_core.streaming.health import Health
from tests.helpers.bag_tools import FRAMES, assert_equal_frames, rewrite

INFO, IMAGE, STATIC = "/camera/camera_info", "/camera/image_raw", "/tf_static"


def replayed(bag, rectified="auto", image=None):
    options = CameraOptions(rectified=rectified)
    camera_input = CameraInput("camera", "lidar", options, Health(), BagClock())
    with BagReader(bag) as reader:
        events = list(feed(reader, [CameraFeed(find_topics(reader, image=image), camera_input)]))
    assert [event.fault for event in events] == [None] * len(events)
    return [event.frame for event in events]


def assert_as_in_training(bag, rectified="auto"):
    frames, source = replayed(bag, rectified), Bags(bag, rectified=rectified)
    assert len(frames) == len(source) == FRAMES
    for ours, theirs in zip(frames, source, strict=True):
        assert ours.companion is not None
        assert_equal_frames(ours, theirs, atol=1e-12)
        np.testing.assert_allclose(ours.T_camera_header, theirs.T_camera_header)
    return frames


@pytest.mark.parametrize("late_ns", [50_000, 45_000_000, 800_000_000, -150_000_000])
def test_a_zooming_camera(small_bag, tmp_path, late_ns):
    """Focal lengths shrink from image to image; infos are recorded after the images, or before."""
    seen: list[int] = []

    def change(raw, message):
        if raw.topic == INFO:
            seen.append(1)
            message.k[0] = 400.0 - 11 * len(seen)
            return raw.stamp_ns + late_ns, message
        return raw.stamp_ns, message

    frames = assert_as_in_training(rewrite(small_bag, tmp_path / "zoom", change))
    assert [frame.camera.fx for frame in frames] == [389.0 - 11 * i for i in range(FRAMES)]


@pytest.mark.parametrize("topic", [INFO, STATIC])
def test_calibration_that_was_recorded_late(small_bag, tmp_path, topic):
    """Recorders hear of some topics after others: only the last message is there, at the end."""
    kept: dict[str, int] = {}

    def count(raw, message):
        kept[raw.topic] = kept.get(raw.topic, 0) + 1
        return raw.stamp_ns, message

    rewrite(small_bag, tmp_path / "count", count)
    numbers: list[int] = []

    def change(raw, message):
        if raw.topic == topic:
            numbers.append(1)
            return (raw.stamp_ns + 10**9, message) if len(numbers) == kept[topic] else None
        return raw.stamp_ns, message

    assert_as_in_training(rewrite(small_bag, tmp_path / "late", change))


def stereo_right(raw, message):
    """A rectified right camera: R turns it by 3 degrees, P shifts it by 0.3 m; K and D are raw."""
    if raw.topic == INFO:
        K = message.k.reshape(3, 3).copy()
        c, s = np.cos(np.radians(3.0)), np.sin(np.radians(3.0))
        message.r = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).ravel()
        message.p = np.hstack([K, [[-0.3 * K[0, 0]], [0], [0]]]).ravel()
        message.k[0] *= 1.2
        message.d = np.array([-0.25, 0.08, 0.0, 0.0, 0.0])
        message.distortion_model = "plumb_bob"
    return raw.stamp_ns, message


def test_rectified_images_follow_R_and_P(small_bag, tmp_path):
    bag = rewrite(small_bag, tmp_path / "right", stereo_right)
    frame = assert_as_in_training(bag, rectified=True)[0]
    original = replayed(small_bag)[0]
    scan = original.companion
    points = scan.points[:, :3] @ scan.T_camera_lidar[:3, :3].T + scan.T_camera_lidar[:3, 3]
    c, s = np.cos(np.radians(3.0)), np.sin(np.radians(3.0))
    turned = points @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T - [0.3, 0, 0]
    found = project_returns(
        frame.companion.points, frame.companion.T_camera_lidar, frame.camera, 1.0
    )
    K = original.camera.K
    expected_u = K[0, 0] * turned[found.row, 0] / turned[found.row, 2] + K[0, 2]
    assert len(found.u) > 50
    np.testing.assert_allclose(found.u, expected_u, atol=0.01)
    raw = replayed(bag)[0]  # nothing in the name /camera/image_raw says that they are rectified
    assert raw.camera.distortion and (raw.T_camera_header == np.eye(4)).all()
