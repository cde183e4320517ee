"""Ground truth of the images of a bag."""

from __future__ import annotations

from typing import Any

from lemumo_core.bags.matching import Session
from lemumo_core.bags.open_bag import OpenBag
from lemumo_core.bags.topics import GROUND_TRUTH
from lemumo_core.faults import Fault
from lemumo_core.frame import Labels
from lemumo_core.geometry.boxes import image_bounds
from lemumo_core.messages.ground_truth import (
    boxes_from_detections,
    depth_from_image,
    label_map_from_image,
    names_from_label_info,
    regions_from_detections,
)


def labels_of(session: Session, bag: OpenBag, at: int, frame_id: str) -> Labels | None:
    """Return the ground truth of an image, None without any.

    Args:
        session: of the image's camera.
        bag: the open bag.
        at: number of the image.
        frame_id: frame of its header.

    Raises:
        Fault: ``bad_labels``; as the messages.
    """
    image_camera = bag.camera_of("image", at)
    camera = image_camera.camera
    matches = {role: session.of_image(role, at) for role in GROUND_TRUTH}
    messages = {r: bag.message(r, match) for r, match in matches.items() if match is not None}
    if not messages:
        return None
    parts: dict[str, Any] = {}
    if "detections" in messages:
        detections = messages["detections"]
        T = image_camera.T_image_header
        if detections.header.frame_id != frame_id:
            T = T @ bag.transforms.lookup(frame_id, detections.header.frame_id)
        boxes, names, ids, confidence = boxes_from_detections(detections, T)
        parts = {"boxes_3d": boxes, "boxes_2d": image_bounds(boxes, camera)}
        parts |= {"class_names": names, "track_ids": ids, "box_confidence": confidence}
    if "labels" in messages:
        parts["label_map"] = label_map_from_image(messages["labels"])
        parts["label_names"] = _label_names(session, bag)
    if "depth" in messages:
        parts["depth_m"] = depth_from_image(messages["depth"])
    if "ignore" in messages:
        parts["ignore"] = regions_from_detections(messages["ignore"])
    for name in ("label_map", "depth_m"):
        if name in parts and parts[name].shape != (camera.height, camera.width):
            raise Fault("bad_labels", f"{name} is {parts[name].shape}, unlike its image")
    return Labels(**parts)


def _label_names(session: Session, bag: OpenBag) -> tuple[str, ...]:
    """Return the names of the ids of label maps, which a bag holds once."""
    if not len(session.index.messages.get("label_info", ())):
        return ()
    return names_from_label_info(bag.message("label_info", 0))
