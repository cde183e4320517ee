"""How many operators a training step launches on a GPU, and how often it waits for one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks._fused_kernels import Kernels
from benchmarks.launches import META, _Autocast, _Casts, as_cuda, count
from lemumo_core.model.reduced_view import reduced
from lemumo_core.model.transformer import resize_tables
from lemumo_core.preprocess import Inputs
from lemumo_core.train.pretrain.config import PretrainLogConfig

MOST = {
    "pretrain, preset lemumo": (3250, 16),
    "pretrain, preset paper": (1930, 7),
    "finetune": (2220, 4),
}
"""Launches of a step, and copies from the CPU among them. Lower these with what they hold."""


def test_operators_copies_and_waits_are_told_apart() -> None:
    linear, x = nn.Linear(4, 4, device="meta"), torch.ones(3, 4)
    with as_cuda() as counted:
        with torch.autocast("meta", torch.bfloat16):
            for _ in range(2):  # weights are cast once
                found = linear(x.to(META, non_blocking=True).t().t())
        found.float().sum().backward()
        assert linear.weight.grad is not None and linear.weight.grad.sum().tolist() == 1.0
        assert float(linear.bias.grad.sum()) == 1.0
        found.to("cpu", non_blocking=True)
        x.to(META)
    assert found.dtype == torch.bfloat16
    # To the device three times, x twice, weight and bias once, the result; and back, but for x.
    assert dict(counted.operators) == {
        **{"_to_copy.default": 3 + 2 + 2 + 1 + 3, "addmm.default": 2, "sum.default": 3},
        **{"mm.default": 1, "sum.dim_IntList": 1, "ones_like.default": 1},
    }
    assert counted.backward == 3 + 1 + 1
    assert (counted.copies, counted.waits) == (3, 3)


@pytest.mark.parametrize("row", MOST)
def test_a_step_launches_no_more_than_it_did_and_waits_for_nothing(row) -> None:
    found = count(row)
    most, copies = MOST[row]
    assert found.launches <= most
    assert found.copies <= copies
    assert found.waits == 0


def test_online_probes_wait_for_nothing() -> None:
    log = PretrainLogConfig(probes=True)
    assert count("pretrain, preset lemumo", log=log).waits == 0


def test_kernels_of_a_compiled_graph_are_those_of_inductor() -> None:
    """Those of norm, product, GELU, product and mean, and of their gradients, are fused."""
    norm, up, down = nn.LayerNorm(64), nn.Linear(64, 256), nn.Linear(256, 64)
    network = nn.Sequential(norm, up, nn.GELU(), down).to(META)
    kernels = Kernels(_Autocast, _Casts)
    with kernels.counting():
        step = torch.compile(lambda x: (x + network(x)).square().mean())
        step(torch.empty(8, 64, device=META, requires_grad=True)).backward()
    assert kernels.forward == 5
    # Four products; sums of the gradients of two biases, and of the norm's two weights and input.
    assert 4 + 3 <= kernels.backward <= 4 + 5
    assert kernels.copies == 0


def test_a_table_of_another_size_is_few_kernels() -> None:
    """With torch's own operator, inductor makes 42 kernels forward and 18 backward."""
    kernels = Kernels(_Autocast, _Casts)
    with kernels.counting():
        step = torch.compile(lambda x: resize_tables(x, (8, 8), (4, 12)).square().mean())
        step(torch.empty(3, 64, 16, device=META, requires_grad=True)).backward()
    assert kernels.forward <= 3 and kernels.backward <= 4
    assert kernels.copies == 0


def test_a_reduced_view_copies_no_constants() -> None:
    shapes = (2, 64, 96, 3), (2, 64, 96, 4), (2, 3, 3), (2, 2)
    with as_cuda() as counted:
        reduced(Inputs(*(torch.empty(shape, device=META) for shape in shapes)), 2)
        assert counted.copies == counted.waits == 0
        torch.tensor([1.0, 2.0], device=META)
    assert counted.copies == counted.waits == 1
