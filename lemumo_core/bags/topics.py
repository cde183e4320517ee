"""Find in a bag the topics of one camera and its companions."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lemumo_core.bags.depth_topics import find_depth_image, find_depth_info, is_depth
from lemumo_core.bags.reader import BagReader, Topic
from lemumo_core.bags.topic_kinds import (
    CAMERA_INFO,
    CLOUDS,
    COLOR_PICTURES,
    NOT_A_SENSOR,
    PICTURES,
    base,
    encoding,
    given_topic,
    infos_of,
    split_topics,
)
from lemumo_core.faults import Fault

THERMAL_NAME = re.compile(r"thermal|lwir|infrared|boson|lepton", re.I)
NOT_COLOR = re.compile(r"mono16|[0-9]+[UFS]+C1$|compressedDepth", re.I)
"""Encodings of depth maps, label maps and raw thermal images."""

DEPTH_CAMERA = re.compile(r"depth", re.I)
"""Name of a depth camera's topic; its cloud is a companion where there is no LiDAR."""

GROUND_TRUTH = {
    "detections": "/ground_truth/detections_3d",
    "labels": "/ground_truth/labels",
    "depth": "/ground_truth/depth",
    "ignore": "/ground_truth/ignore",
}
"""Topics that are ground truth wherever a bag has them."""
PIXEL_TRUTH = "labels", "depth", "ignore"
"""Roles of ground truth on the pixels of an image; boxes are of all cameras of a bag."""
LABEL_INFO = "/ground_truth/label_info"
"""Topic of the names of the label ids, one vision_msgs/LabelInfo."""


@dataclass(frozen=True)
class TopicSelection:
    """The topics to use, by role; None finds a topic, '' does without one.

    Attributes:
        image, camera_info: colour camera; ``image`` may choose several (``takes_several``).
        points: LiDAR, several joined by commas, or a depth camera's image.
        thermal, thermal_info: thermal camera.
        companion: ``lidar`` or ``thermal``, where a bag has both.
        detections, labels, depth: ground truth.
        depth_info: calibration of the depth camera's image.
    """

    image: str | None = None
    camera_info: str | None = None
    points: str | None = None
    thermal: str | None = None
    thermal_info: str | None = None
    companion: str | None = None
    detections: str | None = None
    labels: str | None = None
    depth: str | None = None
    ignore: str | None = None
    depth_info: str | None = None


@dataclass(frozen=True)
class BagTopics:
    """The topics of one camera and its companions; None where the bag has none.

    Attributes:
        image: image or video of the colour camera, of ``COLOR_PICTURES``.
        camera_info: CameraInfo of that camera.
        points: point cloud, of ``CLOUDS``, or Image or CompressedImage of a depth camera.
        thermal, thermal_info: thermal image and its CameraInfo.
        depth_info: CameraInfo of ``points`` where these are images.
        other_points: point clouds of further LiDARs.
    """

    image: str
    camera_info: str | None
    points: str | None
    thermal: str | None
    thermal_info: str | None
    depth_info: str | None = None
    other_points: tuple[str, ...] = ()

    @property
    def lidars(self) -> tuple[str, ...]:
        """The point clouds, or the one depth image; empty without."""
        return (self.points, *self.other_points) if self.points else ()


