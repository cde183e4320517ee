"""Samples: equal to preprocessing where nothing is random, labels beside the image, batches."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lemumo_core.data.samples import Batch, collate, sample
from lemumo_core.data.sources.kitti import KittiObject
from lemumo_core.data.sources.kitti_raw import KittiRaw
from lemumo_core.data.sources.pairs import RgbThermalPairs
from lemumo_core.data.views import clean_view
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, Labels, LidarScan, ThermalImage
from lemumo_core.geometry.camera import Camera
from lemumo_core.preprocess import InputSpec, network_view, preprocess
from lemumo_core.taxonomy import Taxonomy
from tests.helpers.small_frames import small_frames

CANVAS = InputSpec(64, 176, "lidar", 2)
CAMERAS = [
    Camera(352, 128, 260, 255, 170.3, 70.1),  # exactly the canvas's aspect
    Camera(640, 480, 400, 400, 321, 243, "plumb_bob", (-0.3, 0.1, 1e-3, 1e-3, 0.0)),  # cut
    Camera(620, 187, 90, 90, 310, 90, "equidistant", (0.02, -0.01, 0.0, 0.0)),  # padded
]


def lidar_frame(camera: Camera, points: int = 4000, labels: Labels | None = None) -> Frame:
    rng = np.random.default_rng(camera.width)
    cloud = rng.uniform([-20, -5, -3, 0], [20, 5, 100, 1], (points, 4)).astype(np.float32)
    cloud[:3, 0] = np.nan
    image = rng.integers(0, 256, (camera.height, camera.width, 3), np.uint8)
    T = np.eye(4)
    T[:3, 3] = 0.1, -0.2, 0.3
    return Frame(1, "front", camera, image, LidarScan(cloud, T, 1), labels)


def thermal_frame(camera: Camera, counts=np.uint16) -> Frame:
    rng = np.random.default_rng(0)
    thermal = Camera(160, 128, 150, 150, 80, 64)
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.array([0.02, 0.05, 0.03]))[0]
    values = rng.integers(0, 255, (128, 160)).astype(counts)
    image = rng.integers(0, 256, (camera.height, camera.width, 3), np.uint8)
    return Frame(1, "front", camera, image, ThermalImage(values, thermal, T, 1))


def assert_is_preprocess(frame: Frame, spec: InputSpec) -> None:
    expected, view = preprocess(frame, spec), clean_view(sample(frame, spec))
    for name, array in expected._asdict().items():
        ours = getattr(view, name).numpy()
        assert ours.dtype == array.dtype, name
        np.testing.assert_array_equal(ours, array, err_msg=name)


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: c.model)
def test_the_clean_view_is_preprocess_bit_for_bit(camera, channels) -> None:
    spec = InputSpec(64, 176, "lidar", channels)
    frame = lidar_frame(camera)
    assert_is_preprocess(frame, spec)
    assert (preprocess(frame, spec).companion > 0).sum() > 200
    assert_is_preprocess(Frame(1, "c", camera, frame.image), spec)
    assert_is_preprocess(Frame(1, "c", camera, None, frame.companion), spec)
    if channels == 4:
        places = preprocess(frame, spec).companion[..., 2:]
        assert (abs(places) <= 0.5).all() and places.std() > 0.03
        return
    thermal = InputSpec(64, 176, "thermal", channels)
    for counts in (np.uint8, np.uint16):
        assert_is_preprocess(thermal_frame(camera, counts), thermal)
    assert_is_preprocess(Frame(1, "c", camera, frame.image), thermal)


def test_so_it_is_on_real_frames(shared_data) -> None:
    kitti = KittiRaw(shared_data / "kitti_raw_seq" / "2011_09_26")[0]
    assert_is_preprocess(kitti, InputSpec(256, 704, "lidar", 2))
    assert_is_preprocess(kitti, InputSpec(224, 224, "lidar", 1))
    pair = RgbThermalPairs(shared_data / "kaist_rgbt")[0]
    assert_is_preprocess(pair, InputSpec(256, 320, "thermal", 2))


@pytest.mark.parametrize(
    ("offset_m", "has_image", "present"),
    [
        ((0.0, 0.0, 0.0), True, [1.0, 1.0]),
        ((0.0, 0.0, -200.0), True, [1.0, 0.0]),  # all behind the camera
        ((0.0, 500.0, 0.0), True, [1.0, 0.0]),  # all below the image
        ((0.0, 0.0, -200.0), False, [0.0, 1.0]),  # nothing else is there
    ],
)
def test_a_lidar_without_a_return_in_view_is_absent_on_both_roads(
    offset_m, has_image, present
) -> None:
    frame = lidar_frame(CAMERAS[0])
    T = frame.companion.T_camera_lidar.copy()
    T[:3, 3] += offset_m
    scan = replace(frame.companion, T_camera_lidar=T)
    frame = replace(frame, image=frame.image if has_image else None, companion=scan)
    assert sample(frame, CANVAS).present.tolist() == [present]
    assert_is_preprocess(frame, CANVAS)


def test_returns_are_all_that_the_camera_sees_with_their_labels() -> None:
    camera = CAMERAS[1]
    point_labels = (np.arange(4000) % 12).astype(np.uint8)
    frame = lidar_frame(camera, labels=Labels(point_labels=point_labels))
    batch = sample(frame, CANVAS, Taxonomy())
    points = (
        frame.companion.points[:, :3].astype(np.float64) + frame.companion.T_camera_lidar[:3, 3]
    )
    expected = []
    for point, label in zip(points, point_labels, strict=True):
        uv, valid = network_view(frame.camera, CANVAS).project(point[None], z_min=1.0)
        if valid[0] and -0.5 <= uv[0, 0] < 175.5 and -0.5 <= uv[0, 1] < 63.5:
            expected.append([*uv[0], point[2], label])
    assert len(expected) > 500
    ours = np.hstack([batch.returns[0].numpy(), batch.labels.point_labels[0, :, None].numpy()])
    np.testing.assert_allclose(ours, expected, atol=2e-4)


def test_label_maps_take_the_nearest_pixel_of_the_image_they_belong_to() -> None:
    """A quarter of the image in each class; the bottom rows count, rows above are unknown."""
    for camera in CAMERAS:
        row, column = np.mgrid[: camera.height, : camera.width]
        label_map = (2 * (row >= camera.height * 0.8) + (column >= camera.width / 2)).astype(
            np.uint8
        )
        depth_m = (row * 1000 + column).astype(np.float32)
        frame = lidar_frame(camera, labels=Labels(label_map=label_map, depth_m=depth_m))
        batch = sample(frame, CANVAS, Taxonomy())
        view = network_view(frame.camera, CANVAS)
        v, u = np.mgrid[:64, :176]
        # Where the centre of each pixel lies in the full image, by the two pinhole parts.
        full_u = (u - view.cx) / view.fx * camera.fx + camera.cx
        full_v = (v - view.cy) / view.fy * camera.fy + camera.cy
        inside = full_v > -0.5
        ours_v, ours_u = np.divmod(batch.labels.depth_m[0].numpy(), 1000)
        assert np.abs(ours_u - full_u)[inside].max() < 0.5 + 1e-3
        assert np.abs(ours_v - full_v)[inside].max() < 0.5 + 1e-3
        assert np.isnan(ours_v[~inside]).all()
        labels = batch.labels.label_map[0].numpy()
        assert (labels[~inside] == 255).all()
        at = ours_v[inside].astype(int), ours_u[inside].astype(int)
        np.testing.assert_array_equal(labels[inside], label_map[at])


BOXES = np.arange(28, dtype=np.float32).reshape(4, 7)


def test_boxes_of_known_classes() -> None:
    labels = Labels(
        boxes_3d=BOXES,
        class_names=("Car", "tram", "human.pedestrian.adult", "truck"),
        visibility=np.array([0.1, 0.2, 0.3, 0.4], np.float32),
        num_points=np.array([1, 2, 3, 4], np.int32),
    )
    boxes = sample(
        lidar_frame(CAMERAS[0], labels=labels), CANVAS, Taxonomy(("pedestrian", "car"))
    ).labels.boxes
    assert boxes.class_ids.tolist() == [[1, 0]] and boxes.known_3d.tolist() == [True]
    np.testing.assert_array_equal(boxes.boxes_3d[0], BOXES[[0, 2]])
    np.testing.assert_allclose(boxes.visibility[0], [0.1, 0.3])
    assert boxes.num_points.tolist() == [[1, 3]]


def test_what_a_source_does_not_say_stays_unknown() -> None:
    frame = lidar_frame(CAMERAS[0], labels=Labels(boxes_3d=BOXES, class_names=("car",) * 4))
    labels = sample(frame, CANVAS, Taxonomy(("car",))).labels
    assert labels.boxes.visibility.isnan().all() and (labels.boxes.num_points == -1).all()
    assert (labels.label_map == 255).all() and labels.depth_m.isnan().all()
    assert (labels.point_labels == 255).all()
    none = sample(lidar_frame(CAMERAS[0]), CANVAS, Taxonomy(("car",))).labels.boxes
    assert none.known_3d.tolist() == [False] and none.boxes_3d.shape == (1, 0, 7)
    assert sample(frame, CANVAS).labels is None


def mixed_samples() -> list[Batch]:
    labelled = Labels(boxes_3d=BOXES, class_names=("car",) * 4)
    frames = [
        lidar_frame(CAMERAS[0], 4000, labelled),
        lidar_frame(CAMERAS[0], 400),
        Frame(1, "c", CAMERAS[0], lidar_frame(CAMERAS[0]).image),
    ]
    return [sample(frame, CANVAS, Taxonomy(("car",))) for frame in frames]


def test_collate_pads_and_keeps_every_sample() -> None:
    samples = mixed_samples()
    batch = collate(samples)
    assert len(batch) == 3 and batch.canvas == CANVAS and batch.picture is None
    for i, one in enumerate(samples):
        n, k = one.returns.shape[1], one.labels.boxes.boxes_3d.shape[1]
        assert torch.equal(batch.image[i], one.image[0])
        assert torch.equal(batch.returns[i, :n], one.returns[0])
        assert batch.returns[i, n:].isinf().all()
        assert torch.equal(batch.labels.boxes.boxes_3d[i, :k], one.labels.boxes.boxes_3d[0])
        assert (batch.labels.boxes.class_ids[i, k:] == -1).all()
    assert batch.present.tolist() == [[1, 1], [1, 1], [1, 0]]
    assert batch.labels.boxes.known_3d.tolist() == [True, False, False]
    view = clean_view(batch)
    for i, one in enumerate(samples):
        assert torch.equal(view.companion[i], clean_view(one).companion[0])


def test_worker_processes_hand_over_batches() -> None:
    samples = mixed_samples()
    loader = DataLoader(samples, batch_size=3, num_workers=1, collate_fn=collate)
    (batch,) = loader
    expected = collate(samples).to("cpu", non_blocking=True)
    assert torch.equal(batch.returns, expected.returns)
    assert torch.equal(batch.labels.boxes.boxes_3d, expected.labels.boxes.boxes_3d)
    meta = batch.to("meta")
    assert meta.labels.boxes.known_3d.device.type == "meta" and meta.image.device.type == "meta"


def test_what_does_not_fit_is_refused() -> None:
    one = sample(lidar_frame(CAMERAS[0]), CANVAS)
    other = sample(lidar_frame(CAMERAS[0]), InputSpec(64, 192, "lidar", 2))
    labelled = sample(lidar_frame(CAMERAS[0]), CANVAS, Taxonomy(("car",)))
    for wrong, message in (
        ([], "at least one"),
        ([one, other], "canvases"),
        ([one, labelled], "some"),
    ):
        with pytest.raises(ValueError, match=message):
            collate(wrong)
    for labels in (
        Labels(point_labels=np.zeros(3, np.uint8)),
        Labels(label_map=np.zeros((3, 3), np.uint8)),
        Labels(depth_m=np.zeros((3, 3), np.float32)),
    ):
        with pytest.raises(Fault) as error:
            sample(lidar_frame(CAMERAS[0], labels=labels), CANVAS, Taxonomy(("car",)))
        assert error.value.reason == "bad_labels"
    with pytest.raises(Fault) as error:
        sample(thermal_frame(CAMERAS[0]), CANVAS)
    assert error.value.reason == "wrong_companion"


def test_kitti_boxes_arrive(shared_data) -> None:
    source = KittiObject(shared_data / "kitti_object")
    frame = source[0]
    labels = sample(
        frame, InputSpec(256, 704, "lidar", 2), Taxonomy(("car", "truck", "pedestrian"))
    ).labels
    assert labels.boxes.known_3d.all() and labels.boxes.boxes_3d.shape[1] > 0
    assert (labels.boxes.class_ids >= 0).all()


def test_sources_with_2d_boxes_alone() -> None:
    boxes_2d = np.float32([[10, 20, 110, 90], [0, 0, 40, 60]])
    labels = Labels(boxes_2d=boxes_2d, class_names=("sign", "person"))
    boxes = sample(
        lidar_frame(CAMERAS[0], labels=labels), CANVAS, Taxonomy(("pedestrian",))
    ).labels.boxes
    assert boxes.class_ids.tolist() == [[0]]
    assert boxes.known_2d.all() and not boxes.known_3d.any()
    # Half the size: pixel i covers [i - 1/2, i + 1/2).
    assert boxes.boxes_2d.tolist() == [[[-0.25, -0.25, 19.75, 29.75]]]
    assert boxes.centers.isnan().all() and not boxes.boxes_3d.any()


def test_the_whole_sweep_comes_where_it_is_asked_for() -> None:
    """Points, their pose, and which of them each return is; padding in batches."""
    spec = InputSpec(64, 176, "lidar", 2)
    frames = [lidar_frame(CAMERAS[1], points) for points in (3000, 500)]
    assert sample(frames[0], spec).points is None
    batch = collate([sample(frame, spec, points=True) for frame in frames])
    assert batch.points is not None and batch.T_camera_lidar is not None
    assert batch.return_rows is not None
    assert batch.points.shape == (2, 3000, 4) and torch.isinf(batch.points[1, 500:]).all()
    for b, frame in enumerate(frames):
        scan = frame.companion
        assert isinstance(scan, LidarScan)
        given = batch.points[b, : len(scan.points)].numpy()
        np.testing.assert_array_equal(given, scan.scaled_points())
        np.testing.assert_allclose(batch.T_camera_lidar[b].numpy(), scan.T_camera_lidar)
        rows, returns = batch.return_rows[b], batch.returns[b]
        known = rows >= 0
        assert known.sum() > 10 and torch.equal(known, torch.isfinite(returns[:, 2]))
        xyz = scan.points[rows[known], :3] @ scan.T_camera_lidar[:3, :3].T
        depth_m = (xyz + scan.T_camera_lidar[:3, 3])[:, 2]
        np.testing.assert_allclose(returns[known, 2].numpy(), depth_m, rtol=1e-5)
    with pytest.raises(ValueError, match="only some samples have points"):
        collate([sample(frames[0], spec), sample(frames[1], spec, points=True)])


def test_a_camera_without_lidar_has_an_empty_sweep() -> None:
    frame = lidar_frame(CAMERAS[0])
    alone = Frame(1, "front", frame.camera, frame.image, None, None)
    one = sample(alone, CANVAS, points=True)
    assert one.points is not None and one.points.shape == (1, 0, 4)
    assert one.return_rows is not None and one.return_rows.shape == (1, 0)


@pytest.mark.parametrize("full", [1.0, 255.0, 65535.0])
def test_intensity_has_one_scale_whatever_the_sensor(full) -> None:
    scan = small_frames(1)[0].companion
    points = scan.points.copy()
    points[:, 3] = np.linspace(0, 200, len(points)) / 255 * full
    points[3, 3] = np.nan
    points[5, 3] = 10 * full  # a mirror
    scaled = replace(scan, points=points).scaled_points()
    assert np.isnan(scaled[3, 3]) and scaled[5, 3] == 255
    usual = np.delete(np.arange(len(points)), [3, 5])
    expected = np.linspace(0, 200, len(points))[usual]
    np.testing.assert_allclose(scaled[usual, 3], expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(scaled[:, :3], points[:, :3])
    assert not replace(scan, points=points[:, :3]).scaled_points()[:, 3].any()
