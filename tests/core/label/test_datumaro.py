"""Another library reads what we write, and we read what it writes: datumaro as the oracle.

It needs OpenCV below 5 and is therefore in no extra: pip install datumaro in an environment of its
own, where this test then runs.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from lemumo_core.geometry.boxes import box_rotation
from lemumo_core.geometry.se3 import inverse, transform
from lemumo_core.label.formats import label_format
from lemumo_core.label.frame_names import name_of
from lemumo_core.label.imported import ImportedLabels
from tests.core.label.test_formats import by_name, labelled_frames
from tests.helpers.small_frames import T_CAMERA_LIDAR

dataset = pytest.importorskip("datumaro.components.dataset", reason="needs datumaro").Dataset


def annotations(path, kind):
    """Return by frame the annotations that datumaro finds, each with its label."""
    found = dataset.import_from(str(path), kind)
    labels = next(iter(found.categories().values())).items
    return {one.id: [(labels[a.label].name, a) for a in one.annotations] for one in found}


@pytest.mark.parametrize(
    ("name", "kind"), [("coco", "coco_instances"), ("cvat", "cvat"), ("kitti", "kitti_detection")]
)
def test_boxes_and_masks_are_those_that_datumaro_finds(tmp_path, name, kind) -> None:
    frames = labelled_frames()
    label_format(name).write([(name_of(frame), frame) for frame in frames], tmp_path)
    if name == "coco":  # in the folders of the data set itself
        (tmp_path / "annotations").mkdir()
        shutil.move(tmp_path / "annotations.json", tmp_path / "annotations" / "instances_a.json")
        (tmp_path / "images").rename(tmp_path / "a")
        (tmp_path / "images").mkdir()
        (tmp_path / "a").rename(tmp_path / "images" / "a")
    found = annotations(tmp_path, kind)
    for frame in frames:
        boxes = {label: a.get_bbox() for label, a in found[name_of(frame)] if a.type.name == "bbox"}
        low, high = np.split(frame.labels.boxes_2d, 2, axis=1)
        for label, *want in zip(frame.labels.class_names, low, high - low, strict=True):
            np.testing.assert_allclose(boxes[label], np.concatenate(want), atol=0.01)
        masks = {label: a.image for label, a in found[name_of(frame)] if a.type.name == "mask"}
        assert len(masks) == (3 if name == "cvat" else 0)
        for label, mask in masks.items():
            np.testing.assert_array_equal(mask > 0, by_name(frame.labels) == label)


@pytest.mark.parametrize(("name", "kind"), [("cvat", "cvat"), ("cvat-cuboids", "kitti_raw")])
def test_labels_that_datumaro_writes_are_ours(tmp_path, name, kind) -> None:
    frames = labelled_frames()
    label_format(name).write([(name_of(frame), frame) for frame in frames], tmp_path / "ours")
    theirs = dataset.import_from(str(tmp_path / "ours"), kind)
    theirs.export(str(tmp_path / "theirs"), kind, save_media=False)
    for frame, back in zip(frames, ImportedLabels(frames, name, tmp_path / "theirs"), strict=True):
        assert back.labels.class_names == frame.labels.class_names
        np.testing.assert_allclose(back.labels.boxes_2d, frame.labels.boxes_2d, atol=0.02)
        np.testing.assert_array_equal(by_name(back.labels), by_name(frame.labels))
        if name == "cvat-cuboids":
            np.testing.assert_allclose(back.labels.boxes_3d, frame.labels.boxes_3d, atol=0.01)
            cuboids = annotations(tmp_path / "ours", kind)[name_of(frame)]
            T = inverse(T_CAMERA_LIDAR)
            centers = transform(T, frame.labels.boxes_3d[:, :3].astype(float))
            np.testing.assert_allclose([a.position for _, a in cuboids], centers, atol=0.01)
            forward = box_rotation(frame.labels.boxes_3d[:, 6])[:, :, 0] @ T[:3, :3].T
            yaw = [a.rotation[2] for _, a in cuboids]
            np.testing.assert_allclose(np.cos(yaw), forward[:, 0], atol=0.01)
            np.testing.assert_allclose(np.sin(yaw), forward[:, 1], atol=0.01)
