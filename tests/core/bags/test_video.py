"""Bags with H.264 and H.265 images: what is replayed and trained on, and what is refused."""

from __future__ import annotations

import builtins
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="bags need: pip install '.[bags]'")
pytest.importorskip("av", reason="video needs: pip install '.[video]'")

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import find_topics
from lemumo_core.bags.video import start_of_videos
from lemumo_core.bags.writer import write_bag
from lemumo_core.data.sources.bags import Bags
from lemumo_core.messages.video import VideoDecoder, is_key_frame
from lemumo_core.replay.camera_feed import BagClock, CameraFeed
from lemumo_core.replay.image_events import feed
from lemumo_core.streaming.camera_input import CameraInput
from lemumo_core.streaming.camera_options import CameraOptions
from lemumo_core.streaming.health import Health
from tests.helpers.bag_tools import assert_equal_frames
from tests.helpers.message_builders import fault_of
from tests.helpers.small_frames import small_frames
from tests.helpers.video_bag import VIDEO, as_video, encode_packets

COUNT, GOP = 12, 4
LEAST_PSNR_DB = 38.0
"""Of images coded at a constant rate factor of 18, which are smooth."""


@pytest.fixture(scope="module")
def moving():
    """Frames whose image moves, as video coders expect."""
    rng = np.random.default_rng(3)
    scene = cv2.resize(rng.integers(60, 200, (4, 13, 3), np.uint8), (320, 96))
    return [
        replace(frame, image=np.ascontiguousarray(scene[:, 4 * i : 4 * i + 160]))
        for i, frame in enumerate(small_frames(COUNT))
    ]


@pytest.fixture(scope="module")
def raw_bag(moving, tmp_path_factory):
    out = tmp_path_factory.mktemp("video") / "raw"
    write_bag(moving, out)
    return out


def psnr_db(one, other):
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return 10 * np.log10(255**2 / error)


def replayed(bag):
    health = Health()
    camera_input = CameraInput("camera", "lidar", CameraOptions(), health, BagClock())
    with BagReader(bag) as reader:
        return list(feed(reader, [CameraFeed(find_topics(reader), camera_input)])), health


CASES = [("libx264", 0), ("libx264", 2), ("libx265", 0), ("libx265", 2)]


@pytest.mark.parametrize(("codec", "b_frames"), CASES)
def test_both_roads_see_every_image_within_coding_loss(raw_bag, moving, tmp_path, codec, b_frames):
    bag = as_video(raw_bag, tmp_path / "bag", codec, GOP, b_frames)
    events, health = replayed(bag)
    assert [event.fault for event in events] == [None] * COUNT
    assert not health.drops
    source = Bags(bag)
    by_stamp = {frame.stamp_ns: frame for frame in source}
    assert sorted(by_stamp) == [frame.stamp_ns for frame in moving]
    for event, original in zip(events, moving, strict=True):
        assert psnr_db(event.frame.image, original.image) > LEAST_PSNR_DB
        assert_equal_frames(event.frame, by_stamp[original.stamp_ns], atol=1e-12)
        np.testing.assert_array_equal(event.frame.companion.points, original.companion.points)


def test_any_image_is_found_from_its_key_frame(raw_bag, tmp_path):
    """In any order, forwards and back, and in a window that begins between two key frames."""
    source = Bags(as_video(raw_bag, tmp_path / "bag", gop=GOP))
    in_order = [frame.image for frame in source]
    for i in np.random.default_rng(0).permutation(COUNT).tolist():
        np.testing.assert_array_equal(source[i].image, in_order[i])
    with BagReader(source.path) as reader:
        sixth = [raw.stamp_ns for raw in reader.raw_messages([VIDEO])][6]
        found = start_of_videos(reader, [VIDEO], sixth)
        packets = list(reader.raw_messages([VIDEO], found[VIDEO]))
        decoder = VideoDecoder()
        images = [decoder.decode(reader.deserialize(raw.data, raw.type)) for raw in packets]
    assert len(packets) == COUNT - GOP
    np.testing.assert_array_equal(images[2][0].to_rgb(), in_order[6])


def halved(at):
    return lambda position, data: data[: len(data) // 2] if position == at else data


@pytest.mark.parametrize(
    ("change", "lost", "reasons"),
    [
        (halved(5), {5, 6, 7}, {"broken_video": 1, "no_key_frame": 2}),
        (lambda i, data: None if i < 2 else data, {2, 3}, {"no_key_frame": 2}),
        (halved(COUNT - 1), {COUNT - 1}, {"broken_video": 1}),
    ],
    ids=["damaged", "begins between key frames", "cut off"],
)
def test_nothing_is_made_of_a_damaged_packet(raw_bag, moving, tmp_path, change, lost, reasons):
    """Nor of those that build upon it, up to the next key frame; each is counted by a name."""
    bag = as_video(raw_bag, tmp_path / "bag", gop=GOP, change=change)
    events, health = replayed(bag)
    assert dict(health.drops) == reasons
    seen = {event.stamp_ns: event.frame.image for event in events if event.frame is not None}
    kept = [i for i in range(COUNT) if moving[i].stamp_ns in seen]
    written = {i for i in range(COUNT) if change(i, b"..") is not None}
    assert set(kept) == written - lost
    assert all(psnr_db(seen[moving[i].stamp_ns], moving[i].image) > LEAST_PSNR_DB for i in kept)
    source = Bags(bag)
    for frame_number, stamp_ns in enumerate(source.stamps_ns.tolist()):
        if stamp_ns in seen:
            np.testing.assert_array_equal(source[frame_number].image, seen[stamp_ns])
        else:
            assert fault_of(source.__getitem__, frame_number).reason in reasons


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_bags_are_written_as_video(moving, tmp_path, codec):
    write_bag(moving, tmp_path / "bag", video=codec)
    events, _ = replayed(tmp_path / "bag")
    quality = [psnr_db(e.frame.image, f.image) for e, f in zip(events, moving, strict=True)]
    assert min(quality) > LEAST_PSNR_DB


def test_key_frames_are_those_that_the_coder_made(moving):
    images = [frame.image for frame in moving[:6]]
    for codec in ("libx264", "libx265"):
        packets = encode_packets(images, codec, gop=3)
        keys = [is_key_frame(SimpleNamespace(format=codec, data=data)) for _, data in packets]
        assert keys == [True, False, False] * 2


def test_other_codecs_and_a_missing_library_are_named(monkeypatch):
    packet = SimpleNamespace(format="av1", data=b"", timestamp=None, frame_id="")
    fault = fault_of(VideoDecoder().decode, packet)
    assert fault.reason == "unsupported_encoding"
    assert "'av1'" in str(fault)

    def absent(name, *rest):
        if name == "av":
            raise ModuleNotFoundError("No module named 'av'", name="av")
        return real(name, *rest)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"pip install '(av|\.\[video)"):
        VideoDecoder()
