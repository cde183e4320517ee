"""Argoverse 2 on files that the test writes to the documented format."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from lemumo_core.data.sources.registry import open_source
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame
from lemumo_core.taxonomy import Taxonomy, read_classes

pa = pytest.importorskip("pyarrow", reason="Feather files need: pip install '.[bags]'")

SWEEPS = 315968867659956000, 315968867760214000
IMAGES = {
    "ring_front_center": (315968867649927221, 315968867699927221, 315968867749927217),
    "ring_rear_left": (315968867657428273,),
}
# Poses as quaternion w, x, y, z and translation: of the documentation's example where it has one.
MOUNTS = {
    "ring_front_center": (0.502809, -0.499689, 0.500147, -0.497340, 1.631216, -0.000779, 1.432780),
    "ring_rear_left": (0.600598, -0.603227, -0.371096, 0.371061, 1.104117, 0.124369, 1.446070),
    "up_lidar": (0.999996, 0.0, 0.0, -0.002848, 1.350180, 0.0, 1.640420),
}
UNIT = {
    name: (*(np.array(pose[:4]) / np.linalg.norm(pose[:4])), *pose[4:])
    for name, pose in MOUNTS.items()
}
"""As published they are rounded to six places."""
SIZES = {"ring_front_center": (64, 96), "ring_rear_left": (96, 64)}
"""Width and height of the small images."""
FIRST_IMAGE = IMAGES["ring_front_center"][0]
BOX = ("REGULAR_VEHICLE", "BOLLARD", "PEDESTRIAN")


def write_feather(path: Path, **columns: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with (
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_file(file, table.schema, options=options) as w,
    ):
        w.write_table(table)


def pose_columns(poses) -> dict[str, np.ndarray]:
    names = ("qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m")
    return dict(zip(names, np.array(poses, np.float64).T, strict=True))


def pose_of(stamp_ns: int) -> tuple[float, ...]:
    """Return where the vehicle is: it drives and turns."""
    seconds = (stamp_ns - SWEEPS[0]) / 1e9
    angle = 0.3 + 0.5 * seconds
    return np.cos(angle / 2), 0, 0, np.sin(angle / 2), 700 + 12 * seconds, 1200.5, -24


def points_of(sweep: int) -> np.ndarray:
    """Return x, y, z around the vehicle, rounded as the files' float16."""
    points = np.random.default_rng(sweep % 1000).uniform((-40, -40, -2), (40, 40, 3), (200, 3))
    return points.astype(np.float16)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a split with an annotated log and one without annotations and a rear camera."""
    for name in ("01bb304d", "2fc1a3e5"):
        log, is_whole = tmp_path / "val" / name, name == "01bb304d"
        for number, stamp in enumerate(SWEEPS):
            x, y, z = points_of(stamp).T
            write_feather(
                log / "sensors" / "lidar" / f"{stamp}.feather",
                **{"x": x, "y": y, "z": z, "intensity": np.arange(200, dtype=np.uint8)},
                laser_number=np.arange(200, dtype=np.uint8) % 64,
                offset_ns=np.arange(200, dtype=np.int32) + number,
            )
        cameras = list(SIZES) if is_whole else ["ring_front_center"]
        for camera in cameras:
            folder = log / "sensors" / "cameras" / camera
            folder.mkdir(parents=True)
            for number, stamp in enumerate(IMAGES[camera]):
                pixels = np.full((*SIZES[camera][::-1], 3), 40 * number + 20, np.uint8)
                assert cv2.imwrite(str(folder / f"{stamp}.jpg"), pixels)
        write_feather(
            log / "calibration" / "egovehicle_SE3_sensor.feather",
            sensor_name=list(MOUNTS),
            **pose_columns(list(MOUNTS.values())),
        )
        lens = {"fx_px": 55.5, "fy_px": 55.25, "k1": -0.24, "k2": -0.21, "k3": 0.32}
        write_feather(
            log / "calibration" / "intrinsics.feather",
            sensor_name=cameras,
            **{key: [value] * len(cameras) for key, value in lens.items()},
            cx_px=[SIZES[camera][0] / 2 + 0.7 for camera in cameras],
            cy_px=[SIZES[camera][1] / 2 - 1.2 for camera in cameras],
            height_px=[SIZES[camera][1] for camera in cameras],
            width_px=[SIZES[camera][0] for camera in cameras],
        )
        stamps = sorted([*SWEEPS, *(stamp for group in IMAGES.values() for stamp in group)])
        write_feather(
            log / "city_SE3_egovehicle.feather",
            timestamp_ns=stamps,
            **pose_columns([pose_of(stamp) for stamp in stamps]),
        )
        if is_whole:
            half = np.sqrt(0.5)
            poses = [
                (half, 0, 0, half, 14, 1, 0.5),
                (1, 0, 0, 0, -30, 0, 0),
                (1, 0, 0, 0, 9, -1, 0),
            ]
            write_feather(
                log / "annotations.feather",
                timestamp_ns=[SWEEPS[0]] * 3,
                track_uuid=["022c398c", "12361d61", "a748a5c4"],
                category=list(BOX),
                length_m=[4.5, 0.4, 0.6],
                width_m=[1.9, 0.3, 0.7],
                height_m=[1.6, 0.8, 1.75],
                **pose_columns(poses),
                num_interior_pts=[130, 2, 17],
            )
    return tmp_path


def turn(quaternion, vectors: np.ndarray) -> np.ndarray:
    """Rotate vectors (N, 3) by Hamilton's product."""
    w, v = quaternion[0], np.array(quaternion[1:], float)
    cross = 2 * np.cross(v, vectors)
    return vectors + w * cross + np.cross(v, cross)


