"""The cameras of a bag that are taken at once, and their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.topic_kinds import base, split_topics
from lemumo_core.bags.topics import color_cameras, find_topics
from lemumo_core.faults import Fault

ALL = "all"
"""In the place of an image's topic it stands for every colour camera of a bag."""


def takes_several(image: str | None) -> bool:
    """Return whether a choice of images is ``ALL``, or names several topics, joined by commas."""
    return image == ALL or "," in (image or "")


def cameras_of(reader: BagReader, image: str) -> dict[str, str]:
    """Return the image topics of several cameras by the names of the cameras.

    Args:
        reader: the bag.
        image: as ``takes_several`` takes it.

    Raises:
        Fault: ``no_camera`` where there is none; as ``split_topics``.
    """
    topics = split_topics("--image", image)
    if image == ALL:
        topics = sorted(topic.name for topic in color_cameras(reader))
        if not topics:
            find_topics(reader)  # raises, and lists what there is
    return dict(zip(camera_names(topics), topics, strict=True))


def camera_name(topic: str) -> str:
    """Return the namespace nearest to the image: front of /sensors/front/image_raw/compressed."""
    parts = _parts(topic)
    return parts[-2] if len(parts) > 1 else "camera"


def camera_names(topics: Sequence[str]) -> list[str]:
    """Return the name of the camera of each topic; where two are alike, with all that differs."""
    names = [camera_name(topic) for topic in topics]
    times = Counter(names)
    return [
        name if times[name] == 1 else "_".join(_parts(topic))
        for name, topic in zip(names, topics, strict=True)
    ]


def check_of_one_camera(image: str | None, **options: Any) -> None:
    """Check that options which are of one camera are not given where several are taken.

    Args:
        image: choice of the images.
        options: by name; None and '' are not given.

    Raises:
        Fault: ``bad_option``, naming those that are given.
    """
    given = [
        name
        for name, value in options.items()
        if value is not None and not (isinstance(value, str) and not value)
    ]
    if given and takes_several(image):
        raise Fault(
            "bad_option",
            f"image is '{image}', and {' and '.join(given)} would be of one camera: leave this "
            "out, or name one camera by image",
        )


def _parts(topic: str) -> list[str]:
    return base(topic).strip("/").split("/")
