"""Masked image modelling, plain and enhanced by geometry."""

from __future__ import annotations

from dataclasses import replace

import torch

from lemumo_core.methods.cmcr.image_encoder import ImageHeads
from lemumo_core.methods.cmcr.presets import TermWeights
from lemumo_core.methods.cmcr.reconstruction import with_geometry
from tests.helpers.small_cmcr import built, draw

ALONE = TermWeights(contrast=0, commitment=0, matching=0, occupancy=0, intensity=0, orthogonality=0)


def test_its_gradient_reaches_the_3d_network_by_geometry_alone(sweeps) -> None:
    for geometry in (False, True):
        method = built(terms=ALONE, geometry=geometry)
        outcome = method(method.views(sweeps, draw, 0, 1), 0)
        assert set(outcome.loss.terms) == {"reconstruction"}
        outcome.loss.total.backward()
        gradients = [p.grad for p in (*method.network.parameters(), method.shared.weight)]
        reached = sum(float(g.abs().sum()) for g in gradients if g is not None)
        assert (reached > 0) == geometry
        assert method.image_heads.shared.weight.grad.abs().sum() > 0


def test_masked_cells_with_points_take_their_mean_and_nothing_else_changes() -> None:
    torch.manual_seed(0)
    codes, points = torch.randn(2, 3, 12, 20), torch.randn(4, 3)
    masked = torch.zeros(2, 3, 5, dtype=torch.bool)
    masked[0, 0, 1] = masked[1, 2, 4] = masked[1, 0, 0] = True
    cell = torch.tensor([1, 1, 7, 15 + 14])  # two in a masked cell, one in another, one unmasked
    found = with_geometry(codes, masked, points, cell, 4)
    expected = codes.clone()
    expected[0, :, 0:4, 4:8] = points[:2].mean(0)[:, None, None]
    expected[1, :, 8:12, 16:20] = points[3][:, None, None]
    torch.testing.assert_close(found, expected)
    same = found == codes
    assert same[1, :, :4, :4].all()  # masked, without points: bit for bit as it was
    assert same[0, :, 4:8, 8:12].all()  # points, not masked


def test_a_mask_is_black_patches_of_the_network_input(sweeps) -> None:
    method = built()
    views = method.views(sweeps, draw, 0, 1)
    seen = []
    method.image_encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    method(views, 0)
    hidden = (seen[0] == 0).all(-1)
    for s, row, column in views.masked.nonzero().tolist():
        patch = slice(16 * row, 16 * row + 16), slice(16 * column, 16 * column + 16)
        assert hidden[(s, *patch)].all()
    kept = ~views.masked.repeat_interleave(16, 1).repeat_interleave(16, 2)
    assert torch.equal(seen[0][kept], views.view.image[kept])


def test_orthogonality_of_the_image_is_added_where_it_is_asked_for(sweeps) -> None:
    alone = TermWeights(contrast=0, commitment=0, matching=0, reconstruction=0, occupancy=0)
    alone = replace(alone, intensity=0, orthogonality=1)
    values = []
    for images in (False, True):
        method = built(terms=alone, orthogonal_images=images)
        outcome = method(method.views(sweeps, draw, 0, 1), 0)
        outcome.loss.total.backward()
        values.append(outcome.loss.total.item())
        reached = method.image_heads.specific.weight.grad
        assert (reached is not None and reached.abs().sum() > 0) == images
        assert method.specific.weight.grad.abs().sum() > 0
    assert values[1] > values[0]


def test_a_standardized_map_forgets_scale_and_offset_of_its_channels() -> None:
    torch.manual_seed(0)
    image_map = torch.randn(2, 5, 3, 4)
    shifted = image_map * torch.tensor([1.0, 2, 0.1, 9, 1])[:, None, None] + 50
    heads = ImageHeads(5, 8, standardize=True)
    for one, other in zip(heads(image_map), heads(shifted), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    plain = ImageHeads(5, 8, standardize=False)
    assert not torch.allclose(plain(image_map)[0], plain(shifted)[0], atol=1)
