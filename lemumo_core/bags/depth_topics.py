"""Find the depth image of an RGB-D camera in a bag."""

from __future__ import annotations

import re

from lemumo_core.bags.reader import BagReader, Topic
from lemumo_core.bags.topic_kinds import (
    CAMERA_INFO,
    IMAGE,
    NOT_A_SENSOR,
    PICTURES,
    base,
    encoding,
    given_topic,
    infos_of,
)
from lemumo_core.faults import Fault

DEPTH_NAME = re.compile(r"depth|stereo", re.I)
DEPTH_ENCODING = re.compile(r"(16UC1|mono16|32FC1)$")
OWN_OUTPUT = re.compile(r"/output/depth")
REGISTERED = re.compile(r"registered|registration|aligned|_to_(rgb|color|colour)", re.I)
"""Names of depth images, and of those that are in the colour camera's view."""


def find_depth_image(
    reader: BagReader, topics: list[Topic], depth_info: str | None
) -> tuple[Topic | None, Topic | None]:
    """Return the depth image that takes a LiDAR's place, and its CameraInfo; (None, None) if none.

    RealSense, ZED, Orbbec and others have several: one in the colour camera's view comes first,
    since its registration is the manufacturer's.
    """
    found = []
    for topic in topics:
        other_words = DEPTH_NAME.sub("", topic.name)
        if topic.type not in PICTURES or other_words == topic.name:
            continue
        if NOT_A_SENSOR.search(other_words) or OWN_OUTPUT.search(topic.name):
            continue
        if is_depth(topic, reader):
            found.append(topic)
    names = {topic.name for topic in found}
    found = [topic for topic in found if topic.type == IMAGE or base(topic.name) not in names]
    found = [topic for topic in found if REGISTERED.search(topic.name)] or found
    infos = [find_depth_info(reader, topics, topic, depth_info) for topic in found]
    pairs = [(topic, info) for topic, info in zip(found, infos, strict=True) if info]
    if len(pairs) > 1:
        raise Fault(
            "ambiguous_topics",
            "the bag has more than one depth image: "
            f"{', '.join(topic.name for topic, _ in pairs)}; choose one with --points, or do "
            'without with --points ""',
        )
    return pairs[0] if pairs else (None, None)


def is_depth(image: Topic, reader: BagReader) -> bool:
    """Return whether the images of a topic are depth images, by their encoding."""
    return bool(DEPTH_ENCODING.match(encoding(image, reader).split(";")[0].strip()))


def find_depth_info(
    reader: BagReader, topics: list[Topic], image: Topic, given: str | None
) -> Topic | None:
    """Return the CameraInfo of a depth image: the one given, or by namespace or frame."""
    if given is not None:
        return given_topic(reader, "--depth-info", given, (CAMERA_INFO,)) if given else None
    infos = [topic for topic in topics if topic.type == CAMERA_INFO]
    return next(iter(infos_of(image, infos)), None)
