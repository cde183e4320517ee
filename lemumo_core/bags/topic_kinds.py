"""Kinds of the topics of a bag, by type, name and the encoding of their images."""

from __future__ import annotations

import difflib
import re

from lemumo_core.bags.reader import BagReader, Topic
from lemumo_core.faults import Fault
from lemumo_core.messages.compressed_clouds import COMPRESSED_CLOUD, LIVOX_TYPES
from lemumo_core.messages.video import VIDEO_TYPES

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
POINT_CLOUD = "sensor_msgs/msg/PointCloud2"
PICTURES = (IMAGE, COMPRESSED_IMAGE)
"""Types whose messages are images of their own."""
COLOR_PICTURES = (*PICTURES, *VIDEO_TYPES)
CLOUDS = (POINT_CLOUD, COMPRESSED_CLOUD, *LIVOX_TYPES)
TRANSPORTS = {
    COMPRESSED_IMAGE: "/compressed",
    "ffmpeg_image_transport_msgs/msg/FFMPEGPacket": "/ffmpeg",
    "foxglove_msgs/msg/CompressedVideo": "/foxglove",
}
"""Type to the suffix that image_transport gives its topic."""
CLOUD_SUFFIXES = ("/draco", "/zlib", "/zstd", "/cloudini")
"""Suffixes that point_cloud_transport gives to topics."""

NOT_A_SENSOR = re.compile(
    r"depth|disparity|confidence|label|segment|mask|overlay|debug|ground_truth|/lemumo|/output/points"
    r"|infra[12]/",  # RealSense's near infrared stereo pair, neither colour nor thermal
    re.I,
)


def split_topics(option: str, words: str) -> list[str]:
    """Return topics that a user joined by commas.

    A topic that is there twice would be taken twice: a LiDAR's return that is masked from the model
    would stay in its copy.

    Raises:
        Fault: ``bad_option`` for a topic without a name, and for one that is there twice.
    """
    names = [word.strip() for word in words.split(",")]
    if "" in names or len(set(names)) < len(names):
        what = "lacks a topic beside a comma" if "" in names else "has a topic twice"
        right = ",".join(dict.fromkeys(name for name in names if name))
        raise Fault("bad_option", f"{option} {words} {what}: write {option} {right}")
    return names


def given_topic(reader: BagReader, option: str, name: str, kinds: tuple[str, ...]) -> Topic:
    """Return the topic of a name that the user gave, if it is of one of these types.

    Raises:
        Fault: ``unknown_topic``, ``wrong_type``.
    """
    found = [topic for topic in reader.topics if topic.name == name]
    if not found:
        listing = "; ".join(f"{topic.name} [{topic.type}]" for topic in reader.topics) or "nothing"
        close = difflib.get_close_matches(name, [topic.name for topic in reader.topics], n=1)
        guess = f": did you mean {close[0]}?" if close else f", which has {listing}"
        raise Fault("unknown_topic", f"{option} {name} is not in the bag{guess}")
    if found[0].type not in kinds:
        raise Fault(
            "wrong_type", f"{option} {name} is a {found[0].type}, expected {' or '.join(kinds)}"
        )
    return found[0]


def encoding(topic: Topic, reader: BagReader) -> str:
    """Return the encoding or format of a topic's first image."""
    message = reader.first(topic.name)
    return str(getattr(message, "encoding", getattr(message, "format", "")))


def base(name: str) -> str:
    """Return the image topic that a transport's topic belongs to: X of X/compressed."""
    for suffix in (*TRANSPORTS.values(), *CLOUD_SUFFIXES, "/compressedDepth"):
        name = name.removesuffix(suffix)
    return name


def infos_of(image: Topic, infos: list[Topic]) -> list[Topic]:
    """Return the CameraInfos of an image's namespace, else of its frame."""
    namespace = base(image.name).rpartition("/")[0]
    beside = [info for info in infos if info.name.rpartition("/")[0] == namespace]
    return beside or [info for info in infos if image.frame_id and info.frame_id == image.frame_id]
