"""Ground truth of a rendered image: boxes with visibility, labels, instances and depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lemumo_core.frame import UNLABELLED, Labels
from lemumo_core.geometry.boxes import box_corners, count_points, image_bounds
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import inverse, transform
from lemumo_core.taxonomy import SEGMENTATION_IDS
from lemumo_core.world.columns import indices
from lemumo_core.world.pixels import to_images
from lemumo_core.world.raycast import Rays, cast
from lemumo_core.world.solids import GLASS
from lemumo_core.world.street import Scene
from lemumo_core.world.surface import Surface, depth_without

LEAST_PIXELS = 8
"""An object is labelled when at least this many of its pixels are seen."""
SAMPLES = 16
"""Rays across and down an object that measure how much of it is seen."""


def render_labels(
    surface: Surface,
    view: int,
    scene: Scene,
    camera: Camera,
    T_world_camera: np.ndarray,
    depth_m: np.ndarray,
    points_camera: np.ndarray | None,
    point_labels: np.ndarray | None,
) -> Labels:
    """Return the labels of one view.

    Args:
        surface: what the camera's pixels meet.
        view: which of its views.
        scene: that it was cast from.
        camera: likewise.
        T_world_camera: (4, 4), likewise.
        depth_m: (H, W) of this view, see ``measured_depth_m``.
        points_camera: LiDAR returns (N, 3) in the camera frame, to count those inside each box.
        point_labels: their ids (N,).
    """
    owner, label = (
        to_images(values.view(surface.views, -1)[view], camera)[0].cpu().numpy()
        for values in (surface.owner, surface.label)
    )
    pixels = np.bincount(owner.ravel() + 1, minlength=len(scene.labels) + 1)[1:]
    seen = np.flatnonzero(pixels >= LEAST_PIXELS)
    boxes = boxes_in_camera(scene.boxes[seen], T_world_camera)
    number = np.zeros(len(scene.labels) + 1, np.uint16)  # the last entry is for "no owner", -1
    number[seen] = np.arange(1, len(seen) + 1)
    return Labels(
        boxes_3d=boxes.astype(np.float32),
        boxes_2d=image_bounds(boxes, camera),
        class_names=tuple(scene.labels[k] for k in seen),
        visibility=_visibility(surface, view, seen, boxes, camera, owner),
        num_points=None if points_camera is None else count_points(points_camera, boxes),
        label_map=np.where(label == UNLABELLED, SEGMENTATION_IDS["sky"], label).astype(np.uint8),
        instance_map=number[owner],
        depth_m=depth_m,
        point_labels=point_labels,
        track_ids=tuple(scene.ids[k] for k in seen),
    )


def measured_depth_m(surface: Surface, scenes: Sequence[Scene], camera: Camera) -> np.ndarray:
    """Return the depth of V views as a LiDAR in the camera's place would measure it.

    A LiDAR that sees through glass measures what is behind it; a model that learnt the pane's
    depth would overrule returns that are right.

    Args:
        surface: what the camera's pixels meet.
        scenes: V, those it was cast from.
        camera: likewise.

    Returns:
        float32 (V, H, W), metres along the axis, NaN in the sky.
    """
    clear = np.repeat([s.clear_glass for s in scenes], [len(s.solids) for s in scenes])
    removed = clear & (surface.scene_solids["material"] == GLASS)
    depth_m = depth_without(surface, torch.from_numpy(removed).to(surface.depth_m.device))
    depth_m = torch.where(torch.isinf(depth_m), torch.nan, depth_m)
    return to_images(depth_m, camera).cpu().numpy().astype(np.float32)


def boxes_in_camera(boxes: np.ndarray, T_world_camera: np.ndarray) -> np.ndarray:
    """Convert world boxes (K, 7), yaw about z, to the camera frame of ``geometry.boxes``."""
    moved = np.array(boxes, np.float64).reshape(-1, 7)
    T_camera_world = inverse(T_world_camera)
    moved[:, :3] = transform(T_camera_world, moved[:, :3])
    heading = np.stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6]), 0 * boxes[:, 6]])
    x, _, z = T_camera_world[:3, :3] @ heading
    moved[:, 6] = np.arctan2(-z, x)
    return moved


def _visibility(
    surface: Surface,
    view: int,
    seen: np.ndarray,
    boxes: np.ndarray,
    camera: Camera,
    owner: np.ndarray,
) -> np.ndarray:
    """Return the share of each object's outline inside the image and in front of all else.

    It is float32 (K,).

    Each object alone is cast by a grid of rays over its bounds; a ray that meets it counts as
    seen where the image shows this very object.
    """
    if not len(seen):
        return np.zeros(0, np.float32)
    device = surface.depth_m.device
    mine = indices(surface.solids.view == view)
    owners = torch.from_numpy(surface.scene_solids["owner"].astype(np.int64)).to(device)
    mine = mine[owners[surface.solids.source[mine]] >= 0]
    number = torch.full((int(owners.max()) + 1,), -1, dtype=torch.int64, device=device)
    number[torch.from_numpy(seen).to(device)] = torch.arange(len(seen), device=device)
    which = number[owners[surface.solids.source[mine]]]
    solids = surface.solids.subset(mine[which >= 0])
    solids = solids.of_view(which[which >= 0])

    corners = box_corners(boxes)
    ahead = np.maximum(corners[..., 2:], 0.3)
    uv = corners[..., :2] / ahead
    low, high = np.clip(uv.min(1), -4, 4), np.clip(uv.max(1), -4, 4)
    step = (np.arange(SAMPLES) + 0.5) / SAMPLES
    grid = np.stack(np.meshgrid(step, step)).reshape(2, -1)
    rays = low[:, :, None] + (high - low)[:, :, None] * grid
    tiles = Rays.of(
        torch.from_numpy(rays.astype(np.float32)).to(device),
        torch.arange(len(seen), device=device),
    )
    depth, _ = cast(solids, tiles)
    met = torch.isfinite(depth).cpu().numpy()

    towards = np.concatenate([rays, np.ones_like(rays[:, :1])], axis=1).transpose(0, 2, 1)
    pixel, valid = camera.project(towards.reshape(-1, 3))
    pixel = np.where(valid[:, None], pixel, -1e6).round().astype(int)
    column, row = pixel[:, 0], pixel[:, 1]
    inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
    shown = np.full(len(pixel), -1)
    shown[inside] = owner[row[inside], column[inside]]
    same = shown.reshape(met.shape) == seen[:, None]
    return ((met & same).sum(1) / np.maximum(met.sum(1), 1)).astype(np.float32)
