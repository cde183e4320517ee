"""Solids: where they are, and how far they reach, against points of their surfaces."""

from __future__ import annotations

import numpy as np
import pytest

from lemumo_core.world.solids import (
    BOX,
    CYLINDER,
    ELLIPSOID,
    SOLID,
    TAPERED,
    bar,
    extent,
    joined,
    placed,
    solid,
)
from tests.helpers.surface_points import surface_points


@pytest.mark.parametrize("shape", [BOX, TAPERED, CYLINDER, ELLIPSOID])
def test_extent_is_that_of_the_surface(shape):
    made = solid(
        "car",
        (0.3, -0.2, 1.0),
        (2.0, 1.0, 0.6),
        (0.1, 0.2, 0.3),
        shape,
        pitch=0.0 if shape == TAPERED else 0.4,
        yaw=0.7,
        taper=(0.5, 0.2, 0.3),
    )
    points = surface_points(made[0])
    low, high = extent(made)
    np.testing.assert_allclose(low, points.min(axis=0), atol=0.01)
    np.testing.assert_allclose(high, points.max(axis=0), atol=0.01)


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_axes_are_rotations_with_the_named_one_last(axis):
    made = solid("pole", (0, 0, 0), (1, 1, 2), (1, 1, 1), CYLINDER, axis=axis)[0]
    np.testing.assert_allclose(made["axes"].T @ made["axes"], np.eye(3), atol=1e-6)
    assert np.linalg.det(made["axes"]) == pytest.approx(1)
    np.testing.assert_allclose(made["axes"][:, 2], np.eye(3)["xyz".index(axis)], atol=1e-6)


def test_pitch_tips_the_top_forward_and_yaw_turns_it_left():
    made = solid("pole", (0, 0, 0), (1, 1, 2), (1, 1, 1), pitch=np.pi / 2, yaw=np.pi / 2)[0]
    np.testing.assert_allclose(made["axes"][:, 2], (0, 1, 0), atol=1e-6)


def test_bar_reaches_from_point_to_point():
    start, end = np.array([1.0, -2.0, 0.5]), np.array([-0.4, 0.7, 2.0])
    made = bar("pole", start, end, 0.1, (1, 1, 1))[0]
    along = made["axes"][:, 2] * made["half"][2]
    np.testing.assert_allclose(made["center"] - along, start, atol=1e-6)
    np.testing.assert_allclose(made["center"] + along, end, atol=1e-6)


def test_placed_moves_every_point_of_every_model():
    models = [
        joined([solid("car", (1, 0, 0.5), (2, 1, 1), (1, 0, 0))] * 2),
        solid("pole", (0, 0.5, 1), (0.2, 0.2, 2), (0, 1, 0), CYLINDER, pitch=0.3),
    ]
    positions, yaws = np.array([[10.0, 5, 0], [-3, 2, 1]]), np.array([0.4, -2.0])
    world = placed(models, positions, yaws, np.array([0, 7]))
    assert world["owner"].tolist() == [0, 0, 7]
    rows = [(part, m) for m, model in enumerate(models) for part in model]
    for row, (part, m) in zip(world, rows, strict=True):
        c, s = np.cos(yaws[m]), np.sin(yaws[m])
        R = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        expected = surface_points(part) @ R.T + positions[m]
        np.testing.assert_allclose(surface_points(row), expected, atol=1e-5)
    assert models[1]["owner"].tolist() == [-1], "the model itself must stay as it was"


def test_joined_equals_numpys_concatenate():
    parts = [solid("car", (k, 0, 0), (1, 1, 1), (0.1, 0.2, k / 9)) for k in range(4)]
    assert joined(parts).tobytes() == np.concatenate(parts).tobytes()
    assert joined([]).dtype == SOLID
    assert len(placed([], np.zeros((0, 3)), np.zeros(0), np.zeros(0, int))) == 0
