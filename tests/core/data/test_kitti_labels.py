"""KITTI's label files as other tools write them: no box is made up, and none is lost in silence."""

from __future__ import annotations

import numpy as np
import pytest

from lemumo_core.data.sources.kitti import KittiObject
from lemumo_core.data.sources.kitti_labels import read_labels
from lemumo_core.faults import Fault
from lemumo_core.geometry.boxes import image_bounds
from lemumo_core.geometry.camera import Camera

CAMERA = Camera(1242, 375, 721.5, 721.5, 609.6, 172.9)
ZERO = np.zeros(3)
CAR = "Car 0 1 0 600 160 700 230 1.5 1.6 4.0 1.0 1.6 20.0 0.1"
PLACEHOLDERS = [
    "Truck 0 0 0 100 150 300 260 0 0 0 0 0 0 0",
    "Truck 0.0 0 0.0 100.0 150.0 300.0 260.0 -1 -1 -1 -1000 -1000 -1000 -10",
    "Truck 0 0 0 100 150 300 260 -1 -1 -1 -1 -1 -1 0",
    "Truck 0 0 0 100 150 300 260 0.0 0.0 0.0 -1000 -1000 -1000 0.0 0.87",
]


@pytest.fixture
def labels_of(tmp_path):
    def read(*lines: str, **options):
        path = tmp_path / "000007.txt"
        path.write_text("\n".join(lines) + "\n")
        return read_labels(path, CAMERA, options.pop("offset", ZERO), **options)

    return read


@pytest.mark.parametrize("line", PLACEHOLDERS)
def test_objects_of_2d_boxes_alone_have_no_3d_boxes(labels_of, line):
    labels = labels_of(line, "", "Pedestrian 0 3 0 1 2 30 40 -1 -1 -1 -1000 -1000 -1000 -10")
    assert labels.boxes_3d is None and labels.num_points is None and labels.ignore is None
    assert labels.class_names == ("truck", "pedestrian")
    assert labels.boxes_2d.tolist() == [[100, 150, 300, 260], [1, 2, 30, 40]]
    assert labels.visibility[0] == 1 and np.isnan(labels.visibility[1])


@pytest.mark.parametrize("line", PLACEHOLDERS)
def test_among_3d_boxes_an_object_without_one_is_ignored_not_background(labels_of, line):
    labels = labels_of(CAR, line)
    assert labels.class_names == ("car",)
    np.testing.assert_allclose(labels.boxes_3d, [[1, 0.85, 20, 4, 1.6, 1.5, 0.1]], rtol=1e-6)
    assert labels.ignore.dtype == np.float32
    assert labels.ignore.tolist() == [[100, 150, 300, 260]]


def test_dont_care_regions_are_ignored(labels_of):
    region = "DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10"
    labels = labels_of(CAR, region)
    np.testing.assert_allclose(labels.ignore, [[503.89, 169.71, 590.61, 190.13]])
    assert labels.class_names == ("car",)
    alone = labels_of(region)
    assert alone.boxes_3d.shape == (0, 7) and len(alone.ignore) == 1
    assert labels_of(CAR).ignore is None


def test_regions_of_the_left_image_cover_what_they_show_in_the_right_one(labels_of):
    region = "DontCare -1 -1 -10 500 170 590 190 -1 -1 -1 -1000 -1000 -1000 -10"
    offset = np.array([-0.54, 0, 0])
    labels = labels_of(region, offset=offset, annotated=False)
    disparity = 721.5 * 0.54 / 20
    np.testing.assert_allclose(labels.ignore, [[500 - disparity, 170, 590, 190]], rtol=1e-6)
    labels = labels_of(PLACEHOLDERS[0], annotated=False)  # a left 2D box says nothing of the right
    assert labels.boxes_2d is None and labels.boxes_3d is None and labels.class_names == ()


@pytest.mark.parametrize("box", ["0 0 0 0", "-1 -1 -1 -1"])
def test_objects_of_3d_boxes_alone_get_projected_bounds(labels_of, box):
    labels = labels_of(f"Car 0 0 0 {box} 1.5 1.6 4.0 1.0 1.6 20.0 0.1")
    np.testing.assert_array_equal(labels.boxes_2d, image_bounds(labels.boxes_3d, CAMERA))
    assert (labels.boxes_2d[:, 2:] > labels.boxes_2d[:, :2]).all()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Car 0 0 0 1 2 30 40 nan 1.6 4 1 1.6 20 0", "sizes above 0"),
        ("Car 0 0 0 1 2 30 40 1.5 1.6 inf 1 1.6 20 0", "sizes above 0"),
        ("Car 0 0 0 1 2 30 40 1.5 -1.6 4 1 1.6 20 0", "sizes above 0"),
        ("Car 0 0 0 1 2 30 40 0 0 0 1 1.6 20 0", "sizes above 0"),
        ("Car 0 0 0 1 2 30 40 1.5 1.6 4 1 nan 20 0", "finite"),
        ("Car 0 0 0 1 2 30 40 1.5 1.6 4 1 1.6 20 -inf", "finite"),
        ("Car 0 0 0 1 2 nan 40 1.5 1.6 4 1 1.6 20 0", "2D box"),
        ("Car 0 0 0 30 2 1 40 1.5 1.6 4 1 1.6 20 0", "2D box"),
        ("DontCare -1 -1 -10 9 9 9 9 -1 -1 -1 -1000 -1000 -1000 -10", "2D box"),
        ("Car 0 0 0 0 0 0 0 0 0 0 0 0 0 0", "neither"),
        ("Car 0 0 0 1 2 30 40 1.5 1.6 4 1 1.6 20", "14 numbers"),
        ("Other Vehicle 0 0 0 1 2 30 40 1.5 1.6 4 1 1.6 20 0", "14 numbers"),
        ("0 1 Car 0 0 0 1 2 30 40 1.5 1.6 4 1 1.6 20 0", "14 numbers"),
        ("Car;0;0;0;1;2;30;40;1.5;1.6;4;1;1.6;20;0", "14 numbers"),
    ],
)
def test_what_is_no_label_is_named_by_file_and_line(labels_of, line, words):
    with pytest.raises(Fault, match=rf"000007\.txt:2: .*{words}") as error:
        labels_of(CAR, line)
    assert error.value.reason == "bad_labels"


def test_real_dont_care_regions(shared_data):
    source = KittiObject(shared_data / "kitti_object")
    labels = source[source.names.index("000114")].labels
    assert len(labels.class_names) == 12
    expected = [[555.4, 164.6, 601.27, 188.6], [622.06, 164.6, 662.73, 189.64]]
    np.testing.assert_allclose(labels.ignore, expected, rtol=1e-6)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8", "latin-1"])
def test_files_of_windows_tools(tmp_path, encoding):
    """A byte order mark is no part of the first class's name, nor is a carriage return."""
    path = tmp_path / "000001.txt"
    lines = [CAR, CAR.replace("Car", "V\u00e9lo")]
    path.write_bytes("\r\n".join([*lines, ""]).encode(encoding))
    labels = read_labels(path, CAMERA, ZERO)
    assert labels.class_names[0] == "car" and len(labels.class_names) == 2
    assert (labels.class_names[1] == "v\u00e9lo") == (encoding != "latin-1")
