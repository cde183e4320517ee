"""A bag through the node's own callbacks: every image becomes a Frame, or is dropped by name.

Nothing is lost to time: waits are measured on the bag's clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import BagTopics
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame
from lemumo_core.messages.stamps import stamp_to_ns
from lemumo_core.streaming.camera_input import CameraInput
from lemumo_core.streaming.sync import Pair


class BagClock:
    """The log time of the message being replayed, ns."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


@dataclass(frozen=True, eq=False)
class Instant:
    """What became of one image of a bag.

    Attributes:
        number: 0, 1, ... in the order of replay; the same in every replay of the bag.
        stamp_ns, arrival_ns: the image's header stamp and log time.
        companion_ns: stamp of the companion, None without one.
        frame_id: of the image.
        frame: what the network is given; None where it was dropped.
        fault: why it was dropped.
    """

    number: int
    stamp_ns: int
    arrival_ns: int
    companion_ns: int | None
    frame_id: str
    frame: Frame | None = None
    fault: Fault | None = None


def feed(
    reader: BagReader,
    topics: BagTopics,
    camera_input: CameraInput,
    wanted: Callable[[int], bool] = lambda number: True,
) -> Iterator[Instant]:
    """Feed a bag to a camera's callbacks.

    JPEGs are decoded whole, as in training; the node may decode large ones reduced.

    Args:
        reader, topics: the bag, and which of its topics are which input.
        camera_input: fresh; its clock must be the ``BagClock`` of this replay.
        wanted: which instants, by number, are converted and returned; the others cost little.

    Raises:
        Fault: ``damaged_bag``.
    """
    clock = camera_input.clock
    assert isinstance(clock, BagClock)
    callbacks = _callbacks(topics, camera_input)
    known = {topic.name for topic in reader.topics}
    number = 0
    for raw in reader.raw_messages([topic for topic in callbacks if topic in known]):
        clock.now_ns = raw.stamp_ns
        before = Counter(camera_input.health.drops)
        try:
            message = reader.deserialize(raw.data, raw.type)
            callbacks[raw.topic](message)
        except Fault as fault:
            camera_input.health.count_drop(fault.reason, message=str(fault))
            if raw.topic == topics.image:
                if wanted(number):
                    yield Instant(number, 0, raw.stamp_ns, None, "", fault=fault)
                number += 1
            continue
        new_drops = Counter(camera_input.health.drops) - before
        if raw.topic == topics.image and new_drops:
            if wanted(number):
                yield _dropped(number, raw.stamp_ns, message, next(iter(new_drops)))
            number += 1
        for pair in camera_input.take():
            if wanted(number):
                yield _converted(number, pair, camera_input)
            number += 1
    for pair in camera_input.take(flush=True):
        if wanted(number):
            yield _converted(number, pair, camera_input)
        number += 1


def _callbacks(topics: BagTopics, camera_input: CameraInput) -> dict[str, Callable[[Any], None]]:
    """Topic to callback, of the topics that the bag has and the model takes."""
    companion = topics.points if camera_input.companion == "lidar" else topics.thermal
    found: dict[str | None, Callable[[Any], None]] = {
        topics.image: camera_input.on_image,
        topics.camera_info: camera_input.on_camera_info,
        topics.thermal_info: camera_input.on_thermal_info,
        companion: camera_input.on_companion,
        "/tf_static": camera_input.on_transforms,
        "/tf": partial(camera_input.on_transforms, moving=True),
    }
    return {topic: callback for topic, callback in found.items() if topic is not None}


def _converted(number: int, pair: Pair, camera_input: CameraInput) -> Instant:
    image, companion = pair.image, pair.companion
    about = (
        *(number, image.stamp_ns, image.arrival_ns),
        None if companion is None else companion.stamp_ns,
        image.message.header.frame_id,
    )
    try:
        return Instant(*about, frame=camera_input.to_frame(pair))
    except Fault as fault:
        camera_input.health.count_drop(fault.reason, message=str(fault))
        return Instant(*about, fault=fault)


def _dropped(number: int, arrival_ns: int, message: Any, reason: str) -> Instant:
    """The image that just came, and was not queued (or pushed out the oldest one)."""
    stamp_ns, frame_id = stamp_to_ns(message.header.stamp), message.header.frame_id
    return Instant(
        number, stamp_ns, arrival_ns, None, frame_id, fault=Fault(reason, f"{reason} at sync")
    )
