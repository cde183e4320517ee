"""All metrics of predictions against ground truth at once: detection, depth, segmentation.

One rule for every map: the ground truth stays at the resolution of the image, and each of its
pixels (or LiDAR returns) is compared with the pixel of the prediction that it falls into. So models
of any resolution are evaluated on the same ground truth. Depth that the model's view leaves out of
the image (top rows, perhaps) counts as missed coverage; labels there are not compared.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.frame import UNLABELLED, Frame, Labels, Perception
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.view_transfer import inside, look_up_depth, look_up_where
from lemumo_core.metrics.bands import BAND_EDGES_M
from lemumo_core.metrics.baselines import BASELINES, ROWS, frame_baselines
from lemumo_core.metrics.depth import DepthMetric
from lemumo_core.metrics.detection import DetectionMetric, DetectionScores
from lemumo_core.metrics.detection_2d import Detection2dMetric
from lemumo_core.metrics.masked_returns import true_labels
from lemumo_core.metrics.objects import (
    ObjectFilter,
    Objects,
    ignored_regions,
    share_ignored,
    unknown_classes,
)
from lemumo_core.metrics.paper_xy import PaperXyMetric
from lemumo_core.metrics.sections import (
    class_scores,
    depth_by_band,
    detection_scores,
    segmentation_section,
)
from lemumo_core.metrics.segmentation import SegmentationMetric
from lemumo_core.taxonomy import Taxonomy

LEAST_IGNORED = 0.5
"""Share of a detection's bounds in a region to ignore from which on it cannot be false."""


@dataclass(frozen=True)
class Summary:
    """Headline metrics of one frame or of many; NaN where there is no ground truth.

    Attributes:
        bev_map: mean average precision in bird's-eye view (``metrics.detection``), over the kinds
            of objects (``Taxonomy.kinds``), by default: car, truck/bus, two-wheeler, pedestrian.
        map_xy: the paper's measure (``metrics.paper_xy``).
        depth_mae_m: mean absolute error of depth, within the bands.
        nearest_mae_m, linear_mae_m: those of the trivial answers (``metrics.baselines``), on the
            same pixels.
        miou: mean intersection over union of the label classes.
        ap50: of frames that have 2D boxes only, or of a model that has (``metrics.detection_2d``).
    """

    bev_map: float
    map_xy: float
    depth_mae_m: float
    nearest_mae_m: float
    linear_mae_m: float
    miou: float
    ap50: float


