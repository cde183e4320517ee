"""Rigs, pixels, the camera's sensor and the thermal camera."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lemumo_core.geometry.camera import Camera
from lemumo_core.taxonomy import SEGMENTATION_IDS
from lemumo_core.world.objects import SPLITS
from lemumo_core.world.pixels import camera_rays, to_images
from lemumo_core.world.rig import RIGS, rig
from lemumo_core.world.sensor import develop
from lemumo_core.world.solids import FOLIAGE
from lemumo_core.world.street import Drive
from lemumo_core.world.surface import cast_views
from lemumo_core.world.thermal import temperatures

CPU = torch.device("cpu")


@pytest.mark.parametrize("size", [(704, 256), (256, 256), (1600, 900)])
def test_every_rig_sees_with_all_its_pixels(size):
    cameras = [rig(split, k, *size).camera for split in SPLITS for k in range(RIGS)]
    corners = np.array([(0, 0), (size[0] - 1, 0), (0, size[1] - 1), (size[0] - 1, size[1] - 1)])
    for camera in cameras:
        rays = camera.unproject(corners)
        assert np.isfinite(rays).all()
        uv, valid = camera.project(rays)
        assert valid.all() and np.abs(uv - corners).max() < 1e-3
    assert len({camera.fx for camera in cameras}) == len(cameras)
    assert {c.model for c in cameras} >= {"pinhole", "plumb_bob", "rational_polynomial"}
    assert 0.5 < min(c.fx / c.width for c in cameras) < max(c.fx / c.width for c in cameras) < 1.2


def test_pixels_come_back_in_their_places():
    camera = Camera(37, 21, 30.0, 31.0, 17.0, 9.0, "plumb_bob", (-0.1, 0.01, 1e-3, -1e-3))
    rays = camera_rays(camera, CPU)
    flat = rays.directions.transpose(0, 1).reshape(3, -1)
    images = to_images(flat.repeat(1, 2), camera)
    assert images.shape == (3, 2, 21, 37)
    u, v = np.meshgrid(np.arange(37), np.arange(21))
    expected = camera.unproject(np.stack([u, v], axis=-1).reshape(-1, 2)).reshape(21, 37, 3)
    np.testing.assert_allclose(images[:, 1].permute(1, 2, 0), expected, atol=1e-6)


def test_pixels_that_see_nothing_are_refused():
    with pytest.raises(ValueError, match="see nothing"):
        camera_rays(Camera(64, 64, 20.0, 20.0, 31.5, 31.5, "plumb_bob", (-0.9, 0, 0, 0)), CPU)


def test_sensor_brightens_with_light_and_gets_noisier_with_gain():
    light = torch.full((3, 1, 64, 64), 0.3)
    grain = torch.randn(light.shape, generator=torch.Generator().manual_seed(0))
    dark, bright = (develop(light * k, 1.0, 1.0, grain).float().mean() for k in (0.5, 2.0))
    assert dark < bright < 255
    calm, noisy = (develop(light, 1.0, gain, grain).float().std() for gain in (1.0, 16.0))
    assert noisy > 2 * calm


def test_people_stand_out_at_night_and_the_road_by_day():
    """The inversion: what is warmer than the road at night is not by a sunny day."""
    drive = Drive(3, "train")
    camera = Camera(352, 128, 260.0, 260.0, 175.5, 58.0)
    T_ego_camera = np.array([[0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.6], [0, 0, 0, 1.0]])
    above = {}
    for ambient_k in (14.0, -6.0):
        drive.weather = replace(drive.weather, ambient_k=ambient_k, night=ambient_k < 0)
        roads, people = [], []
        for seconds in np.arange(0, 30, 3.0):
            T = drive.T_world_ego(seconds) @ T_ego_camera
            met = cast_views(drive, [drive.scene(seconds)], T[None], camera_rays(camera, CPU))
            kelvin = temperatures(met, drive.weather)
            near = met.depth_m < 40
            roads.append(kelvin[near & (met.label == SEGMENTATION_IDS["road"])])
            people.append(kelvin[near & (met.label == SEGMENTATION_IDS["pedestrian"])])
        above[ambient_k] = float(torch.cat(people).mean() - torch.cat(roads).mean())
    assert len(torch.cat(people)) > 50
    assert above[-6.0] > 8
    assert above[14.0] < 0.75 * above[-6.0]
    leaves = met.of_solids("material") == FOLIAGE
    assert kelvin[met.hit[leaves]].abs().max() < 6  # leaves are as warm as the air
