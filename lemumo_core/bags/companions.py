"""The companion of an image of a bag: a scan of one LiDAR or of several, or a thermal image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lemumo_core.bags.index import STAMP
from lemumo_core.bags.matching import Session
from lemumo_core.bags.open_bag import OpenBag
from lemumo_core.frame import LidarScan, ThermalImage
from lemumo_core.geometry.se3 import inverse
from lemumo_core.messages.camera_info import ImageCamera
from lemumo_core.messages.compressed_clouds import to_point_cloud
from lemumo_core.messages.depth_images import depth_points, depth_to_array
from lemumo_core.messages.images import thermal_to_array
from lemumo_core.messages.motion import compensate
from lemumo_core.messages.points import points_to_array
from lemumo_core.messages.scans import merge_scans


@dataclass(frozen=True, eq=False)
class CompanionOptions:
    """How companions are converted.

    Attributes:
        T_camera_companion: (4, 4) to use instead of /tf_static, or None.
        fixed_frame: as in ``CameraOptions``; empty: motion is not compensated.
    """

    T_camera_companion: np.ndarray | None = None
    fixed_frame: str = ""


class CompanionReader:
    """Reads the companions of the images of one bag.

    Args:
        session: the bag's index, matched.
        bag: the bag.
        options: how they are converted.
    """

    def __init__(self, session: Session, bag: OpenBag, options: CompanionOptions):
        self._session, self._bag, self._options = session, bag, options

    def of_image(
        self, at: int, frame_id: str, image_camera: ImageCamera
    ) -> LidarScan | ThermalImage | None:
        """Return the companion of an image; None without one.

        Args:
            at: number of the image.
            frame_id: of the image's header.
            image_camera: of the image.

        Raises:
            Fault: as the conversions of messages, and ``TransformBuffer.lookup``.
        """
        found = [
            self._converted(role, match, at, frame_id, image_camera)
            for role in self._session.companion_roles
            if (match := self._session.of_image(role, at)) is not None
        ]
        scans = [one for one in found if isinstance(one, LidarScan)]
        return merge_scans(scans) if scans else next(iter(found), None)

    def _converted(
        self, role: str, number: int, at: int, frame_id: str, image_camera: ImageCamera
    ) -> LidarScan | ThermalImage:
        session, bag, index = self._session, self._bag, self._session.index
        message = bag.message(role, number)
        T = self._options.T_camera_companion
        if T is None:
            T = bag.transforms.lookup(frame_id, message.header.frame_id)
        T = image_camera.T_image_header @ T
        stamp_ns = int(index.messages[role][number, STAMP]) - session.companion_offset_ns
        if "companion_info" not in index.topics:
            return LidarScan(self._points(message, stamp_ns, at), T, stamp_ns)
        own = bag.camera_of(role, number)
        T = T @ inverse(own.T_image_header)
        if index.companion == "lidar":
            return LidarScan(depth_points(depth_to_array(message), own.camera), T, stamp_ns)
        image = np.require(thermal_to_array(message), requirements=["C", "W"])
        return ThermalImage(image, own.camera, T, stamp_ns)

    def _points(self, message: Any, stamp_ns: int, at: int) -> np.ndarray:
        cloud = to_point_cloud(message)
        points = points_to_array(cloud)
        if not self._options.fixed_frame:
            return points
        image_ns, log_ns, _ = self._session.index.messages["image"][at].tolist()
        moving = self._bag.transforms_around(log_ns)
        return compensate(points, cloud, stamp_ns, moving, self._options.fixed_frame, image_ns)
