"""How many operators a training step launches on a GPU, and how often it waits for one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.launches import META, as_cuda, count

MOST = {
    "pretrain, preset lemumo": (4280, 33),
    "pretrain, preset paper": (2370, 19),
    "finetune": (2270, 25),
}
"""Launches of a step, and copies from the CPU among them. Lower these with what they hold."""


def test_operators_copies_and_waits_are_told_apart() -> None:
    linear, x = nn.Linear(4, 4, device="meta"), torch.ones(3, 4)
    with as_cuda() as counted:
        with torch.autocast("meta", torch.bfloat16):
            for _ in range(2):  # weights are cast once
                found = linear(x.to(META).t().t())
        found.float().sum().backward()
        assert linear.weight.grad is not None and linear.weight.grad.sum().tolist() == 1.0
        assert float(linear.bias.grad.sum()) == 1.0
    assert found.dtype == torch.bfloat16
    # To the device twice, x twice, weight and bias once, the result; and back, but for x.
    assert dict(counted.operators) == {
        **{"_to_copy.default": 2 + 2 + 2 + 1 + 3, "addmm.default": 2, "sum.default": 3},
        **{"mm.default": 1, "sum.dim_IntList": 1, "ones_like.default": 1},
    }
    assert counted.backward == 3 + 1 + 1
    assert (counted.copies, counted.waits) == (2, 2)


@pytest.mark.parametrize("row", MOST)
def test_a_step_launches_no_more_than_it_did_and_waits_once(row) -> None:
    found = count(row)
    most, copies = MOST[row]
    assert found.launches <= most
    assert found.copies <= copies
    assert found.waits == 1
