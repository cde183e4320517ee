"""InfoNCE across modalities: what is compared with what, and that it learns to tell samples."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from lemumo_core.methods.info_nce.method import InfoNCE, InfoNceMethod
from lemumo_core.model.config import MODALITIES, SIZES
from tests.helpers.random_views import CONFIG, random_view

ROWS = 6


def built(**options) -> InfoNceMethod:
    torch.manual_seed(0)
    method = InfoNCE(**options).build(CONFIG, CONFIG.input_spec)
    assert isinstance(method, InfoNceMethod)
    return method


def test_the_loss_compares_each_sensor_alone_with_the_other_over_the_batch() -> None:
    method, view = built(temperature=0.3).eval(), random_view(ROWS)
    view.present[2, 1] = 0.0
    outcome = method((view,), 0)
    projected = []
    for row, name in enumerate(MODALITIES):
        present = torch.zeros(ROWS, 2)
        present[:, row] = view.present[:, row]
        cls = method.encoder(view.inputs._replace(present=present)).cls
        projected.append(functional.normalize(method.projectors[name](cls), dim=1))
    both = [row for row in range(ROWS) if row != 2]
    logits = projected[0][both] @ projected[1][both].T / 0.3
    pairs = torch.arange(len(both))
    expected = (
        functional.cross_entropy(logits, pairs) + functional.cross_entropy(logits.T, pairs)
    ) / 2
    assert outcome.loss.total.item() == pytest.approx(expected.item(), rel=1e-4)
    scalars = method.monitors(outcome, 0)
    assert scalars["recall"] == pytest.approx((logits.argmax(1) == pairs).float().mean().item())
    assert scalars["recall_chance"] == pytest.approx(1 / len(both))


def test_it_learns_to_tell_samples_apart(monkeypatch) -> None:
    """Bright scenes are near ones."""
    monkeypatch.setitem(SIZES, "nano", (48, 3, 2))
    method, view = built(temperature=0.1), random_view(ROWS)
    for row in range(ROWS):
        view.image[row] = 40 * row
        view.companion[row, ..., 0] = 1 - row / ROWS
    optimizer = torch.optim.AdamW(method.parameters(), 1e-3)
    losses = []
    for step in range(30):
        optimizer.zero_grad()
        total = method((view,), step).loss.total
        total.backward()
        optimizer.step()
        losses.append(total.item())
    chance = math.log(ROWS)
    assert losses[0] > chance and max(losses[-3:]) < 0.7 * chance


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"dimensions": 1}])
def test_mistakes_are_named(options) -> None:
    with pytest.raises(ValueError, match="temperature must be positive"):
        InfoNCE(**options)


def test_an_encoder_of_one_sensor_is_refused() -> None:
    alone = replace(CONFIG, variant="camera_only")
    with pytest.raises(ValueError, match="camera_only, and InfoNCE compares both"):
        InfoNCE().resolve(alone, alone.input_spec)
