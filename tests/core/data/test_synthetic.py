"""The synthetic street against itself: its parts must tell the same story."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from lemumo_core.data.sources.synthetic import MIN_PIXELS, SyntheticStreet
from lemumo_core.geometry.boxes import points_in_box
from lemumo_core.geometry.se3 import transform
from lemumo_core.taxonomy import DETECTION_CLASSES, SEGMENTATION_CLASSES

IDS = {name: i for i, name in enumerate(SEGMENTATION_CLASSES)}
SEGMENT_OF = {"car": "car", "truck": "large_vehicle", "pedestrian": "pedestrian"}


@pytest.fixture(scope="module")
def street():
    return SyntheticStreet(seed=3, frames=20, width=480, height=272)


@pytest.fixture(scope="module")
def frame(street):
    return street[7]


def test_shapes_and_types(street, frame):
    assert len(street) == 20
    assert frame.image.shape == (272, 480, 3) and frame.image.dtype == np.uint8
    assert frame.labels.label_map.shape == (272, 480) and frame.labels.label_map.dtype == np.uint8
    assert frame.labels.depth_m.shape == (272, 480) and frame.labels.depth_m.dtype == np.float32
    points = frame.companion.points
    assert points.shape[1] == 4 and points.dtype == np.float32 and np.isfinite(points).all()
    assert len(points) > 15_000
    assert frame.stamp_ns == frame.companion.stamp_ns == street[0].stamp_ns + 700_000_000
    with pytest.raises(IndexError):
        street[20]


def test_same_seed_same_street_whatever_the_order(street, frame):
    again = pickle.loads(pickle.dumps(SyntheticStreet(seed=3, frames=20, width=480, height=272)))[7]
    assert np.array_equal(again.image, frame.image)
    assert np.array_equal(again.companion.points, frame.companion.points)
    assert np.array_equal(again.labels.boxes_3d, frame.labels.boxes_3d)
    assert np.array_equal(again.labels.depth_m, frame.labels.depth_m, equal_nan=True)
    other = SyntheticStreet(seed=4, frames=20, width=480, height=272)[7]
    assert not np.array_equal(other.image, frame.image)


def test_lidar_agrees_with_depth(frame):
    points = transform(frame.companion.T_camera_lidar, frame.companion.points[:, :3])
    uv, valid = frame.camera.project(points)
    u, v = np.rint(np.nan_to_num(uv, nan=-1)).astype(int).T
    seen = valid & (u >= 1) & (u < 479) & (v >= 1) & (v < 271)
    u, v, z = u[seen], v[seen], points[seen, 2]
    # A point may lie anywhere in its pixel: compare with the range of depths around it.
    around = np.stack(
        [frame.labels.depth_m[v + dv, u + du] for dv in (-1, 0, 1) for du in (-1, 0, 1)]
    )
    error = np.maximum(z - np.nanmax(around, axis=0), np.nanmin(around, axis=0) - z)
    # The rest is hidden from the camera, which looks from below the LiDAR.
    assert seen.sum() > 2000
    assert (error < 0.2).mean() > 0.98


def test_boxes_hold_the_pixels_of_their_objects(frame):
    labels, camera = frame.labels, frame.camera
    v, u = np.mgrid[: camera.height, : camera.width]
    rays = camera.unproject(np.stack([u.ravel(), v.ravel()], axis=1))
    points = rays * labels.depth_m.reshape(-1, 1).astype(np.float64)
    segments = labels.label_map.ravel()
    owned = np.zeros(len(points), bool)
    for box, flat, name in zip(labels.boxes_3d, labels.boxes_2d, labels.class_names, strict=True):
        assert name in DETECTION_CLASSES
        grown = box + np.array([0, 0, 0, 0.06, 0.06, 0.01, 0])
        inside = points_in_box(points, grown) & (segments == IDS[SEGMENT_OF[name]])
        assert inside.sum() >= MIN_PIXELS
        x, y = u.ravel()[inside], v.ravel()[inside]
        assert (x >= flat[0] - 2).all() and (x <= flat[2] + 2).all()
        assert (y >= flat[1] - 2).all() and (y <= flat[3] + 2).all()
        owned |= inside
    objects = np.isin(segments, [IDS[name] for name in SEGMENT_OF.values()])
    assert owned[objects].mean() > 0.97  # the rest belongs to objects too small to label


def test_sky_is_what_has_no_depth_and_the_street_has_its_parts(frame):
    labels = frame.labels
    assert np.array_equal(labels.label_map == IDS["sky"], np.isnan(labels.depth_m))
    shares = np.bincount(labels.label_map.ravel(), minlength=len(IDS)) / labels.label_map.size
    for name, least in {"road": 0.2, "building": 0.1, "sky": 0.03, "sidewalk": 0.01}.items():
        assert shares[IDS[name]] > least
    assert {"car", "pedestrian"} <= set(labels.class_names)


def test_ego_drives_past_parked_cars(street):
    before, after = street[0].labels, street[1].labels
    parked = [b for b, n in zip(before.boxes_3d, before.class_names, strict=True) if n == "car"]
    moved = [b for b, n in zip(after.boxes_3d, after.class_names, strict=True) if n == "car"]
    shifts = [
        a[2] - b[2] for a in moved for b in parked if np.allclose(a[[0, 1, 3, 4]], b[[0, 1, 3, 4]])
    ]
    assert np.isclose(shifts, -0.8, atol=1e-4).any()


def test_long_street_has_its_sidewalks_from_the_start():
    labels = SyntheticStreet(seed=1, frames=3000, width=160, height=96)[0].labels
    assert (labels.label_map == IDS["sidewalk"]).mean() > 0.002  # cars hide most of it
