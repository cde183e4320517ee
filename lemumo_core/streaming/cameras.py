"""All cameras of a node: their inputs, and whose frame is next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from lemumo_core.messages.stamps import stamp_to_ns
from lemumo_core.messages.transforms import TransformBuffer
from lemumo_core.streaming.camera_input import CameraInput, PointCloud
from lemumo_core.streaming.health import Health
from lemumo_core.streaming.sync import Pair
from lemumo_ros.parameters import Parameters


class Due(NamedTuple):
    """A pair that is ready, and whose."""

    camera: CameraInput
    pair: Pair


class Cameras:
    """The inputs of all cameras, and a mailbox of one frame for each.

    A newer frame takes the place of one that was not served yet, which is counted as ``busy``.
    Cameras are served in the order in which they became ready, so that none starves; one that is
    silent is not waited for.

    Args:
        settings: one input is made for each camera.
        companion: ``lidar``, one for all cameras, or ``thermal``, one for each.
        clock: now, ns, steady.
        stamp_clock: now, ns, on the clock of the messages' stamps.

    Attributes:
        inputs: by name.
        transforms: of all cameras.
        arrived: set whenever something came.
    """

    def __init__(
        self,
        settings: Parameters,
        companion: str,
        clock: Callable[[], int],
        stamp_clock: Callable[[], int],
    ):
        self.transforms = TransformBuffer()
        self.arrived = threading.Event()
        self.inputs = {
            name: CameraInput(
                name,
                companion,
                tolerance_ns=0,
                deadline_ns=0,
                health=Health(clock, companion, stamp_clock),
                clock=clock,
                transforms=self.transforms,
            )
            for name in settings.by_camera
        }
        self.tune(settings)
        self._clock = clock
        self._mailbox: dict[str, Due] = {}

    def tune(self, settings: Parameters) -> None:
        """Take over new values of the parameters that may change at any time."""
        for name, of_camera in settings.by_camera.items():
            camera = self.inputs[name]
            camera.extrinsics = of_camera.T_camera_companion
            camera.thermal_window = of_camera.thermal_window
            camera.matcher.offset_ns = int(of_camera.companion_offset_ms * 1e6)
            camera.matcher.tolerance_ns = int(settings.sync_tolerance_ms * 1e6)
            camera.matcher.deadline_ns = int(settings.companion_deadline_ms * 1e6)

    def waking(self, callback: Callable[[Any], None]) -> Callable[[Any], None]:
        """A callback of an input that also sets ``arrived``."""

        def call(message: Any) -> None:
            callback(message)
            self.arrived.set()

        return call

    def on_points(self, message: Any) -> None:
        """PointCloud2 for all cameras."""
        cloud = PointCloud(stamp_to_ns(message.header.stamp), self._clock(), message)
        for camera in self.inputs.values():
            camera.add_companion(cloud)

    def on_transforms(self, message: Any, moving: bool = False) -> None:
        """TFMessage of ``/tf_static``, or of ``/tf``; a fault counts for the first camera."""
        next(iter(self.inputs.values())).on_transforms(message, moving)

    def take(self, most: int) -> list[Due]:
        """Frames to serve now, at most one of a camera, those that wait longest first."""
        for name, camera in self.inputs.items():
            pairs = camera.take()
            if pairs:
                passed_over = len(pairs) - 1 + (name in self._mailbox)
                camera.health.count_drop("busy", passed_over)
                self._mailbox[name] = Due(camera, pairs[-1])  # keeps its place in the order
        names = list(self._mailbox)[:most]
        return [self._mailbox.pop(name) for name in names]

    def clear(self) -> None:
        """Forget the frames that wait."""
        self._mailbox.clear()
        for camera in self.inputs.values():
            camera.take(flush=True)
