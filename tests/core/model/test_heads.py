"""Heads and decoding against loops written from the definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lemumo_core.losses.centernet import RawDetections
from lemumo_core.losses.depth_mixture import DepthMixture
from lemumo_core.model.config import HEAD_FAMILIES, ModelConfig
from lemumo_core.model.heads.centernet import CenterNetDecoder, angle
from lemumo_core.model.heads.depth_hypotheses import (
    CellReturns,
    cell_returns,
    depth_hypotheses,
    filled,
    neighbors,
)
from lemumo_core.model.heads.depth_selection import DepthSelection, ObjectDepth
from lemumo_core.model.heads.family import FAMILIES
from lemumo_core.model.heads.neck import START_HEIGHT_M, rays
from lemumo_core.model.perception import PerceptionModel, seeded_model
from lemumo_core.preprocess import Inputs

K = np.array([[90.0, 0, 47], [0, 80.0, 30], [0, 0, 1]], np.float32)


def raw_detections(rows: int, columns: int, classes: int, seed: int) -> RawDetections:
    generator = torch.Generator().manual_seed(seed)

    def normal(channels: int):
        return torch.randn(1, channels, rows, columns, generator=generator)

    offset = torch.rand(1, 2, rows, columns, generator=generator)
    confidence = torch.rand(1, 1, rows, columns, generator=generator)
    maps = normal(classes), offset, normal(3), normal(1).abs() * 2, normal(2)
    return RawDetections(*maps, confidence)


def decode_by_loop(raw: RawDetections, stride: int, k: int):
    """Peaks of 3x3 neighbourhoods, best k, placed by the pinhole equations."""
    heat = 1 / (1 + np.exp(-raw.heatmap[0].double().numpy()))
    found = []
    classes, rows, columns = heat.shape
    for c in range(classes):
        for y in range(rows):
            for x in range(columns):
                around = heat[c, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
                if heat[c, y, x] < around.max():
                    continue
                z = np.expm1(np.clip(raw.log_depth[0, 0, y, x].item(), 0, 6))
                u = (x + raw.offset[0, 0, y, x].item()) * stride - 0.5
                v = (y + raw.offset[0, 1, y, x].item()) * stride - 0.5
                sin, cos = raw.rotation[0, :, y, x].tolist()
                size = np.exp(np.clip(raw.log_size[0, :, y, x].numpy(), -4, 4))
                center = [(u - K[0, 2]) / K[0, 0] * z, (v - K[1, 2]) / K[1, 1] * z, z]
                known = raw.depth_confidence
                score = heat[c, y, x] * (1 if known is None else known[0, 0, y, x].item())
                found.append((score, c, [*center, *size, np.arctan2(sin, cos)]))
    return sorted(found, key=lambda item: -item[0])[:k]


@pytest.mark.parametrize("confident", [True, False])
def test_decoding_equals_a_loop(confident: bool) -> None:
    rows, columns, classes, stride = 16, 24, 3, 4
    raw = raw_detections(rows, columns, classes, 0)
    if not confident:
        raw = raw._replace(depth_confidence=None)
    decoder = CenterNetDecoder(classes, rows * stride, columns * stride, stride)
    boxes, scores, class_ids = decoder(raw, torch.from_numpy(K)[None])
    expected = decode_by_loop(raw, stride, 100)
    assert len(expected) == 100 == decoder.k
    np.testing.assert_allclose(scores[0], [e[0] for e in expected], atol=1e-6)
    assert class_ids[0].tolist() == [e[1] for e in expected]
    np.testing.assert_allclose(boxes[0], [e[2] for e in expected], rtol=1e-4, atol=1e-4)


def test_a_planted_box_is_recovered() -> None:
    box = np.array([3.0, 1.2, 14.0, 4.2, 1.8, 1.5, -2.3])
    raw = RawDetections(
        torch.full((1, 2, 16, 24), -9.0), *(torch.zeros(1, c, 16, 24) for c in (2, 3, 1, 2))
    )
    u, v = (K @ (box[:3] / box[2]))[:2]
    cell = np.array([u + 0.5, v + 0.5]) / 4
    x, y = np.floor(cell).astype(int)
    raw.heatmap[0, 1, y, x] = 5.0
    raw.offset[0, :, y, x] = torch.from_numpy(cell - [x, y])
    raw.log_size[0, :, y, x] = torch.from_numpy(np.log(box[3:6]))
    raw.log_depth[0, 0, y, x] = np.log1p(box[2])
    raw.rotation[0, :, y, x] = torch.tensor([np.sin(box[6]), np.cos(box[6])])
    boxes, scores, class_ids = CenterNetDecoder(2, 64, 96, 4)(raw, torch.from_numpy(K)[None])
    assert class_ids[0, 0] == 1 and scores[0, 0] > 0.99
    np.testing.assert_allclose(boxes[0, 0], box, atol=1e-4)


def test_angle_is_atan2() -> None:
    yaw = np.linspace(-np.pi + 1e-6, np.pi, 721)
    scale = np.geomspace(1e-3, 1e3, 721)
    sin, cos = scale * np.sin(yaw), scale * np.cos(yaw)
    ours = angle(torch.tensor(sin, dtype=torch.float32), torch.tensor(cos, dtype=torch.float32))
    gap = np.angle(np.exp(1j * (ours.double().numpy() - yaw)))
    np.testing.assert_allclose(gap, 0, atol=2e-6)
    axes = angle(torch.tensor([0.0, 1.0, 0.0, -1.0]), torch.tensor([1.0, 0.0, -1.0, 0.0]))
    expected = [0, np.pi / 2, np.pi, -np.pi / 2]
    np.testing.assert_allclose(axes.numpy(), expected, atol=1e-6)


def test_paper_heads_have_the_papers_parameters() -> None:
    model = PerceptionModel(ModelConfig("paper", "small", 64, 96))

    def count(module) -> int:
        return sum(p.numel() for p in module.parameters())

    trunk = (384 * 9 * 256 + 256 + 512) + (256 * 16 * 256 + 256 + 512)
    heads = (256 + 1) * (len(model.config.detection_classes) + 2 + 3 + 1 + 2)
    assert count(model.centernet) == trunk + heads
    assert count(model.depth) == (384 * 256 + 256) + (16 * 9 * 16 + 16) + 17
    classes = len(model.config.segmentation_classes)
    assert count(model.segmentation) == 385 * 16 * classes


@pytest.mark.parametrize(
    ("preset", "variant"), [("paper", "pruned"), ("lemumo", "pruned"), ("lemumo", "late")]
)
@torch.no_grad()
def test_outputs_have_the_documented_shapes(preset, variant) -> None:
    config = ModelConfig(preset, "nano", 64, 96, variant=variant)
    out = seeded_model(config, 0)(example(config))
    shapes = {name: (tuple(t.shape[1:]), t.dtype) for name, t in out._asdict().items()}
    assert shapes == {
        "boxes": ((100, 7), torch.float32),
        "scores": ((100,), torch.float32),
        "class_ids": ((100,), torch.int64),
        "depth": ((16, 24), torch.float32),
        "depth_confidence": ((16, 24), torch.float32),
        "labels": ((16, 24), torch.uint8),
    }
    assert (out.depth >= 0).all() and (out.labels < len(config.segmentation_classes)).all()


def example(config: ModelConfig) -> Inputs:
    generator = torch.Generator().manual_seed(5)
    size = (3, config.height, config.width)
    image = torch.randint(0, 256, (*size, 3), generator=generator).byte()
    companion = torch.rand(*size, config.input_spec.companion_channels, generator=generator)
    present = torch.tensor([[1.0, 1], [1, 0], [0, 1]])
    return Inputs(image, companion, torch.from_numpy(K).expand(3, 3, 3), present)


@pytest.mark.parametrize("preset", ["paper", "lemumo"])
def test_every_parameter_receives_a_gradient(preset) -> None:
    config = ModelConfig(preset, "nano", 64, 96)
    model = seeded_model(config, 0).train()
    raw = model.raw(example(config))
    *detections, confidence, depth = raw.detections
    detections += [confidence, *depth] if depth else []
    outputs = [*detections, raw.depth_m, raw.depth_confidence, raw.segmentation]
    weights = torch.Generator().manual_seed(6)
    sum((o * torch.randn(o.shape, generator=weights)).sum() for o in outputs).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("channels", [1, 2])
def test_cell_returns_are_those_of_a_loop(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    value = torch.rand(2, 8, 12, 1, generator=generator)
    value = value * (torch.rand(value.shape, generator=generator) < 0.1)
    companion = torch.cat([value, (value > 0).float()], dim=-1)[..., :channels]
    nearest, farthest, mean, share = cell_returns(companion, 80.0)
    assert (share == 0).any(), "no empty cell was tried"
    for b, i, j in np.ndindex(2, 2, 3):
        depths = [80 * float(d) for d in value[b, 4 * i :, 4 * j :][:4, :4].flatten() if d > 0]
        logs = np.log1p(depths or [0.0])
        assert nearest[b, 0, i, j].item() == pytest.approx(logs.min(), abs=1e-5)
        assert farthest[b, 0, i, j].item() == pytest.approx(logs.max(), abs=1e-5)
        assert mean[b, 0, i, j].item() == pytest.approx(logs.mean(), abs=1e-5)
        assert share[b, 0, i, j].item() == pytest.approx(len(depths) / 16)


def test_empty_cells_take_what_stands_below_and_what_lies_above() -> None:
    generator = torch.Generator().manual_seed(0)
    share = (torch.rand(2, 1, 9, 7, generator=generator) < 0.2).float()
    nearest, farthest, mean = torch.rand(3, 2, 1, 9, 7, generator=generator) * share
    start = torch.zeros(2, 1, 1, 1)
    got = depth_hypotheses(CellReturns(nearest, farthest, mean, share), start)
    surroundings = filled(mean, share, start)
    for b, i, j in np.ndindex(2, 9, 7):
        known = share[b, 0, :, j].nonzero().flatten().tolist()
        below = [row for row in known if row >= i]
        above = [row for row in known if row <= i]
        expected = (
            nearest[b, 0, below[0], j] if below else surroundings[b, 0, i, j],
            farthest[b, 0, above[-1], j] if above else surroundings[b, 0, i, j],
            surroundings[b, 0, i, j],
        )
        assert got[b, :, i, j].tolist() == [value.item() for value in expected], (b, i, j)


def test_neighbors_are_those_of_a_padded_map() -> None:
    maps = torch.rand(2, 3, 4, 5)
    got = neighbors(maps)
    padded = np.pad(maps.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), "edge")
    around = [padded[:, :, y : y + 4, x : x + 5] for y in range(3) for x in range(3)]
    around.append(around.pop(4))
    np.testing.assert_array_equal(got, np.concatenate(around, axis=1))


def test_a_depth_is_selected_by_origin_and_by_slope() -> None:
    select = DepthSelection(2, 3)
    log_depths = torch.tensor([3.0, 2.0, 2.5]).view(1, 3, 1, 1)
    with torch.no_grad():
        select.layer.weight.zero_()
        select.layer.weight[:, 0, 0, 0] = torch.tensor([0.5, -1.0, 0.0, 0.0, 0.25])
        select.layer.weight[3, 1] = -0.8
        for origin, slope in ((0.0, 0.0), (2.0, 0.0), (0.0, 1.5), (1.0, -2.0)):
            got = select(torch.tensor([origin, slope]).view(1, 2, 1, 1), log_depths)
            learnt = 10 * -0.8 * slope
            logits = np.array([0.5 * origin + learnt * 0.5, -origin - learnt * 0.5, 5.0])
            weights = np.exp(logits) / np.exp(logits).sum()
            expected = weights @ [3.0, 2.0, 2.5] + 0.25 * origin
            assert got.item() == pytest.approx(expected, abs=1e-5)


def test_a_center_lies_metres_behind_each_hypothesis() -> None:
    head = ObjectDepth(2, 3)
    log_depths = torch.tensor([9.0, 19.0, 39.0]).log1p().view(1, 3, 1, 1)
    with torch.no_grad():
        for part in (head.surface.layer, head.center):
            part.weight.zero_()
        head.surface.layer.bias[1] = 7.0
        head.center.bias.copy_(torch.tensor([2.3, -0.7]))
        depth = head(torch.zeros(1, 2, 1, 1), log_depths)
        np.testing.assert_allclose(depth.depths_m.flatten(), [11.3, 21.3, 41.3], rtol=1e-4)
        weights = np.exp([0.0, 7.0, 5.0]) / np.exp([0.0, 7.0, 5.0]).sum()
        np.testing.assert_allclose(depth.log_weights.exp().flatten(), weights, rtol=1e-4)
        assert depth.log_spread.item() == pytest.approx(-0.7)
        head.center.bias.copy_(torch.tensor([-30.0, 99.0]))
        depth = head(torch.zeros(1, 2, 1, 1), log_depths)
        np.testing.assert_allclose(depth.depths_m.flatten(), [0.0, 0.0, 9.0], atol=1e-4)
        assert depth.log_spread.exp().item() == pytest.approx(55, abs=1)


@pytest.mark.parametrize(
    ("depths_m", "weights", "middle_m"),
    [
        ([20.0, 20.2, 35.0], [0.35, 0.35, 0.3], 20.1),
        ([20.0, 28.0, 35.0], [0.2, 0.3, 0.5], 35.0),
        ([5.0, 12.0, 12.0], [0.9, 0.05, 0.05], 5.0),
    ],
)
def test_the_mode_of_a_mixture_lies_on_a_surface(depths_m, weights, middle_m) -> None:
    spread_m, at = 0.5, np.linspace(0, 60, 6001)
    parts = np.exp(-np.abs(at[:, None] - depths_m) / spread_m) / (2 * spread_m) * weights
    density = parts.sum(1)
    as_maps = (torch.tensor(x).view(1, -1, 1, 1) for x in (depths_m, np.log(weights)))
    found_m, confidence = DepthMixture(*as_maps, torch.full((1, 1, 1, 1), np.log(spread_m))).mode()
    assert found_m.item() == pytest.approx(middle_m, abs=0.15)
    assert np.interp(found_m.item(), at, density) > 0.7 * density.max()
    near = np.abs(at - found_m.item()) < 4.0
    assert confidence.item() == pytest.approx(density[near].sum() * 0.01, abs=0.02)


def test_rays_pass_through_the_centers_of_cells() -> None:
    x, y, focal = rays(torch.from_numpy(K)[None], 64, 16, 24)[0]
    for i, j in np.ndindex(16, 24):
        u, v = np.mean([4 * j, 4 * j + 3]), np.mean([4 * i, 4 * i + 3])
        ray = np.linalg.solve(K, [u, v, 1.0])
        np.testing.assert_allclose([x[i, j], y[i, j]], ray[:2], rtol=1e-5)
    np.testing.assert_allclose(focal, np.log(80 / 64), rtol=1e-6)


def test_holes_are_filled_from_the_least_surroundings_that_know() -> None:
    generator = torch.Generator().manual_seed(0)
    share = (torch.rand(1, 1, 9, 13, generator=generator) < 0.03).float()
    mean = torch.rand(share.shape, generator=generator) * share
    assert 2 < share.sum() < 20
    start = torch.tensor(2.5).view(1, 1, 1, 1)
    got = filled(mean, share, start)
    for i, j in np.ndindex(9, 13):
        side = 1
        while True:
            top, left = i // side * side, j // side * side
            known = share[0, 0, top : top + side, left : left + side]
            if known.sum() > 0:
                break
            side *= 2
        expected = mean[0, 0, top : top + side, left : left + side].sum() / known.sum()
        assert got[0, 0, i, j].item() == pytest.approx(expected.item(), abs=1e-5), (i, j, side)
    assert (filled(mean * 0, share * 0, start) == 2.5).all()


@pytest.mark.parametrize("companion", ["lidar", "thermal"])
def test_an_untrained_model_predicts_the_depth_of_the_returns(companion: str) -> None:
    model = seeded_model(ModelConfig(height=64, width=96, companion=companion), 0)
    value = torch.zeros(2, 64, 96, 2)
    value[0, 40, ::3] = torch.tensor([30.0 / 80, 1.0])
    image = torch.zeros(2, 64, 96, 3, dtype=torch.uint8)
    present, intrinsics = (
        torch.tensor([[1.0, 1.0], [1.0, 0.0]]),
        torch.from_numpy(K).repeat(2, 1, 1),
    )
    for focal in (80.0, 160.0):  # in the longer one the same picture is twice as far away
        intrinsics[:, 1, 1] = focal
        depth_m = model.raw(Inputs(image, value, intrinsics, present)).depth_m
        unknown = START_HEIGHT_M * focal / 64
        known = 30.0 if companion == "lidar" else unknown
        assert depth_m[0].median().item() == pytest.approx(known, rel=0.5)
        assert depth_m[1].median().item() == pytest.approx(unknown, rel=0.5)


def test_every_family_has_its_classes_and_the_old_name_is_read(caplog) -> None:
    assert tuple(FAMILIES) == HEAD_FAMILIES
    config = ModelConfig.from_dict({"head_preset": "probe"})
    assert (
        config == ModelConfig(head_preset="paper", whole_image=False)
        and config.head_family == "paper"
    )
    assert "is called paper since version 0.2" in caplog.text


@pytest.mark.parametrize("family", HEAD_FAMILIES)
def test_a_model_of_flat_boxes_learns_and_decodes(family: str) -> None:
    towers = {"variant": "late", "backbone": "resnet18"} if family == "fcn" else {}
    config = ModelConfig(height=64, width=96, head_preset=family, detection="2d", **towers)
    model, inputs = seeded_model(config, 0), example(config)
    raw = model.raw(inputs)
    boxes, scores, class_ids = model.decoder(raw.detections, inputs.intrinsics)
    assert boxes.shape == (3, model.decoder.k, 4) and scores.shape == class_ids.shape
    assert (boxes[..., 2:] >= boxes[..., :2]).all()
