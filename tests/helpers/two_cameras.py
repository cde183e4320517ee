"""A bag of two cameras."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.bags.reader import BagReader
from tests.helpers.bag_tools import write_messages

T_FRONT_REAR = np.array([[-1.0, 0, 0, 0.2], [0, 1, 0, -0.1], [0, 0, -1, -1.5], [0, 0, 0, 1]])
"""A camera that looks back."""
INFO, IMAGE = "/camera/camera_info", "/camera/image_raw"


def stamp_of(message: Any) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def with_rear_camera(bag: Path, out: Path) -> Path:
    """Copy a bag, with its images, darker and 10 ms later, as those of a camera that looks back."""
    messages = []
    with BagReader(bag) as reader:
        for raw in reader.raw_messages():
            message = reader.deserialize(bytearray(raw.data), raw.type)
            messages.append((raw.stamp_ns, raw.topic, message))
            if raw.topic in (INFO, IMAGE):
                rear = copy.deepcopy(message)
                rear.header.frame_id = "rear_optical"
                sec, nanosec = divmod(stamp_of(rear) + 10_000_000, 10**9)
                rear.header.stamp.sec, rear.header.stamp.nanosec = sec, nanosec
                if raw.topic == IMAGE:
                    rear.data = rear.data // 2
                messages.append((raw.stamp_ns, raw.topic.replace("/camera", "/rear"), rear))
            if raw.topic == "/tf_static":
                front = next(t for t in message.transforms if "camera" in t.child_frame_id)
                rear = copy.deepcopy(front)
                rear.header.frame_id, rear.child_frame_id = front.child_frame_id, "rear_optical"
                for part, values in (
                    (
                        rear.transform.translation,
                        dict(zip("xyz", T_FRONT_REAR[:3, 3], strict=True)),
                    ),
                    (rear.transform.rotation, {"x": 0.0, "y": 1.0, "z": 0.0, "w": 0.0}),
                ):
                    for name, value in values.items():
                        setattr(part, name, float(value))
                message.transforms.append(rear)
    return write_messages(out, messages)
