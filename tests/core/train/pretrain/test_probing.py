"""Converged probes: against loops from their definition, blind to scale and to what is absent."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lemumo_core.data.samples import Batch
from lemumo_core.data.views import clean_view
from lemumo_core.frame import UNLABELLED
from lemumo_core.methods.method import ModalityFeatures
from lemumo_core.train.pretrain.linear_probe import FrozenTokens, fit, score
from lemumo_core.train.pretrain.probe_truth import truth
from lemumo_core.train.pretrain.probing import probe_features
from lemumo_core.train.pretrain.raw_patches import raw_patches
from tests.helpers.random_views import CLASSES, CONFIG
from tests.helpers.small_run import small_batch, small_config

GRID = 2, 3
SAMPLES = 24


def spelling(dim: int = 8) -> FrozenTokens:
    """Tokens that spell depth and class of their patch linearly, among noise."""
    g = torch.Generator().manual_seed(0)
    depth_m = torch.rand(SAMPLES, *GRID, generator=g) * 50 + 2
    classes = torch.randint(0, 3, (SAMPLES, *GRID), generator=g)
    spelt = [depth_m.log1p()[..., None], torch.eye(3)[classes]]
    noise = torch.randn(SAMPLES, *GRID, dim - 4, generator=g)
    tokens = torch.cat([*spelt, noise], dim=-1).flatten(1, 2)
    cells = depth_m.repeat_interleave(4, 1).repeat_interleave(4, 2)
    label_map = classes.repeat_interleave(16, 1).repeat_interleave(16, 2).to(torch.uint8)
    return FrozenTokens(tokens, torch.ones(SAMPLES, 6, dtype=torch.bool), cells, label_map)


def test_a_probe_finds_what_tokens_spell() -> None:
    frozen = spelling()
    state = torch.get_rng_state()
    scores = score(fit(frozen, 3, steps=200), frozen)
    assert scores["depth_mae_m"] < 0.5 and scores["miou"] > 0.7  # borders are blurred
    assert torch.equal(torch.get_rng_state(), state)
    blind = frozen._replace(tokens=torch.zeros_like(frozen.tokens))
    assert score(fit(blind, 3, steps=200), blind)["depth_mae_m"] > 10


def test_scale_and_offset_of_tokens_do_not_matter() -> None:
    frozen = spelling()
    scale = torch.logspace(-1, 1, 8)
    moved = frozen._replace(tokens=frozen.tokens * scale + 5 * scale)
    ours, theirs = (score(fit(one, 3, steps=50), one) for one in (frozen, moved))
    assert ours == pytest.approx(theirs, rel=0.02)


def test_what_is_not_valid_is_not_looked_at() -> None:
    frozen = spelling()
    valid = torch.rand(SAMPLES, 6, generator=torch.Generator().manual_seed(1)) > 0.3
    scores = []
    for content in (0.0, math.nan):
        tokens = torch.where(valid[..., None], frozen.tokens, content)
        one = frozen._replace(tokens=tokens, valid=valid)
        scores.append(score(fit(one, 3, steps=20), one))
    assert scores[0] == scores[1]


def test_scores_are_their_definition() -> None:
    frozen = spelling()
    frozen.depth_m[:, ::3] = math.nan
    frozen.label_map[:, :5] = UNLABELLED
    probe = fit(frozen, 3, steps=5)
    scores = score(probe, frozen)
    x = (frozen.tokens - frozen.tokens.flatten(0, 1).mean(0)) / frozen.tokens.flatten(0, 1).std(0)
    log_depth, logits = probe(x)
    errors, maps = [], torch.zeros(SAMPLES, 3, 8, 12)
    for s in range(SAMPLES):
        for i in range(8):
            for j in range(12):
                token, cell = 3 * (i // 4) + j // 4, 4 * (i % 4) + j % 4
                maps[s, :, i, j] = logits[s, token, cell]
                if not math.isnan(true := frozen.depth_m[s, i, j].item()):
                    predicted = math.exp(log_depth[s, token, cell].item()) - 1
                    errors.append(abs(min(max(predicted, 0), 80) - true))
    assert scores["depth_mae_m"] == pytest.approx(sum(errors) / len(errors), rel=1e-4)
    found = torch.nn.functional.interpolate(maps, scale_factor=4, mode="bilinear").argmax(1)
    labels = frozen.label_map
    ious = []
    for c in range(3):
        ours, theirs = (found == c) & (labels != UNLABELLED), labels == c
        ious.append(((ours & theirs).sum() / (ours | theirs).sum()).item())
    assert scores["miou"] == pytest.approx(sum(ious) / 3, rel=1e-4)


def batches(*sizes: int) -> list[Batch]:
    """Batches on the canvas of CONFIG."""
    return [small_batch(small_config(model=CONFIG, batch=size, val_frames=0)) for size in sizes]


def test_raw_patches_are_the_pixels_of_their_cells() -> None:
    (batch,) = batches(2)
    batch.present[1, 1] = 0.0
    found = raw_patches(batch)
    view, columns = clean_view(batch), CONFIG.grid[1]
    assert found["fused"].tokens.shape[-1] == 16 * (3 + view.companion.shape[-1])
    assert not found["companion"].tokens[1].any() and not found["companion"].valid[1].any()
    assert found["fused"].valid.all()
    for patch, channel, cell in ((0, 0, 0), (columns + 1, 2, 6), (2, 1, 15)):
        top, left = 16 * (patch // columns) + 4 * (cell // 4), 16 * (patch % columns) + cell % 4 * 4
        pixels = view.image[0, top : top + 4, left : left + 4, channel].float() / 255
        token = found["image"].tokens[0, patch]
        assert_close(token[16 * channel + cell], pixels.mean(), rtol=1e-5, atol=1e-6)


def test_every_row_encodes_every_sample_once() -> None:
    seen: list[int] = []

    def features(batch: Batch, modalities) -> dict[str, ModalityFeatures]:
        seen.append(len(batch))
        tokens = raw_patches(batch)["image"]
        return {"image": tokens}

    given = batches(2, 3), batches(4)
    found = probe_features({"raw": raw_patches, "mine": features}, *given, CLASSES, steps=3)
    assert seen == [2, 3, 4]
    assert list(found["raw"]) == ["fused", "image", "companion"] and list(found["mine"]) == [
        "image"
    ]
    assert found["mine"]["image"] == found["raw"]["image"]
    assert found["raw"]["fused"].keys() == {"depth_mae_m", "miou", "position_share"}


def test_without_truth_there_is_no_score() -> None:
    frozen = spelling()
    nothing = frozen._replace(
        depth_m=torch.full_like(frozen.depth_m, math.nan),
        label_map=torch.full_like(frozen.label_map, UNLABELLED),
    )
    assert score(fit(nothing, 3, steps=2), nothing) == {}


def test_depth_is_the_mean_of_what_a_cell_knows() -> None:
    view = clean_view(batches(2)[0])
    assert view.labels is not None
    depth_m, label_map = truth(view)
    assert label_map.dtype == torch.int64
    for r, i, j in ((0, 0, 0), (1, 3, 5), (1, 2, 7)):
        cell: Tensor = view.labels.depth_m[r, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].flatten()
        known = [m for m in cell.tolist() if m <= 80]
        expected = sum(known) / len(known) if known else math.nan
        assert depth_m[r, i, j].item() == pytest.approx(expected, rel=1e-5, nan_ok=True)
