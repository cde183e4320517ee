"""A network's outputs to a Perception: the one way, for every backend."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lemumo_core.faults import Fault
from lemumo_core.frame import UNLABELLED, Detections, Frame, Perception, companion_kind
from lemumo_core.geometry.boxes import image_bounds
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.view_transfer import move_boxes
from lemumo_core.inference.duplicates import distinct
from lemumo_core.inference.manifest import Manifest


def perception_of(
    outputs: Mapping[str, np.ndarray],
    frame: Frame,
    view: Camera,
    manifest: Manifest,
    score_threshold: float,
) -> Perception:
    """Decode the model's outputs of a frame.

    Args:
        outputs: of one sample, by name; copied.
        frame: the sample.
        view: its ``network_view``.
        manifest: of the model.
        score_threshold: detections below it are dropped.

    Raises:
        Fault: ``bad_output`` if boxes, scores or depth are not finite, or a class is none of the
            manifest's.
    """
    for name in ("boxes", "scores", "depth"):
        if not np.isfinite(outputs[name]).all():
            raise Fault("bad_output", f"the network's {name} hold NaN or infinity")
    for name, classes in (
        ("class_ids", manifest.detection_classes),
        ("labels", manifest.segmentation_classes),
    ):
        ids = outputs[name]
        if ids.size and not 0 <= ids.min() <= ids.max() < len(classes):
            raise Fault(
                "bad_output",
                f"the network's {name} go from {ids.min()} to {ids.max()}, the package names "
                f"{len(classes)} classes",
            )
    height, width = outputs["depth"].shape
    outside = _rows_above_image(frame.camera, view, height)
    depth_m, confidence = outputs["depth"].copy(), outputs["depth_confidence"].copy()
    labels = outputs["labels"].copy()
    depth_m[:outside], confidence[:outside], labels[:outside] = np.nan, 0.0, UNLABELLED
    return Perception(
        stamp_ns=frame.stamp_ns,
        camera_name=frame.camera_name,
        detections=_detections(outputs, frame.camera, view, manifest, score_threshold),
        depth_m=depth_m,
        depth_confidence=confidence,
        labels=labels,
        output_camera=view.scaled(width, height),
        modalities=_modalities(frame),
    )


def _detections(
    outputs: Mapping[str, np.ndarray],
    camera: Camera,
    view: Camera,
    manifest: Manifest,
    score_threshold: float,
) -> Detections:
    keep = outputs["scores"] >= score_threshold
    boxes, scores, class_ids = (outputs[name][keep] for name in ("boxes", "scores", "class_ids"))
    if boxes.shape[1] == 4:
        last = np.tile([camera.width - 1, camera.height - 1], 2)
        in_image = np.clip(move_boxes(boxes, view, camera), 0, last).astype(np.float32)
        return Detections(np.empty((0, 7), np.float32), in_image, scores, class_ids)
    if view.model != "pinhole" and len(boxes):
        # The graph placed X and Y as if the view were a pinhole: undo that, and go through
        # the distortion. A centre outside its field of view has no ray and is dropped.
        with np.errstate(all="ignore"):  # nor has one at the camera itself
            uv = boxes[:, :2] / boxes[:, 2:3] * (view.fx, view.fy) + (view.cx, view.cy)
            boxes[:, :3] = view.unproject(uv) * boxes[:, 2:3]
        seen = np.isfinite(boxes).all(axis=1)
        boxes, scores, class_ids = boxes[seen], scores[seen], class_ids[seen]
    one_each = distinct(boxes, scores, manifest.classes.kind_ids[class_ids])
    boxes = boxes[one_each]
    return Detections(
        boxes_3d=boxes,
        boxes_2d=image_bounds(boxes, camera),
        scores=scores[one_each],
        class_ids=class_ids[one_each],
    )


def _rows_above_image(camera: Camera, view: Camera, height: int) -> int:
    """How many rows of an output of this height lie above the source image (padding)."""
    top_row = (-0.5 - camera.cy) * view.fy / camera.fy + view.cy
    return max(0, int(np.floor((top_row + 0.5) * height / view.height)))


def _modalities(frame: Frame) -> tuple[str, ...]:
    names = ["camera"] if frame.image is not None else []
    return tuple(names + ([companion_kind(frame.companion)] if frame.companion else []))
