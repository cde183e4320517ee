"""Shared tokens: against points found one by one through the crops' own arithmetic."""

from __future__ import annotations

import pytest
import torch

from lemumo_core.data.crops import Crops, draw_crops
from lemumo_core.data.views import MultiCropConfig
from lemumo_core.methods.lemumo.correspondences import POINTS, sample_shared_tokens
from lemumo_core.methods.lemumo.method import LeMuMo

CANVAS, SIZE = (96, 192), (48, 96)
VIEWS, BATCH = 2, 3


def crops_of(seed: int) -> Crops:
    g = torch.Generator().manual_seed(seed)
    return draw_crops(VIEWS * BATCH, CANVAS, SIZE, (0.5, 1.0), (0.75, 4 / 3), (0.5, 0.5), g)


def tokens_that_say_where(crops: Crops) -> torch.Tensor:
    """Each token holds the canvas position of its patch's centre, found pixel by pixel."""
    tokens = torch.zeros(len(crops), 18, 2)
    for r, (left, top, width, height, flips) in enumerate(crops.table.tolist()):
        for row in range(3):
            for column in range(6):
                u = (16 * column + 8) / SIZE[1]  # share of the view, from its left border
                u = 1 - u if flips in (1, 3) else u
                v = (16 * row + 8) / SIZE[0]
                v = 1 - v if flips in (2, 3) else v
                tokens[r, 6 * row + column] = torch.tensor([left + u * width, top + v * height])
    return tokens


@pytest.mark.parametrize("seed", range(5))
def test_the_same_point_of_the_canvas_is_seen_in_all_views(seed: int) -> None:
    crops = crops_of(seed)
    found = sample_shared_tokens(tokens_that_say_where(crops), crops, VIEWS)
    assert found.shape == (VIEWS, BATCH * POINTS[0] * POINTS[1], 2)
    table = crops.table.view(VIEWS, BATCH, 5)
    for b in range(BATCH):
        left, top = table[:, b, 0].max().item(), table[:, b, 1].max().item()
        right = (table[:, b, 0] + table[:, b, 2]).min().item()
        bottom = (table[:, b, 1] + table[:, b, 3]).min().item()
        for i in range(POINTS[0]):
            for j in range(POINTS[1]):
                point = [
                    left + (j + 0.5) / POINTS[1] * (right - left),
                    top + (i + 0.5) / POINTS[0] * (bottom - top),
                ]
                for v in range(VIEWS):
                    got = found[v, (b * POINTS[0] + i) * POINTS[1] + j]
                    # Beyond the outermost patches' centres the nearest patch answers.
                    wide, high = table[v, b, 2].item() / 12, table[v, b, 3].item() / 6
                    low = torch.tensor([table[v, b, 0] + wide, table[v, b, 1] + high])
                    far = torch.tensor(
                        [
                            table[v, b, 0] + table[v, b, 2] - wide,
                            table[v, b, 1] + table[v, b, 3] - high,
                        ]
                    )
                    expected = torch.tensor(point).maximum(low).minimum(far)
                    torch.testing.assert_close(got, expected, atol=1e-3, rtol=0)


def test_crops_that_may_not_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="need not overlap"):
        LeMuMo(tokens=True, views=MultiCropConfig(global_scale=(0.2, 1.0)))
