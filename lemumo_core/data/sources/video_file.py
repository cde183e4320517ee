"""Single images of a video file, each decoded from the last key frame before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lemumo_core.faults import Fault


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """Times of the images of a video.

    Attributes:
        path: the file.
        pts: int64 (N,), times of the images in units of the stream, rising.
        key_pts: int64 (K,), those of key frames, rising.
        times_ns: int64 (N,), times after the first image.
    """

    path: Path
    pts: np.ndarray
    key_pts: np.ndarray
    times_ns: np.ndarray

    def at_rate(self, rate_hz: float | None) -> np.ndarray:
        """Return the numbers of the first image of each period of a rate; None takes all."""
        if rate_hz is None:
            return np.arange(len(self.pts))
        # Times are rounded to the stream's units, which must not move an image to the period before
        periods = np.floor(self.times_ns * (rate_hz / 1e9) + 1e-3)
        return np.unique(periods, return_index=True)[1]


def index_video(path: Path) -> VideoIndex:
    """Read the times of the images of a video, without decoding them.

    Raises:
        Fault: ``broken_video`` for a file that is no video or holds no images with times.
    """
    import av

    with _named(path), av.open(str(path)) as container:
        stream = _stream(container, path)
        packets = [(p.pts, p.is_keyframe) for p in container.demux(stream) if p.size]
        unit_ns = float(stream.time_base or 0) * 1e9
    pts = np.unique([pts for pts, _ in packets if pts is not None]).astype(np.int64)
    keys = np.unique([pts for pts, is_key in packets if is_key and pts is not None])
    pts = pts[pts >= keys[0]] if len(keys) else pts[:0]
    if not len(pts) or not unit_ns:
        raise Fault(
            "broken_video",
            f"{path} holds no key frame with a time: write it anew, e.g. ffmpeg -i IN OUT.mp4",
        )
    times_ns = np.rint((pts - pts[0]) * unit_ns).astype(np.int64)
    return VideoIndex(path, pts, keys.astype(np.int64), times_ns)


class VideoFile:
    """An open video, read in any order; in order it is fastest.

    Args:
        index: of the video.

    Raises:
        Fault: ``broken_video``.
    """

    def __init__(self, index: VideoIndex):
        import av

        self.index = index
        with _named(index.path):
            self._container = av.open(str(index.path))
            self._stream = _stream(self._container, index.path)
            self._stream.codec_context.options = {"err_detect": "explode"}
            self._stream.thread_type = "NONE"  # data loaders bring their own processes
        self._frames: Iterator[Any] = iter(())
        self._last_pts: int | None = None
        self._met_key = False

    def image(self, number: int) -> np.ndarray:
        """Return an image, uint8 (H, W, 3) RGB, by its number.

        Raises:
            Fault: ``broken_video`` where it cannot be decoded.
        """
        pts = int(self.index.pts[number])
        with _named(self.index.path):
            frame = self._onward(pts) or self._from_key(pts)
            if frame is not None:
                image: np.ndarray = frame.to_ndarray(format="rgb24")
                return image
        seconds = self.index.times_ns[number] / 1e9
        raise Fault("broken_video", f"{self.index.path}: its image at {seconds:.3f} s is damaged")

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _key_of(self, pts: int) -> int:
        """Return the number of the key frame that an image is decoded from."""
        return int(np.searchsorted(self.index.key_pts, pts, side="right")) - 1

    def _onward(self, pts: int) -> Any:
        """Decode on to an image, if no key frame lies between; None where that fails."""
        last = self._last_pts
        if last is None or not self.index.key_pts[self._key_of(pts)] <= last < pts:
            return None
        return self._next(pts)

    def _from_key(self, pts: int) -> Any:
        """Decode an image from the key frame before it on; None where it is damaged.

        Files without an index are sought roughly, so that this key frame may be missed: then
        decoding begins at the one before.
        """
        number = self._key_of(pts)
        key = int(self.index.key_pts[number])
        for begin in (key, int(self.index.key_pts[number - 1]) if number else 0):
            self._container.seek(begin, stream=self._stream)
            self._frames = self._decode(key)
            frame = self._next(pts)
            if frame is not None or self._met_key:
                return frame
        return None

    def _decode(self, key: int) -> Iterator[Any]:
        """Yield images from a key frame on, up to the first that is damaged."""
        import av

        self._met_key = False
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                if self._met_key:
                    return
                continue  # an image shown before the key frame is made from earlier ones, too
            for frame in frames:
                self._met_key |= frame.pts == key
                if not self._met_key and frame.pts is not None and frame.pts < key:
                    continue
                if not self._met_key or frame.is_corrupt:
                    return
                yield frame

    def _next(self, pts: int) -> Any:
        self._last_pts = None
        for frame in self._frames:
            if frame.pts is not None and frame.pts >= pts:
                self._last_pts = frame.pts
                return frame if frame.pts == pts else None
        return None


def _stream(container: Any, path: Path) -> Any:
    if not container.streams.video:
        raise Fault("broken_video", f"{path} holds no video")
    return container.streams.video[0]


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn errors of PyAV into Faults that name the file."""
    import av

    try:
        yield
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, Fault):
            raise
        raise Fault("broken_video", f"{path} cannot be read as a video: {error}") from None
