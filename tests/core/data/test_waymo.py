"""Waymo against small tables written here to the published schema, and plain matrix algebra.

The schema is that of waymo_open_dataset/v2 (column names and Arrow types), the geometry that of
its range_image_utils.py and camera_model.cc, written out again with scipy and OpenCV.
"""

from __future__ import annotations

import builtins
import math
import pickle

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lemumo_core.data.sources.waymo import CAMERAS, Waymo
from lemumo_core.data.sources.waymo_labels import LABEL_NAMES
from lemumo_core.faults import Fault
from lemumo_core.geometry.boxes import box_corners
from lemumo_core.taxonomy import SEGMENTATION_IDS, Taxonomy

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

SEGMENT = "10017090168044687777_6380_000_6400_000"
TIMES = 1_550_083_467_346_370, 1_550_083_467_446_370
WIDTH, HEIGHT = 96, 64
K = 60.0, 62.0, 50.0, 30.0  # f_u, f_v, c_u, c_v
D = 0.04, -0.35, 0.001, -0.002, 0.01  # k1, k2, p1, p2, k3
TOP, FRONT_LASER = 1, 2
TOP_BEAMS = [-0.3, -0.17, -0.05, 0.04]  # lowest first
RANGE_WIDTH = 48

T16 = pa.list_(pa.float64(), 16)
KEYS = {
    "segment_context_name": pa.string(),
    "frame_timestamp_micros": pa.int64(),
    "camera_name": pa.int8(),
    "laser_name": pa.int8(),
    "laser_object_id": pa.string(),
}
RETURN = {"values": pa.list_(pa.float32()), "shape": pa.list_(pa.int32(), 3)}
SCHEMAS = {
    "camera_image": (
        "CameraImageComponent",
        {
            "image": pa.binary(),
            "pose.transform": T16,
            "velocity.linear_velocity.x": pa.float32(),
            "pose_timestamp": pa.float64(),
            "rolling_shutter_params.shutter": pa.float64(),
        },
    ),
    "camera_calibration": (
        "CameraCalibrationComponent",
        {
            **{
                f"intrinsic.{name}": pa.float64()
                for name in ("f_u", "f_v", "c_u", "c_v", "k1", "k2", "p1", "p2", "k3")
            },
            "extrinsic.transform": T16,
            "width": pa.int32(),
            "height": pa.int32(),
            "rolling_shutter_direction": pa.int8(),
        },
    ),
    "lidar": (
        "LiDARComponent",
        {f"range_image_return{r}.{part}": RETURN[part] for r in (1, 2) for part in RETURN},
    ),
    "lidar_calibration": (
        "LiDARCalibrationComponent",
        {
            "extrinsic.transform": T16,
            "beam_inclination.min": pa.float64(),
            "beam_inclination.max": pa.float64(),
            "beam_inclination.values": pa.list_(pa.float64()),
        },
    ),
    "lidar_pose": (
        "LiDARPoseComponent",
        {f"range_image_return1.{part}": RETURN[part] for part in RETURN},
    ),
    "vehicle_pose": ("VehiclePoseComponent", {"world_from_vehicle.transform": T16}),
    "lidar_box": (
        "LiDARBoxComponent",
        {
            **{f"box.{part}.{axis}": pa.float64() for part in ("center", "size") for axis in "xyz"},
            "box.heading": pa.float64(),
            "type": pa.int8(),
            "num_lidar_points_in_box": pa.int64(),
            "num_top_lidar_points_in_box": pa.int64(),
        },
    ),
    "camera_segmentation": (
        "CameraSegmentationLabelComponent",
        {
            "panoptic_label_divisor": pa.int32(),
            "panoptic_label": pa.binary(),
            "sequence_id": pa.string(),
        },
    ),
}


def write(folder, component, rows, segment=SEGMENT, group=2):
    """Write rows, each {key or column: value}; columns that a row lacks are null."""
    name, columns = SCHEMAS[component]
    fields = {f"key.{key}": kind for key, kind in KEYS.items() if key in rows[0]}
    fields |= {f"[{name}].{column}": kind for column, kind in columns.items()}
    short = {field: field.removeprefix("key.").removeprefix(f"[{name}].") for field in fields}
    data = {
        field: pa.array([row.get(short[field]) for row in rows], kind)
        for field, kind in fields.items()
    }
    file = folder / component / f"{segment}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(data), file, row_group_size=group)
    return file


