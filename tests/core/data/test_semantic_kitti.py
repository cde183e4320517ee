"""SemanticKITTI on files that the test writes to the documented format."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from lemumo_core.data.sources.registry import open_source
from lemumo_core.data.sources.semantic_kitti import CLASS_OF_LABEL
from lemumo_core.faults import Fault
from lemumo_core.taxonomy import Taxonomy, read_classes

P2 = np.array([[700.0, 0, 320, 42], [0, 700, 96, 0.2], [0, 0, 1, 0.003]])
TR = np.array([[0.0, -1, 0, 0.01], [0, 0, -1, -0.08], [1, 0, 0, -0.27]])
POSE = np.array([[0.0, 0, 1, 5], [0, 1, 0, 0], [-1, 0, 0, 2]])
# ``learning_map`` of semantic-kitti.yaml, and the names of what it gives (``labels`` of its
# ``learning_map_inv``); 0 is left out.
LEARNING_MAP = {
    **{0: 0, 1: 0, 10: 1, 11: 2, 13: 5, 15: 3, 16: 5, 18: 4, 20: 5, 30: 6, 31: 7, 32: 8, 40: 9},
    **{44: 10, 48: 11, 49: 12, 50: 13, 51: 14, 52: 0, 60: 9, 70: 15, 71: 16, 72: 17, 80: 18},
    **{81: 19, 99: 0, 252: 1, 253: 7, 254: 6, 255: 8, 256: 5, 257: 5, 258: 4, 259: 5},
}


@pytest.fixture
def root(tmp_path) -> Path:
    """Sequence 08 with two sweeps, one of which has an image, and an unlabelled sequence 11."""
    rng = np.random.default_rng(0)
    for name in ("08", "11"):
        folder = tmp_path / "sequences" / name
        for part in ("velodyne", "image_2", *(["labels"] if name == "08" else [])):
            (folder / part).mkdir(parents=True)
        for sweep in ("000000", "000001"):
            points = rng.uniform((-40, -40, -2, 0), (40, 40, 2, 1), (len(LEARNING_MAP), 4))
            points.astype("<f4").tofile(folder / "velodyne" / f"{sweep}.bin")
            if name == "08":
                instances = rng.integers(0, 1 << 16, len(LEARNING_MAP)).astype("<u4")
                labels = np.array(list(LEARNING_MAP), "<u4") | instances << 16
                labels.tofile(folder / "labels" / f"{sweep}.label")
        rows = {"P0": P2, "P2": P2, "Tr": TR}
        text = "".join(f"{key}: {' '.join(map(str, m.ravel()))}\n" for key, m in rows.items())
        (folder / "calib.txt").write_text(text)
        (folder / "times.txt").write_text("0.0\n1.037e-01\n")
        poses = [np.eye(3, 4), POSE]
        (folder / "poses.txt").write_text(
            "".join(" ".join(map(str, pose.ravel())) + "\n" for pose in poses)
        )
        cv2.imwrite(str(folder / "image_2" / "000001.png"), np.full((192, 640, 3), 7, np.uint8))
    return tmp_path


def test_points_have_the_classes_of_the_benchmark(root) -> None:
    source = open_source("semantic-kitti", root=str(root), split="val")
    assert len(source) == 2 and source.describe()["sequences"] == ["08"]
    frame = source[1]
    classes = read_classes("semantickitti")
    assert len(classes.segmentation_classes) == 19
    found = classes.label_ids(frame.labels.point_labels, frame.labels.label_names)
    np.testing.assert_array_equal(found, [(i - 1) % 256 for i in LEARNING_MAP.values()])
    assert {classes.segmentation_classes[i] for i in found if i < 19} <= {*CLASS_OF_LABEL.values()}
    of_default = Taxonomy().label_table(frame.labels.label_names)
    assert not of_default[1]  # no name is unknown to the classes of a model by default
    names = dict(zip(frame.labels.label_names, of_default[0].tolist(), strict=False))
    own = Taxonomy().segmentation_classes
    assert own[names["moving-person"]] == "pedestrian" and own[names["trunk"]] == "vegetation"


def test_points_project_as_the_calibration_says(root) -> None:
    frames = list(open_source("semantic-kitti", root=str(root), split="val"))
    for frame, pose in zip(frames, [np.eye(3, 4), POSE], strict=True):
        points = np.c_[frame.companion.points[:, :3], np.ones(len(LEARNING_MAP))].astype(float)
        first = np.c_[points @ TR.T, np.ones(len(points))]
        expected = first @ P2.T
        ahead = expected[:, 2] > 1
        camera = (points @ frame.companion.T_camera_lidar.T)[:, :3]
        uv, _ = frame.camera.project(camera[ahead])
        np.testing.assert_allclose(uv, (expected[:, :2] / expected[:, 2:])[ahead], rtol=1e-6)
        moved = np.c_[camera, np.ones(len(camera))] @ frame.T_fixed_camera.T
        np.testing.assert_allclose(moved[:, :3], first @ pose.T, atol=1e-9)
    assert frames[0].image is None and frames[1].image.shape == (192, 640, 3)
    assert (frames[0].camera.width, frames[0].camera.height) == (641, 193)
    assert frames[1].stamp_ns - frames[0].stamp_ns == 103_700_000


def test_the_test_sequences_have_no_labels(root) -> None:
    assert all(f.labels is None for f in open_source("semantic-kitti", root=root, sequences="11"))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda f: (f / "labels" / "000001.label").unlink(), OSError, r"expected sequences/NN/"),
        (
            lambda f: np.zeros(3, "<u4").tofile(f / "labels" / "000001.label"),
            Fault,
            "12 bytes, .* do they belong together",
        ),
        (
            lambda f: np.full(len(LEARNING_MAP), 7, "<u4").tofile(f / "labels" / "000001.label"),
            Fault,
            "holds classes 7, which SemanticKITTI has not",
        ),
        (lambda f: (f / "calib.txt").unlink(), OSError, r"calib.txt does not exist; expected"),
        (lambda f: (f / "calib.txt").write_text("P2: 1 2"), Fault, "P2 must hold 12 numbers"),
        (lambda f: (f / "poses.txt").write_text("1 2 3"), Fault, "12 for each of the 2 sweeps"),
        (lambda f: (f / "velodyne").rename(f / "lidar"), OSError, r"expected sequences/NN/\{vel"),
    ],
)
def test_what_does_not_fit_is_named(root, change, error, words) -> None:
    change(root / "sequences" / "08")
    with pytest.raises(error, match=words):
        open_source("semantic-kitti", root=root, split="val")[1]


def test_unknown_splits_are_named(root) -> None:
    with pytest.raises(Fault, match="must be one of train, val, test"):
        open_source("semantic-kitti", root=root, split="dev")
