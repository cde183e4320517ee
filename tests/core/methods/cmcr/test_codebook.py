"""The codebook's assignment, gradient and moving average."""

from __future__ import annotations

import pytest
import torch

from lemumo_core.methods.cmcr.codebook import PATIENCE, Codebook, CodebookConfig

REPO = CodebookConfig(3, decay=0.999, revive=False)


def features(seed: int, count: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=1)


def test_the_nearest_code_is_taken_and_the_gradient_passes() -> None:
    book = Codebook(REPO, 4)
    x = features(0).requires_grad_()
    nearest = torch.cdist(x.detach(), book.codes).argmin(1)
    assert torch.equal(book.assign(x), nearest)
    jacobian = torch.autograd.functional.jacobian(book.quantize, x.detach()).reshape(20, 20)
    assert torch.equal(jacobian, torch.eye(20))
    torch.testing.assert_close(book.quantize(x).detach(), book.codes[nearest])


def test_an_update_is_two_steps_of_the_average_with_inert_counts() -> None:
    """By hand, with the counts that the reference keeps and divides by."""
    torch.manual_seed(0)
    book = Codebook(REPO, 4)
    before = book.codes.clone()
    points, pixels = features(1), features(2)
    valid = torch.tensor([True, True, False, True, True])
    book.observe(points, pixels, valid)
    assert torch.equal(book.codes, before)
    sums, counts = before.clone(), torch.ones(3)
    for assigned in (points, pixels):
        new_sums, new_counts = 0.999 * sums, 0.999 * counts
        for i in valid.nonzero()[:, 0]:
            k = (before @ assigned[i]).argmax()
            new_sums[k] += 0.0005 * (points[i] + pixels[i])
            new_counts[k] += 0.001
        sums, counts = new_sums, new_counts
    smoothed = (counts + 1e-5) / (counts.sum() + 3e-5) * counts.sum()
    expected = torch.nn.functional.normalize(sums / smoothed[:, None], dim=1)
    book.update()
    torch.testing.assert_close(book.codes, expected, rtol=0, atol=2e-7)
    torch.testing.assert_close(book.codes.norm(dim=1), torch.ones(3))
    again = book.codes.clone()
    book.update()  # nothing was observed since
    assert torch.equal(book.codes, again)


def test_unused_codes_take_the_places_of_pairs() -> None:
    torch.manual_seed(0)
    book = Codebook(CodebookConfig(4, decay=0.999), 4)
    points, pixels = features(1, 8), features(2, 8)
    valid = torch.arange(8) % 2 == 0
    book.observe(points, pixels, valid)
    book.update()
    # At first all are unused, and there are as many pairs.
    pairs = torch.nn.functional.normalize(points + pixels, dim=1)[valid]
    torch.testing.assert_close(book.codes, pairs, rtol=0, atol=2e-3)  # and are moved a little
    alone = pairs[0]
    for step in range(PATIENCE + 1):
        book.observe(alone[None], alone[None], torch.ones(1, dtype=torch.bool))
        book.update()
        there = (book.codes @ alone > 0.999).sum()
        assert there == (4 if step == PATIENCE else 1)  # there is one pair for all


def test_bad_codebooks_are_named() -> None:
    for bad in ({"count": 1}, {"decay": 1.0}):
        with pytest.raises(ValueError, match="codebook: count must be at least 2 and decay"):
            CodebookConfig(**bad)
