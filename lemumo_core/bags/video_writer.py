"""Encode images as H.264 or H.265, packet by packet, for bags."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from lemumo_core.messages.video import require_video

QUALITY = 18
"""Constant rate factor: losses are not seen by the eye."""
KEY_FRAME_EVERY = 30
"""Images from one key frame to the next: the most that a reader decodes for one of them."""
ENCODERS = {"h264": "libx264", "h265": "libx265"}
"""Format of foxglove_msgs/CompressedVideo to FFmpeg's encoder."""


class VideoWriter:
    """Encodes the images of one camera; each packet holds one image, and none waits for a later.

    Args:
        codec: key of ``ENCODERS``.
        key_frame_every: images from one key frame to the next.

    Raises:
        ImportError: PyAV is not installed; the message says how.
    """

    def __init__(self, codec: str, key_frame_every: int = KEY_FRAME_EVERY):
        require_video()
        self.codec, self._key_frame_every = codec, key_frame_every
        self._context: Any = None
        self._number = 0

    def encode(self, image: np.ndarray) -> bytes:
        """Return the packet of an image, uint8 (H, W, 3) RGB; H and W are even."""
        import av

        if self._context is None:
            self._context = self._started(image.shape[0], image.shape[1])
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts, self._number = self._number, self._number + 1
        return b"".join(bytes(packet) for packet in self._context.encode(frame))

    def _started(self, height: int, width: int) -> Any:
        import av

        encoder = ENCODERS[self.codec]
        context: Any = av.CodecContext.create(encoder, "w")
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base, context.framerate = Fraction(1, 30), Fraction(30)
        context.gop_size, context.max_b_frames = self._key_frame_every, 0
        context.thread_count = 1
        options = {"preset": "veryfast", "tune": "zerolatency", "crf": str(QUALITY)}
        if encoder == "libx265":
            every = f"keyint={self._key_frame_every}:min-keyint=1:open-gop=0"
            options["x265-params"] = f"log-level=none:bframes=0:{every}:repeat-headers=1"
        context.options = options
        return context
