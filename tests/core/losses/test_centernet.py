"""CenterNet's targets and losses against loops over boxes and cells, and a round trip."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lemumo_core.data.canvas_labels import Boxes
from lemumo_core.data.samples import collate, sample
from lemumo_core.data.views import MultiCrop, MultiCropConfig, clean_view
from lemumo_core.losses.center_loss import focal_loss
from lemumo_core.losses.centernet import CenterNetLoss, PaperCenterNetLoss, RawDetections
from lemumo_core.losses.centers import (
    CenterTargets,
    overlap_radius,
    targets_in_3x3,
)
from lemumo_core.losses.depth_mixture import DepthMixture, laplace_nll
from lemumo_core.metrics.detection import DetectionMetric
from lemumo_core.metrics.objects import ObjectFilter, Objects
from lemumo_core.model.heads.centernet import CenterNetDecoder
from lemumo_core.preprocess import InputSpec
from lemumo_core.taxonomy import Taxonomy
from tests.helpers.made_boxes import made_boxes
from tests.helpers.small_frames import small_frames

H, W, CLASSES = 128, 256, 3
NO_FILTER = ObjectFilter(0.0, 0, math.inf)
FAMILIES = {"paper": PaperCenterNetLoss(8), "deploy": CenterNetLoss(4)}


def scene(seed: int = 0, batch: int = 3, count: int = 9) -> tuple[Boxes, Tensor]:
    """Boxes in and out of the view, behind it, hidden, empty, too far, twice in a cell, padded."""
    rng = np.random.default_rng(seed)
    K = torch.eye(3).repeat(batch, 1, 1)
    K[:, 0, 0], K[:, 1, 1] = torch.tensor(rng.uniform(150, 260, (2, batch)), dtype=torch.float32)
    K[:, 0, 2], K[:, 1, 2] = W / 2 + 3, H / 2 - 5
    z = rng.uniform(3, 95, (batch, count))
    z[:, 0] *= -1
    xyz = np.stack([z * rng.uniform(-0.7, 0.7, z.shape), z * rng.uniform(-0.3, 0.3, z.shape), z], 2)
    xyz[:, 2] = xyz[:, 1] * 1.01  # the same cell, a little deeper
    size, yaw = rng.uniform(0.5, 6, (batch, count, 3)), rng.uniform(-3, 3, (batch, count, 1))
    ids = rng.integers(0, CLASSES, (batch, count))
    ids[:, -1] = -1
    visibility = rng.choice([np.nan, 0.05, 0.8], (batch, count))
    points = rng.choice([-1, 0, 5], (batch, count))
    boxes = made_boxes(
        torch.tensor(np.concatenate([xyz, size, yaw], 2), dtype=torch.float32),
        torch.tensor(ids),
        K,
        torch.tensor(visibility, dtype=torch.float32),
        torch.tensor(points, dtype=torch.int32),
    )
    return boxes, K


def shape_of(family: str) -> tuple[int, int, int]:
    return CLASSES, H // FAMILIES[family].stride, W // FAMILIES[family].stride


def loop_targets(boxes: Boxes, K: Tensor, family: str, counted: ObjectFilter):
    """Heatmap and, by (image, row, column), the box that is to be found there."""
    stride, (_, rows, columns) = FAMILIES[family].stride, shape_of(family)
    heat = np.zeros((len(K), *shape_of(family)))
    found: dict[tuple[int, int, int], int] = {}
    for b in range(len(K)):
        for k, row in enumerate(boxes.boxes_3d[b].double().numpy()):
            x, y, z, length, width, height, yaw = row
            c = int(boxes.class_ids[b, k])
            if c < 0 or z < 0.1:
                continue
            fx, fy = float(K[b, 0, 0]), float(K[b, 1, 1])
            u = (fx * x / z + float(K[b, 0, 2]) + 0.5) / stride
            v = (fy * y / z + float(K[b, 1, 2]) + 0.5) / stride
            i, j = math.floor(v), math.floor(u)
            if not (0 <= i < rows and 0 <= j < columns):
                continue
            if family == "paper":
                n = max(rows, columns)
                base = round(n / 7)
                r = round(max(base, 0.6 * n * max(length, width) / max(z, 1)))
                radii = (min(r, max(2 * base, n // 4)),) * 2
            else:
                across = length * abs(math.cos(yaw)) + width * abs(math.sin(yaw))
                extents = fx * across / z / stride, fy * height / z / stride
                radii = tuple(min(max(e * 0.3 / 1.7, 1.5), 16.0) for e in extents)
            for r in range(rows):
                for q in range(columns):
                    dx, dy = q - j, r - i
                    if abs(dx) <= radii[0] and abs(dy) <= radii[1]:
                        sx, sy = radii[0] / 3, radii[1] / 3
                        value = math.exp(-(dx**2) / (2 * sx**2) - dy**2 / (2 * sy**2))
                        heat[b, c, r, q] = max(heat[b, c, r, q], value)
            seen, points = float(boxes.visibility[b, k]), int(boxes.num_points[b, k])
            if seen < counted.min_visibility or 0 <= points < counted.min_points:
                continue
            if z > counted.max_depth_m:
                continue
            other = found.get((b, i, j))
            if other is None or boxes.boxes_3d[b, other, 2] > z:
                found[b, i, j] = k
    return heat, found


def maps_of(targets: CenterTargets) -> RawDetections:
    """The head's output that says exactly what is asked for."""
    rows, columns = targets.heatmap.shape[2:]
    maps = {
        name: torch.zeros(len(targets.cell), value.shape[-1], rows, columns)
        for name, value in targets.values.items()
    }
    logits = torch.full((len(targets.cell), CLASSES, rows, columns), -30.0)
    for b, k in targets.valid.nonzero():
        i, j = divmod(int(targets.cell[b, k]), columns)
        logits[b, targets.class_ids[b, k], i, j] = 30.0
    regressed = targets_in_3x3(targets)
    for b, m in regressed.weight.nonzero():
        i, j = divmod(int(regressed.cell[b, m]), columns)
        for name, value in regressed.values.items():
            maps[name][b, :, i, j] = value[b, m]
    depth_m = maps["log_depth"].expm1()
    apart = torch.cat([depth_m + 50.0, depth_m], dim=1)
    depth = DepthMixture(apart, torch.full_like(apart, math.log(0.5)), torch.full_like(depth_m, -3))
    return RawDetections(logits, **maps, depth=depth)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("counted", [ObjectFilter(), NO_FILTER])