def pose(angles, t) -> np.ndarray:
    """Roll, pitch, yaw (degrees) and a position to (4, 4)."""
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("ZYX", angles[::-1], degrees=True).as_matrix()
    T[:3, 3] = t
    return T


def apply(T, points) -> np.ndarray:
    return np.asarray(points) @ T[:3, :3].T + T[:3, 3]


# The car drives and turns: one pose a frame, one a camera shot, one a LiDAR column.
T_WORLD_FRAME = {
    TIMES[0]: pose((1, -2, 30), (860, 1556, -65)),
    TIMES[1]: pose((0, 1, 34), (862, 1557, -65)),
}
SHOT_DELAY = {"FRONT": 0.03, "SIDE_LEFT": 0.06}
T_VEHICLE_CAMERA = {
    "FRONT": pose((0.5, 1, -1), (1.5, 0, 2)),
    "SIDE_LEFT": pose((0, 2, 88), (1.4, 0.2, 2)),
}
T_VEHICLE_LASER = {
    TOP: pose((0.3, -0.4, 147), (1.4, 0, 2.2)),
    FRONT_LASER: pose((0, 3, 5), (4, 0, 0.7)),
}


def shot_pose(time, camera) -> np.ndarray:
    return T_WORLD_FRAME[time] @ pose(
        (0, 0.2, 20 * SHOT_DELAY[camera]), (9 * SHOT_DELAY[camera], 0.01, 0)
    )


def column_pose(time, column) -> tuple[np.ndarray, np.ndarray]:
    """Roll, pitch, yaw and position (float32) of the car when the top LiDAR fired a column."""
    T = T_WORLD_FRAME[time] @ pose((0, 0, 0.1 * (column - 20)), (0.03 * (column - 20), 0, 0))
    yaw, pitch, roll = Rotation.from_matrix(T[:3, :3]).as_euler("ZYX")
    return np.float32([roll, pitch, yaw]), T[:3, 3].astype(np.float32)


def laser_point(time, laser, row, column, distance, width=RANGE_WIDTH) -> np.ndarray:
    """The point (3,) that one pixel measured, in the car's frame at ``time``, from scratch."""
    beams = TOP_BEAMS if laser == TOP else [-0.9, -0.3, 0.3]  # middles of [-1.2, 0.6] / 3
    T = T_VEHICLE_LASER[laser]
    heading = math.pi - (column + 0.5) * 2 * math.pi / width
    azimuth = heading - math.atan2(T[1, 0], T[0, 0])
    ray = Rotation.from_euler("ZY", [azimuth, -beams[::-1][row]]).apply([distance, 0, 0])
    point = apply(T, ray)
    if laser == TOP:
        angles, t = column_pose(time, column)
        then = pose(np.degrees(angles.astype(np.float64)), t)
        point = apply(np.linalg.inv(T_WORLD_FRAME[time]) @ then, point)
    return point