def carry(pose, points: np.ndarray) -> np.ndarray:
    return turn(pose[:4], points) + pose[4:]


def fetch(pose, points: np.ndarray) -> np.ndarray:
    w, x, y, z = pose[:4]
    return turn((w, -x, -y, -z), points - pose[4:])


def in_camera(points: np.ndarray, sweep: int, image: int, camera: str) -> np.ndarray:
    """Bring points from the vehicle at a sweep to a camera, through the city, step by step."""
    return fetch(UNIT[camera], fetch(pose_of(image), carry(pose_of(sweep), points)))


def frames_of(source) -> list[Frame]:
    return [source[i] for i in range(len(source))]


def test_points_are_in_the_image_where_the_vehicles_motion_puts_them(root: Path) -> None:
    source = pickle.loads(pickle.dumps(open_source("argoverse2", root=root, split="val")))
    frames = frames_of(source)
    front, rear = IMAGES["ring_front_center"], IMAGES["ring_rear_left"][0]
    expected = [
        (SWEEPS[0], "ring_front_center", front[0]),
        (SWEEPS[0], "ring_rear_left", rear),
        (SWEEPS[1], "ring_front_center", front[2]),
    ]
    found = [(f.companion.stamp_ns, f.camera_name, f.stamp_ns) for f in frames]
    assert found == [*expected, expected[0], expected[2]]
    for frame, (sweep, name, image) in zip(frames, expected, strict=False):
        points = points_of(sweep).astype(np.float64)
        np.testing.assert_array_equal(frame.companion.points[:, :3], points)
        assert frame.companion.points[:, 3].max() == 199 and frame.companion.points.shape[1] == 5
        seen = in_camera(points, sweep, image, name)
        ahead = seen[:, 2] > 1
        homogeneous = np.c_[points, np.ones(len(points))] @ frame.companion.T_camera_lidar.T
        np.testing.assert_allclose(homogeneous[:, :3], seen, atol=1e-9)
        width, height = SIZES[name]
        u, v = 55.5 * seen[:, 0] / seen[:, 2], 55.25 * seen[:, 1] / seen[:, 2]
        uv, _ = frame.camera.project(homogeneous[ahead, :3])
        uv_expected = np.c_[u + width / 2 + 0.7, v + height / 2 - 1.2][ahead]
        np.testing.assert_allclose(uv, uv_expected, atol=1e-6)
        assert ahead.any() and frame.image.shape == (height, width, 3)
        of_city = carry(pose_of(sweep), points)
        back = homogeneous @ frame.T_fixed_camera.T
        np.testing.assert_allclose(back[:, :3], of_city, atol=1e-6)


