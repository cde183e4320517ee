"""Play a bag through the node's own callbacks: each image becomes a Frame, or a drop with a reason.

Waiting times are measured on the bag's clock, so nothing is lost to the speed of the machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.bags.index import message_stamp
from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import BagTopics
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame
from lemumo_core.messages.stamps import header_of, stamp_to_ns
from lemumo_core.replay.settings import Settings
from lemumo_core.streaming.calibration import Calibration
from lemumo_core.streaming.camera_input import CameraInput
from lemumo_core.streaming.health import Health
from lemumo_core.streaming.sync import Pair

Callback = Callable[[Any], None]


class BagClock:
    """A clock that shows the log time of the message being played, ns."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        """Return the time, ns."""
        return self.now_ns


@dataclass(frozen=True, eq=False)
class ImageEvent:
    """An image of a bag, and the Frame it became or the reason for which it was dropped.

    Attributes:
        number: 0, 1, ... in the order of replay; the same in every replay of the bag.
        stamp_ns: header stamp of the image.
        arrival_ns: log time of the image.
        companion_ns: stamp of the companion on the image's clock, None without one.
        other_clock_ns: as ``Health.other_clock_ns``, where the image has no companion.
        frame_id: tf frame of the image.
        companion_frame_id: tf frame of the companion, empty without one.
        T_camera_header, T_fixed_camera: as in ``Frame``.
        frame: input of the network; None where the image was dropped.
        fault: reason for which the image was dropped.
    """

    number: int
    stamp_ns: int
    arrival_ns: int
    companion_ns: int | None
    frame_id: str
    frame: Frame | None = None
    fault: Fault | None = None
    companion_frame_id: str = ""
    T_camera_header: np.ndarray = field(default_factory=lambda: np.eye(4))
    other_clock_ns: int | None = None
    T_fixed_camera: np.ndarray | None = None


def select_all(number: int) -> bool:
    """Select every image."""
    return True


def image_events(
    files: Sequence[Path],
    settings: Settings,
    companion: str,
    selected: Callable[[int], bool] = select_all,
) -> Generator[ImageEvent, None, None]:
    """Open a bag and yield its events, as ``feed`` does.

    Args:
        files: files of the bag, as ``BagReader`` opens them; closed with the generator.
        settings: options of the replay.
        companion: ``lidar`` or ``thermal``, as the model takes it.
        selected: returns whether the image of this number is to be converted and yielded.

    Raises:
        Fault: ``damaged_bag``, or as ``find_topics``.
    """
    clock = BagClock()
    with BagReader(files) as reader:
        topics = settings.find_topics(reader)
        camera_input = CameraInput(
            "camera",
            companion,
            settings.camera_options(topics.lidars if companion == "lidar" else ()),
            Health(clock, companion),
            clock,
            fallback_decoder=_fallback_decoder(),
        )
        yield from feed(reader, topics, camera_input, selected)


def feed(
    reader: BagReader,
    topics: BagTopics,
    camera_input: CameraInput,
    selected: Callable[[int], bool] = select_all,
) -> Iterator[ImageEvent]:
    """Feed a bag to a camera's callbacks, and yield what becomes of each image.

    Calibration comes first, wherever in the bag it was recorded: recorders often hear of
    /tf_static and camera_info after the first images, for which they hold all the same.

    JPEGs are decoded at full size, as in training; the node may decode large ones reduced.

    Args:
        reader: the bag.
        topics: topics of the camera and its companion.
        camera_input: new input, whose clock is a ``BagClock``. A video is decoded from its first
            key frame on.
        selected: returns whether the image of this number is to be converted and yielded; the
            others cost little.

    Raises:
        Fault: ``damaged_bag``.
    """
    clock = camera_input.clock
    assert isinstance(clock, BagClock)
    _feed_calibration(reader, topics, camera_input)
    callbacks = _existing(reader, _callbacks(topics, camera_input))
    number = 0
    for raw in reader.raw_messages(callbacks):
        clock.now_ns = raw.stamp_ns
        before = Counter(camera_input.health.drops)
        try:
            message = reader.deserialize(raw.data, raw.type)
            callbacks[raw.topic](message)
        except Fault as fault:
            camera_input.health.count_drop(fault.reason, message=str(fault))
            if raw.topic == topics.image:
                if selected(number):
                    yield ImageEvent(
                        number, message_stamp(raw), raw.stamp_ns, None, "", fault=fault
                    )
                number += 1
            continue
        new_drops = Counter(camera_input.health.drops) - before
        if raw.topic == topics.image and new_drops:
            if selected(number):
                yield _dropped(number, raw.stamp_ns, message, next(iter(new_drops)))
            number += 1
        for pair in camera_input.take():
            if selected(number):
                yield _converted(number, pair, camera_input)
            number += 1
    for image in [*camera_input.rest_of_video(), None]:
        if image is not None:
            camera_input.add_image(image)
        for pair in camera_input.take(flush=True):
            if selected(number):
                yield _converted(number, pair, camera_input)
            number += 1


def _fallback_decoder() -> Callable[[Any], np.ndarray] | None:
    """Return the decoder that the node uses for unusual encodings, where one is installed."""
    decoders = entry_points(group="lemumo.image_decoders")
    return next((decoder.load() for decoder in decoders), None)


def _feed_calibration(reader: BagReader, topics: BagTopics, camera_input: CameraInput) -> None:
    """Feed all CameraInfos and static transforms of a bag, as far as it can be read."""
    clock = camera_input.clock
    assert isinstance(clock, BagClock)
    camera_input.calibration = Calibration("camera_info", topics.image, whole_bag=True)
    camera_input.calibration.given = camera_input.options.camera_info
    companion = (topics.points if camera_input.companion == "lidar" else topics.thermal) or ""
    info = "depth_info" if camera_input.companion == "lidar" else "thermal_info"
    camera_input.companion_calibration = Calibration(info, companion, whole_bag=True)
    callbacks: dict[str | None, Callback] = {
        topics.camera_info: camera_input.on_camera_info,
        getattr(topics, info): camera_input.on_companion_info,
        "/tf_static": camera_input.on_transforms,
    }
    existing = _existing(reader, callbacks)
    messages = reader.raw_messages(existing)
    while True:
        try:
            raw = next(messages, None)
            if raw is None:
                return
            clock.now_ns = raw.stamp_ns
            existing[raw.topic](reader.deserialize(raw.data, raw.type))
        except Fault as fault:
            if fault.reason == "damaged_bag":
                return  # the images are read up to there too, and say so
            camera_input.health.count_drop(fault.reason, message=str(fault))


def _callbacks(topics: BagTopics, camera_input: CameraInput) -> dict[str | None, Callback]:
    """Return the callback of each topic that the model uses, but those of calibration."""
    of_lidar = camera_input.companion == "lidar"
    companions = topics.lidars if of_lidar else (topics.thermal,)
    return {
        topics.image: partial(_add_images, camera_input),
        **{
            topic: partial(camera_input.on_companion, sensor=sensor)
            for sensor, topic in enumerate(companions)
        },
        "/tf": partial(camera_input.on_transforms, moving=True),
    }


def _add_images(camera_input: CameraInput, message: Any) -> None:
    for image in camera_input.decoded(message):
        camera_input.add_image(image)


def _existing(reader: BagReader, callbacks: dict[str | None, Callback]) -> dict[str, Callback]:
    known = {topic.name for topic in reader.topics}
    return {topic: call for topic, call in callbacks.items() if topic in known and topic}


def _converted(number: int, pair: Pair, camera_input: CameraInput) -> ImageEvent:
    image, companion = pair.image, pair.companion
    frame_id = image.message.header.frame_id
    event = ImageEvent(number, image.stamp_ns, image.arrival_ns, None, frame_id)
    if companion is None:
        event = replace(event, other_clock_ns=camera_input.health.other_clock_ns())
    else:
        companion_ns = companion.stamp_ns - camera_input.options.companion_offset_ns
        companion_frame_id = companion.message.header.frame_id
        event = replace(event, companion_ns=companion_ns, companion_frame_id=companion_frame_id)
    try:
        frame = camera_input.to_frame(pair)
    except Fault as fault:
        camera_input.health.count_drop(fault.reason, message=str(fault))
        return replace(event, fault=fault)
    T_header, T_fixed = frame.T_camera_header, frame.T_fixed_camera
    return replace(event, frame=frame, T_camera_header=T_header, T_fixed_camera=T_fixed)


def _dropped(number: int, arrival_ns: int, message: Any, reason: str) -> ImageEvent:
    """Return the event of an image that was not queued, or made the queue drop the oldest."""
    header = header_of(message)
    stamp_ns, frame_id = stamp_to_ns(header.stamp), header.frame_id
    fault = Fault(reason, f"{reason} at sync")
    return ImageEvent(number, stamp_ns, arrival_ns, None, frame_id, fault=fault)