def hits(laser, number) -> list[tuple[int, int, float, float]]:
    """Row, column, range, intensity of the returns of one LiDAR, different in each."""
    random = np.random.default_rng(10 * laser + number)
    height = len(TOP_BEAMS) if laser == TOP else 3
    cells = random.choice(height * RANGE_WIDTH, 40 // number, replace=False)
    return [
        (*divmod(int(cell), RANGE_WIDTH), float(np.float32(random.uniform(2, 70))), 0.25 * number)
        for cell in sorted(cells)
    ]


def expected_points(time, lasers=(TOP, FRONT_LASER), returns=(1, 2)) -> np.ndarray:
    return np.array(
        [
            [*laser_point(time, laser, row, column, distance), intensity]
            for laser in lasers
            for number in returns
            for row, column, distance, intensity in hits(laser, number)
        ]
    )


def range_image(laser, number) -> dict:
    height = len(TOP_BEAMS) if laser == TOP else 3
    image = np.full((height, RANGE_WIDTH, 4), -1, np.float32)
    for row, column, distance, intensity in hits(laser, number):
        image[row, column] = distance, intensity, 0, 0
    return flat(f"range_image_return{number}", image)


def flat(name, image) -> dict:
    return {f"{name}.values": image.ravel(), f"{name}.shape": list(image.shape)}


def encoded(extension, image) -> bytes:
    return cv2.imencode(extension, image)[1].tobytes()


def picture(time, camera) -> np.ndarray:
    return np.full(
        (HEIGHT, WIDTH, 3), (40 * CAMERAS[camera], 10, 100 * TIMES.index(time)), np.uint8
    )


def frame_key(time, **more) -> dict:
    return {"segment_context_name": SEGMENT, "frame_timestamp_micros": time, **more}


def boxes(time) -> list[dict]:
    """In the car's frame: ahead, to the left, and far behind."""
    shift = 0.5 * TIMES.index(time)
    return [
        {
            "box.center.x": x + shift, "box.center.y": y, "box.center.z": 0.9,
            "box.size.x": 4.5, "box.size.y": 1.9, "box.size.z": 1.6, "box.heading": heading,
            "type": kind, "num_lidar_points_in_box": points,
        }
        for x, y, heading, kind, points in (
            (15.0, 1.0, 0.4, 1, 120), (2.0, 14.0, -2.8, 4, 33), (-40.0, 0.0, 0.0, 2, 5)
        )
    ]  # fmt: skip


PANOPTIC = np.zeros((HEIGHT, WIDTH), np.uint16)
PANOPTIC[:10] = 25 * 1000  # sky
PANOPTIC[10:20] = 20 * 1000  # road
PANOPTIC[20:30, :40] = 2 * 1000 + 7  # a car
PANOPTIC[20:30, 40:] = 9 * 1000 + 7  # a pedestrian with the same instance number
PANOPTIC[30:40] = 2 * 1000 + 8  # another car
PANOPTIC[40:50] = 28 * 1000  # some static object
PANOPTIC[50:55] = 40 * 1000  # a class that Waymo does not have today


def write_dataset(folder):
    segment = {"segment_context_name": SEGMENT}
    shots = [(time, camera) for time in TIMES[::-1] for camera in SHOT_DELAY]  # not in order
    scans = [(time, laser) for laser in (FRONT_LASER, TOP) for time in TIMES]
    write(folder, "camera_image", [
        frame_key(time, camera_name=CAMERAS[camera])
        | {
            "image": encoded(".jpg", picture(time, camera)[..., ::-1]),
            "pose.transform": shot_pose(time, camera).ravel(),
            "pose_timestamp": time / 1e6 + SHOT_DELAY[camera],
        }
        for time, camera in shots
    ])  # fmt: skip
    names = [*SCHEMAS["camera_calibration"][1]][:9]
    write(folder, "camera_calibration", [
        segment
        | {"camera_name": CAMERAS[camera], "width": WIDTH, "height": HEIGHT}
        | {"extrinsic.transform": T_VEHICLE_CAMERA[camera].ravel(), "rolling_shutter_direction": 2}
        | dict(zip(names, (*K, *D), strict=True))
        for camera in ("SIDE_LEFT", "FRONT")
    ])  # fmt: skip
    write(folder, "lidar", [
        frame_key(time, laser_name=laser) | range_image(laser, 1) | range_image(laser, 2)
        for time, laser in scans
    ])  # fmt: skip
    write(folder, "lidar_calibration", [
        segment | {"laser_name": laser, "extrinsic.transform": T.ravel()}
        | {"beam_inclination.min": -1.2, "beam_inclination.max": 0.6}
        | ({"beam_inclination.values": TOP_BEAMS} if laser == TOP else {})
        for laser, T in T_VEHICLE_LASER.items()
    ])  # fmt: skip
    write(folder, "lidar_pose", [
        frame_key(time, laser_name=TOP) | flat("range_image_return1", np.tile(
            [np.concatenate(column_pose(time, column)) for column in range(RANGE_WIDTH)],
            (len(TOP_BEAMS), 1, 1),
        ))
        for time in TIMES
    ])  # fmt: skip
    write(folder, "vehicle_pose", [
        frame_key(time) | {"world_from_vehicle.transform": T.ravel()}
        for time, T in T_WORLD_FRAME.items()
    ])  # fmt: skip
    write(folder, "lidar_box", [
        frame_key(time, laser_object_id=f"{i}") | box
        for time in TIMES
        for i, box in enumerate(boxes(time))
    ])  # fmt: skip
    write(folder, "camera_segmentation", [
        frame_key(TIMES[1], camera_name=CAMERAS["FRONT"])
        | {"panoptic_label_divisor": 1000, "panoptic_label": encoded(".png", PANOPTIC)}
    ])  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("waymo")
    write_dataset(root / "training")
    return root


@pytest.fixture
def own(tmp_path):
    """A data set that the test may spoil."""
    write_dataset(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def source(root):
    return Waymo(root, "training")


def T_camera_world(time, camera) -> np.ndarray:
    """World to the optical frame of a camera at the time of its shot."""
    T = np.linalg.inv(shot_pose(time, camera) @ T_VEHICLE_CAMERA[camera])
    return np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]]) @ T


