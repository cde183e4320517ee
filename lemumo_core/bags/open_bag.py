"""Read single messages of a bag that stays open."""

from __future__ import annotations

import itertools
from typing import Any

from lemumo_core.bags.index import LOG, STAMP, BagIndex, message_stamp
from lemumo_core.bags.reader import BagReader
from lemumo_core.bags.video import VideoReader
from lemumo_core.faults import Fault
from lemumo_core.messages.camera_info import ImageCamera, Rectified, camera_of_images
from lemumo_core.messages.info_history import info_of_image
from lemumo_core.messages.transforms import TransformBuffer

INFO_OF = {"image": "camera_info", "companion": "companion_info"}
"""Role of an image to that of its CameraInfo."""


AROUND_NS = 1_000_000_000
"""Time around an image from which /tf is read."""


class OpenBag:
    """A bag that stays open, with its calibration parsed.

    Args:
        index: index of the bag.
        rectified: as for ``Bags``.
        camera_info: CameraInfo of the images instead of the bag's, or None.
    """

    def __init__(self, index: BagIndex, rectified: Rectified, camera_info: Any = None):
        self.index, self.rectified, self._given_info = index, rectified, camera_info
        self.reader = BagReader(index.files)
        self._video: VideoReader | None = None
        if len(index.keys):
            rows = index.messages["image"]
            self._video = VideoReader(self.reader, index.topics["image"], rows, index.keys)
        self.transforms = transforms_of(index)
        self._cameras: dict[tuple[str, int], ImageCamera] = {}
        self._around: tuple[int, TransformBuffer] | None = None

    def close(self) -> None:
        """Close the files of the bag."""
        self.reader.close()

    def message(self, role: str, number: int) -> Any:
        """Read one message of a role, by its number in the index; of a video it is the image.

        Raises:
            Fault: ``bag_changed`` where the bag has no such message any more; as
                ``VideoReader.image``.
        """
        if role == "image" and self._video is not None:
            return self._video.image(number)
        topic = self.index.topics[role]
        stamp_ns, log_ns, ordinal = self.index.messages[role][number].tolist()
        found = self.reader.raw_messages([topic], log_ns, log_ns + 1)
        raw = next(itertools.islice(found, ordinal, None), None)
        if raw is None or message_stamp(raw) != stamp_ns:
            raise Fault("bag_changed", f"{topic} has no such message any more: open the bag again")
        return self.reader.deserialize(raw.data, raw.type)

    def camera(self, role: str, stamp_ns: int, log_ns: int) -> ImageCamera:
        """Return the model of an image of a role, ``image`` or ``companion``.

        Args:
            role: of the image.
            stamp_ns: of the image's header.
            log_ns: when the image was recorded.
        """
        if role == "image" and self._given_info is not None:
            topic = self.index.topics[role]
            return camera_of_images(self._given_info, topic, self.rectified)
        info_role = INFO_OF[role]
        if info_role not in self.index.topics:
            raise Fault(
                "no_camera_info",
                f"{self.index.topics[role]} has no camera_info: give --calibration",
            )
        rows = self.index.messages[info_role]
        if not len(rows):
            raise Fault("no_camera_info", f"{self.index.topics[info_role]} is empty")
        # Images before the first CameraInfo have that one: all of a bag is known.
        number = info_of_image(rows[:, STAMP], rows[:, LOG], stamp_ns, log_ns) or 0
        if (role, number) not in self._cameras:
            # What is set of the camera says nothing of a thermal one beside it.
            rectified = self.rectified if role == "image" else "auto"
            info = self.message(info_role, number)
            self._cameras[role, number] = camera_of_images(info, self.index.topics[role], rectified)
        return self._cameras[role, number]

    def camera_of(self, role: str, number: int) -> ImageCamera:
        """Return the model of an image of a role, by its number in the index."""
        stamp_ns, log_ns, _ = self.index.messages[role][number].tolist()
        return self.camera(role, stamp_ns, log_ns)

    def transforms_around(self, log_ns: int) -> TransformBuffer:
        """Return the transforms of /tf_static, and those of /tf from around a log time."""
        if self._around is not None and self._around[0] == log_ns:
            return self._around[1]
        buffer = transforms_of(self.index)
        if any(topic.name == "/tf" for topic in self.reader.topics):
            window = log_ns - AROUND_NS, log_ns + AROUND_NS
            for raw in self.reader.raw_messages(["/tf"], *window):
                buffer.add(self.reader.deserialize(raw.data, raw.type), moving=True)
        self._around = log_ns, buffer
        return buffer


def transforms_of(index: BagIndex) -> TransformBuffer:
    """Return the transforms of /tf_static of the bag."""
    buffer = TransformBuffer()
    for parent, child, T in index.transforms:
        buffer.set(parent, child, T)
    return buffer
