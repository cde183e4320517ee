"""Sparse convolution against dense ones, in value and gradient; spconv against it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from lemumo_core.model import products
from lemumo_core.model.sparse.convolution import SparseConv, convolve
from lemumo_core.model.sparse.kernel_map import (
    KernelMap,
    pack,
    strided_map,
    submanifold_map,
    unpack,
)
from lemumo_core.model.sparse.norm import RowNorm
from lemumo_core.model.sparse.spconv_backend import convolve_with_spconv

SIZE = 8
KINDS = ("submanifold", "strided", "transposed")


def voxels(share: float = 0.3, seed: int = 0) -> torch.Tensor:
    """Keys of random voxels in two samples of SIZE^3."""
    generator = torch.Generator().manual_seed(seed)
    taken = torch.rand(2, SIZE, SIZE, SIZE, generator=generator) < share
    return pack(taken.nonzero())


def kernel_map_of(kind: str, keys: torch.Tensor) -> tuple[KernelMap, torch.Tensor, torch.Tensor]:
    """A map, and the coordinates of its sources and targets."""
    if kind == "submanifold":
        return submanifold_map(keys), unpack(keys), unpack(keys)
    coarse, down = strided_map(keys)
    if kind == "strided":
        return down, unpack(keys), unpack(coarse)
    return down.transposed(), unpack(coarse), unpack(keys)


def dense(x, weight, kind, sources, targets):
    """The same by torch's dense convolutions over all cells."""
    side = SIZE // 2 if kind == "transposed" else SIZE
    grid = x.new_zeros(2, side, side, side, x.shape[1]).index_put(tuple(sources.T), x)
    grid = grid.permute(0, 4, 1, 2, 3)
    kernel = round(len(weight) ** (1 / 3))
    w = weight.unflatten(0, (kernel,) * 3)
    if kind == "transposed":
        full = functional.conv_transpose3d(grid, w.permute(3, 4, 0, 1, 2), stride=2)
    else:
        stride, padding = (2, 0) if kind == "strided" else (1, 1)
        full = functional.conv3d(grid, w.permute(4, 3, 0, 1, 2), stride=stride, padding=padding)
    return full.permute(0, 2, 3, 4, 1)[tuple(targets.T)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 1.0], ids=["sparse", "full"])
def test_it_is_the_dense_convolution(kind, share) -> None:
    kernel_map, sources, targets = kernel_map_of(kind, voxels(share))
    generator = torch.Generator().manual_seed(1)
    offsets = 27 if kind == "submanifold" else 8
    results = []
    for convolution in (
        lambda x, w: convolve(x, w, kernel_map),
        lambda x, w: dense(x, w, kind, sources, targets),
    ):
        generator.manual_seed(1)
        x, w, up = (
            torch.randn(shape, generator=generator, dtype=torch.float64)
            for shape in ((len(sources), 3), (offsets, 3, 5), (len(targets), 5))
        )
        x.requires_grad_(), w.requires_grad_()
        y = convolution(x, w)
        y.backward(up)
        results.append((y.detach(), x.grad, w.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("way", ["linear_pointwise", "pointwise_convolution", None])
def test_every_product_is_the_plain_one(way, monkeypatch) -> None:
    monkeypatch.setattr(products, "ROW_PRODUCT", way and getattr(products, way))
    torch.manual_seed(0)
    a, b, g = torch.randn(1500, 48), torch.randn(48, 32), torch.randn(1500, 32)
    assert products._rows_for_onednn(a, 32) == (1280 if way else 0)
    out = products.multiply_into(torch.empty(1500, 32), a, b)
    torch.testing.assert_close(out, (a.double() @ b.double()).float(), rtol=1e-5, atol=1e-4)
    for x, y in ((a, g), (g, a)):
        grown = products.weight_gradient_into(torch.empty(x.shape[1], y.shape[1]), x, y)
        expected = (x.double().T @ y.double()).float()
        torch.testing.assert_close(grown, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("operator", [True, False], ids=["private", "public"])
def test_which_product_is_used(operator, monkeypatch, capsys) -> None:
    """Where MKL is slow torch.compile's operator, or else the public convolution."""
    with capsys.disabled():
        used = getattr(products.ROW_PRODUCT, "__name__", "torch.mm")
        print(f"\nsparse convolution multiplies by {used}")
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN")
    if not operator:

        def lacks(*_):
            raise AttributeError("_linear_pointwise")

        monkeypatch.setattr(products, "linear_pointwise", lacks)
    monkeypatch.setattr(products, "is_mkl_slow", lambda: True)
    found = products.find_row_product()
    assert found is (products.linear_pointwise if operator else products.pointwise_convolution)
    monkeypatch.setattr(products, "is_mkl_slow", lambda: False)
    assert products.find_row_product() is None


@pytest.mark.parametrize("kind", KINDS)
def test_spconv_gives_the_same(kind) -> None:
    pytest.importorskip("spconv", reason="spconv is not installed: pip install '.[spconv]'")
    kernel_map, sources, targets = kernel_map_of(kind, voxels())
    torch.manual_seed(0)
    results = []
    for backend in (convolve, convolve_with_spconv):
        torch.manual_seed(0)
        conv = SparseConv(6, 4, 27 if kind == "submanifold" else 8, backend)
        x = torch.randn(len(sources), 6, requires_grad=True)
        y = conv(x, kernel_map)
        y.backward(torch.randn(len(targets), 4))
        results.append((y.detach(), x.grad, conv.weight.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_coordinates_beyond_a_key_are_refused() -> None:
    for bad in (-1, 65534):
        with pytest.raises(ValueError, match="0 to 65533"):
            pack(torch.tensor([[0, 0, bad, 0]]))


def test_rows_are_normalized_as_by_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = RowNorm(5), torch.nn.BatchNorm1d(5)
    for rows in (7, 30):
        x = torch.randn(rows, 5)
        torch.testing.assert_close(ours(x), theirs(x))
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    before = ours.running_mean.clone()
    for rows in (0, 1):  # no statistics: finite, and nothing is learnt of them
        assert ours(torch.ones(rows, 5)).isfinite().all()
    assert torch.equal(ours.running_mean, before)