def test_frames_are_in_order(source):
    shots = [(time, camera) for time in TIMES for camera in SHOT_DELAY]
    assert len(source) == len(shots) == 4
    for frame, (time, camera) in zip(source, shots, strict=True):
        assert frame.camera_name == camera
        assert frame.companion.stamp_ns == time * 1000
        # A double holds seconds since 1970 to a quarter of a microsecond.
        assert abs(frame.stamp_ns - (time * 1000 + SHOT_DELAY[camera] * 1e9)) <= 1000
        assert np.abs(frame.image.astype(int) - picture(time, camera)).max() <= 3  # JPEG
    swapped = Waymo(source.root, "training", ["SIDE_LEFT", "FRONT"])
    assert [frame.camera_name for frame in swapped] == ["SIDE_LEFT", "FRONT"] * 2
    assert [frame.camera_name for frame in Waymo(source.root, "training", "FRONT")] == ["FRONT"] * 2


def test_points_are_those_measured(source):
    for frame in source:
        points = frame.companion.points
        assert points.dtype == np.float32
        expected = expected_points(frame.companion.stamp_ns // 1000)
        # 1 mm: positions of pixels in the world are float32.
        np.testing.assert_allclose(points, expected, atol=1e-3)


@pytest.mark.parametrize("returns", [(1,), (2,)])
def test_returns_can_be_chosen(root, returns):
    points = Waymo(root, "training", returns=returns)[0].companion.points
    np.testing.assert_allclose(points, expected_points(TIMES[0], returns=returns), atol=1e-3)


def test_middle_column_looks_ahead_and_first_row_up(own):
    """Without a mount or motion: the middle is +x, a quarter to its left +y, and row 0 is up."""
    image = np.zeros((2, 4000, 4), np.float32)
    image[0, 2000, 0] = image[1, 1000, 0] = 10
    write(own, "lidar", [frame_key(TIMES[0], laser_name=5) | flat("range_image_return1", image)])
    write(own, "lidar_calibration", [
        {"segment_context_name": SEGMENT, "laser_name": 5, "extrinsic.transform": np.eye(4).ravel(),
         "beam_inclination.min": -0.25, "beam_inclination.max": 0.35,
         "beam_inclination.values": [-0.1, 0.2]},
    ])  # fmt: skip
    points = Waymo(own)[0].companion.points[:, :3]
    expected = [[10 * np.cos(0.2), 0, 10 * np.sin(0.2)], [0, 10 * np.cos(0.1), -10 * np.sin(0.1)]]
    np.testing.assert_allclose(points, expected, atol=0.01)


def test_points_are_those_of_waymo_s_own_unit_test(own):
    """The numbers of lidar_utils_test.py: a pose a pixel, turned by 90 degrees about each axis."""
    still = np.eye(4).ravel()
    scan = frame_key(TIMES[0], laser_name=TOP)
    image = np.arange(-12, 12, dtype=np.float32).reshape(3, 2, 4)
    then = np.tile(np.float32([np.pi / 2] * 3 + [1, 2, 3]), (3, 2, 1))
    write(own, "lidar", [scan | flat("range_image_return1", image)])
    write(own, "lidar_pose", [scan | flat("range_image_return1", then)])
    write(own, "lidar_calibration", [
        {"segment_context_name": SEGMENT, "laser_name": TOP, "extrinsic.transform": still,
         "beam_inclination.min": -2, "beam_inclination.max": 2,
         "beam_inclination.values": [-np.pi / 2, 0, np.pi / 2]},
    ])  # fmt: skip
    write(own, "vehicle_pose", [frame_key(TIMES[0]) | {"world_from_vehicle.transform": still}])
    points = Waymo(own)[0].companion.points
    np.testing.assert_allclose(points, [[-3, 2, 3, 5], [-7, 2, 3, 9]], atol=1e-5)


def test_chain_takes_points_to_the_moment_of_the_shot(source):
    for frame in source:
        time = frame.companion.stamp_ns // 1000
        expected = T_camera_world(time, frame.camera_name) @ T_WORLD_FRAME[time]
        np.testing.assert_allclose(frame.companion.T_camera_lidar, expected, atol=1e-9)
        T_camera_fixed = T_camera_world(time, frame.camera_name)
        np.testing.assert_allclose(frame.T_fixed_camera @ T_camera_fixed, np.eye(4), atol=1e-9)


def test_projection_is_opencv_of_the_world_point(source):
    """From the corner of the top left pixel, as Waymo counts, to its centre."""
    seen = 0
    for frame in source:
        time = frame.companion.stamp_ns // 1000
        scan = frame.companion
        uv, valid = frame.camera.project(apply(scan.T_camera_lidar, scan.points[:, :3]))
        T = T_camera_world(time, frame.camera_name) @ T_WORLD_FRAME[time]
        inside = valid & ((uv > 0) & (uv < [WIDTH, HEIGHT])).all(axis=1)
        matrix = np.array([[K[0], 0, K[2]], [0, K[1], K[3]], [0, 0, 1]])
        points = apply(T, expected_points(time)[inside, :3])
        expected = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, np.array(D))[0]
        np.testing.assert_allclose(uv[inside], expected[:, 0] - 0.5, atol=0.05)
        seen += inside.sum()
    assert seen > 20