def find_topics(
    reader: BagReader,
    image: str | None = None,
    camera_info: str | None = None,
    points: str | None = None,
    thermal: str | None = None,
    thermal_info: str | None = None,
    depth_info: str | None = None,
) -> BagTopics:
    """Pick the topics of one camera, its calibration and its companions.

    Topics are chosen by type, then by their names and encodings: depth, label and debug
    images, ground truth and lemumo's own outputs are not sensors. The cloud of a depth camera is
    taken where there is no other. A camera_info belongs to an image by its namespace, else by its
    frame_id.

    Args:
        reader: the bag.
        image: a name to use instead.
        camera_info: a name to use instead; '' means do without.
        points: likewise; several LiDARs joined by commas.
        thermal: likewise.
        thermal_info: likewise.
        depth_info: likewise.

    Raises:
        Fault: ``no_camera``; ``no_camera_info`` for the image's; ``ambiguous_topics`` with the
            candidates and the option that chooses; ``unknown_topic`` or ``wrong_type`` for a given
            name that does not fit.
    """
    topics = [topic for topic in reader.topics if topic.count]
    sensors = [topic for topic in topics if not NOT_A_SENSOR.search(topic.name)]
    infos = [topic for topic in sensors if topic.type == CAMERA_INFO]
    heat, color = _pictures(reader)
    clouds = [topic for topic in sensors if topic.type in CLOUDS]
    clouds = clouds or [topic for topic in topics if _is_depth_camera_cloud(topic)]

    def choose(
        option: str, given: str | None, kinds: tuple[str, ...], candidates: list[Topic]
    ) -> Topic | None:
        if given is not None:
            return given_topic(reader, option, given, kinds) if given else None
        candidates = _one_per_sensor(candidates)
        if len(candidates) > 1:
            several = {
                "--image": "; replay and training take several, joined by commas, or all",
                "--points": ", or several, joined by commas, to merge them",
            }.get(option, "")
            names = ", ".join(topic.name for topic in candidates)
            raise Fault(
                "ambiguous_topics",
                f"the bag has more than one topic for {option}: {names}; choose one with {option}"
                f"{several}",
            )
        return candidates[0] if candidates else None

    picked = choose("--image", image, COLOR_PICTURES, color)
    if picked is None:
        listing = "; ".join(_described(topic, reader) for topic in reader.topics) or "nothing"
        raise Fault(
            "no_camera",
            f"the bag has no colour camera image ({', '.join(COLOR_PICTURES)}); it has "
            f"{listing}. If one of these is a camera name it with --image",
        )
    info = choose("--camera-info", camera_info, (CAMERA_INFO,), infos_of(picked, infos))
    if info is None and camera_info is None:
        names = ", ".join(topic.name for topic in infos)
        cure = "name one with --camera-info" if names else "give one with --calibration FILE"
        raise Fault(
            "no_camera_info",
            f"no camera_info belongs to {picked.name} (frame {picked.frame_id!r}) by namespace or "
            f"frame_id; the bag has {names or 'none'}: {cure}",
        )
    first, others = points, list[str]()
    if points:
        first, *others = split_topics("--points", points)
    cloud = choose("--points", first, (*CLOUDS, *PICTURES), clouds)
    for other in others:
        given_topic(reader, "--points", other, CLOUDS)
    range_info = None
    if cloud is None and points is None:
        cloud, range_info = find_depth_image(reader, topics, depth_info)
    elif cloud and cloud.type not in CLOUDS:
        if others or not is_depth(cloud, reader):
            raise Fault(
                "wrong_type",
                f"--points {points}: {cloud.name} is a {cloud.type}, expected {CLOUDS[0]} or one "
                "depth image of an RGB-D camera",
            )
        range_info = find_depth_info(reader, topics, cloud, depth_info)
        if range_info is None:
            raise Fault(
                "no_camera_info", f"{cloud.name} has no camera_info; name it with --depth-info"
            )
    warm = choose("--thermal", thermal, PICTURES, heat)
    candidates = infos_of(warm, infos) if warm else []
    warm_info = choose("--thermal-info", thermal_info, (CAMERA_INFO,), candidates)
    found = (info, cloud, warm, warm_info, range_info)
    roles = ("camera_info", "points", "thermal", "thermal_info", "depth_info")
    named = {role: topic.name if topic else None for role, topic in zip(roles, found, strict=True)}
    return BagTopics(picked.name, other_points=tuple(others), **named)


def color_cameras(reader: BagReader) -> list[Topic]:
    """Return the image topic of each colour camera of a bag."""
    return _one_per_sensor(_pictures(reader)[1])


def _pictures(reader: BagReader) -> tuple[list[Topic], list[Topic]]:
    """Return the topics of thermal and of colour cameras."""
    sensors = (t for t in reader.topics if t.count and not NOT_A_SENSOR.search(t.name))
    pictures = [topic for topic in sensors if topic.type in COLOR_PICTURES]
    heat = [t for t in pictures if _is_thermal(t, reader) and t.type in PICTURES]
    color = [topic for topic in pictures if topic not in heat and _is_color(topic, reader)]
    return heat, color


