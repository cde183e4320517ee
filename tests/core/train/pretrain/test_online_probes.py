"""Online probes: against loops from their definition, and that they leave the trunk alone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lemumo_core.data.views import View
from lemumo_core.frame import UNLABELLED
from lemumo_core.methods.lemumo.method import LeMuMo
from lemumo_core.methods.method import Method
from lemumo_core.train.pretrain.online_probes import OnlineProbes
from tests.helpers.random_views import CLASSES, CONFIG, HEIGHT, WIDTH, random_view
from tests.helpers.small_run import small_batch, small_config

GRID = HEIGHT // 16, WIDTH // 16
TOKENS = GRID[0] * GRID[1]


def labelled(view: View, label_map: Tensor, depth_m: Tensor) -> View:
    assert view.labels is not None
    return replace(view, labels=replace(view.labels, label_map=label_map, depth_m=depth_m))


def random_tokens(rows: int, dim: int = 8) -> Tensor:
    return torch.randn(rows, TOKENS, dim, generator=torch.Generator().manual_seed(1))


def untrained_method() -> Method:
    torch.manual_seed(0)
    return LeMuMo().resolve(CONFIG, CONFIG.input_spec).build(CONFIG, CONFIG.input_spec).train()


def loop_of_losses(probes: OnlineProbes, tokens: Tensor, view: View) -> tuple[float, float]:
    """Both losses, value by value."""
    assert view.labels is not None
    log_depth, logits = probes(tokens, (HEIGHT, WIDTH))
    depths, classes = [], []
    for r in range(len(tokens)):
        for i in range(HEIGHT // 4):
            for j in range(WIDTH // 4):
                cell = view.labels.depth_m[r, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].flatten()
                known = [m for m in cell.tolist() if m <= 80]
                if known:
                    target = math.log(1 + sum(known) / len(known))
                    depths.append(abs(log_depth[r, i, j].item() - target))
        log_p = logits[r].log_softmax(0)
        for i in range(HEIGHT):
            for j in range(WIDTH):
                label = int(view.labels.label_map[r, i, j])
                if label != UNLABELLED:
                    classes.append(-log_p[label, i, j].item())
    return sum(depths) / len(depths), sum(classes) / len(classes)


def train(steps: int, with_probes: bool) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Weights, last gradients and random state of a method in training."""
    method = untrained_method()
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)
    batch = small_batch(small_config(model=CONFIG, batch=4, val_frames=0))
    if with_probes:
        probes = OnlineProbes(method.token_dim, CLASSES)
    for step in range(steps):
        views = method.views(batch, lambda _, step=step: torch.Generator().manual_seed(step), 0, 1)
        outcome = method(views, step, dense=True)
        optimizer.zero_grad()
        if with_probes:
            assert outcome.tokens is not None and outcome.view is not None
            probes.step(outcome.tokens, outcome.view)
        outcome.loss.total.backward()
        optimizer.step()
    gradients = {n: p.grad for n, p in method.named_parameters() if p.grad is not None}
    return method.state_dict(), gradients, torch.get_rng_state()


def test_probes_cannot_touch_the_method():
    """Weights, batch norm statistics, gradients and random numbers are equal to the bit."""
    alone, watched = train(2, with_probes=False), train(2, with_probes=True)
    for ours, theirs in zip(alone[:2], watched[:2], strict=True):
        assert ours.keys() == theirs.keys() and len(ours) > 50
        for name, value in ours.items():
            assert torch.equal(value, theirs[name]), name
    assert torch.equal(alone[2], watched[2])


def test_losses_are_their_definition():
    probes, tokens, view = OnlineProbes(8, CLASSES), random_tokens(2), random_view(2)
    depth, classes = loop_of_losses(probes, tokens, view)
    losses = probes.step(tokens, view)
    assert_close(losses["probe_depth"].item(), depth, rtol=1e-5, atol=0)
    assert_close(losses["probe_segmentation"].item(), classes, rtol=1e-5, atol=0)


def test_unknown_truth_teaches_nothing():
    probes, view = OnlineProbes(8, CLASSES), random_view(2)
    before = {name: value.clone() for name, value in probes.state_dict().items()}
    nothing = torch.full((2, HEIGHT, WIDTH), math.nan)
    view = labelled(view, torch.full((2, HEIGHT, WIDTH), UNLABELLED, dtype=torch.uint8), nothing)
    losses = probes.step(random_tokens(2), view)
    assert {name: value.item() for name, value in losses.items()} == dict.fromkeys(losses, 0.0)
    for name, value in probes.state_dict().items():
        assert_close(value, before[name], rtol=1e-6, atol=0)


def test_probes_find_what_tokens_say_linearly():
    """Tokens that spell depth and class of their cell are read almost without error."""
    g = torch.Generator().manual_seed(0)
    depth_m = torch.rand(6, *GRID, generator=g) * 50 + 2
    classes = torch.randint(0, 3, (6, *GRID), generator=g)
    spelt = torch.cat([depth_m.log1p()[..., None] - 3, torch.eye(3)[classes]], dim=-1)
    tokens = spelt.flatten(1, 2).repeat(1, 1, 8)
    spread = [x.repeat_interleave(16, 1).repeat_interleave(16, 2) for x in (classes, depth_m)]
    view = labelled(random_view(6), spread[0].to(torch.uint8), spread[1])
    probes = OnlineProbes(32, 3)
    first = probes.step(tokens, view)
    for _ in range(300):
        last = probes.step(tokens, view)
    assert last["probe_depth"] < 0.1 * first["probe_depth"]
    assert last["probe_segmentation"] < 0.5 * first["probe_segmentation"]  # borders are blurred


def test_probes_of_one_seed_start_alike():
    probes, baseline = OnlineProbes(8, CLASSES, seed=3), OnlineProbes(8, CLASSES, seed=3)
    for name, value in probes.state_dict().items():
        assert torch.equal(value, baseline.state_dict()[name])
    other = OnlineProbes(8, CLASSES, seed=4).state_dict()
    assert not torch.equal(probes.state_dict()["depth.0.weight"], other["depth.0.weight"])


def test_probes_without_labels_say_what_to_do():
    with pytest.raises(ValueError, match="sample\\(\\) the classes"):
        OnlineProbes(8, CLASSES).step(random_tokens(2), replace(random_view(2), labels=None))