def test_targets_are_those_of_a_loop(family: str, counted: ObjectFilter) -> None:
    boxes, K = scene()
    loss = replace(FAMILIES[family], counted=counted)
    targets = loss.targets(boxes, K, shape_of(family))
    heat, found = loop_targets(boxes, K, family, counted)
    np.testing.assert_allclose(targets.heatmap.numpy(), heat, atol=1e-5)
    got = {
        (int(b), *divmod(int(targets.cell[b, k]), shape_of(family)[2])): int(k)
        for b, k in targets.valid.nonzero()
    }
    assert got == found and len(found) >= 3
    assert int(targets.valid.sum()) == len(found)


@pytest.mark.parametrize("family", FAMILIES)
def test_decoded_targets_are_the_boxes(family: str) -> None:
    boxes, K = scene(1)
    targets = FAMILIES[family].targets(boxes, K, shape_of(family))
    decoder = CenterNetDecoder(CLASSES, H, W, FAMILIES[family].stride)
    decoded, scores, ids = decoder(maps_of(targets), K)
    for b in range(len(K)):
        kept = targets.valid[b]
        shown = scores[b] > 0.5
        assert int(shown.sum()) == int(kept.sum()) > 0
        expected = boxes.boxes_3d[b, kept]
        nearest = torch.cdist(expected[:, :3], decoded[b, shown, :3]).argmin(1)
        torch.testing.assert_close(decoded[b, shown][nearest], expected, rtol=1e-4, atol=1e-3)
        assert torch.equal(ids[b, shown][nearest], boxes.class_ids[b, kept])


def test_perfect_output_scores_one_in_the_metric_of_flipped_crops() -> None:
    """Frame to view to targets to decoder to metric: all agree on what counts and where it is."""
    names = ("car", "truck", "pedestrian")
    canvas = InputSpec(96, 160, "lidar", 2)
    batch = collate([sample(frame, canvas, Taxonomy(names)) for frame in small_frames(4)])
    crop = MultiCropConfig(1, 0, (96, 160), global_scale=(0.6, 1.0), flip=1.0)
    (flipped,) = MultiCrop(crop)(batch, torch.Generator().manual_seed(0))
    metric, loss, decoder = (
        DetectionMetric(names),
        CenterNetLoss(4),
        CenterNetDecoder(3, 96, 160, 4),
    )
    for view in (clean_view(batch), flipped):
        boxes = view.labels.boxes
        targets = loss.targets(boxes, view.intrinsics, (3, 24, 40))
        raw = maps_of(targets)
        decoded, scores, ids = decoder(raw, view.intrinsics)
        for b in range(len(decoded)):
            kept = targets.valid[b]
            truth = Objects(
                boxes.boxes_3d[b, kept].numpy(),
                boxes.class_ids[b, kept].numpy(),
                boxes.visibility[b, kept].numpy(),
                boxes.num_points[b, kept].numpy(),
            )
            best = scores[b] > 0.5
            metric.add(*(x[b, best].numpy() for x in (decoded, scores, ids)), truth)
    got = metric.scores()
    assert got.map == pytest.approx(1.0) and got.nds == pytest.approx(1.0, abs=1e-4)
    assert sum(one.truths for one in got.classes.values()) > 10


