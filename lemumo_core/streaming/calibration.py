"""The model of each image of a camera, from the CameraInfo that belongs to it."""

from __future__ import annotations

from typing import Any

from lemumo_core.faults import Fault
from lemumo_core.messages.camera_info import ImageCamera, Rectified, camera_of_images
from lemumo_core.messages.info_history import CHANGES, InfoHistory
from lemumo_core.streaming.sync import Stamped


class Calibration:
    """Collects the CameraInfos of one camera and finds the model of an image.

    Args:
        input_topic: name of the CameraInfo's topic below ``~/input/``, for messages.
        image_topic: full name of the images' topic, by which ``auto`` finds rectified images.
        whole_bag: whether the CameraInfos of a whole bag are added before the first image; then
            all are kept, and images before the first one have the first one.

    Attributes:
        given: CameraInfo to use instead of all that come, or None.
    """

    def __init__(self, input_topic: str, image_topic: str = "", whole_bag: bool = False):
        self.image_topic = image_topic
        self.given: Any = None
        self.infos = InfoHistory(None if whole_bag else CHANGES)
        self._input_topic = input_topic
        self._latest: tuple[Any, Rectified, str, ImageCamera] | None = None

    def model(self, image: Stamped, rectified: Rectified = "auto") -> ImageCamera:
        """Return the model of an image, from the CameraInfo that belongs to it.

        Equal models compare equal, so what is cached by a camera, such as the maps of
        preprocessing, is computed again only when a number of the calibration changes.

        Args:
            image: Image or CompressedImage.
            rectified: as for ``camera_of_images``.

        Raises:
            Fault: ``no_camera_info``; as ``camera_of_images``.
        """
        info = self.given or self.infos.of_image(image.stamp_ns, image.arrival_ns)
        if info is None:
            late = "only newer messages than the image" if len(self.infos) else "no message yet"
            raise Fault(
                "no_camera_info",
                f"{late} on ~/input/{self._input_topic}: publish the calibration with each image, "
                "remap the topic, or give a file: camera_info_url",
            )
        latest = self._latest
        if latest is None or latest[0] is not info or latest[1:3] != (rectified, self.image_topic):
            model = camera_of_images(info, self.image_topic, rectified)
            self._latest = latest = (info, rectified, self.image_topic, model)
        return latest[3]
