"""The ray caster against a loop over rays and solids in float64, written from the definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lemumo_core.geometry.se3 import inverse, make_T
from lemumo_core.world.raycast import Rays, cast, occluded, solids_in_views
from lemumo_core.world.solids import BOX, CYLINDER, ELLIPSOID, SOLID, TAPERED

CPU = torch.device("cpu")
NEAR_M = 0.05


def rotation(rng: np.random.Generator) -> np.ndarray:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def clutter(rng: np.random.Generator, count: int) -> np.ndarray:
    """Solids of all shapes, turned any way, some around and behind the eye."""
    made = np.zeros(count, SOLID)
    made["center"] = rng.uniform((-12, -6, -4), (12, 6, 40), (count, 3))
    made["axes"] = [rotation(rng) for _ in range(count)]
    made["half"] = rng.uniform(0.2, 3, (count, 3))
    made["taper"] = rng.uniform(0, 0.9, (count, 3))
    made["shape"] = rng.integers(0, 4, count)
    return made


def inside(solid: np.void, q: np.ndarray) -> np.ndarray:
    """Whether points (3, n), in the solid's axes and half sizes, lie in it; by the definition."""
    x, y, z = q
    if solid["shape"] == ELLIPSOID:
        return x * x + y * y + z * z <= 1
    if solid["shape"] == CYLINDER:
        return (x * x + y * y <= 1) & (abs(z) <= 1)
    front, rear, side = solid["taper"] if solid["shape"] == TAPERED else (0, 0, 0)
    up = (z + 1) / 2  # 0 at the foot, 1 at the top
    within = (x <= 1 - front * up) & (-x <= 1 - rear * up) & (abs(y) <= 1 - side * up)
    return within & (abs(z) <= 1)


def first_hit(solids: np.ndarray, eye: np.ndarray, ray: np.ndarray) -> tuple[float, int]:
    """Nearest entry along a ray by bisection between a point outside and one inside."""
    best, which = np.inf, -1
    steps = np.linspace(NEAR_M, 60, 6001)
    for k, solid in enumerate(solids):
        M = (solid["axes"].astype(float) / solid["half"]).T
        o, d = M @ (eye - solid["center"]), M @ ray
        inner = inside(solid, o[:, None] + d[:, None] * steps)
        if inner[0] or not inner.any():
            continue  # an eye inside of a solid looks through it
        at = int(inner.argmax())
        low, high = steps[at - 1], steps[at]
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (low, middle) if inside(solid, o + d * middle) else (middle, high)
        if high < best:
            best, which = high, k
    return best, which


@pytest.mark.parametrize("seed", range(3))
def test_first_hits_equal_the_loop(seed):
    rng = np.random.default_rng(seed)
    solids = clutter(rng, 40)
    T_world_view = make_T(rotation(rng), rng.uniform(-1, 1, 3))
    uv = rng.uniform(-0.8, 0.8, (6, 2, 25)).astype(np.float32)
    rays = Rays.of(torch.from_numpy(uv), torch.zeros(6, dtype=torch.int64))
    seen = solids_in_views(solids, np.zeros(40, int), inverse(T_world_view)[None], CPU)
    depth, first = cast(seen, rays)
    hits = missed = 0
    for tile in range(6):
        for k in range(25):
            ray = T_world_view[:3, :3] @ np.array([*uv[tile, :, k], 1.0])
            expected, which = first_hit(solids, T_world_view[:3, 3], ray)
            found = float(depth[tile, k])
            if which < 0 or np.isinf(found):
                # The loop's steps may jump over a corner thinner than a step, never a caster.
                missed += np.isinf(expected) != np.isinf(found)
                continue
            assert found == pytest.approx(expected, abs=2e-3)
            assert int(seen.source[first[tile, k]]) == which
            hits += 1
    assert missed <= 1 and hits >= 10


def test_tiles_of_several_views_see_their_own_view_only():
    solid = np.zeros(2, SOLID)
    solid["center"], solid["axes"], solid["half"] = [(0, 0, 5), (0, 0, 9)], np.eye(3), 1
    seen = solids_in_views(solid, np.array([0, 1]), np.stack([np.eye(4)] * 2), CPU)
    rays = Rays.of(torch.zeros(2, 2, 1), torch.tensor([0, 1]))
    depth, first = cast(seen, rays)
    assert depth.flatten().tolist() == [4.0, 8.0]
    assert seen.source[first.flatten()].tolist() == [0, 1]
    repeated = cast(
        seen, Rays.of(torch.zeros(1, 2, 1), torch.zeros(1, dtype=torch.int64)).repeated(2)
    )
    assert torch.equal(repeated[0], depth)


@pytest.mark.parametrize("seed", range(3))
def test_shadows_equal_the_loop(seed):
    rng = np.random.default_rng(seed)
    solids = clutter(rng, 30)
    solids["shape"][:8] = BOX
    T_world_view = make_T(rotation(rng), rng.uniform(-1, 1, 3))
    towards_world = rng.normal(size=3)
    towards_world /= np.linalg.norm(towards_world)
    points = rng.uniform((-8, -4, 3), (8, 4, 30), (4, 16, 3))
    M = np.linalg.inv(solids["axes"].astype(float) * solids["half"][:, None])
    away = points[:, :, None] - solids["center"]
    q = np.einsum("pij,trpj->trpi", M, away)
    clear = (np.abs(q) > 1.05).any(axis=3).all(axis=2)  # a point inside of a solid has no surface
    local = np.einsum("ij,trj->tir", inverse(T_world_view)[:3, :3], points - T_world_view[:3, 3])
    seen = solids_in_views(solids, np.zeros(30, int), inverse(T_world_view)[None], CPU)
    towards = (T_world_view[:3, :3].T @ towards_world).astype(np.float32)
    blocked = occluded(
        seen,
        torch.from_numpy(local.astype(np.float32)),
        torch.zeros(4, dtype=torch.int64),
        torch.from_numpy(towards)[None],
    )
    # Solids that lie all behind the eye are not in the view: leave them out of the loop too.
    kept = solids[np.sort(seen.source.numpy())]
    differ = 0
    for t in range(4):
        for r in range(16):
            if clear[t, r]:
                depth, _ = first_hit(kept, points[t, r], towards_world)
                differ += bool(blocked[t, r]) != bool(np.isfinite(depth))
    assert clear.sum() > 40 and 3 < blocked.sum() < 60
    assert differ <= 1  # a graze
