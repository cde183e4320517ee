"""Play a bag through the node's own callbacks: each image becomes a Frame, or a drop with a reason.

Waiting times are measured on the bag's clock, so nothing is lost to the speed of the machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.bags.index import message_stamp
from lemumo_core.bags.reader import BagReader
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame
from lemumo_core.messages.stamps import header_of, stamp_to_ns
from lemumo_core.messages.transforms import TransformBuffer
from lemumo_core.replay.camera_feed import (
    BagClock,
    CameraFeed,
    feed_calibration,
    image_callbacks,
)
from lemumo_core.replay.settings import Settings
from lemumo_core.streaming.camera_input import CameraInput
from lemumo_core.streaming.health import Health
from lemumo_core.streaming.sync import Pair


@dataclass(frozen=True, eq=False)
class ImageEvent:
    """An image of a bag, and the Frame it became or the reason for which it was dropped.

    Attributes:
        number: 0, 1, ... among those of its camera; the same in every replay of the bag.
        stamp_ns: header stamp of the image.
        arrival_ns: log time of the image.
        companion_ns: stamp of the companion on the image's clock, None without one.
        other_clock_ns: as ``Health.other_clock_ns``, where the image has no companion.
        frame_id: tf frame of the image.
        companion_frame_id: tf frame of the companion, empty without one.
        T_camera_header, T_fixed_camera: as in ``Frame``.
        frame: input of the network; None where the image was dropped.
        fault: reason for which the image was dropped.
        camera: name of its camera; empty where the replay is of one.
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
    camera: str = ""


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
        Fault: ``damaged_bag``, or as ``find_topics`` and ``cameras_of``.
    """
    clock, transforms = BagClock(), TransformBuffer()
    with BagReader(files) as reader:
        cameras = [
            CameraFeed(
                topics,
                CameraInput(
                    name or "camera",
                    companion,
                    settings.camera_options(topics.lidars if companion == "lidar" else ()),
                    Health(clock, companion),
                    clock,
                    transforms,
                    fallback_decoder=_fallback_decoder(),
                ),
                name,
            )
            for name, topics in settings.find_cameras(reader).items()
        ]
        yield from feed(reader, cameras, selected)


def feed(
    reader: BagReader,
    cameras: Sequence[CameraFeed],
    selected: Callable[[int], bool] = select_all,
) -> Iterator[ImageEvent]:
    """Feed a bag to the callbacks of its cameras, and yield what becomes of each image.

    Calibration comes first, wherever in the bag it was recorded: recorders often hear of
    /tf_static and camera_info after the first images, for which they hold all the same.

    Images come in the order in which they are ready, as the node takes them; the point clouds serve
    all cameras. JPEGs are decoded at full size, as in training; the node may decode large ones
    reduced.

    Args:
        reader: the bag.
        cameras: new, of one ``BagClock`` and one buffer of transforms. A video is decoded from its
            first key frame on.
        selected: returns whether the image of this number is to be converted and yielded; the
            others cost little.

    Raises:
        Fault: ``damaged_bag``.
    """
    clock = cameras[0].input.clock
    assert isinstance(clock, BagClock)
    feed_calibration(reader, cameras)
    callbacks = image_callbacks(reader, cameras)
    of_image = {camera.topics.image: camera for camera in cameras}
    for raw in reader.raw_messages(callbacks):
        clock.now_ns = raw.stamp_ns
        owner = of_image.get(raw.topic)
        counting = (owner or cameras[0]).input.health
        before = Counter(counting.drops)
        try:
            message = reader.deserialize(raw.data, raw.type)
            callbacks[raw.topic](message)
        except Fault as fault:
            counting.count_drop(fault.reason, message=str(fault))
            if owner and selected(number := owner.count_image()):
                stamp_ns = message_stamp(raw)
                yield ImageEvent(
                    number, stamp_ns, raw.stamp_ns, None, "", fault=fault, camera=owner.name
                )
            continue
        new_drops = Counter(counting.drops) - before
        if owner and new_drops and selected(number := owner.count_image()):
            yield _dropped(owner, number, raw.stamp_ns, message, next(iter(new_drops)))
        for camera in cameras:
            yield from _ready(camera, selected)
    for camera in cameras:
        for image in [*camera.input.rest_of_video(), None]:
            if image is not None:
                camera.input.add_image(image)
            yield from _ready(camera, selected, flush=True)


def _fallback_decoder() -> Callable[[Any], np.ndarray] | None:
    """Return the decoder that the node uses for unusual encodings, where one is installed."""
    decoders = entry_points(group="lemumo.image_decoders")
    return next((decoder.load() for decoder in decoders), None)


def _ready(
    camera: CameraFeed, selected: Callable[[int], bool], flush: bool = False
) -> Iterator[ImageEvent]:
    """Yield the selected images of a camera that are ready; ``flush`` releases all."""
    for pair in camera.input.take(flush):
        if selected(number := camera.count_image()):
            yield _converted(camera, number, pair)


def _converted(camera: CameraFeed, number: int, pair: Pair) -> ImageEvent:
    image, companion, camera_input = pair.image, pair.companion, camera.input
    frame_id = image.message.header.frame_id
    event = ImageEvent(number, image.stamp_ns, image.arrival_ns, None, frame_id, camera=camera.name)
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


def _dropped(
    camera: CameraFeed, number: int, arrival_ns: int, message: Any, reason: str
) -> ImageEvent:
    """Return the event of an image that was not queued, or made the queue drop the oldest."""
    header = header_of(message)
    stamp_ns, frame_id = stamp_to_ns(header.stamp), header.frame_id
    fault = Fault(reason, f"{reason} at sync")
    return ImageEvent(number, stamp_ns, arrival_ns, None, frame_id, fault=fault, camera=camera.name)