def test_boxes_on_a_turned_camera(source):
    for frame, name, box in (
        (source[2], "vehicle", boxes(TIMES[1])[0]),
        (source[3], "cyclist", boxes(TIMES[1])[1]),
    ):
        labels = frame.labels
        assert labels.class_names == (name,)  # the other ones are not in view
        assert labels.num_points.tolist() == [box["num_lidar_points_in_box"]]
        assert labels.visibility is None
        size = [box[f"box.size.{axis}"] for axis in "xyz"]
        T = np.eye(4)
        T[:3, :3] = Rotation.from_euler("z", box["box.heading"]).as_matrix()
        T[:3, 3] = [box[f"box.center.{axis}"] for axis in "xyz"]
        T = frame.companion.T_camera_lidar @ T
        np.testing.assert_allclose(labels.boxes_3d[0, :6], [*T[:3, 3], *size], atol=1e-4)
        signs = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]) / 2
        corners = apply(T, signs * size)
        distance = np.linalg.norm(box_corners(labels.boxes_3d)[0][:, None] - corners, axis=2)
        assert distance.min(axis=1).max() < 0.15  # only pitch and roll are lost
        forward = apply(T, [[1, 0, 0]])[0] - T[:3, 3]
        yaw = labels.boxes_3d[0, 6]
        np.testing.assert_allclose([np.cos(yaw), -np.sin(yaw)], forward[[0, 2]], atol=0.01)
        u, v = frame.camera.project(corners)[0].T
        expected = np.clip([u.min(), v.min(), u.max(), v.max()], 0, [95, 63, 95, 63])
        np.testing.assert_allclose(labels.boxes_2d[0], expected, atol=1)


def test_segmentation_is_split_into_classes_and_objects(source):
    assert [frame.labels.label_map is not None for frame in source] == [False, False, True, False]
    labels = source[2].labels
    assert labels.label_map.dtype == np.uint8 and labels.instance_map.dtype == np.uint16
    values = labels.label_map[[5, 15, 25, 25, 35, 45, 52, 60], [0, 0, 0, 90, 0, 0, 0, 0]]
    names = ("sky", "road", "car", "pedestrian", "car", "static")
    ids = [labels.label_names.index(name) for name in names]
    assert values.tolist() == [*ids, 255, 255]
    instances = labels.instance_map
    assert len(set(instances.ravel().tolist())) == 4  # none and three objects
    assert not instances[:20].any() and not instances[40:].any()
    assert len({instances[25, 0], instances[25, 90], instances[35, 0], 0}) == 4


def test_all_waymo_classes_have_an_id_or_none():
    named = {name: [] for name in SEGMENTATION_IDS}
    ids = np.arange(1, len(LABEL_NAMES))
    for waymo, ours in zip(ids, Taxonomy().label_ids(ids, LABEL_NAMES), strict=True):
        if ours != 255:
            named[list(SEGMENTATION_IDS)[ours]].append(waymo)
    assert named == {
        "road": [20, 21, 22], "sidewalk": [23], "building": [19], "pole": [15], "sign": [17],
        "vegetation": [24], "terrain": [26], "sky": [25], "pedestrian": [9],
        "two_wheeler": [6, 7, 10, 11], "car": [2], "large_vehicle": [3, 4, 5, 8],
    }  # fmt: skip


