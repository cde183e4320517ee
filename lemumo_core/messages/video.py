"""H.264 and H.265 video: packets, each of one image, and the images that they are decoded to.

Packets are foxglove_msgs/CompressedVideo, or ffmpeg_image_transport_msgs/FFMPEGPacket. Both hold
Annex B NAL units, and parameter sets come with each key frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lemumo_core.extras import require
from lemumo_core.faults import Fault
from lemumo_core.messages.image_files import MAX_PIXELS
from lemumo_core.messages.stamps import header_of

FOXGLOVE_VIDEO = "foxglove_msgs/msg/CompressedVideo"
FFMPEG_PACKET = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
VIDEO_TYPES = (FOXGLOVE_VIDEO, FFMPEG_PACKET)
CODECS = {"264": "h264", "avc": "h264", "265": "hevc", "hevc": "hevc"}
"""Parts of the names of encoders, such as libx264 or hevc_nvenc, to FFmpeg's decoder."""
KEY_UNITS = {"h264": (5,), "hevc": tuple(range(16, 22))}
"""NAL unit types that a key frame consists of: IDR; IRAP."""
LAST_SLICE_UNIT = {"h264": 5, "hevc": 31}
"""Largest NAL unit type of a slice: the first slice says what the image is."""
KEY_FLAG = 1
"""AV_PKT_FLAG_KEY, in the flags of an FFMPEGPacket."""
LONGEST_DELAY = 64
"""Packets for which the header of an image that never came is kept."""


@dataclass(frozen=True, eq=False)
class VideoImage:
    """A decoded image, which is converted to RGB only where it is used.

    Attributes:
        header: of its packet.
        number: of its packet, counted from the decoder's ``first`` on.
        frame: PyAV's VideoFrame.
    """

    header: Any
    number: int
    frame: Any

    def to_rgb(self) -> np.ndarray:
        """Return the image: uint8 (H, W, 3) RGB."""
        return np.asarray(self.frame.to_ndarray(format="rgb24"))


class VideoDecoder:
    """Decodes the packets of one topic, in the order in which they were encoded.

    After a packet that is damaged, nothing is returned until the next key frame, because all images
    in between are made from the damaged one. With B-frames images come later than their packets,
    in the order of their stamps.

    Args:
        first: number of the first packet.

    Raises:
        ImportError: PyAV is not installed; the message says how.
    """

    def __init__(self, first: int = 0):
        require_video()
        self._next = first
        self._codec = ""
        self._context: Any = None
        self._was_damaged = False
        self._headers: dict[int, Any] = {}

    def decode(self, message: Any) -> list[VideoImage]:
        """Decode one packet; return the images that are complete by it, most often one.

        Raises:
            Fault: ``unsupported_encoding``; ``no_key_frame`` while none has come yet, or since a
                packet was damaged; ``broken_video`` for the damaged packet itself.
        """
        import av

        codec = codec_of(message)
        if codec != self._codec:
            self._begin(codec)
        number, self._next = self._next, self._next + 1
        if self._context is None:
            if not is_key_frame(message):
                raise Fault("no_key_frame", self._why_waiting())
            self._context = _context(codec)
        self._headers[number] = header_of(message)
        self._headers.pop(number - LONGEST_DELAY, None)
        packet = av.Packet(bytes(message.data))
        packet.pts = number
        try:
            return self._images(self._context.decode(packet))
        except (av.error.FFmpegError, ValueError) as error:
            self._begin(codec)
            self._was_damaged = True
            words = error.strerror if isinstance(error, av.error.FFmpegError) else error
            raise Fault(
                "broken_video",
                f"a {codec} packet of {len(message.data)} bytes cannot be decoded ({words}): "
                "images come again from the next key frame on",
            ) from None

    def flush(self) -> list[VideoImage]:
        """Return the images that are left, at the end of the video."""
        import av

        if self._context is None:
            return []
        try:
            return self._images(self._context.decode(None))
        except (av.error.FFmpegError, ValueError):
            return []  # they belong to packets that were cut off
        finally:
            self._begin(self._codec)

    def _begin(self, codec: str) -> None:
        self._codec, self._context = codec, None
        self._was_damaged = False
        self._headers.clear()

    def _images(self, frames: list[Any]) -> list[VideoImage]:
        images = []
        for frame in frames:
            if frame.is_corrupt:
                raise ValueError("parts of the image are missing")
            if frame.pts in self._headers:
                images.append(VideoImage(self._headers.pop(frame.pts), frame.pts, frame))
        return images

    def _why_waiting(self) -> str:
        since = "since a packet was damaged" if self._was_damaged else "yet"
        return (
            f"no key frame of the {self._codec} video has come {since}: let the encoder send one "
            "every second or two (gop_size)"
        )


def require_video() -> None:
    """Raise ImportError with the line that installs PyAV, where it is missing."""
    require("av", "H.264 and H.265 need PyAV")


def is_video(message: Any) -> bool:
    """Return whether a message is a packet of a video."""
    return hasattr(message, "pts") or (hasattr(message, "timestamp") and hasattr(message, "format"))


def codec_of(message: Any) -> str:
    """Return the codec of a packet: ``h264`` or ``hevc``.

    Raises:
        Fault: ``unsupported_encoding`` for another one.
    """
    described = str(message.encoding if hasattr(message, "pts") else message.format)
    encoder = described.partition(";")[0].strip().lower()
    for part, codec in CODECS.items():
        if part in encoder:
            return codec
    raise Fault(
        "unsupported_encoding", f"video '{described}' is neither H.264 nor H.265: encode it so"
    )


def is_key_frame(message: Any) -> bool:
    """Return whether a packet's image can be decoded without those before it.

    Raises:
        Fault: as ``codec_of``.
    """
    codec = codec_of(message)
    if hasattr(message, "pts") and message.flags & KEY_FLAG:
        return True
    data, at = bytes(message.data), -1
    while (at := data.find(b"\0\0\1", at + 1)) >= 0 and at + 3 < len(data):
        unit = data[at + 3] & 31 if codec == "h264" else data[at + 3] >> 1 & 63
        if unit in KEY_UNITS[codec]:
            return True
        if unit <= LAST_SLICE_UNIT[codec] and not (codec == "h264" and unit == 0):
            return False
    return False


def _context(codec: str) -> Any:
    """Return a decoder that reports damage instead of hiding it, and holds nothing back."""
    import av

    options = {"err_detect": "explode", "max_pixels": str(MAX_PIXELS)}
    context = av.CodecContext.create(codec, "r")
    context.options = options
    context.thread_type = "SLICE"  # threads over images would deliver each of them later
    return context
