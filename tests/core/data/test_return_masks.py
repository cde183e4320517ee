"""Masks of returns in views: whole beams, nothing lost, and the same on any number of ranks."""

from __future__ import annotations

import torch

from lemumo_core.data.return_masks import ReturnMasks, draw_return_masks, masked

BEAMS = torch.arange(32).repeat_interleave(50).repeat(40, 1)


def of_kind(kind: float) -> torch.Tensor:
    drawn = draw_return_masks(40, 1.0, torch.Generator().manual_seed(0))
    return masked(drawn._replace(kind=torch.full((40,), kind)), BEAMS)


def test_beams_are_masked_whole() -> None:
    by_beam = of_kind(0.0).view(40, 32, 50)
    assert (by_beam.all(2) | ~by_beam.any(2)).all()
    kept = (~by_beam[:, :, 0]).float().mean(1)
    assert kept.min() >= 0.2 and kept.max() <= 0.55 and len(kept.unique()) > 2


def test_the_other_kinds_and_the_rate() -> None:
    one_by_one, by_sector = of_kind(0.7).float().mean(1), of_kind(0.9).float().mean(1)
    assert 0.02 < one_by_one.min() < 0.2 and 0.5 < one_by_one.max() < 0.75
    assert 0.1 < by_sector.mean() < 0.7
    assert not of_kind(1.0).any()
    drawn = draw_return_masks(1000, 0.3, torch.Generator().manual_seed(1))
    assert 0.25 < (drawn.kind < 1).float().mean() < 0.35
    rows = ReturnMasks(*(column[7:9] for column in drawn))
    assert torch.equal(masked(rows, BEAMS[:2]), masked(drawn, BEAMS[:1].repeat(1000, 1))[7:9])