def test_frames_are_the_same_in_any_order_and_process(source):
    unused = pickle.dumps(Waymo(source.root, "training"))
    assert len(source[0].companion.points) and pickle.dumps(source) == unused  # no points in it
    other = pickle.loads(unused)
    for index in (3, 0, -1, 2):
        a, b = source[index], other[index]
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.companion.points, b.companion.points)
        assert np.array_equal(a.companion.T_camera_lidar, b.companion.T_camera_lidar)
    a.companion.points[:] = 0  # whoever changes a Frame changes no other
    assert source[2].companion.points.any()
    with pytest.raises(IndexError):
        source[4]


@pytest.fixture
def starts(monkeypatch):
    """Component and first row group of every place where a table is entered."""
    entered = []
    original = pq.ParquetFile.iter_batches

    def spy(self, *args, row_groups, **kwargs):
        entered.append((self.schema_arrow.names[-1].partition("]")[0][1:], row_groups[0]))
        return original(self, *args, row_groups=row_groups, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    return entered


def test_a_jump_enters_the_row_group_of_its_rows(root, starts):
    source = Waymo(root, "training")
    source[0]  # the images of the first frame come last in their table
    assert ("CameraImageComponent", 1) in starts and ("CameraImageComponent", 0) not in starts
    starts.clear()
    source[1]  # the same frame, another camera
    assert starts == []


def test_reading_in_order_decodes_each_table_once(own, starts, monkeypatch):
    monkeypatch.setattr("lemumo_core.data.sources.waymo_table.BATCH_BYTES", 1)  # row by row
    for component in SCHEMAS:
        file = own / component / f"{SEGMENT}.parquet"
        table = pq.read_table(file)
        if "key.frame_timestamp_micros" in table.column_names:
            table = table.sort_by("key.frame_timestamp_micros")
        pq.write_table(table, file, row_group_size=3)  # frames across row groups
    source = Waymo(own, cameras=("SIDE_LEFT", "FRONT"))  # not as in the file
    assert len([*source]) == 4
    entered = [name for name, _ in starts if "Calibration" not in name]
    assert sorted(entered) == sorted({*entered}) and len(entered) == 6


def test_rows_are_found_inside_a_large_row_group(own, monkeypatch):
    monkeypatch.setattr("lemumo_core.data.sources.waymo_table.BATCH_BYTES", 1)
    for component in SCHEMAS:
        file = own / component / f"{SEGMENT}.parquet"
        pq.write_table(pq.read_table(file), file)  # one row group; read a row at a time
    frames = [*Waymo(own)]
    assert [frame.labels.class_names for frame in frames] == [("vehicle",), ("cyclist",)] * 2
    for frame in frames:
        expected = expected_points(frame.companion.stamp_ns // 1000)
        np.testing.assert_allclose(frame.companion.points, expected, atol=1e-3)


def test_segments_follow_each_other(own):
    for component in SCHEMAS:
        file = own / component / f"{SEGMENT}.parquet"
        file.with_name("99_a.parquet").write_bytes(file.read_bytes())
    source = Waymo(own)
    assert source.segments == [SEGMENT, "99_a"] and len(source) == 8
    assert source.describe() == {
        "source": "waymo", "root": str(own), "split": None, "cameras": list(CAMERAS),
        "returns": [1, 2], "segments": 2, "frames": 8,
    }  # fmt: skip


def test_labels_are_none_without_their_files(own):
    (own / "lidar_box" / f"{SEGMENT}.parquet").unlink()
    assert [frame.labels is None for frame in Waymo(own)] == [True, True, False, True]
    (own / "camera_segmentation" / f"{SEGMENT}.parquet").unlink()
    assert [frame.labels for frame in Waymo(own)] == [None] * 4


@pytest.mark.parametrize("component", [*SCHEMAS][:6])
def test_missing_components_are_named(own, component):
    (own / component / f"{SEGMENT}.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=rf"{component}.*ROOT\[/SPLIT\]/"):
        Waymo(own)


def test_wrong_folders_are_named(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"camera_image does not exist.*SPLIT"):
        Waymo(root)  # forgot the split
    (tmp_path / "segment-1_with_camera_labels.tfrecord").touch()
    with pytest.raises(FileNotFoundError, match=r"\.tfrecord files, version 1.*SEGMENT\.parquet"):
        Waymo(tmp_path)


@pytest.mark.parametrize("component", [*SCHEMAS])
def test_cut_off_files_are_named(own, component):
    file = own / component / f"{SEGMENT}.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(Fault, match=rf"{component}.*not a whole parquet file") as caught:
        [*Waymo(own)]
    assert caught.value.reason == "bad_table"


def test_damaged_files_are_named(own):
    file = own / "lidar" / f"{SEGMENT}.parquet"
    data = bytearray(file.read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    file.write_bytes(data)
    with pytest.raises(Fault, match=r"lidar/.*not a whole parquet file"):
        [*Waymo(own)]


@pytest.mark.parametrize("component", [*SCHEMAS])
def test_missing_columns_are_named(own, component):
    file = own / component / f"{SEGMENT}.parquet"
    name = f"[{SCHEMAS[component][0]}]"
    table = pq.read_table(file)
    pq.write_table(table.select([n for n in table.column_names if n.startswith("key")]), file)
    with pytest.raises(Fault, match=rf"{component}.*no column \{name}.*v2"):
        [*Waymo(own)]
    pq.write_table(table.select([n for n in table.column_names if n.startswith("[")]), file)
    with pytest.raises(Fault, match=rf"{component}.*no column key\."):
        [*Waymo(own)]


@pytest.mark.parametrize("component", ["vehicle_pose", "lidar", "lidar_pose", "camera_calibration"])
def test_missing_rows_are_named(own, component):
    file = own / component / f"{SEGMENT}.parquet"
    pq.write_table(pq.read_table(file)[:0], file)
    with pytest.raises(Fault, match=rf"{component}/.*(0 rows|no range image|not one pose)"):
        Waymo(own)[0]


def spoil(folder, component, column, value):
    """Put one value into a column of all rows."""
    file = folder / component / f"{SEGMENT}.parquet"
    table = pq.read_table(file)
    name = f"[{SCHEMAS[component][0]}].{column}"
    field = table.schema.field(name)
    values = pa.array([value] * len(table), field.type)
    pq.write_table(table.set_column(table.column_names.index(name), field, values), file)


@pytest.mark.parametrize(
    ("component", "column", "value", "reason"),
    [
        ("camera_image", "image", b"not a JPEG", "bad_image"),
        ("camera_image", "image", None, "bad_table"),
        ("camera_image", "pose_timestamp", None, "bad_table"),
        ("camera_segmentation", "panoptic_label_divisor", 0, "bad_image"),
        ("camera_calibration", "width", 95, "bad_image"),
        ("camera_calibration", "intrinsic.f_u", 0.0, "bad_camera"),
        (
            "camera_segmentation",
            "panoptic_label",
            encoded(".png", picture(TIMES[0], "FRONT")),
            "bad_image",
        ),
        ("vehicle_pose", "world_from_vehicle.transform", [2.0] * 16, "bad_transform"),
        ("vehicle_pose", "world_from_vehicle.transform", None, "bad_transform"),
        ("lidar", "range_image_return1.shape", [4, 4, 4], "bad_points"),
        ("lidar", "range_image_return1.shape", None, "bad_points"),
        ("lidar_pose", "range_image_return1.values", None, "bad_points"),
        ("lidar_calibration", "beam_inclination.values", [0.1, 0.2], "bad_calibration"),
    ],
)
def test_bad_values_are_named(own, component, column, value, reason):
    spoil(own, component, column, value)
    with pytest.raises(Fault) as caught:
        [*Waymo(own)]
    assert caught.value.reason == reason
    if reason != "bad_camera":
        assert component in str(caught.value) or column == "width"


def test_unknown_type_of_box_is_kept(own):
    spoil(own, "lidar_box", "type", 0)
    assert Waymo(own)[0].labels.class_names == ("unknown",)


def test_bad_options_are_named(root):
    with pytest.raises(Fault, match=r"CAM_FRONT.*SIDE_RIGHT"):
        Waymo(root, "training", "CAM_FRONT")
    with pytest.raises(Fault, match=r"no image of \('FRONT_LEFT',\)"):
        Waymo(root, "training", "FRONT_LEFT")
    with pytest.raises(Fault, match="returns"):
        Waymo(root, "training", returns=(3,))


def test_without_pyarrow_the_message_says_what_to_install(root, monkeypatch):
    original = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match="pip install 'onnx"):
        Waymo(root, "training")