class PerceptionMetric:
    """Accumulates detection, depth and segmentation over frames. Picklable, mergeable.

    Ground truth is taken from ``Frame.labels``; what they lack is not evaluated. That of depth is
    ``labels.depth_m``: where only a LiDAR measures depth, give the model the frame that
    ``mask_returns`` makes, or it is evaluated on its own input. That of labels is the label map or
    else the point labels. Objects whose centre the view does not show count neither way, as in
    training.

    Args:
        classes: of the model.
        counted: which objects count.
        band_edges_m: bands of depth, metres.
        baselines: whether to judge trivial answers to depth too; they take a while.
        in_space: whether the model's boxes are 3D; those in the image are judged by 2D truth alone.
    """

    def __init__(
        self,
        classes: Taxonomy,
        counted: ObjectFilter | None = None,
        band_edges_m: tuple[float, ...] = BAND_EDGES_M,
        baselines: bool = True,
        in_space: bool = True,
    ):
        self._settings = classes, counted, band_edges_m, baselines, in_space
        self.classes, self.in_space, names = classes, in_space, classes.detection_classes
        self.detection = DetectionMetric(classes.kinds, counted, band_edges_m)
        self.detection_by_class = DetectionMetric(names, counted, band_edges_m)
        self.paper_xy = PaperXyMetric(names)
        self.detection_2d = Detection2dMetric(names)
        self.depth = DepthMetric(band_edges_m)
        names_of_baselines = (*BASELINES, ROWS) if baselines else ()
        self.baselines = {name: DepthMetric(band_edges_m) for name in names_of_baselines}
        self.segmentation = SegmentationMetric(classes.segmentation_classes)
        self.frames = self.frames_with_boxes = self.frames_with_2d_boxes = 0
        self.unknown_classes: Counter[str] = Counter()
        """Labels by name that are of no known class, see ``objects.unknown_classes``."""

    def add(self, frame: Frame, perception: Perception) -> Summary:
        """Add one frame.

        Args:
            frame: with labels. What the model was given may lack the image or the companion.
            perception: of a pipeline whose score threshold is 0: average precision needs the
                detections of low scores too.

        Returns:
            The headline metrics of this frame alone.

        Raises:
            ValueError: detections, depths or labels that do not fit (as the metrics of each).
            Fault: ``bad_labels`` if labels are not the size of the image or of the scan.
        """
        one = PerceptionMetric(*self._settings)
        one._add(frame, perception)
        self.merge(one)
        return one.summary()

    def merge(self, other: PerceptionMetric) -> None:
        """Add the frames of another metric; baselines stay where both have them.

        Raises:
            ValueError: its classes, filter or bands differ.
        """
        self.detection.merge(other.detection)
        self.detection_by_class.merge(other.detection_by_class)
        self.paper_xy.merge(other.paper_xy)
        self.detection_2d.merge(other.detection_2d)
        self.depth.merge(other.depth)
        self.baselines = {k: one for k, one in self.baselines.items() if k in other.baselines}
        for name, metric in self.baselines.items():
            metric.merge(other.baselines[name])
        self.segmentation.merge(other.segmentation)
        self.frames += other.frames
        self.frames_with_boxes += other.frames_with_boxes
        self.frames_with_2d_boxes += other.frames_with_2d_boxes
        self.unknown_classes.update(other.unknown_classes)

    def summary(self) -> Summary:
        """Return the headline metrics of all frames."""
        boxes = self.frames_with_boxes > 0
        return Summary(
            bev_map=self.detection.scores().map if boxes else np.nan,
            map_xy=self.paper_xy.map() if boxes else np.nan,
            depth_mae_m=self.depth.scores().mae_m,
            nearest_mae_m=self._baseline_mae_m("nearest"),
            linear_mae_m=self._baseline_mae_m("linear"),
            miou=self.segmentation.miou(),
            ap50=self.detection_2d.ap50() if self.frames_with_2d_boxes else np.nan,
        )

    def result(self) -> dict[str, Any]:
        """Return all metrics, ready for JSON.

        The keys of ``Summary``, ``frames``, ``unknown_classes`` (labels of no known class, by
        name; they are not evaluated), and one section each for ``detection``,
        ``detection_2d``, ``depth`` and ``segmentation``, by class and by ``bands`` of depth;
        detections also by kind, over which the section's own values are means; depth also of
        ``baselines`` on the same pixels. What could not be
        measured is None, and the section's ``why_null`` gives the reason.
        """
        return json_ready(
            {
                "frames": self.frames,
                **asdict(self.summary()),
                "unknown_classes": dict(sorted(self.unknown_classes.items())),
                "detection": self._detection_section(),
                "detection_2d": self._detection_2d_section(),
                "depth": self._depth_section(),
                "segmentation": segmentation_section(self.segmentation),
            }
        )

    def _add(self, frame: Frame, perception: Perception) -> None:
        self.frames += 1
        labels, camera, view = frame.labels or Labels(), frame.camera, perception.output_camera
        self.unknown_classes.update(unknown_classes(labels, self.classes))
        if self.in_space and labels.boxes_3d is not None:
            self.frames_with_boxes += 1
            self._add_detections(labels, camera, perception)
        elif labels.boxes_2d is not None:
            self.frames_with_2d_boxes += 1
            found, ids = perception.detections, self.classes.detection_ids(labels.class_names)
            boxes = found.boxes_2d, found.scores, found.class_ids
            regions = ignored_regions(labels, self.classes, camera)
            self.detection_2d.add(*boxes, labels.boxes_2d[ids >= 0], ids[ids >= 0], regions=regions)
        if labels.depth_m is not None:
            self._add_depth(frame, labels.depth_m, perception)
        true = true_labels(frame)
        if true is not None:
            _check_size("label map", true, camera)
            labelled = true != UNLABELLED
            predicted, shown = look_up_where(perception.labels, view, camera, labelled)
            self.segmentation.add(
                predicted, self.classes.label_ids(true[shown], labels.label_names)
            )

    def _add_depth(self, frame: Frame, depth_m: np.ndarray, perception: Perception) -> None:
        _check_size("true depth", depth_m, frame.camera)
        known = depth_m > 0
        true_m = depth_m[known]
        found, shown = look_up_depth(
            perception.depth_m, perception.output_camera, frame.camera, known
        )
        predicted_m = np.full(len(true_m), np.nan, np.float32)
        predicted_m[shown[known]] = found
        self.depth.add(predicted_m, true_m)
        for name, baseline_m in (frame_baselines(frame) if self.baselines else {}).items():
            self.baselines[name].add(np.where(np.isnan(predicted_m), np.nan, baseline_m), true_m)

    def _baseline_mae_m(self, name: str) -> float:
        return self.baselines[name].scores().mae_m if name in self.baselines else float("nan")

    def _add_detections(self, labels: Labels, camera: Camera, perception: Perception) -> None:
        view, found = perception.output_camera, perception.detections
        objects = Objects.from_labels(labels, self.classes)
        centers = objects.boxes_3d[:, :3].astype(np.float64)
        shown = inside(camera.project(centers)[0], camera)
        shown &= inside(view.project(centers)[0], view)
        boxes = found.boxes_3d, found.scores, found.class_ids
        regions = ignored_regions(labels, self.classes, camera)
        ignored = share_ignored(found.boxes_2d, regions) >= LEAST_IGNORED
        counted = replace(objects, visibility=np.where(shown, objects.visibility, 0.0))
        self.detection_by_class.add(*boxes, counted, ignored)
        kind_of = self.classes.kind_ids
        kinds = kind_of[found.class_ids], kind_of[objects.class_ids]
        self.detection.add(*boxes[:2], kinds[0], replace(counted, class_ids=kinds[1]), ignored)
        in_view = Objects(*(column[shown] for column in vars(objects).values()))
        self.paper_xy.add(*boxes, in_view, ignored)

    def _detection_section(self) -> dict[str, Any]:
        if not self.frames_with_boxes:
            none = detection_scores(DetectionScores({}))
            why_null = "no frame has 3D boxes"
            return {**none, "map_xy": np.nan, "classes": {}, "bands": {}, "why_null": why_null}
        bands = self.detection.scores_by_band()
        return {
            **detection_scores(self.detection.scores()),
            "map_xy": self.paper_xy.map(),
            "classes": class_scores(self.detection_by_class.scores()),
            "bands": {name: detection_scores(scores) for name, scores in bands.items()},
        }

    def _detection_2d_section(self) -> dict[str, Any]:
        if not self.frames_with_2d_boxes:
            why_null = "no frame has 2D boxes alone"
            return {"ap50": np.nan, "ap50_95": np.nan, "classes": {}, "why_null": why_null}
        ap = self.detection_2d.ap()
        known = ~np.isnan(ap[:, 0])
        return {
            "ap50": self.detection_2d.ap50(),
            "ap50_95": self.detection_2d.ap50_95(),
            "classes": {
                name: {"ap50": float(one[0]), "ap50_95": float(one.mean())}
                for name, one, has_objects in zip(
                    self.classes.detection_classes, ap, known, strict=True
                )
                if has_objects
            },
            "why_null": None if known.any() else "no frame has an object",
        }

    def _depth_section(self) -> dict[str, Any]:
        baselines = {
            name: depth_by_band(metric)
            for name, metric in self.baselines.items()
            if metric.scores().pixels
        }
        return {**depth_by_band(self.depth), "baselines": baselines}


def _check_size(what: str, truth: np.ndarray, camera: Camera) -> None:
    if truth.shape != (camera.height, camera.width):
        raise Fault(
            "bad_labels", f"the {what} is {truth.shape}, the image {(camera.height, camera.width)}"
        )


def json_ready(value: Any) -> Any:
    """Replace floats that are not finite by None in nested dicts and lists: JSON knows no NaN."""
    if isinstance(value, dict):
        return {key: json_ready(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(part) for part in value]
    if isinstance(value, float):
        return float(value) if np.isfinite(value) else None
    return value
