"""Lovász-softmax against its definition, and in the corners of the cube."""

from __future__ import annotations

import pytest
import torch

from lemumo_core.losses.lovasz import lovasz_softmax


def by_definition(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Class by class, point by point, over the points that have a label."""
    p, y = logits[labels != 255].softmax(1), labels[labels != 255]
    losses = []
    for c in y.unique().tolist():
        truth = (y == c).double()
        errors = (truth - p[:, c]).abs()
        order = errors.argsort(descending=True)
        jaccard = []
        for k in range(len(order) + 1):
            wrong = order[:k]
            missed = truth[wrong].sum()
            added = (1 - truth[wrong]).sum()
            jaccard.append(1 - (truth.sum() - missed) / (truth.sum() + added))
        steps = torch.stack(jaccard).diff()
        losses.append((errors[order] * steps).sum())
    return torch.stack(losses).mean().item()


def test_it_is_its_definition() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(30, 4, dtype=torch.float64), torch.randint(0, 3, (30,))
    labels[::7] = 255
    found = lovasz_softmax(logits, labels.to(torch.uint8))
    assert found.item() == pytest.approx(by_definition(logits, labels), rel=1e-9)


def test_hard_answers_give_one_minus_iou() -> None:
    labels = torch.tensor([0, 0, 1, 1, 1, 255], dtype=torch.uint8)
    predicted = torch.tensor([0, 1, 1, 1, 0, 0])
    logits = 1e3 * torch.nn.functional.one_hot(predicted, 3).double()
    expected = 1 - (1 / 3 + 2 / 4) / 2
    assert lovasz_softmax(logits, labels).item() == pytest.approx(expected)
    nothing = torch.full_like(labels, 255)
    x = torch.randn(6, 3, requires_grad=True)
    loss = lovasz_softmax(x, nothing)
    loss.backward()
    assert loss.item() == 0 and x.grad.abs().max() == 0
