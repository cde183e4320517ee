"""Data types of the pipeline: a Frame goes in, a Perception comes out.

Units are SI. Camera frames are optical (REP-103): x right, y down, z forward. ``T_a_b`` maps
points in b to a. A missing part is None, never zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lemumo_core.geometry.camera import Camera
from lemumo_core.taxonomy import UNLABELLED as UNLABELLED

INTENSITY_SCALES = 1, 255, 65535
"""Largest intensity of a return, by kinds of sensors and data sets."""
PUBLISHED_SCORE = 0.23
"""Least score of a detection that is published, unless an option says otherwise.

With it the shipped model's F1 on rendered test streets is within .03 of the best, which it has from
.2 on, with fewer false boxes (benchmarks/RESULTS.md).
"""


def is_return(points: np.ndarray) -> np.ndarray:
    """Return which rows of points (N, >= 3) are returns, bool (N,): finite and not (0, 0, 0)."""
    returns: np.ndarray = np.isfinite(points[:, :3]).all(axis=1) & points[:, :3].any(axis=1)
    return returns


@dataclass(frozen=True, eq=False)
class LidarScan:
    """One LiDAR sweep as the companion of a camera image.

    Attributes:
        points: float32 (N, >=3), metres in the LiDAR frame: x, y, z, then, where the sensor gives
            them, intensity and ring, the number of the beam, and any further channels.
            Rows that are no return, non-finite or exactly (0, 0, 0), are allowed; projection
            drops them.
        T_camera_lidar: float64 (4, 4).
        stamp_ns: the sensor's own stamp.
    """

    points: np.ndarray
    T_camera_lidar: np.ndarray
    stamp_ns: int

    def columns(self, count: int) -> np.ndarray:
        """Return the first columns of the points, float32 (N, count), 0 where there is none."""
        found = np.zeros((len(self.points), count), np.float32)
        found[:, : self.points.shape[1]] = self.points[:, :count]
        return found

    def scaled_points(self) -> np.ndarray:
        """Return x, y, z and intensity from 0 to 255, float32 (N, 4).

        Sensors and data sets give intensity up to 1 (KITTI, Waymo), 255 (nuScenes, Velodyne) or
        65535 (Ouster): the smallest of these that 99 of 100 returns do not exceed is taken for the
        sweep's, and what lies beyond it is cut off.
        """
        points = self.columns(4)
        intensity = points[:, 3]
        known = intensity[np.isfinite(intensity)]
        common = np.percentile(known, 99) if len(known) else 0.0
        full = next((most for most in INTENSITY_SCALES if common <= most), INTENSITY_SCALES[-1])
        points[:, 3] = (intensity * (np.float32(255) / np.float32(full))).clip(None, 255)
        return points


@dataclass(frozen=True, eq=False)
class ThermalImage:
    """One thermal image as the companion of a camera image.

    Attributes:
        image: uint8, uint16 or finite float32 (H, W): counts, or degrees of any scale.
        camera: the thermal camera's own model.
        T_camera_thermal: float64 (4, 4); only its rotation is used (parallax is not modelled).
        stamp_ns: the sensor's own stamp.
    """

    image: np.ndarray
    camera: Camera
    T_camera_thermal: np.ndarray
    stamp_ns: int


@dataclass(frozen=True, eq=False)
class RasterImage:
    """A picture of any bands as the companion of a camera image: elevation, radar, HHA, spectra.

    It shows what the image shows, edge to edge, at a resolution of its own.

    Attributes:
        bands: uint8, uint16 or float32 (H, W, C); where one is not finite, the pixel is unknown.
        camera: model of the (H, W) picture.
        stamp_ns: of the picture.
    """

    bands: np.ndarray
    camera: Camera
    stamp_ns: int


Companion = LidarScan | ThermalImage | RasterImage
_KINDS: dict[type, str] = {LidarScan: "lidar", ThermalImage: "thermal", RasterImage: "raster"}
COMPANIONS = tuple(_KINDS.values())


def companion_kind(companion: Companion) -> str:
    """Return which of ``COMPANIONS`` a companion is."""
    return _KINDS[type(companion)]


@dataclass(frozen=True, eq=False)
class Labels:
    """Ground truth of one camera image; any part may be None.

    Attributes:
        boxes_3d: float32 (K, 7) x, y, z, length, width, height, yaw in the camera optical frame
            (``lemumo_core.geometry.boxes`` holds the convention).
        boxes_2d: float32 (K, 4) x_min, y_min, x_max, y_max in pixels of the full image.
        class_names: K names, one per box, as the data set writes them; ``taxonomy.Taxonomy`` maps
            them to the classes of a model.
        visibility: float32 (K,), the share of each object that is seen, 0 to 1.
        num_points: int32 (K,), LiDAR returns inside each box.
        label_map: uint8 (H, W) ids that ``label_names`` name, 255 = unlabelled.
        instance_map: uint16 (H, W), one number per object, 0 = none.
        depth_m: float32 (H, W) dense depth, NaN = unknown.
        point_labels: uint8 (N,), ids as in ``label_map``, one per row of the companion's points.
        point_confidence: float16 (N,) in [0, 1] beside ``point_labels``, the confidence of a
            network in the class that it gave each point, also of those that it left unlabelled;
            None for labels that people made.
        ignore: float32 (M, 4) as ``boxes_2d``: regions whose objects, of any class, are not
            annotated (KITTI's DontCare, COCO's crowds). Nothing in them is learnt or evaluated.
        track_ids: K names, one per box: the same for one object in all frames of a recording, and
            empty where it is not known; none at all where the source has no tracks.
        label_names: names of the ids of ``label_map`` and ``point_labels``, as the data set writes
            them, '' for one without a name; empty where it does not name them
            (``Taxonomy.label_ids``).
        box_confidence: float16 (K,) in [0, 1], the confidence of a model in the boxes that it
            proposed; None for boxes that people made.
    """

    boxes_3d: np.ndarray | None = None
    boxes_2d: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    visibility: np.ndarray | None = None
    num_points: np.ndarray | None = None
    label_map: np.ndarray | None = None
    instance_map: np.ndarray | None = None
    depth_m: np.ndarray | None = None
    point_labels: np.ndarray | None = None
    point_confidence: np.ndarray | None = None
    ignore: np.ndarray | None = None
    track_ids: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()
    box_confidence: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Frame:
    """One synchronised instant of one camera.

    Attributes:
        stamp_ns: the image's own stamp (the companion's where there is no image).
        camera_name: e.g. ``front``.
        camera: model of the full image.
        image: uint8 (H, W, 3) RGB, or None. Of a JPEG it may be smaller than the camera by
            ``preprocess.reduction``.
        companion: LiDAR, thermal or a raster, or None.
        labels: ground truth, or None.
        T_camera_header: float64 (4, 4), from the frame that the image's header names to that of
            ``camera``, in which companion, labels and results are: the identity but for rectified
            images, whose header names the frame of the raw ones.
        T_fixed_camera: float64 (4, 4), pose of ``camera`` in a frame that does not move, such as
            ``odom`` (or in the one in which objects are tracked), or None where it is not known.
    """

    stamp_ns: int
    camera_name: str
    camera: Camera
    image: np.ndarray | None = None
    companion: Companion | None = None
    labels: Labels | None = None
    T_camera_header: np.ndarray = field(default_factory=lambda: np.eye(4))
    T_fixed_camera: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Detections:
    """K detected objects, best score first.

    Attributes:
        boxes_3d: float32 (K, 7) x, y, z, length, width, height, yaw in the camera optical frame;
            (0, 7) from a model that detects in 2D.
        boxes_2d: float32 (K, 4) x_min, y_min, x_max, y_max in pixels of the source image, clipped
            to it: the bounds of the projected 3D box, where there is one.
        scores: float32 (K,) in [0, 1].
        class_ids: int64 (K,) into the model package's ``detection_classes``.
    """

    boxes_3d: np.ndarray
    boxes_2d: np.ndarray
    scores: np.ndarray
    class_ids: np.ndarray


@dataclass(frozen=True, eq=False)
class Tracks:
    """Identity and motion of K detections over frames, a row for each.

    Attributes:
        ids: int64 (K,), from 1 on, the same for one object as long as it is followed; ``NO_TRACK``
            for a detection that is not yet, or no longer, one of a track.
        centers: float32 (K, 3), the track's estimate of each centre, metres, camera optical frame;
            NaN without a track, as are the next two.
        velocities: float32 (K, 3), metres per second in the frame in which objects are tracked
            (over ground, where that does not move), along the axes of the camera optical frame.
        covariances: float32 (K, 6, 6) of centre and velocity, in the same axes, metres and metres
            per second.
    """

    ids: np.ndarray
    centers: np.ndarray
    velocities: np.ndarray
    covariances: np.ndarray


@dataclass(frozen=True, eq=False)
class Perception:
    """Predictions of the model for one Frame.

    Attributes:
        stamp_ns, camera_name: the Frame's.
        detections: the objects above the score threshold.
        depth_m: float32 (h, w), metres along the optical axis, NaN outside the source image.
        depth_confidence: float32 (h, w) in [0, 1].
        labels: uint8 (h, w) ids into ``segmentation_classes``, 255 outside the source image.
        output_camera: model of the (h, w) view that depth and labels live in.
        modalities: what the model really used, e.g. ``("camera", "lidar")``.
        timings_ms: wall time by stage.
        tracks: of the detections, row by row; None where objects are not tracked.
    """

    stamp_ns: int
    camera_name: str
    detections: Detections
    depth_m: np.ndarray
    depth_confidence: np.ndarray
    labels: np.ndarray
    output_camera: Camera
    modalities: tuple[str, ...]
    timings_ms: dict[str, float] = field(default_factory=dict)
    tracks: Tracks | None = None


NO_TRACK = -1
"""Id of a detection that belongs to no track."""
