"""Labels out to each format and back by stamp: what a format holds comes back as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from lemumo_core.data.sources.kitti import KittiObject
from lemumo_core.data.sources.nuscenes import NuScenes
from lemumo_core.faults import Fault
from lemumo_core.frame import Labels
from lemumo_core.geometry.boxes import count_points, image_bounds
from lemumo_core.geometry.se3 import transform
from lemumo_core.label.formats import FORMATS, label_format
from lemumo_core.label.frame_names import name_of
from lemumo_core.label.imported import ImportedLabels
from tests.helpers.small_frames import CAMERA, T_CAMERA_LIDAR, Frames, small_frames

NAMES = ("", "floor", "rack", "person")
IN_3D = ("cvat-cuboids", "kitti", "nuscenes")
IN_2D = ("coco", "cvat", "label-studio")
MAPS = ("cvat", "png")


def labelled_frames() -> Frames:
    """Two frames with boxes that the image shows, tracks, a region to ignore and a label map."""
    frames = Frames()
    for i, frame in enumerate(small_frames(2)):
        boxes = np.float32([[-1, 0.5, 9 + i, 4, 2, 1.5, 0.3], [1.5, 0.2, 14, 0.6, 0.7, 1.8, -2.5]])
        label_map = np.full((CAMERA.height, CAMERA.width), 255, np.uint8)
        label_map[60:, 3:] = 1
        label_map[20:30, 50 + i : 90] = 2
        label_map[25:28, 60:70] = 3
        points = transform(T_CAMERA_LIDAR, frame.companion.points[:, :3].astype(float))
        labels = Labels(
            boxes_3d=boxes,
            boxes_2d=image_bounds(boxes, CAMERA),
            class_names=("forklift", "person"),
            visibility=np.float32([0.9, 0.5]),
            num_points=count_points(points, boxes),
            label_map=label_map,
            label_names=NAMES,
            depth_m=frame.labels.depth_m,
            ignore=np.float32([[100, 10, 120, 30]]) if i else None,
            track_ids=("a", "b"),
        )
        frames.append(replace(frame, labels=labels))
    return frames


def by_name(labels: Labels) -> np.ndarray:
    names = np.array([*labels.label_names, *[""] * (256 - len(labels.label_names))])
    return names[labels.label_map]


@pytest.mark.parametrize("name", FORMATS)
def test_round_trip(tmp_path, name) -> None:
    frames = labelled_frames()
    label_format(name).write([(name_of(frame), frame) for frame in frames], tmp_path)
    bare = [replace(f, labels=Labels(depth_m=f.labels.depth_m)) for f in frames]
    found = ImportedLabels(Frames(reversed(bare)), name, tmp_path)
    assert len(found) == 2 and found.describe()["format"] == name
    for frame, back in zip(reversed(frames), found, strict=True):
        assert back.stamp_ns == frame.stamp_ns and back.image is None and back.companion is None
        want, got = frame.labels, back.labels
        np.testing.assert_array_equal(got.depth_m, want.depth_m)  # the files do not have it
        if name in MAPS:
            np.testing.assert_array_equal(by_name(got), by_name(want))
        if name in (*IN_2D, *IN_3D):
            assert got.class_names == want.class_names
            np.testing.assert_allclose(got.boxes_2d, want.boxes_2d, atol=1e-3)
        if name in (*IN_2D, "kitti"):
            assert (got.ignore is None) == (want.ignore is None)
            if want.ignore is not None:
                np.testing.assert_allclose(got.ignore, want.ignore, atol=1e-3)
        if name in IN_3D:
            np.testing.assert_allclose(got.boxes_3d, want.boxes_3d, atol=1e-4)
            np.testing.assert_array_equal(got.num_points, want.num_points)
        if name in ("nuscenes", "cvat-cuboids"):
            assert got.track_ids == want.track_ids
        if name == "nuscenes":
            np.testing.assert_allclose(got.visibility, [0.9, 0.5])
    images = [path for path in tmp_path.rglob("*.png") if "labels" not in path.parts]
    assert {path.stem for path in images} == {name_of(frame) for frame in frames}
    picture = cv2.imread(str(next(p for p in images if p.stem == name_of(frames[0]))))
    np.testing.assert_array_equal(picture[..., ::-1], frames[0].image)


@pytest.mark.parametrize(("name", "source"), [("kitti", KittiObject), ("nuscenes", NuScenes)])
def test_exported_data_sets_are_read_by_their_sources(tmp_path, name, source) -> None:
    frames = labelled_frames()
    label_format(name).write([(name_of(frame), frame) for frame in frames], tmp_path)
    options = {"cameras": "CAM_FRONT"} if name == "nuscenes" else {}
    for frame, found in zip(frames, source(tmp_path, **options), strict=True):
        np.testing.assert_array_equal(found.image, frame.image)
        np.testing.assert_allclose(found.labels.boxes_3d, frame.labels.boxes_3d, atol=1e-4)
        T = found.companion.T_camera_lidar
        ours = transform(T_CAMERA_LIDAR, frame.companion.points[:, :3].astype(float))
        theirs = transform(T, found.companion.points[:, :3].astype(float))
        np.testing.assert_allclose(theirs, ours, atol=1e-4)
        np.testing.assert_allclose(found.camera.K, frame.camera.K, atol=1e-6)


def test_boxes_corrected_in_a_tool_replace_those_of_the_same_frame(tmp_path) -> None:
    frames = labelled_frames()
    label_format("cvat").write([(name_of(frame), frame) for frame in frames], tmp_path)
    tree = ElementTree.parse(tmp_path / "annotations.xml")
    second = tree.getroot().findall("image")[1]
    for box in second.findall("box"):
        second.remove(box)
    cuboid = {f"{axis}{corner}{i}": "0" for axis in "xy" for corner in ("tl", "bl") for i in (1, 2)}
    ends = {"xtl1": "30", "ytl1": "40", "xbl2": "70", "ybl2": "61", "xtl2": "50", "ytl2": "45"}
    cuboid = {key: ends.get(key, "45") for key in cuboid}
    ElementTree.SubElement(second, "cuboid", label="forklift", **cuboid)
    points = "0,0;20,0;20,10;0,10"
    ElementTree.SubElement(second, "polygon", label="rack", points=points, z_order="1")
    tree.write(tmp_path / "annotations.xml")
    _, corrected = ImportedLabels(frames, "cvat", tmp_path)
    labels = corrected.labels
    assert labels.class_names == ("forklift",) and labels.boxes_3d is None
    assert labels.boxes_2d.tolist() == [[30, 40, 70, 61]] and labels.track_ids == ()
    assert labels.visibility is None and labels.ignore is None
    assert set(by_name(labels)[2:9, 2:19].ravel()) == {"rack"}
    assert (by_name(labels)[70:, 10:] == "floor").all()


def test_label_studio_annotations_win_over_predictions(tmp_path) -> None:
    frames = labelled_frames()
    label_format("label-studio").write([(name_of(frame), frame) for frame in frames], tmp_path)
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    size = {"original_width": CAMERA.width, "original_height": CAMERA.height}
    polygon = {"points": [[0, 0], [50, 0], [50, 50], [0, 50]], "polygonlabels": ["floor"]}
    row = {"type": "polygonlabels", **size, "value": polygon}
    tasks[0]["data"]["image"] = f"/data/upload/1/3f9a-{name_of(frames[0])}.png"
    tasks[0]["annotations"] = [{"result": [row]}]
    tasks[1]["predictions"] = []
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    (only,) = ImportedLabels(frames, "label-studio", tmp_path / "tasks.json")
    assert only.stamp_ns == frames[0].stamp_ns and len(only.labels.boxes_2d) == 0
    assert by_name(only.labels)[10, 10] == "floor" and only.labels.label_map[90, 150] == 255


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("cvat", "annotations.xml", "<annotations/>", "names no images: export .* for images 1.1"),
        ("cvat", "annotations.xml", "<annotations>", "is not XML"),
        ("label-studio", "tasks.json", '{"a": 1}', "not a list of Label Studio's tasks"),
        ("cvat-cuboids", "tracklet_labels.xml", "<a>", "is not as CVAT writes it"),
        ("png", "labels/front_1.png", None, "none of 1 files .front_1. is of a frame: names must"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, name, file, content, message) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    (tmp_path / "frame_list.txt").write_text("0 a\n")
    if content is None:
        cv2.imwrite(str(path), np.zeros((2, 2), np.uint8))
    else:
        path.write_text(content)
    with pytest.raises(Fault, match=message):
        ImportedLabels(labelled_frames(), name, tmp_path)


def test_labels_of_another_size_or_camera_are_refused(tmp_path) -> None:
    frames = labelled_frames()
    label_format("png").write([(name_of(frame), frame) for frame in frames], tmp_path)
    path = tmp_path / "labels" / f"{name_of(frames[0])}.png"
    cv2.imwrite(str(path), np.zeros((2, 2), np.uint8))
    with pytest.raises(Fault, match=r"uint8 \(2, 2\), expected uint8 \(96, 160\)"):
        ImportedLabels(frames, "png", tmp_path)[0]
    both = Frames([frames[0], replace(frames[0], camera_name="rear"), frames[1]])
    assert ImportedLabels(both, "png", tmp_path).frames == [0, 2]
    path.rename(path.with_name(f"{frames[0].stamp_ns}.png"))
    with pytest.raises(Fault, match="one of several cameras"):
        ImportedLabels(both, "png", tmp_path)
    with pytest.raises(Fault, match=r"unknown format 'coko'.*coco"):
        label_format("coko")