def loop_loss(raw: RawDetections, boxes: Boxes, K: Tensor, family: str) -> dict[str, float]:
    heat, found = loop_targets(boxes, K, family, ObjectFilter())
    terms = dict.fromkeys(("heatmap", "offset", "log_size", "log_depth", "rotation"), 0.0)
    p = 1 / (1 + np.exp(-raw.heatmap.double().detach().numpy()))
    positives = {(b, int(boxes.class_ids[b, k]), i, j) for (b, i, j), k in found.items()}
    for at in np.ndindex(p.shape):
        if at in positives:
            terms["heatmap"] -= (1 - p[at]) ** 2 * math.log(p[at])
        else:
            terms["heatmap"] -= (1 - heat[at]) ** 4 * p[at] ** 2 * math.log(1 - p[at])
    stride, (_, rows, columns) = FAMILIES[family].stride, shape_of(family)
    owners = {at: (k, 1.0) for at, k in found.items()}
    if family == "deploy":
        for (b, i, j), k in sorted(found.items(), key=lambda item: depth_of(boxes, item)):
            for r, q in itertools.product((i - 1, i, i + 1), (j - 1, j, j + 1)):
                if 0 <= r < rows and 0 <= q < columns:
                    owners.setdefault((b, r, q), (k, 0.5 ** (abs(r - i) + abs(q - j))))
    for (b, i, j), (k, weight) in owners.items():
        x, y, z, *size, yaw = boxes.boxes_3d[b, k].double().tolist()
        u = (float(K[b, 0, 0]) * x / z + float(K[b, 0, 2]) + 0.5) / stride - j
        v = (float(K[b, 1, 1]) * y / z + float(K[b, 1, 2]) + 0.5) / stride - i
        maps = {name: getattr(raw, name) for name in terms}
        said = {name: m[b, :, i, j].double().tolist() for name, m in maps.items()}
        terms["offset"] += weight * (abs(said["offset"][0] - u) + abs(said["offset"][1] - v))
        terms["log_size"] += weight * sum(
            abs(a - math.log(s)) for a, s in zip(said["log_size"], size, strict=True)
        )
        if raw.depth is not None:  # densities exp(-|e| / s) / (2 s) of Laplace's distribution
            depths_m, logs, (log_spread,) = (m[b, :, i, j].double().tolist() for m in raw.depth)
            spread_m = math.exp(log_spread)
            parts = (
                math.exp(w - abs(d - z) / spread_m) for d, w in zip(depths_m, logs, strict=True)
            )
            terms["log_depth"] -= weight * math.log(sum(parts) / spread_m)
        else:
            terms["log_depth"] += weight * abs(said["log_depth"][0] - math.log(1 + z))
        terms["rotation"] += weight * (1 - math.cos(math.atan2(*said["rotation"]) - yaw))
    total = sum(weight for _, weight in owners.values())
    return {n: value / (len(found) if n == "heatmap" else total) for n, value in terms.items()}


def depth_of(boxes: Boxes, item: tuple[tuple[int, int, int], int]) -> float:
    (image, _, _), k = item
    return float(boxes.boxes_3d[image, k, 2])


def random_raw(family: str, batch: int = 3) -> RawDetections:
    g = torch.Generator().manual_seed(3)
    _, rows, columns = shape_of(family)

    def maps(channels: int) -> Tensor:
        return torch.randn(batch, channels, rows, columns, generator=g).requires_grad_()

    raw = RawDetections(*(maps(channels) for channels in (CLASSES, 2, 3, 1, 2)))
    if family == "paper":
        return raw
    return raw._replace(depth=DepthMixture(maps(4), maps(4), maps(1)))


def learning(raw: RawDetections) -> list[Tensor]:
    """The maps that the loss acts on."""
    if raw.depth is None:
        return list(raw[:5])
    return [raw.heatmap, raw.offset, raw.log_size, raw.rotation, *raw.depth]


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_is_that_of_a_loop(family: str) -> None:
    boxes, K = scene(2)
    raw = random_raw(family)
    loss = FAMILIES[family](raw, boxes, K)
    expected = loop_loss(raw, boxes, K, family)
    assert {n: float(v) for n, v in loss.terms.items()} == pytest.approx(expected, rel=1e-4)
    assert loss.total.item() == pytest.approx(sum(expected.values()), rel=1e-4)
    loss.total.backward()
    assert all(torch.isfinite(x.grad).all() for x in learning(raw))


