"""Assignment of the Frames of a source to shards."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from lemumo_core.data.frame_records import VERSION
from lemumo_core.data.sources import FrameSource
from lemumo_core.faults import Fault


@dataclass(frozen=True)
class Plan:
    """Plan of a corpus of shards: frames in order, cut into ranges of equal length.

    Attributes:
        configuration: all that decides the bytes of the shards, as JSON values.
    """

    configuration: dict[str, Any]

    @staticmethod
    def make(
        source: FrameSource, frames: int | None, frames_per_shard: int, jpeg: int | None
    ) -> Plan:
        """Plan the shards of a source.

        Raises:
            Fault: ``bad_option``, or ``no_frames`` where there are none.
        """
        if frames is not None and frames < 1:
            raise Fault("bad_option", f"frames = {frames} must be at least 1")
        if frames_per_shard < 1:
            raise Fault("bad_option", f"frames_per_shard = {frames_per_shard} must be at least 1")
        if jpeg is not None and not 1 <= jpeg <= 100:
            raise Fault("bad_option", f"jpeg = {jpeg} must be a quality from 1 to 100")
        total = len(source) if frames is None else min(frames, len(source))
        if not total:
            raise Fault("no_frames", f"the source has no frames: {source.describe()}")
        configuration = {
            "version": VERSION,
            "source": source.describe(),
            "frames": total,
            "frames_per_shard": frames_per_shard,
            "jpeg": jpeg,
        }
        return Plan(json.loads(json.dumps(configuration)))

    @property
    def frames(self) -> int:
        """Number of frames."""
        frames: int = self.configuration["frames"]
        return frames

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.frames // self.configuration["frames_per_shard"])

    def rows(self, shard: int) -> range:
        """Return the indices into the source of one shard's frames."""
        size = self.configuration["frames_per_shard"]
        return range(self.frames)[shard * size : (shard + 1) * size]

    def name(self, shard: int) -> str:
        """Return the file name of a shard."""
        return f"shard-{shard:06d}.arrow"
