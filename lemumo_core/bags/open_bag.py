"""A bag held open, to read single messages of it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from lemumo_core.bags.index import LOG, BagIndex, message_stamp
from lemumo_core.bags.reader import BagReader
from lemumo_core.faults import Fault
from lemumo_core.geometry.camera import Camera
from lemumo_core.messages.camera_info import camera_from_info, rectifying_transform
from lemumo_core.messages.transforms import TransformBuffer


class OpenBag:
    """A bag held open, with what was parsed of its calibration.

    Args:
        index: of the bag.
        rectified: as for ``Bags``.
    """

    def __init__(self, index: BagIndex, rectified: bool):
        self.index, self.rectified = index, rectified
        self.reader = BagReader(index.files)
        self.transforms = transforms_of(index)
        self._cameras: dict[tuple[str, int], tuple[Camera, np.ndarray]] = {}

    def close(self) -> None:
        """Close its files."""
        self.reader.close()

    def message(self, role: str, number: int) -> Any:
        """One message, read alone."""
        topic = self.index.topics[role]
        stamp_ns, log_ns, ordinal = self.index.messages[role][number].tolist()
        found = self.reader.raw_messages([topic], log_ns, log_ns + 1)
        raw = next(itertools.islice(found, ordinal, None), None)
        if raw is None or message_stamp(raw) != stamp_ns:
            raise Fault("bag_changed", f"{topic} has no such message any more: open the bag anew")
        return self.reader.deserialize(raw.data, raw.type)

    def camera(self, role: str, log_ns: int) -> tuple[Camera, np.ndarray]:
        """The camera at a log time, and T_view_camera: the identity but for rectified images."""
        logs = self.index.messages[role][:, LOG]
        if not len(logs):
            raise Fault("no_camera_info", f"{self.index.topics[role]} is empty")
        number = max(0, int(np.searchsorted(logs, log_ns, side="right")) - 1)
        if (role, number) not in self._cameras:
            info = self.message(role, number)
            rectified = self.rectified and role == "camera_info"
            T_view_camera = rectifying_transform(info) if rectified else np.eye(4)
            self._cameras[role, number] = camera_from_info(info, rectified), T_view_camera
        return self._cameras[role, number]


def transforms_of(index: BagIndex) -> TransformBuffer:
    """What /tf_static of the bag says."""
    buffer = TransformBuffer()
    for parent, child, T in index.transforms:
        buffer.set(parent, child, T)
    return buffer
