"""Single images of a video topic, each decoded from the last key frame before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from lemumo_core.bags.reader import BagReader, RawMessage
from lemumo_core.faults import Fault
from lemumo_core.messages.video import VIDEO_TYPES, VideoDecoder, VideoImage, is_key_frame

LONGEST_REORDERING = 16
"""Packets after its own by which an image is decoded, at most: H.264's limit for B-frames."""


def key_rows(is_key: Sequence[bool]) -> np.ndarray:
    """Return, for each packet, the number of the last key frame up to it: int64 (N,).

    -1 where there is none, so that the packet cannot be decoded.
    """
    numbers = np.where(is_key, np.arange(len(is_key)), -1)
    return np.maximum.accumulate(numbers).astype(np.int64)


def packet_is_key(reader: BagReader, raw: RawMessage) -> bool:
    """Return whether a message is a key frame of a video; not where it cannot be read."""
    try:
        return is_key_frame(reader.deserialize(raw.data, raw.type))
    except Fault:
        return False


def start_of_videos(reader: BagReader, topics: Sequence[str], start_ns: int) -> dict[str, int]:
    """Return from which log time on the videos among topics must be read for images at a time.

    Args:
        reader: the bag.
        topics: topics of any type.
        start_ns: log time of the first image that is wanted.

    Returns:
        Log time of the last key frame before ``start_ns``, for each video that has one.
    """
    videos = [t.name for t in reader.topics if t.name in topics and t.type in VIDEO_TYPES]
    found = {}
    for raw in reader.raw_messages(videos, None, start_ns + 1) if videos else ():
        if packet_is_key(reader, raw):
            found[raw.topic] = raw.stamp_ns
    return found


class VideoReader:
    """Reads the images of one video topic of an open bag, in any order; in order it is fastest.

    Args:
        reader: the bag.
        topic: of the video.
        rows: int64 (N, 3), the packets as ``BagIndex.messages`` has them.
        keys: int64 (N,), as ``key_rows`` returns them.
    """

    def __init__(self, reader: BagReader, topic: str, rows: np.ndarray, keys: np.ndarray):
        self._reader, self._topic = reader, topic
        self._rows, self._keys = rows, keys
        self._decoder = VideoDecoder()
        self._packets: Iterator[RawMessage] = iter(())
        self._next = len(rows)
        self._images: dict[int, VideoImage] = {}

    def image(self, number: int) -> VideoImage:
        """Return the image of a packet, by its number in the index.

        Raises:
            Fault: ``broken_video`` or ``no_key_frame`` where the packet, or one that its image is
                made from, is damaged.
        """
        begin = int(self._keys[number])
        if number not in self._images and not begin <= self._next <= number:
            self._seek(begin)
        reason: Fault | None = None
        while number not in self._images and self._next <= number + LONGEST_REORDERING:
            raw = next(self._packets, None)
            try:
                if raw is None:
                    self._keep(self._decoder.flush())
                    self._next = len(self._rows)
                    break
                self._next += 1
                self._keep(self._decoder.decode(self._reader.deserialize(raw.data, raw.type)))
            except Fault as fault:
                reason = reason or fault
        if number not in self._images:
            raise reason or Fault("broken_video", "its packet gives no image")
        return self._images[number]

    def _seek(self, number: int) -> None:
        """Begin at a packet."""
        _, log_ns, ordinal = self._rows[number].tolist()
        packets = self._reader.raw_messages([self._topic], log_ns)
        self._packets = islice(packets, ordinal, None)
        self._decoder, self._next = VideoDecoder(number), number
        self._images.clear()

    def _keep(self, images: list[VideoImage]) -> None:
        for image in images:
            self._images[image.number] = image
        while len(self._images) > LONGEST_REORDERING:
            del self._images[next(iter(self._images))]
