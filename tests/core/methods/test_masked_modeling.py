"""Masked modelling: masks, what an encoder sees through them, and the loss by its definition."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from lemumo_core.methods.masked_modeling.masking import Masks, draw_masks, embed_masked
from lemumo_core.methods.masked_modeling.method import MaskedModeling
from lemumo_core.methods.masked_modeling.options import MaskingOptions
from lemumo_core.methods.masked_modeling.reconstruction import (
    DEPTH_LOG_MEAN,
    IMAGE_MEAN,
    IMAGE_STD,
    Reconstruction,
)
from lemumo_core.model.variants import build_encoder
from tests.helpers.random_views import CONFIG, random_view

GRID = CONFIG.grid
CELLS = GRID[0] * GRID[1]


def masks_of(rows: int, grid: tuple[int, int] = GRID) -> Masks:
    return draw_masks(torch.arange(rows), rows, grid, 0.5, torch.Generator().manual_seed(0))


def test_masks_show_something_in_every_cell_and_each_modality_alone() -> None:
    masks = masks_of(400, (8, 8))
    assert len(masks.cells) == len(set(masks.cells.tolist())) == 32
    assert masks.shown.any(1).all()
    whole, none = masks.shown.all(2), (~masks.shown).all(2)  # (rows, modality)
    for shown, hidden in ((0, 1), (1, 0)):
        alone = (whole[:, shown] & none[:, hidden]).float().mean().item()
        assert alone == pytest.approx(0.25, abs=0.08)
    mixed = masks.shown[~none.any(1)]
    assert mixed.all(1).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert torch.equal(masks.hidden.sum(2), 64 - masks.shown.sum(2))


def test_a_rank_draws_its_rows_of_the_whole() -> None:
    whole = masks_of(6)
    generator = torch.Generator().manual_seed(0)
    share = draw_masks(torch.tensor([4, 5]), 6, GRID, 0.5, generator)
    assert torch.equal(share.cells, whole.cells) and torch.equal(share.shown, whole.shown[4:])


@pytest.mark.parametrize("variant", ["pruned", "late"])
def test_what_is_hidden_cannot_be_seen(variant: str) -> None:
    torch.manual_seed(0)
    config = replace(CONFIG, variant=variant)
    encoder = build_encoder(config).eval()
    view, masks = random_view(4), masks_of(4)

    def tokens(image: torch.Tensor, companion: torch.Tensor) -> torch.Tensor:
        inputs = view.inputs._replace(image=image, companion=companion)
        return encoder.encode(embed_masked(encoder, inputs, masks)).tokens

    def noise_where(hidden: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        at = hidden.view(4, *GRID).repeat_interleave(16, 1).repeat_interleave(16, 2)[..., None]
        return torch.where(at, torch.rand(pixels.shape).mul(200).to(pixels.dtype), pixels)

    before = tokens(view.image, view.companion)
    assert before.shape == (4, len(masks.cells), config.token_dim)
    image, companion = (
        noise_where(masks.hidden[:, row], x) for row, x in enumerate((view.image, view.companion))
    )
    assert torch.equal(tokens(image, companion), before)
    shown = tokens(noise_where(~masks.hidden[:, 0], view.image), view.companion)
    assert not torch.allclose(shown, before)
    everything = Masks(torch.arange(CELLS), torch.ones(4, 2, CELLS, dtype=torch.bool), GRID)
    kept = encoder.encode(embed_masked(encoder, view.inputs, everything)).tokens
    assert_close(kept, encoder(view.inputs).tokens, rtol=1e-4, atol=1e-5)


def test_the_loss_is_its_definition() -> None:
    torch.manual_seed(0)
    options = MaskingOptions(shown_weight=0.3)
    reconstruction = Reconstruction(options, CONFIG, GRID)
    predictions = []
    for module in (reconstruction.decode, reconstruction.linear):
        module.register_forward_hook(lambda _, __, out: predictions.append(out.detach()))
    view, masks = random_view(3), masks_of(3)
    view.present[1, 1] = 0.0
    loss = reconstruction(torch.randn(3, len(masks.cells), CONFIG.token_dim), masks, view)
    for predicted, cells, image_cell, companion_cell, suffix in (
        (predictions[0], range(CELLS), 1, 1, ""),
        (predictions[1], masks.cells.tolist(), 2, 4, "_linear"),
    ):
        image_side, side = 16 // image_cell, 16 // companion_cell
        sums, counts = [0.0, 0.0], [0.0, 0.0]
        for r in range(3):
            for n, cell in enumerate(cells):
                top, left = 16 * (cell // GRID[1]), 16 * (cell % GRID[1])
                weight = [
                    (1.0 if hidden else 0.3) * present
                    for hidden, present in zip(
                        masks.hidden[r, :, cell].tolist(), view.present[r].tolist(), strict=True
                    )
                ]
                pixels = view.image[r, top : top + 16, left : left + 16].float() / 255
                pixels = pixels.unflatten(0, (image_side, -1)).unflatten(2, (image_side, -1))
                target = (pixels.mean((1, 3)) - IMAGE_MEAN) / IMAGE_STD  # (side, side, 3)
                values = 3 * image_side**2
                error = predicted[r, n, :values] - target.permute(2, 0, 1).flatten()
                sums[0] += weight[0] * error.square().mean().item()
                counts[0] += weight[0]
                for i in range(side):
                    for j in range(side):
                        rows = slice(top + companion_cell * i, top + companion_cell * (i + 1))
                        columns = slice(left + companion_cell * j, left + companion_cell * (j + 1))
                        value, valid = view.companion[r, rows, columns].flatten(0, 1).unbind(1)
                        known = value[(valid > 0.5) & (value < 1)]
                        if len(known):
                            mean = ((80 * known).log1p() - DEPTH_LOG_MEAN).mean()
                            off = predicted[r, n, values + side * i + j] - mean
                            sums[1] += weight[1] * off.abs().item()
                            counts[1] += weight[1]
        for name, total, count in zip(("image", "companion"), sums, counts, strict=True):
            assert loss.terms[name + suffix].item() == pytest.approx(total / count, rel=1e-4), name
    assert loss.total.item() == pytest.approx(sum(x.item() for x in loss.terms.values()), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"keep": 0.0}, "keep is 0.0"), ({"token_visreg": -1.0}, "must not be negative")],
)
def test_mistakes_are_named(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        MaskedModeling(**options)


def test_an_encoder_that_adds_its_patches_is_refused() -> None:
    early = replace(CONFIG, variant="early")
    with pytest.raises(ValueError, match="take another variant"):
        MaskedModeling().resolve(early, early.input_spec)
