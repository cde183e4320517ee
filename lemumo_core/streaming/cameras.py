"""The inputs of all cameras of a node, and the order in which their frames are served."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from lemumo_core.messages.stamps import stamp_to_ns
from lemumo_core.messages.transforms import TransformBuffer
from lemumo_core.streaming.camera_input import CameraInput
from lemumo_core.streaming.camera_options import CameraOptions
from lemumo_core.streaming.companions import PointCloud
from lemumo_core.streaming.health import Health
from lemumo_core.streaming.sync import Pair


class ReadyPair(NamedTuple):
    """A pair that is ready to be processed, and its camera."""

    camera: CameraInput
    pair: Pair


class Cameras:
    """The inputs of all cameras, and a mailbox of one frame for each.

    A newer frame replaces one that was not served yet, which is counted as ``busy``. Cameras are
    served in the order in which they became ready, so that none starves, and none waits for a
    camera that sends nothing.

    Args:
        options: options by camera name; one input is created for each.
        companion: ``lidar``, one for all cameras, or ``thermal``, one for each.
        clock: returns the time, ns, of a steady clock.
        stamp_clock: returns the time, ns, of the clock of the messages' stamps.
        fallback_decoder: as for ``CameraInput``.

    Attributes:
        inputs: inputs by camera name.
        transforms: buffer that all cameras share.
        arrived: event that is set whenever a message arrives.
    """

    def __init__(
        self,
        options: Mapping[str, CameraOptions],
        companion: str,
        clock: Callable[[], int],
        stamp_clock: Callable[[], int],
        fallback_decoder: Callable[[Any], np.ndarray] | None = None,
    ):
        self.transforms = TransformBuffer()
        self.arrived = threading.Event()
        self.inputs = {
            name: CameraInput(
                name,
                companion,
                camera_options,
                Health(clock, companion, stamp_clock),
                clock,
                self.transforms,
                fallback_decoder,
            )
            for name, camera_options in options.items()
        }
        self._clock, self._stamp_clock = clock, stamp_clock
        self._mailbox: dict[str, ReadyPair] = {}

    def set_options(self, options: Mapping[str, CameraOptions]) -> None:
        """Replace the options, by camera name."""
        for name, camera_options in options.items():
            self.inputs[name].set_options(camera_options)

    def notifying(self, callback: Callable[[Any], None]) -> Callable[[Any], None]:
        """Return a callback that calls the given one and then sets ``arrived``."""

        def call(message: Any) -> None:
            callback(message)
            self.arrived.set()

        return call

    def on_points(
        self, message: Any, names: Collection[str] | None = None, sensor: int = 0
    ) -> None:
        """Queue a point cloud for the cameras of these names; None: for all.

        Args:
            message: PointCloud2 or CompressedPointCloud2.
            names: of cameras.
            sensor: which of ``CameraOptions.lidars`` it is of.
        """
        times_ns = self._clock(), self._stamp_clock()
        cloud = PointCloud(stamp_to_ns(message.header.stamp), times_ns[0], message, times_ns[1])
        for name, camera in self.inputs.items():
            if names is None or name in names:
                camera.add_companion(cloud, sensor)

    def on_transforms(self, message: Any, moving: bool = False) -> None:
        """Add a TFMessage of ``/tf_static``, or of ``/tf``; a fault counts for the first camera."""
        next(iter(self.inputs.values())).on_transforms(message, moving)

    def take(self, limit: int, delivered: Callable[[], int] | None = None) -> list[ReadyPair]:
        """Remove and return the frames to serve now; those that have waited longest come first.

        Args:
            limit: number of frames in all; of a camera there is one at most.
            delivered: as for ``CameraInput.take``.
        """
        for name, camera in self.inputs.items():
            pairs = camera.take(delivered=delivered)
            if pairs:
                skipped = len(pairs) - 1 + (name in self._mailbox)
                camera.health.count_drop("busy", skipped)
                self._mailbox[name] = ReadyPair(camera, pairs[-1])  # keeps its place in the order
        names = list(self._mailbox)[:limit]
        return [self._mailbox.pop(name) for name in names]

    def clear(self) -> None:
        """Drop the frames that wait."""
        self._mailbox.clear()
        for camera in self.inputs.values():
            camera.take(flush=True)