def find_roles(reader: BagReader, wanted: TopicSelection) -> tuple[str | None, dict[str, str]]:
    """Return the topics for training, by role.

    Returns:
        Kind of the companion, ``lidar``, ``thermal`` or None; and role to topic, where roles are
        image, camera_info, companion, companion_info, those of ``GROUND_TRUTH`` and label_info;
        companion_1 and so on for further LiDARs.

    Raises:
        Fault: as ``find_topics``; ``ambiguous_companion`` or ``no_companion`` where ``wanted``
            does not say which of two to use, or wants one that is not there; ``no_camera_info``.
    """
    without_points, without_thermal = wanted.companion == "thermal", wanted.companion == "lidar"
    found = find_topics(
        reader,
        wanted.image,
        wanted.camera_info,
        "" if without_points else wanted.points,
        "" if without_thermal else wanted.thermal,
        "" if without_thermal else wanted.thermal_info,
        wanted.depth_info,
    )
    if found.points and found.thermal:
        raise Fault(
            "ambiguous_companion",
            f"the bag has {found.points} and {found.thermal}: choose companion lidar or thermal",
        )
    companion = "lidar" if found.points else "thermal" if found.thermal else None
    if wanted.companion not in (None, companion):
        raise Fault("no_companion", f"the bag has no {wanted.companion} topic")
    if companion == "thermal" and found.thermal_info is None:
        raise Fault(
            "no_camera_info", f"{found.thermal} has no camera_info; name it with --thermal-info"
        )
    present = {topic.name for topic in reader.topics if topic.count}
    truth = {}
    for role, usual in GROUND_TRUTH.items():
        given = getattr(wanted, role)
        if given and given not in present:
            raise Fault("unknown_topic", f"the bag has no {role} topic {given}")
        truth[role] = (usual if usual in present else None) if given is None else given
    roles = {
        "image": found.image,
        "camera_info": found.camera_info,
        "companion": found.points or found.thermal,
        "companion_info": found.depth_info if found.points else found.thermal_info,
        **{f"companion_{i}": name for i, name in enumerate(found.other_points, 1)},
        **truth,
        "label_info": LABEL_INFO if LABEL_INFO in present else None,
    }
    return companion, {role: topic for role, topic in roles.items() if topic}


def _described(topic: Topic, reader: BagReader) -> str:
    """Describe a topic for a message; an image by what it shows."""
    text = f"{topic.name} [{topic.type}] x {topic.count}"
    if topic.type not in COLOR_PICTURES or not topic.count:
        return text
    kinds = {
        "a thermal image": _is_thermal(topic, reader),
        "a depth image": is_depth(topic, reader) and "depth" in topic.name.lower(),
    }
    words = [kind for kind, holds in kinds.items() if holds][:1]
    return f"{text} ({', '.join([*words, encoding(topic, reader)])})"


def _is_thermal(topic: Topic, reader: BagReader) -> bool:
    return bool(THERMAL_NAME.search(topic.name) or THERMAL_NAME.search(topic.frame_id))


def _is_depth_camera_cloud(topic: Topic) -> bool:
    other_words = DEPTH_CAMERA.sub("", topic.name)
    is_depth = other_words != topic.name
    return topic.type in CLOUDS and is_depth and not NOT_A_SENSOR.search(other_words)


def _is_color(topic: Topic, reader: BagReader) -> bool:
    return not NOT_COLOR.search(encoding(topic, reader).split(";")[0])


def _one_per_sensor(topics: list[Topic]) -> list[Topic]:
    """Return the topics, of the transports of one sensor (X, X/compressed) only the plainest."""
    ranks = {kind: rank for rank, kind in enumerate((*COLOR_PICTURES, *CLOUDS))}
    plainest: dict[str, Topic] = {}
    for topic in sorted(topics, key=lambda topic: ranks.get(topic.type, 0), reverse=True):
        plainest[base(topic.name)] = topic
    return [topic for topic in topics if plainest[base(topic.name)] is topic]
