"""Distance of boxes and labels from a teacher's, against their definitions."""

from __future__ import annotations

import pytest
import torch

from lemumo_core.losses.distillation import boxes_apart, labels_apart

HEAT = torch.tensor([[[[2.0, -3.0]], [[-1.0, -4.0]]]])
ONE = torch.tensor([True])
VALUES = {"offset": torch.tensor([[[[0.2, 0.7]], [[0.1, 0.4]]]])}


def test_a_teacher_is_not_apart_from_itself() -> None:
    heat = HEAT.clone().requires_grad_()
    apart = boxes_apart(heat, VALUES, HEAT, VALUES, ONE)
    apart.backward()
    assert apart.item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(heat.grad, torch.zeros_like(heat), atol=1e-7, rtol=0)
    logits = torch.randn(2, 3, 4, 5)
    assert labels_apart(logits, logits + 2, ONE.expand(2)) == pytest.approx(0, abs=1e-6)


def test_boxes_differ_by_entropy_and_by_what_is_said_where_the_teacher_sees_objects() -> None:
    other = {"offset": VALUES["offset"] + torch.tensor([1.0, 0.0])}
    taught = torch.distributions.Bernoulli(logits=HEAT)
    entropy = torch.distributions.kl_divergence(
        taught, torch.distributions.Bernoulli(logits=HEAT + 1)
    )
    weight = HEAT.sigmoid().amax(1)
    expected = (entropy.sum() + 2 * weight[..., 0].sum()) / weight.sum().clamp(min=1)
    apart = boxes_apart(HEAT + 1, other, HEAT, VALUES, ONE)
    torch.testing.assert_close(apart, expected)


def test_labels_differ_by_entropy() -> None:
    own, taught = torch.randn(2, 2, 3, 4, 5).unbind(0)
    expected = torch.distributions.kl_divergence(
        *(torch.distributions.Categorical(logits=x.movedim(1, -1)) for x in (taught, own))
    )
    torch.testing.assert_close(labels_apart(own, taught, ONE.expand(2)), expected.mean())


def test_rows_that_do_not_count_change_nothing() -> None:
    rows = torch.tensor([True, False])
    heat, other = torch.stack([HEAT[0] + 1, HEAT[0] - 9]), torch.cat([HEAT, HEAT])
    values = {"offset": torch.cat([VALUES["offset"]] * 2)}
    both = boxes_apart(heat, values, other, values, rows)
    torch.testing.assert_close(both, boxes_apart(HEAT + 1, VALUES, HEAT, VALUES, ONE))
    own, taught = torch.randn(2, 2, 3, 4, 5).unbind(0)
    one = labels_apart(own[:1], taught[:1], ONE)
    torch.testing.assert_close(labels_apart(own, taught, rows), one)
    assert labels_apart(own, taught, ~rows & rows) == 0
