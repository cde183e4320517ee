"""DINO and iBOT: masks, the teacher, and what the student may see."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lemumo_core.data.views import MultiCropConfig
from lemumo_core.methods.dino.masking import MASKED_VIEWS, draw_block_masks
from lemumo_core.methods.dino.method import DINO, DinoMethod, DinoViews
from tests.helpers.random_views import CONFIG, random_view

GRID = CONFIG.grid


def built(**options) -> DinoMethod:
    torch.manual_seed(0)
    views = MultiCropConfig(local_views=0, global_size=(CONFIG.height, CONFIG.width))
    method = DINO(prototypes=16, hidden=32, views=views, **options).build(CONFIG, CONFIG.input_spec)
    assert isinstance(method, DinoMethod)
    return method


def masks_of(rows: int, grid: tuple[int, int] = GRID):
    draw = torch.Generator().manual_seed(0)
    return draw_block_masks(torch.arange(rows), rows, grid, (0.2, 0.4), draw)


def test_masks_are_rectangles_in_half_of_the_views() -> None:
    masks = masks_of(300, (10, 16))
    hidden = masks.hidden.view(300, 10, 16)
    counts = masks.hidden.sum(1)
    assert (counts > 0).float().mean().item() == pytest.approx(MASKED_VIEWS, abs=0.1)
    shares = counts[counts > 0] / 160
    assert shares.min() > 0.15 and shares.max() < 0.5
    assert torch.equal(counts, hidden.any(2).sum(1) * hidden.any(1).sum(1))  # rows x columns
    assert masks.weights.sum().item() == pytest.approx((counts > 0).sum().item())
    assert torch.equal(masks.hidden.flatten().nonzero().flatten(), masks.at)


def test_a_rank_draws_its_rows_of_the_whole() -> None:
    whole, rows = masks_of(6), torch.tensor([4, 5])
    share = draw_block_masks(rows, 6, GRID, (0.2, 0.4), torch.Generator().manual_seed(0))
    assert torch.equal(share.hidden, whole.hidden[4:])
    assert whole.hidden.any() and not whole.hidden.all()


def test_the_student_does_not_see_what_is_masked_and_the_teacher_does() -> None:
    method, view, masks = built().eval(), random_view(4), masks_of(4)
    at = masks.hidden.view(4, *GRID).repeat_interleave(16, 1).repeat_interleave(16, 2)[..., None]
    changed = replace(
        view,
        image=torch.where(at, 255 - view.image, view.image),
        companion=torch.where(at, 1 - view.companion, view.companion),
    )

    def tokens(view, masks) -> torch.Tensor:
        return method._encode(method.encoder, [view], masks, True)[0].tokens

    assert torch.equal(tokens(view, masks), tokens(changed, masks))
    assert not torch.allclose(tokens(view, None), tokens(changed, None))
    outcomes = [method(DinoViews((one,), masks), 0, dense=True) for one in (view, changed)]
    assert not torch.allclose(outcomes[0].tokens, outcomes[1].tokens)
    assert outcomes[0].loss.total != outcomes[1].loss.total
    assert torch.equal(outcomes[0].tokens, tokens(view, None))  # the teacher begins as the student


def test_the_teacher_is_the_moving_average_of_the_student() -> None:
    method = built(momentum=0.9)
    before = {name: value.clone() for name, value in method.teacher.named_parameters()}
    assert not any(p.requires_grad for p in method.teacher.parameters())
    with torch.no_grad():
        for parameter in (*method.encoder.parameters(), *method.head.parameters()):
            parameter.add_(1.0)
    method.after_step(0, 10)
    after = dict(method.teacher.named_parameters())
    for name, value in after.items():
        torch.testing.assert_close(value, before[name] + 0.1, rtol=0, atol=1e-5)
    method.after_step(5, 10)  # half-way the momentum is half-way from 0.9 to 1
    for name, value in after.items():
        torch.testing.assert_close(value, before[name] + 0.1 + 0.05 * 0.9, rtol=0, atol=1e-5)
    method.after_load({"encoder", "head", "teacher"})
    name = "encoder.norm.weight"
    assert not torch.equal(after[name], method.encoder.norm.weight)
    method.after_load({"encoder"})
    assert torch.equal(after[name], method.encoder.norm.weight)
    assert torch.equal(method.exported()[1][name], after[name])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_share": (0.5, 0.1)}, "mask_share is"),
        ({"momentum": 1.5}, "momentum lie in"),
        ({"teacher_temperature": 0.0}, "teacher_temperature at least"),
        ({"prototypes": 1}, "prototypes must be"),
        ({"views": MultiCropConfig(global_views=1, local_views=0)}, "two or more"),
    ],
)
def test_mistakes_are_named(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        DINO(**options)


def test_an_encoder_that_adds_its_patches_is_refused_with_masks() -> None:
    early = replace(CONFIG, variant="early")
    with pytest.raises(ValueError, match="take another variant"):
        DINO().resolve(early, early.input_spec)
    assert DINO(token_weight=0.0).resolve(early, early.input_spec).token_weight == 0
