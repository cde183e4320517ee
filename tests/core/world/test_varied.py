"""Varied streets: full of what is no road user, and otherwise the street that they were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import make_T
from lemumo_core.taxonomy import SEGMENTATION_IDS
from lemumo_core.world import clutter, ground, lidar
from lemumo_core.world.labels import measured_depth_m
from lemumo_core.world.lidar import sweeps
from lemumo_core.world.pixels import camera_rays, to_images
from lemumo_core.world.rig import RIGS, VARIED_RIGS, rig
from lemumo_core.world.road import PARKING_M
from lemumo_core.world.solids import GLASS, extent
from lemumo_core.world.street import Drive
from lemumo_core.world.surface import cast_views

SECONDS = 4.0


def _corners(solids: np.ndarray) -> np.ndarray:
    """Corners (P, 8, 3) of the boxes around solids, world frame."""
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    arms = signs * solids["half"][:, None]
    return solids["center"][:, None] + np.einsum("pij,pkj->pki", solids["axes"], arms)


@pytest.mark.parametrize("seed", range(3))
def test_road_users_are_the_same_and_clutter_keeps_off_the_lanes(seed):
    usual, varied = (Drive(seed, "train", varied=v) for v in (False, True))
    before, after = usual.scene(SECONDS), varied.scene(SECONDS)
    assert after.ids == before.ids and after.labels == before.labels
    assert np.array_equal(after.boxes, before.boxes)
    rows = [{row.tobytes() for row in scene.solids} for scene in (before, after)]
    assert rows[0] < rows[1]
    added = after.solids[[row.tobytes() not in rows[0] for row in after.solids]]
    assert len(added) > 50 and (added["owner"] == -1).all()
    x, y, _ = np.moveaxis(_corners(added), -1, 0)
    assert np.abs(y - varied.middle(x)).min() > varied.half_m - PARKING_M


def test_bays_hold_a_vehicle_or_something_else():
    """Whatever stands in a bay stands in none of the parked vehicles."""
    met = 0
    for seed in range(6):
        drive = Drive(seed, "train", varied=True)
        start, end = 300.0, 480.0
        bays = list(drive._empty_bays(start, end))
        parked = [row for row in drive.rows if row.name.startswith("parked")]
        taken = [
            (x, row.offset)
            for row in parked
            for slot, x in row.slots(0.0, start, end)
            if row.user(drive.rng(row.name, slot), "train") is not None
        ]
        assert not set(bays) & set(taken)
        met += len(bays)
    assert met > 10


@pytest.mark.parametrize("model", sorted({m.__name__ for m in clutter.ALL_MODELS}))
def test_a_model_stands_on_the_ground(model):
    for seed in range(20):
        solids = getattr(clutter, model)(np.random.default_rng(seed))
        low, high = extent(solids)
        assert low[2] < 0.15 and 0.3 < high[2] < 4
        assert (high - low)[:2].max() < 11 and np.isfinite(solids["center"]).all()


def test_brightness_does_not_tell_a_road_from_a_pavement():
    """As it does on usual streets, whose roads are all of the same black asphalt."""
    x, y = (
        axis.ravel()
        for axis in torch.meshgrid(torch.arange(60.0), torch.arange(-20.0, 20.0), indexing="ij")
    )
    brighter = []
    for seed in range(24):
        ratios = []
        for varied in (False, True):
            drive = Drive(seed, "train", varied)
            points = ground.points_on_street(drive, x, y)
            label = ground.labels(drive, points)
            grey = ground.albedo(drive, points, label, torch.zeros_like(x)).mean(0)
            road, pavement = (
                grey[label == kind].median() for kind in (ground.ROAD, ground.SIDEWALK)
            )
            ratios.append(float(road / pavement))
        assert ratios[0] < 0.5
        brighter.append(ratios[1] > 1)
    assert 4 <= sum(brighter) <= 20


def test_some_beams_pass_foliage_and_return_from_what_is_behind_it(monkeypatch):
    drive = Drive(5, "train", varied=True)
    T_ego_lidar = make_T(np.eye(3), np.array([0.0, 0.0, 1.9]))
    cpu = torch.device("cpu")
    counts = {}
    for share in (0.0, 0.3, 1.0):
        monkeypatch.setattr(lidar, "FOLIAGE_GAPS", share)
        (sweep,) = sweeps(drive, 32, T_ego_lidar, [2.0], [(1,)], cpu)
        behind = np.linalg.norm(sweep.points[:, :2], axis=1) > 3
        leaves = sweep.labels == SEGMENTATION_IDS["vegetation"]
        counts[share] = int((behind & leaves).sum()), int((behind & ~leaves).sum())
    (solid, others), (porous, more), (trunks, most) = counts.values()
    assert 0.6 * solid < porous - 0.3 * trunks < 0.8 * solid
    assert others < more < most and more - others > 0.2 * (most - others)


def test_returns_scatter_in_foliage_and_nowhere_else(monkeypatch):
    drive = Drive(5, "train", varied=True)  # whose glass is not clear
    T_ego_lidar = make_T(np.eye(3), np.array([0.0, 0.0, 1.9]))
    cpu = torch.device("cpu")
    monkeypatch.setattr(lidar, "FOLIAGE_GAPS", 0.0)
    (deep,) = sweeps(drive, 32, T_ego_lidar, [2.0], [(1,)], cpu)
    drive.varied = False  # the same street, whose leaves are dense
    (dense,) = sweeps(drive, 32, T_ego_lidar, [2.0], [(1,)], cpu)
    assert np.array_equal(deep.labels, dense.labels)
    behind_m = np.subtract(*(np.linalg.norm(s.points[:, :3], axis=1) for s in (deep, dense)))
    leaves = deep.labels == SEGMENTATION_IDS["vegetation"]
    assert np.abs(behind_m[~leaves]).max() < 1e-4
    assert behind_m[leaves].min() > -1e-4
    assert 0.1 < behind_m[leaves].mean() < 0.4  # trunks are vegetation, too


def test_rigs_are_mounted_in_more_ways():
    heights, beams = [], []
    for varied, count in ((False, RIGS), (True, VARIED_RIGS)):
        rigs = [rig("test", k, 352, 128, varied) for k in range(count)]
        heights.append([one.T_ego_camera[2, 3] for one in rigs])
        beams.append({one.beams for one in rigs})
    assert min(heights[1]) < min(heights[0]) and max(heights[1]) > max(heights[0])
    assert beams == [{16, 32, 64}, {16, 32, 64, 128}]


def test_a_source_says_that_it_is_varied():
    usual, varied = (SyntheticStreet(frames=1, width=64, height=32, varied=v) for v in (0, 1))
    assert varied.describe() == usual.describe() | {"varied": True}


def test_some_lidars_see_through_the_windows_of_cars():
    T_ego_lidar = make_T(np.eye(3), np.array([0.0, 0.0, 1.9]))
    for seed, is_clear in ((0, True), (5, False)):
        drive = Drive(seed, "train", varied=True)
        (through,) = sweeps(drive, 64, T_ego_lidar, [2.0], [(1,)], torch.device("cpu"))
        drive.varied = False
        (solid,) = sweeps(drive, 64, T_ego_lidar, [2.0], [(1,)], torch.device("cpu"))
        cars = [(one.labels == SEGMENTATION_IDS["car"]).sum() for one in (through, solid)]
        assert cars[1] > 100
        assert cars[0] < 0.9 * cars[1] if is_clear else cars[0] == cars[1]


def test_depth_is_that_behind_glass_where_the_lidar_sees_through():
    """It equals that of the same streets built without glass, several views at once."""
    camera = Camera(352, 208, 250.0, 250.0, 175.5, 90.0)
    T_ego_camera = make_T(
        np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]), np.array([1.5, 0, 1.6])
    )
    rays = camera_rays(camera, torch.device("cpu"))
    behind = {}
    for seed, is_clear in ((0, True), (5, False)):
        drive = Drive(seed, "train", varied=True)
        seconds = (2.0, 4.0)
        scenes = [drive.scene(t) for t in seconds]
        T = np.stack([drive.T_world_ego(t) @ T_ego_camera for t in seconds])
        bare = [
            replace(scene, solids=scene.solids[scene.solids["material"] != GLASS])
            for scene in scenes
        ]
        whole, without = (cast_views(drive, some, T, rays) for some in (scenes, bare))
        assert all(scene.clear_glass is is_clear for scene in scenes)
        depth_m = measured_depth_m(whole, scenes, camera)
        expected_m = to_images((without if is_clear else whole).depth_m, camera).numpy()
        assert np.array_equal(np.nan_to_num(depth_m, nan=np.inf), expected_m)
        behind[is_clear] = int((to_images(whole.depth_m, camera).numpy() < expected_m).sum())
    assert behind[True] > 200 and behind[False] == 0
