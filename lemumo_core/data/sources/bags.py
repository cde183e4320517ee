"""ROS 2 bags as Frames: recordings of cameras and their LiDAR or thermal companion.

The bytes are read by the very functions that the node uses, so training sees what the vehicle
sees. Nothing is ever held of a bag but its index (``bag_index``) and the frame at hand.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lemumo_core.bags.cameras import check_of_one_camera, takes_several
from lemumo_core.bags.companions import CompanionOptions, CompanionReader
from lemumo_core.bags.index import STAMP, BagIndex, find_bags, load_indices
from lemumo_core.bags.matching import Session
from lemumo_core.bags.open_bag import OpenBag, transforms_of
from lemumo_core.bags.reader import require_rosbags
from lemumo_core.bags.topics import TopicSelection
from lemumo_core.data.sources.bag_truth import labels_of
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, Labels
from lemumo_core.geometry.se3 import check_rigid, inverse
from lemumo_core.messages.calibration_file import read_calibration
from lemumo_core.messages.camera_info import ImageCamera, Rectified
from lemumo_core.messages.images import image_to_rgb

MAX_OPEN = 32
"""Bags that are held open at once; the one unused for longest is closed first. Opening one again
takes as long as reading ten frames or more."""


class Bags:
    """Frames of the bags at a path, each bag a session with topics and calibration of its own.

    Args:
        path: a bag, a list of bags, or a folder of any depth with mcap and sqlite3 bags.
        image: topic of the images; of this and the next four, None finds the topic, see
            ``find_topics``, and '' does without. ``all`` takes every colour camera of a bag, and
            several topics, joined by commas, these, one after the other; label maps, depth and
            regions to ignore are then those of the camera whose frame their header names.
        camera_info: topic of their calibration.
        points: topic of the point clouds; of several LiDARs, joined by commas: their points are
            merged by /tf_static.
        thermal: topic of the thermal images.
        thermal_info: topic of their calibration.
        companion: ``lidar`` or ``thermal``; None takes whichever a bag has, or none.
        tolerance_ms: the companion is the one nearest by header stamps, at most this far off;
            images without one have the companion None.
        companion_offset: seconds by which the companion's stamps are ahead of the images', where
            it has another clock; any value.
        T_camera_companion: (4, 4), or its 16 numbers by row, to use instead of /tf_static, into
            the optical frame of the image's header.
        detections: topic of 3D boxes, Detection3DArray. Of this and the next three, None takes the
            one of ``GROUND_TRUTH`` that a bag has, '' does without. Ground truth belongs to the
            image nearest to it, at most ``tolerance_ms`` away; what is on an image's pixels, where
            the bag has several cameras, to the one whose frame its header names.
        labels: topic of mono8 ids, as in ``Labels.label_map``, which a LabelInfo on
            ``LABEL_INFO`` may name.
        depth: topic of 32FC1 metres.
        ignore: topic of regions as in ``Labels.ignore``, Detection2DArray.
        rectified: the images are rectified ones; ``auto`` decides by the topic's name
            (``camera_info.images_are_rectified``). The Frame's camera is then the rectified one,
            and companion and boxes are turned into its frame.
        depth_info: topic of the calibration of depth images that ``points`` names.
        fixed_frame: frame of /tf, as in ``CameraOptions``, in which Frames then have their poses;
            empty: motion is not compensated.
        calibration: YAML file of camera_calibration, instead of the bag's camera_info.

    Messages without a header stamp have the time at which they were recorded.

    A Frame's camera is the CameraInfo of its stamp, else the last before it (``info_of_image``).
    Indexing reads each bag once, and caches what it found. An mcap file without chunks has no index
    of its own, so that every frame of it is a search from the start.

    Raises:
        ImportError: rosbags is not installed; the message says how.
        FileNotFoundError: no bag at the path.
        Fault: naming the bag: as ``BagReader`` and ``find_topics``; ``missing_transform`` where
            /tf_static does not connect camera and companion; ``ambiguous_companion``,
            ``no_companion``, ``no_camera_info``. On a frame: naming bag and stamp, where a message
            is damaged.
    """

    def __init__(
        self,
        path: str | Path | Sequence[str | Path],
        image: str | None = None,
        camera_info: str | None = None,
        points: str | None = None,
        thermal: str | None = None,
        thermal_info: str | None = None,
        companion: Literal["lidar", "thermal"] | None = None,
        tolerance_ms: float = 50.0,
        companion_offset: float = 0.0,
        T_camera_companion: np.ndarray | None = None,
        detections: str | None = None,
        labels: str | None = None,
        depth: str | None = None,
        ignore: str | None = None,
        rectified: Rectified = "auto",
        depth_info: str | None = None,
        fixed_frame: str = "",
        calibration: str | None = None,
    ):
        require_rosbags()
        self.path = path
        self.tolerance_ns = round(tolerance_ms * 1e6)
        self.companion_offset_ns = round(companion_offset * 1e9)
        self.rectified = rectified
        self.camera_info = None if calibration is None else read_calibration(calibration)
        self.T_camera_companion = None
        if T_camera_companion is not None:
            self.T_camera_companion = check_rigid(T_camera_companion, "T_camera_companion")
        self._companion_options = CompanionOptions(self.T_camera_companion, fixed_frame)
        wanted = TopicSelection(
            *(image, "" if calibration else camera_info, points, thermal, thermal_info, companion),
            *(detections, labels, depth, ignore, depth_info),
        )
        check_of_one_camera(
            image,
            camera_info=camera_info,
            calibration=calibration,
            T_camera_companion=T_camera_companion,
        )
        self.image, self.has_several_cameras = image, takes_several(image)
        self.bags = [
            self._session(index)
            for files in find_bags(path)
            for index in load_indices(files, wanted)
        ]
        self._ends = np.cumsum([len(bag) for bag in self.bags])
        self._open: OrderedDict[int, OpenBag] = OrderedDict()
        self._process = os.getpid()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Frame:
        number, at = self._locate(index)
        session = self.bags[number]
        try:
            return self._frame(session, self._opened(number), at)
        except Fault as fault:
            stamp_ns = session.index.messages["image"][at, STAMP]
            raise Fault(
                fault.reason, f"{session.index.name}, image of {stamp_ns} ns: {fault}"
            ) from fault

    @property
    def stamps_ns(self) -> np.ndarray:
        """Header stamps of the images, int64 (N,); no image is read."""
        return np.concatenate([bag.index.messages["image"][:, STAMP] for bag in self.bags])

    @property
    def camera_names(self) -> np.ndarray:
        """Name of the camera of each image, str (N,); no image is read."""
        return np.repeat([bag.index.camera for bag in self.bags], [len(bag) for bag in self.bags])

    def labels(self, index: int) -> Labels | None:
        """Return the ground truth of a frame, without its image and companion.

        Raises:
            Fault: as a frame.
        """
        number, at = self._locate(index)
        session, bag = self.bags[number], self._opened(number)
        return labels_of(session, bag, at, session.index.frame_ids["image"])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``, and each bag.

        A bag has its path, its topics, and how many of its frames found a companion and each kind
        of ground truth.
        """
        root = {"root": str(self.path)} if isinstance(self.path, str | Path) else {}
        return {
            "source": "bags",
            **root,
            "frames": len(self),
            "tolerance_ms": self.tolerance_ns / 1e6,
            "rectified": self.rectified,
            **({"image": self.image} if self.has_several_cameras else {}),
            "companion_offset": self.companion_offset_ns / 1e9,
            "unmatched_companions": sum(bag.unmatched for bag in self.bags),
            "bags": [bag.describe() for bag in self.bags],
        }

    def _locate(self, index: int) -> tuple[int, int]:
        """Return the number of the bag of a frame, and which of its images it is."""
        index = range(len(self))[index]
        number = int(np.searchsorted(self._ends, index, side="right"))
        return number, index - int(self._ends[number]) + len(self.bags[number])

    def _session(self, index: BagIndex) -> Session:
        """Make a session after a check of the one thing that would fail on every frame."""
        session = Session(index, self.tolerance_ns, self.companion_offset_ns)
        if self.T_camera_companion is None:
            for role in session.companion_roles:
                try:
                    transforms_of(index).lookup(index.frame_ids["image"], index.frame_ids[role])
                except Fault as fault:
                    raise Fault(
                        fault.reason, f"{index.name}: {fault}, or give T_camera_companion"
                    ) from None
        return session

    def _opened(self, number: int) -> OpenBag:
        if self._process != os.getpid():  # a fork shares the files' positions with its parent
            self._open, self._process = OrderedDict(), os.getpid()
        if number not in self._open:
            while len(self._open) >= MAX_OPEN:
                self._open.popitem(last=False)[1].close()
            self._open[number] = OpenBag(self.bags[number].index, self.rectified, self.camera_info)
        self._open.move_to_end(number)
        return self._open[number]

    def _frame(self, session: Session, bag: OpenBag, at: int) -> Frame:
        index = session.index
        message = bag.message("image", at)
        image_camera = bag.camera_of("image", at)
        camera = image_camera.camera
        image = image_to_rgb(message)
        if image.shape[:2] != (camera.height, camera.width):
            raise Fault(
                "camera_info_mismatch",
                f"the image is {image.shape[1]}x{image.shape[0]}, its camera_info "
                f"{camera.width}x{camera.height}",
            )
        frame_id = message.header.frame_id
        return Frame(
            stamp_ns=int(index.messages["image"][at, STAMP]),
            camera_name=index.camera,
            camera=camera,
            image=_own(image),
            companion=CompanionReader(session, bag, self._companion_options).of_image(
                at, frame_id, image_camera
            ),
            labels=labels_of(session, bag, at, frame_id),
            T_camera_header=image_camera.T_image_header,
            T_fixed_camera=self._pose(bag, index, at, image_camera),
        )

    def _pose(
        self, bag: OpenBag, index: BagIndex, at: int, image_camera: ImageCamera
    ) -> np.ndarray | None:
        """Return ``Frame.T_fixed_camera``; None without a ``fixed_frame``."""
        fixed = self._companion_options.fixed_frame
        if not fixed:
            return None
        stamp_ns, log_ns, _ = index.messages["image"][at].tolist()
        moving = bag.transforms_around(log_ns)
        T_fixed_header = moving.lookup(fixed, index.frame_ids["image"], stamp_ns)
        return T_fixed_header @ inverse(image_camera.T_image_header)


def _own(image: np.ndarray) -> np.ndarray:
    """Return a contiguous, writable array; a copy where the image is a view of the message."""
    return np.require(image, requirements=["C", "W"])
