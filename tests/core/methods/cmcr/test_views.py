"""Pairs of points and pixels, masks, and augmented sweeps."""

from __future__ import annotations

import pytest
import torch

from lemumo_core.data.samples import map_tensors
from lemumo_core.data.sweeps import sweep_points
from lemumo_core.data.views import MultiCropConfig
from lemumo_core.methods.cmcr.views import DrawConfig, clean_views, cut_views
from lemumo_core.model.sparse.voxels import VoxelConfig
from tests.helpers.small_cmcr import MODEL, VIEWS, built, draw, small

VOXEL = VoxelConfig(size_m=1.0, features="height")


@pytest.fixture(scope="module")
def views(sweeps):
    config = DrawConfig(matches=1000, queries=0, mask_images=1.0)
    return cut_views(sweeps, VIEWS, VOXEL, config, draw, 0, 1)


def test_the_color_at_a_pair_is_the_place_that_the_point_projects_to(sweeps, views) -> None:
    """Through crop, scale and flip; the image's values are its own coordinates."""
    returns, crops = views.returns, views.view.crops
    for s in range(2):
        own = returns.sample == s
        color = views.view.image[s, returns.row[own], returns.column[own]].float()
        u, v, _ = sweeps.returns[s].unbind(-1)
        column, row = (
            crops.columns.pixel(u[None].repeat(2, 1)),
            crops.rows.pixel(v[None].repeat(2, 1)),
        )
        inside = (column[s] >= 0) & (column[s] < 80) & (row[s] >= 0) & (row[s] < 48)
        assert inside.sum() == own.sum() > 30
        # A pixel of the view is a few of the image wide.
        assert (color[:, 0] - u[inside]).abs().max() <= 2.5
        assert (color[:, 1] - v[inside]).abs().max() <= 2.5


def test_pairs_are_all_that_is_not_masked_each_once(views) -> None:
    returns = views.returns
    grid = views.masked.shape[1:]
    assert grid == (3, 5) and views.masked.any() and not views.masked.all()
    masked = views.masked[returns.sample, returns.row // 16, returns.column // 16]
    for pairs in (views.contrast_pairs, views.code_pairs):
        for s in range(2):
            taken = pairs[s][pairs[s] >= 0]
            visible = ((returns.sample == s) & ~masked).nonzero()[:, 0]
            assert sorted(taken.tolist()) == visible.tolist()
    assert not torch.equal(views.contrast_pairs, views.code_pairs)


def test_few_matches_are_distinct_pairs(sweeps) -> None:
    config = DrawConfig(matches=20, queries=0, mask_images=0.0)
    pairs = cut_views(sweeps, VIEWS, VOXEL, config, draw, 0, 1).contrast_pairs
    assert pairs.shape == (2, 20) and len(pairs.unique()) == 40 and pairs.min() >= 0


def test_sweeps_turn_and_pairs_follow(sweeps) -> None:
    """Rotation and flips keep distances, heights and the order of points."""
    config = DrawConfig(queries=0, wedge_deg=None)
    fine = VoxelConfig(size_m=0.01, features="height")
    turned = cut_views(sweeps, VIEWS, fine, config, draw, 0, 1)
    still = clean_views(sweeps, fine)
    for views in (turned, still):
        row = views.voxels.row_of_point
        height = views.voxels.features[:, 1][row] * 5
        assert (height - sweeps.points[..., 2]).abs().max() < 1e-4
    assert not torch.equal(turned.voxels.row_of_point, still.voxels.row_of_point)


def test_a_wedge_is_around_the_camera(sweeps) -> None:
    kept = sweep_points(sweeps, 20.0).isfinite().all(-1)
    x, y = sweeps.points[..., 0] + 0, sweeps.points[..., 1]
    axis = torch.rad2deg(torch.atan2(y - 0.05, x - 0.3)).abs()
    clear = (axis - 10).abs() > 1
    assert torch.equal(kept[clear], (axis < 10)[clear])


def test_ranks_draw_what_one_would(sweeps) -> None:
    config = DrawConfig(matches=10, queries=12)
    whole = cut_views(sweeps, VIEWS, VOXEL, config, draw, 0, 1)
    second = map_tensors(sweeps, lambda x: x[1:])
    share = cut_views(second, VIEWS, VOXEL, config, draw, 1, 2)
    start = int((whole.returns.sample == 0).sum())
    assert torch.equal(share.contrast_pairs[0] + start, whole.contrast_pairs[1])
    assert torch.equal(share.masked[0], whole.masked[1])
    assert torch.equal(share.view.image[0], whole.view.image[1])
    mine = whole.voxels.sample[whole.queries.voxel] == 1
    torch.testing.assert_close(share.queries.offset_m, whole.queries.offset_m[mine])


def test_features_are_those_of_returns(sweeps) -> None:
    method = built()
    found = method.features(sweeps)
    assert set(found) == {"fused", "image", "companion"}
    assert found["fused"].tokens.shape == (2, 60, method.token_dim)
    valid = found["companion"].valid
    views = clean_views(sweeps, VOXEL)
    hit = torch.zeros(2, 6, 10, dtype=torch.bool)
    hit[views.returns.sample, views.returns.row // 16, views.returns.column // 16] = True
    assert torch.equal(valid, hit.flatten(1)) and found["image"].valid.all()
    assert found["companion"].tokens[~valid].abs().max() == 0


def test_options_name_what_is_wrong(sweeps) -> None:
    model = built().image_encoder
    assert not any(p.requires_grad for p in model.parameters()) and not model.train().training
    with pytest.raises(ValueError, match="image_weights RUN of lemumo pretrain"):
        small(image_weights=None).resolve(MODEL, MODEL.input_spec)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        built(image_weights="nowhere")
    with pytest.raises(ValueError, match="one global view"):
        small(crop=MultiCropConfig())
