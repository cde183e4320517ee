"""CenterNet 2D: targets against a loop, the boxes again from the targets, and the loss."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from lemumo_core.data.canvas_labels import Boxes
from lemumo_core.losses.centernet_2d import CenterNet2dLoss, PaperCenterNet2dLoss, RawDetections2d
from lemumo_core.losses.centers import targets_in_3x3
from lemumo_core.model.heads.centernet_2d import CenterNet2dHead
from lemumo_core.model.heads.layers import Features

STRIDE, SHAPE = 4, (3, 32, 40)


def scene() -> Boxes:
    """Boxes of 2 views (K = 8), the last one padding, one outside, two of one centre, one empty."""
    rng = np.random.default_rng(0)
    center = rng.uniform((5, 5), (150, 120), (2, 8, 2))
    size = rng.uniform(6, 90, (2, 8, 2))
    center[:, 1] = center[:, 0]
    center[:, 2] = (-20, 60)
    size[:, 3] = 0
    boxes = torch.tensor(np.concatenate([center - size / 2, center + size / 2], 2)).float()
    ids = torch.tensor(rng.integers(0, 3, (2, 8)))
    ids[:, -1] = -1
    visibility = torch.ones(2, 8)
    visibility[:, 4] = 0.0
    known = torch.ones(2, dtype=torch.bool)
    return Boxes(
        boxes_3d=torch.zeros(2, 8, 7),
        centers=torch.full((2, 8, 2), math.nan),
        boxes_2d=boxes,
        class_ids=ids,
        visibility=visibility,
        num_points=torch.full((2, 8), -1, dtype=torch.int32),
        ignore=torch.zeros(2, 0, 4),
        known_3d=~known,
        known_2d=known,
    )


@pytest.mark.parametrize("loss", [PaperCenterNet2dLoss(STRIDE), CenterNet2dLoss(STRIDE)])
def test_targets_are_those_of_a_loop_and_give_the_boxes_back(loss: CenterNet2dLoss) -> None:
    labels = scene()
    boxes, ids, valid = labels.boxes_2d, labels.class_ids, labels.visibility > 0.5
    targets = loss.targets(labels, SHAPE)
    heat, found = np.zeros((2, *SHAPE)), {}
    for b, k in np.ndindex(2, 8):
        x0, y0, x1, y1 = boxes[b, k].double().tolist()
        w, h, c = (x1 - x0) / STRIDE, (y1 - y0) / STRIDE, int(ids[b, k])
        j = math.floor(((x0 + x1) / 2 + 0.5) / STRIDE)
        i = math.floor(((y0 + y1) / 2 + 0.5) / STRIDE)
        if c < 0 or w <= 0 or not (0 <= i < SHAPE[1] and 0 <= j < SHAPE[2]):
            continue
        if isinstance(loss, PaperCenterNet2dLoss):
            radii = (min(max(round(0.6 * max(w, h)), 2), 7),) * 2
        else:
            radii = tuple(min(max(e * 0.3 / 1.7, 1.5), 16.0) for e in (w, h))
        for r, q in np.ndindex(*SHAPE[1:]):
            dx, dy = q - j, r - i
            if abs(dx) <= radii[0] and abs(dy) <= radii[1]:
                value = math.exp(-4.5 * ((dx / radii[0]) ** 2 + (dy / radii[1]) ** 2))
                heat[b, c, r, q] = max(heat[b, c, r, q], value)
        if valid[b, k] and ((b, i, j) not in found or w * h < found[b, i, j][0]):
            found[b, i, j] = w * h, k
    np.testing.assert_allclose(targets.heatmap.numpy(), heat, atol=1e-5)
    kept = {(int(b), int(k)) for b, k in targets.valid.nonzero()}
    assert kept == {(b, k) for (b, _, _), (_, k) in found.items()} and len(kept) >= 6
    for b, k in kept:
        i, j = divmod(int(targets.cell[b, k]), SHAPE[2])
        offset, log_size = (targets.values[name][b, k] for name in ("offset", "log_size"))
        middle = (torch.tensor([j, i]) + offset) * STRIDE - 0.5
        half = log_size.exp() * STRIDE / 2
        torch.testing.assert_close(torch.cat([middle - half, middle + half]), boxes[b, k])


@pytest.mark.parametrize("loss", [PaperCenterNet2dLoss(STRIDE), CenterNet2dLoss(STRIDE)])
def test_nothing_is_learnt_in_regions_to_ignore(loss: CenterNet2dLoss) -> None:
    labels = scene()
    regions = torch.tensor([[[20.0, 30, 60, 90]], [[0.0, 0, 0, 0]]])  # the second one is padding
    ignoring = dataclasses.replace(labels, ignore=regions)
    without, within = (loss.targets(boxes, SHAPE) for boxes in (labels, ignoring))
    inside = torch.zeros(2, *SHAPE, dtype=torch.bool)
    for i, j in np.ndindex(*SHAPE[1:]):
        u, v = ((at + 0.5) * STRIDE - 0.5 for at in (j, i))
        inside[0, :, i, j] = 20 <= u <= 60 and 30 <= v <= 90
    assert inside.any()
    expected = torch.where(inside, torch.ones(()), without.heatmap)
    torch.testing.assert_close(within.heatmap, expected)
    assert torch.equal(within.valid, without.valid)  # objects in it are still to be found
    heat = torch.randn(2, *SHAPE, requires_grad=True)
    raw = RawDetections2d(heat, *torch.zeros(2, 2, 2, *SHAPE[1:]))
    loss(raw, ignoring, torch.eye(3).repeat(2, 1, 1)).total.backward()
    found = torch.zeros(2, *SHAPE, dtype=torch.bool)
    for b, k in within.valid.nonzero():
        i, j = divmod(int(within.cell[b, k]), SHAPE[2])
        found[b, labels.class_ids[b, k], i, j] = True
    assert (heat.grad[inside & ~found] == 0).all()
    assert (heat.grad[~inside & (without.heatmap < 0.5)] != 0).all()
    assert (heat.grad[inside & found] != 0).all()


def test_head_and_loss_fit_and_perfect_output_costs_nothing() -> None:
    labels = scene()
    loss = CenterNet2dLoss(STRIDE)
    head, K = CenterNet2dHead(24, 3), torch.eye(3).repeat(2, 1, 1)
    maps, depth_m = torch.randn(2, 24, *SHAPE[1:]), torch.zeros(2, *SHAPE[1:])
    raw = head(Features(maps, maps[:, :0]), depth_m)
    assert raw.heatmap.shape == (2, *SHAPE) and head.stride == STRIDE
    result = loss(raw, labels, K)
    result.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    assert set(result.terms) == {"heatmap", "offset", "log_size"}
    targets = loss.targets(labels, SHAPE)
    perfect = RawDetections2d(torch.full((2, *SHAPE), -30.0), *torch.zeros(2, 2, 2, *SHAPE[1:]))
    for b, k in targets.valid.nonzero():
        i, j = divmod(int(targets.cell[b, k]), SHAPE[2])
        perfect.heatmap[b, targets.class_ids[b, k], i, j] = 30.0
    regressed = targets_in_3x3(targets)
    for b, m in regressed.weight.nonzero():
        i, j = divmod(int(regressed.cell[b, m]), SHAPE[2])
        perfect.offset[b, :, i, j] = regressed.values["offset"][b, m]
        perfect.log_size[b, :, i, j] = regressed.values["log_size"][b, m]
    assert loss(perfect, labels, K).total.item() == pytest.approx(0.0, abs=1e-5)
