"""Visibility against counting the pixels of every object drawn alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from lemumo_core.geometry.camera import Camera
from lemumo_core.world.labels import measured_depth_m, render_labels
from lemumo_core.world.pixels import camera_rays, to_images
from lemumo_core.world.street import Drive, Scene
from lemumo_core.world.surface import cast_views

CAMERA = Camera(480, 176, 330.0, 330.0, 239.5, 80.0)
WIDE = CAMERA.cropped(-480, -176, 3 * 480, 3 * 176)
T_EGO_CAMERA = np.array([[0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.6], [0, 0, 0, 1.0]])


def owners(drive: Drive, scene: Scene, T: np.ndarray, camera: Camera) -> np.ndarray:
    met = cast_views(drive, [scene], T[None], camera_rays(camera, torch.device("cpu")))
    return to_images(met.owner, camera)[0].numpy()


def test_visibility_is_the_share_of_an_objects_own_pixels_that_is_seen():
    compared, shares = 0, []
    for seed, seconds in ((0, 3.0), (7, 1.0), (11, 6.0)):
        drive = Drive(seed, "train")
        scene, T = drive.scene(seconds), drive.T_world_ego(seconds) @ T_EGO_CAMERA
        met = cast_views(drive, [scene], T[None], camera_rays(CAMERA, torch.device("cpu")))
        (depth_m,) = measured_depth_m(met, [scene], CAMERA)
        labels = render_labels(met, 0, scene, CAMERA, T, depth_m, None, None)
        shown = to_images(met.owner, CAMERA)[0].numpy()
        order = sorted(
            range(len(labels.class_names)), key=lambda k: -(labels.instance_map == k + 1).sum()
        )
        for k in order[:12]:
            owner = int(shown[labels.instance_map == k + 1][0])
            alone = replace(scene, solids=scene.solids[scene.solids["owner"] == owner])
            whole = (owners(drive, alone, T, WIDE) == owner).sum()
            if whole < 300:
                continue
            share = (shown == owner).sum() / whole
            assert abs(share - labels.visibility[k]) < 0.08, labels.class_names[k]
            shares.append(share)
            compared += 1
    assert compared > 10 and min(shares) < 0.5 < 0.95 < max(shares)