def test_perfect_output_costs_nothing() -> None:
    boxes, K = scene()
    loss = CenterNetLoss(4)
    raw = maps_of(loss.targets(boxes, K, shape_of("deploy")))
    found = loss(raw, boxes, K)
    nll = -3.0 + math.log(2)  # the log of the spread, and half of the weight lies elsewhere
    assert float(found.terms["log_depth"]) == pytest.approx(nll, abs=1e-3)
    assert float(found.total - found.terms["log_depth"]) == pytest.approx(0.0, abs=1e-5)


def test_a_spread_is_learnt_to_be_the_mean_error() -> None:
    errors_m = torch.tensor([0.5, 1.0, 4.5])
    true_m, said_m = torch.full((3, 1), 20.0), (20.0 + errors_m)[:, None]
    spreads_m, weight = torch.linspace(0.5, 6, 56), torch.zeros(3, 1)
    costs = [laplace_nll(said_m, weight, s.log().expand(3, 1), true_m).mean() for s in spreads_m]
    assert spreads_m[int(torch.stack(costs).argmin())].item() == pytest.approx(2.0)


def test_unlabelled_images_and_no_objects() -> None:
    boxes, K = scene()
    raw, loss = random_raw("deploy"), CenterNetLoss(4)
    one = Boxes(*(x[:1] for x in vars(boxes).values()))
    first = RawDetections(
        *(x[:1] for x in raw[:5]), depth=DepthMixture(*(x[:1] for x in raw.depth))
    )
    alone = loss(first, one, K[:1])
    ids = boxes.class_ids.clone()
    ids[1:] = -1
    known = torch.tensor([True, False, False])
    rest_unknown = replace(boxes, class_ids=ids, known_3d=known)
    unknown = loss(raw, rest_unknown, K).total.item()
    assert unknown == pytest.approx(alone.total.item(), rel=1e-5)
    none = made_boxes(torch.zeros(3, 0, 7), torch.zeros(3, 0, dtype=torch.int64), K)
    empty = loss(raw, none, K)
    assert float(empty.terms["offset"]) == 0.0 and empty.total.item() > 0.0


def test_an_object_that_does_not_count_is_neither_wanted_nor_forbidden() -> None:
    boxes, K = scene()
    row = boxes.boxes_3d[:1, 3:4].clone()
    row[..., :3] = torch.tensor([0.0, 0.0, 20.0])
    ids = torch.zeros(1, 1, dtype=torch.int64)
    hidden = made_boxes(row, ids, K[:1], visibility=torch.zeros(1, 1))
    loss, (_, rows, columns) = PaperCenterNetLoss(4), shape_of("deploy")
    targets = loss.targets(hidden, K[:1], (CLASSES, rows, columns))
    assert not targets.valid.any()
    logits = torch.zeros(1, CLASSES, rows, columns, requires_grad=True)
    others = [torch.zeros(1, c, rows, columns) for c in (2, 3, 1, 2)]
    loss(RawDetections(logits, *others), hidden, K[:1]).total.backward()
    at = int(targets.cell[0, 0])
    gradient = logits.grad.flatten(2)[0, :, at]
    assert gradient[0] == 0.0 and (gradient[1:] > 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_focal_loss_is_finite_at_saturated_logits_of_low_precision(dtype) -> None:
    most = torch.finfo(dtype).max if dtype == torch.float16 else 1e30
    logits = torch.tensor([most, -most, 100.0, -100.0, 0.0], dtype=dtype).repeat(2)
    logits = logits.view(2, 1, 1, 5).requires_grad_()
    positive = torch.tensor([True, False])[:, None, None, None].expand(2, 1, 1, 5)
    loss = focal_loss(logits, positive.float(), positive, torch.ones(2, dtype=torch.bool))
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    pushed = logits.grad.flatten()
    assert pushed[1] < 0 and pushed[3] < 0 and pushed[5] > 0 and pushed[7] > 0


def test_overlap_radius_leaves_an_iou_of_seven_tenths() -> None:
    extent = torch.tensor([20.0, 60.0])
    d = overlap_radius(extent)
    assert ((extent - d) / (extent + d)).tolist() == pytest.approx([0.7, 0.7])
    assert overlap_radius(torch.tensor([0.0, 1e6])).tolist() == [1.5, 16.0]


def test_objects_without_a_3d_box_or_a_pixel_leave_no_trace() -> None:
    boxes, K = scene()
    lost = replace(
        boxes,
        boxes_3d=torch.zeros_like(boxes.boxes_3d),
        centers=torch.full_like(boxes.centers, math.nan),
        known_3d=torch.zeros(3, dtype=torch.bool),
    )
    raw = random_raw("deploy")
    loss = CenterNetLoss(4)(raw, lost, K)
    loss.total.backward()
    assert loss.total.item() == 0.0 and not any(x.grad.any() for x in learning(raw))