def test_boxes_follow_their_sweep_into_each_image(root: Path) -> None:
    frames = frames_of(open_source("argoverse2", root=root / "val"))
    labels = frames[0].labels
    assert labels.class_names == ("REGULAR_VEHICLE", "PEDESTRIAN")
    assert labels.track_ids == ("022c398c", "a748a5c4") and labels.num_points.tolist() == [130, 17]
    centers = np.array([(14, 1, 0.5), (9, -1, 0)], float)
    image = IMAGES["ring_front_center"][0]
    seen = in_camera(centers, SWEEPS[0], image, "ring_front_center")
    np.testing.assert_allclose(labels.boxes_3d[:, :3], seen, atol=2e-3)
    np.testing.assert_allclose(labels.boxes_3d[0, 3:6], [4.5, 1.9, 1.6])
    ahead = in_camera(np.array([(14, 3.0, 0.5)]), SWEEPS[0], image, "ring_front_center")
    heading = ahead - seen[:1]
    yaw = np.arctan2(-heading[0, 2], heading[0, 0])
    assert np.cos(labels.boxes_3d[0, 6] - yaw) > 0.99999
    assert frames[1].labels.class_names == ("BOLLARD",) and frames[2].labels.boxes_3d.shape == (
        0,
        7,
    )
    assert frames[3].labels is None, "its log is not annotated"


def test_class_names_are_known(root: Path) -> None:
    classes = read_classes("argoverse2")
    assert len(classes.detection_classes) == 30 and classes.detection_ids(BOX).min() >= 0
    default = Taxonomy()
    names = [default.detection_classes[i] for i in default.detection_ids((BOX[0], BOX[2]))]
    assert names == ["car", "pedestrian"]
    assert not any(default.is_unknown([name.upper() for name in classes.detection_classes]))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda log: (log / "city_SE3_egovehicle.feather").unlink(), OSError, r"expected \[SPLIT"),
        (
            lambda log: write_feather(log / "city_SE3_egovehicle.feather", timestamp_ns=[1]),
            Fault,
            "feather has no column: .*qw",
        ),
        (
            lambda log: write_feather(
                log / "city_SE3_egovehicle.feather", timestamp_ns=[1], **pose_columns([pose_of(1)])
            ),
            Fault,
            "has no pose at",
        ),
        (
            lambda log: (log / "annotations.feather").write_bytes(b"ARROW1 torn"),
            Fault,
            "damaged or no Feather",
        ),
        (
            lambda log: (log / "annotations.feather").write_bytes(b""),
            Fault,
            r"annotations\.feather is damaged",
        ),
        (
            lambda log: write_feather(
                log / "annotations.feather",
                **{"timestamp_ns": [SWEEPS[0]], "track_uuid": ["a"], "category": ["BUS"]},
                **{"length_m": [0.0], "width_m": [1.0], "height_m": [1.0]},
                **pose_columns([(1, 0, 0, 0, 9, 0, 0)]),
                num_interior_pts=[1],
            ),
            Fault,
            r"annotations\.feather: 1 of 1 boxes are not sound",
        ),
        (
            lambda log: cv2.imwrite(
                str(
                    log / f"sensors/cameras/ring_front_center/{IMAGES['ring_front_center'][0]}.jpg"
                ),
                np.zeros((48, 32, 3), np.uint8),
            ),
            Fault,
            "is 32x48, its calibration is of 64x96",
        ),
    ],
)
def test_what_does_not_fit_is_named(root: Path, change, error, words) -> None:
    change(root / "val" / "01bb304d")
    with pytest.raises(error, match=words):
        open_source("argoverse2", root=root, split="val")[0]


def test_sweeps_and_images_without_each_other_are_counted(root: Path, caplog) -> None:
    front = {"root": root, "split": "val", "cameras": "ring_front_center"}
    frames = len(open_source("argoverse2", **front))
    caplog.clear()
    for sweep in (root / "val" / "2fc1a3e5" / "sensors" / "lidar").iterdir():
        sweep.unlink()
    assert 0 < len(open_source("argoverse2", **front)) < frames
    assert "2fc1a3e5/ring_front_center, which has no sweep" in caplog.text


def test_cameras_and_splits_that_are_not_there_are_named(root: Path) -> None:
    with pytest.raises(Fault, match="has no image of stereo_front_left near a sweep"):
        open_source("argoverse2", root=root, split="val", cameras="stereo_front_left")
    with pytest.raises(Fault, match="ring_font_left is none of ring_front_center"):
        open_source(
            "argoverse2", root=root, split="val", cameras=["ring_front_center", "ring_font_left"]
        )
    with pytest.raises(Fault, match="must be one of train, val, test"):
        open_source("argoverse2", root=root, split="dev")
    with pytest.raises(FileNotFoundError, match=r"holds no logs; expected \[SPLIT/\]LOG"):
        open_source("argoverse2", root=root)
