"""Build the messages of a bag without ROS, as ``rosbags`` dataclasses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.messages.builder import MessageBuilder

try:
    from rosbags.typesys import get_types_from_msg
    from rosbags.typesys.store import Typestore

    from lemumo_core.bags.types import sensor_typestore
except ModuleNotFoundError:
    pass  # reported by require_rosbags, when a bag is really to be written


class RosbagsBuilder(MessageBuilder):
    """Builds messages of ``typestore``.

    Attributes:
        typestore: types of ROS 2 Kilted and of sensors, with vision_msgs where ``has_vision_msgs``.
    """

    def __init__(self) -> None:
        self.typestore: Typestore = sensor_typestore()
        self.has_vision_msgs = register_vision_msgs(self.typestore)

    def new(self, kind: str, **fields: Any) -> Any:
        """Return a message of type ``package/Name``; every field must be given."""
        return self.typestore.types[kind.replace("/", "/msg/")](**fields)

    def sequence(self, values: np.ndarray) -> np.ndarray:
        """Return the array itself, as rosbags serializes arrays."""
        return values

    def video(self, packet: bytes, codec: str, header: Any) -> Any:
        """Return a foxglove_msgs/CompressedVideo of one packet."""
        return self.new(
            "foxglove_msgs/CompressedVideo",
            timestamp=header.stamp,
            frame_id=header.frame_id,
            data=np.frombuffer(packet, np.uint8),
            format=codec,
        )

    def serialize(self, message: Any) -> bytes:
        """Return the message as CDR with its 4-byte header."""
        return bytes(self.typestore.serialize_cdr(message, message.__msgtype__))


def register_vision_msgs(typestore: Typestore) -> bool:
    """Add vision_msgs to a typestore, from the .msg files of this checkout or an installed ROS.

    Returns:
        False where neither has them.
    """
    shares = [Path(p) / "share" for p in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if p]
    for root in [Path(__file__).resolve().parents[2] / "interfaces", *shares]:
        types: dict[str, Any] = {}
        for file in sorted((root / "vision_msgs" / "msg").glob("*.msg")):
            types.update(get_types_from_msg(file.read_text(), f"vision_msgs/msg/{file.stem}"))
        if types:
            typestore.register(types)
            return True
    return False
