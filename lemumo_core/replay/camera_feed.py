"""Feed a bag to the callbacks of its cameras: who takes which topic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lemumo_core.bags.index import TF_STATIC
from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topics import BagTopics
from lemumo_core.faults import Fault
from lemumo_core.streaming.calibration import Calibration
from lemumo_core.streaming.camera_input import CameraInput
from lemumo_core.streaming.companions import stamped_companion

Callback = Callable[[Any], None]


class BagClock:
    """A clock that shows the log time of the message being played, ns."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        """Return the time, ns."""
        return self.now_ns


@dataclass
class CameraFeed:
    """A camera of a bag that is fed.

    Attributes:
        topics: of the camera and its companion.
        input: of the camera.
        name: as ``ImageEvent.camera``.
        images: number of its images so far.
    """

    topics: BagTopics
    input: CameraInput
    name: str = ""
    images: int = 0

    def count_image(self) -> int:
        """Return the number of the next image."""
        self.images += 1
        return self.images - 1

    def add(self, message: Any) -> None:
        """Queue the images that a message brings."""
        for image in self.input.decoded(message):
            self.input.add_image(image)


def feed_calibration(reader: BagReader, cameras: Sequence[CameraFeed]) -> None:
    """Feed all CameraInfos and static transforms of a bag, as far as it can be read."""
    clock = cameras[0].input.clock
    assert isinstance(clock, BagClock)
    wanted: dict[str, list[Callback]] = {TF_STATIC: [cameras[0].input.on_transforms]}
    for topics, camera_input in ((camera.topics, camera.input) for camera in cameras):
        camera_input.calibration = Calibration("camera_info", topics.image, whole_bag=True)
        camera_input.calibration.given = camera_input.options.camera_info
        companion = (topics.points if camera_input.companion == "lidar" else topics.thermal) or ""
        info = "depth_info" if camera_input.companion == "lidar" else "thermal_info"
        camera_input.companion_calibration = Calibration(info, companion, whole_bag=True)
        for topic, callback in (
            (topics.camera_info, camera_input.on_camera_info),
            (getattr(topics, info), camera_input.on_companion_info),
        ):
            if topic:
                wanted.setdefault(topic, []).append(callback)
    callbacks = _existing(reader, {topic: _each(calls) for topic, calls in wanted.items()})
    messages = reader.raw_messages(callbacks)
    while True:
        try:
            raw = next(messages, None)
            if raw is None:
                return
            clock.now_ns = raw.stamp_ns
            callbacks[raw.topic](reader.deserialize(raw.data, raw.type))
        except Fault as fault:
            if fault.reason == "damaged_bag":
                return  # the images are read up to there too, and say so
            cameras[0].input.health.count_drop(fault.reason, message=str(fault))


def image_callbacks(reader: BagReader, cameras: Sequence[CameraFeed]) -> dict[str, Callback]:
    """Return the callback of each topic that the model uses, but those of calibration."""
    companions: dict[str, list[tuple[CameraInput, int]]] = {}
    for camera in cameras:
        of_lidar = camera.input.companion == "lidar"
        for sensor, topic in enumerate(
            camera.topics.lidars if of_lidar else (camera.topics.thermal,)
        ):
            if topic:
                companions.setdefault(topic, []).append((camera.input, sensor))
    found: dict[str, Callback] = {
        **{camera.topics.image: camera.add for camera in cameras},
        **{topic: partial(_add_companion, inputs) for topic, inputs in companions.items()},
        "/tf": partial(cameras[0].input.on_transforms, moving=True),
    }
    return _existing(reader, found)


def _add_companion(inputs: Sequence[tuple[CameraInput, int]], message: Any) -> None:
    """Queue a companion, which is converted once, for all cameras that it serves."""
    first, _ = inputs[0]
    stamped = stamped_companion(first.companion, message, first.clock())
    for camera_input, sensor in inputs:
        camera_input.add_companion(stamped, sensor)


def _each(callbacks: Sequence[Callback]) -> Callback:
    """Return a callback that calls several."""

    def call(message: Any) -> None:
        for callback in callbacks:
            callback(message)

    return call


def _existing(reader: BagReader, callbacks: dict[str, Callback]) -> dict[str, Callback]:
    known = {topic.name for topic in reader.topics}
    return {topic: call for topic, call in callbacks.items() if topic in known}
