"""Which samples lose which modality."""

from __future__ import annotations

import pytest
import torch

from lemumo_core.data.modality_dropout import modality_dropout


def drop(present: torch.Tensor, rate: float, seed: int = 0) -> torch.Tensor:
    return modality_dropout(present, rate, torch.Generator().manual_seed(seed))


def test_rate_and_even_split() -> None:
    result = drop(torch.ones(40_000, 2), 0.3)
    shares = [(result == torch.tensor(kind)).all(1).float().mean() for kind in ([0, 1], [1, 0])]
    assert shares == pytest.approx([0.15, 0.15], abs=0.006)
    assert (result.sum(1) >= 1).all()


def test_the_only_modality_of_a_sample_stays() -> None:
    present = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(50, 1)
    assert torch.equal(drop(present, 1.0), present)


def test_limits_and_seed() -> None:
    present = torch.ones(64, 2)
    assert torch.equal(drop(present, 0.0), present)
    assert (drop(present, 1.0).sum(1) == 1).all() and (present == 1).all()
    assert torch.equal(drop(present, 0.5, 3), drop(present, 0.5, 3))
    with pytest.raises(ValueError, match=r"rate is 1\.5"):
        drop(present, 1.5)
