"""Bags whose images are a video, of packets as foxglove or ffmpeg_image_transport write them."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from lemumo_core.bags.message_builder import RosbagsBuilder
from lemumo_core.bags.reader import BagReader
from lemumo_core.messages.video import is_key_frame

IMAGE = "/camera/image_raw"
VIDEO = IMAGE + "/ffmpeg"


def encode_packets(
    images: list[np.ndarray], codec: str = "libx264", gop: int = 4, b_frames: int = 0
) -> list[tuple[int, bytes]]:
    """Packets of images by FFmpeg itself: number of the image and data, in the order of coding."""
    height, width = images[0].shape[:2]
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.framerate = Fraction(1, 10), Fraction(10)
    context.gop_size, context.max_b_frames, context.thread_count = gop, b_frames, 1
    context.options = {"preset": "veryfast", "crf": "18"}
    if codec == "libx265":
        params = f"log-level=none:keyint={gop}:bframes={b_frames}:open-gop=0:b-adapt=0"
        context.options |= {"x265-params": params}
    elif b_frames:
        context.options |= {"x264-params": "b-adapt=0:scenecut=0"}
    packets = []
    for number, image in enumerate([*images, None]):
        frame = None
        if image is not None:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
        packets += [(packet.pts, bytes(packet)) for packet in context.encode(frame)]
    return packets


def packet_message(build: Any, number: int, data: bytes, codec: str, header: Any) -> Any:
    """An FFMPEGPacket."""
    key = is_key_frame(SimpleNamespace(format=codec, data=data))
    return build.new(
        "ffmpeg_image_transport_msgs/FFMPEGPacket",
        header=header,
        width=0,
        height=0,
        encoding=f"{codec};yuv420p;rgb8;rgb8",
        pts=number,
        flags=int(key),
        is_bigendian=False,
        data=np.frombuffer(data, np.uint8),
    )


def as_video(source, out, codec: str = "libx264", gop: int = 4, b_frames: int = 0, change=None):
    """Copy a bag with its raw images as FFMPEGPackets, each recorded in the order of coding.

    Args:
        change: (position in the order of coding, data) to the data that is written, None for none.
    """
    build = RosbagsBuilder()
    with (
        BagReader(source) as reader,
        Writer(out, version=8, storage_plugin=StoragePlugin.MCAP) as writer,
    ):
        raws = [raw for raw in reader.raw_messages() if raw.topic == IMAGE]
        messages = [reader.deserialize(raw.data, raw.type) for raw in raws]
        images = [m.data.reshape(m.height, m.width, 3) for m in messages]
        packets = encode_packets(images, codec, gop, b_frames)
        connections: dict[str, Any] = {}

        def write(topic, kind, log_ns, data):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=build.typestore)
            writer.write(connections[topic], log_ns, data)

        at = 0
        for raw in reader.raw_messages():
            if raw.topic != IMAGE:
                write(raw.topic, raw.type, raw.stamp_ns, raw.data)
                continue
            number, data = packets[at]
            data = change(at, data) if change else data
            if data is not None:
                packet = packet_message(build, number, data, codec, messages[number].header)
                write(VIDEO, packet.__msgtype__, raw.stamp_ns, build.serialize(packet))
            at += 1
    return out
