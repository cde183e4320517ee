"""Linear layers through oneDNN against float64, and when they are torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from lemumo_core.model import products
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.linear import Linear, linear
from lemumo_core.model.transformer import transformer_blocks

ROWS, WIDTH = 210, 128
"""192 rows go through oneDNN, 18 through torch's own product."""


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """Rows of every product through oneDNN, which any processor uses here."""
    found: list[int] = []
    operator = products.linear_pointwise

    def counted(a, b, bias=None):
        found.append(len(a))
        return operator(a, b, bias)

    try:
        operator(torch.ones(1, 1), torch.ones(1, 1))
    except (AttributeError, RuntimeError, NotImplementedError):
        pytest.skip("this PyTorch has no mkldnn::_linear_pointwise")
    monkeypatch.setattr(products, "linear_pointwise", counted)
    monkeypatch.setattr(products, "ROW_PRODUCT", counted)
    return found


def layer_and_input(dtype=torch.float32, device="cpu", bias=True, length=ROWS // 2):
    """A layer, and tokens that are views, some of whose samples are left out."""
    torch.manual_seed(0)
    layer = Linear(WIDTH, 3 * WIDTH, bias=bias, dtype=dtype, device=device)
    return layer, torch.randn(4, length, WIDTH, dtype=dtype, device=device)[::2].requires_grad_()


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("length", [105, 96], ids=["cut", "whole"])
def test_value_and_gradients_are_those_of_float64(length, bias, calls) -> None:
    layer, x = layer_and_input(bias=bias, length=length)
    exact, x64 = layer_and_input(torch.float64, bias=bias, length=length)
    exact.load_state_dict(layer.state_dict())
    x64.data.copy_(x.data)
    up = torch.randn(2, length, 3 * WIDTH)
    y = layer(x)
    y.backward(up)
    assert calls == [192, 192, WIDTH]  # value, gradients of the input and of the weight
    y64 = functional.linear(x64, exact.weight, exact.bias)
    y64.backward(up.double())
    pairs = [(y, y64), (x.grad, x64.grad), (layer.weight.grad, exact.weight.grad)]
    if bias:
        pairs.append((layer.bias.grad, exact.bias.grad))
    for ours, theirs in pairs:
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-4)


def test_without_gradients_no_row_is_cut_off(calls) -> None:
    layer, x = layer_and_input()
    with torch.no_grad():
        y = layer(x)
    assert calls == [ROWS]
    torch.testing.assert_close(y, functional.linear(x, layer.weight, layer.bias))


def test_one_row_is_taken_and_another_width_refused_as_by_torch(calls) -> None:
    layer = Linear(1536, 1536)
    row = torch.randn(1536)
    for x in (row, row[None]):
        torch.testing.assert_close(layer(x), functional.linear(x, layer.weight, layer.bias))
    assert calls == [1, 1]
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        layer(torch.randn(2000, 1535))


def test_only_the_gradients_that_are_asked_for_are_computed(calls) -> None:
    layer, x = layer_and_input()
    layer.weight.requires_grad_(False)
    layer(x).sum().backward()  # whose gradient is one number, expanded
    assert calls == [192, 192]
    assert layer.weight.grad is None
    torch.testing.assert_close(layer.bias.grad, torch.full((3 * WIDTH,), float(ROWS)))
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand_as(x))


def test_a_second_derivative_is_refused(calls) -> None:
    layer, x = layer_and_input()
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_block_uses_it_and_keeps_its_names_of_weights(calls) -> None:
    (block, *_) = transformer_blocks(ModelConfig(size="tiny"))
    with torch.no_grad():
        block(torch.randn(1, ROWS, 192))
    assert calls == [ROWS] * 4  # qkv, proj, fc1, fc2
    layers = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    names = {f"{layer}.{name}" for layer in layers for name in ("weight", "bias")}
    assert {name for name in block.state_dict() if not name.startswith("norm")} == names


def test_everything_else_is_torchs_own(calls) -> None:
    layer, x = layer_and_input()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    for dtype, device in ((torch.float64, "cpu"), (torch.bfloat16, "cpu"), (torch.float32, "meta")):
        other, inputs = layer_and_input(dtype, device)
        other(inputs).sum().backward()
    small = torch.randn(4, WIDTH)
    assert torch.equal(layer(small), functional.linear(small, layer.weight, layer.bias))
    assert calls == []


def test_graphs_are_torchs_own(calls) -> None:
    layer, x = layer_and_input()
    exported = torch.export.export(layer, (x.detach(),))
    compiled = torch.compile(layer, backend="eager", fullgraph=True)(x)
    traced = torch.jit.trace(layer, x.detach(), check_trace=False)
    assert calls == []
    assert "mkldnn" not in f"{exported.graph}{traced.graph}"
    torch.testing.assert_close(compiled, functional.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("way", ["pointwise_convolution", None])
def test_without_the_operator_it_is_torchs_own(way, calls, monkeypatch) -> None:
    monkeypatch.setattr(products, "ROW_PRODUCT", way and getattr(products, way))
    layer, x = layer_and_input()
    expected = functional.linear(x, layer.weight, layer.bias)
    assert torch.equal(linear(x, layer.weight, layer.bias), expected)
    assert calls == []


CPUINFO = "processor\t: 0\nvendor_id\t: {}\ncpu family\t: {}\nmodel\t\t: 2\n"


@pytest.mark.parametrize(
    ("vendor", "family", "capability", "slow"),
    [
        ("AuthenticAMD", 26, "AVX512", True),
        ("AuthenticAMD", 26, "AVX512_VNNI", True),
        ("AuthenticAMD", 26, "AVX2", False),
        ("AuthenticAMD", 25, "AVX512", False),  # Zen 4: units of 256 bits
        ("GenuineIntel", 26, "AVX512", False),
    ],
)
def test_the_processor_decides(vendor, family, capability, slow, tmp_path, monkeypatch) -> None:
    if not torch.backends.mkl.is_available():
        pytest.skip("this PyTorch has no MKL")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    cpuinfo = tmp_path / "cpuinfo"
    assert not products.is_mkl_slow(cpuinfo)  # not Linux
    cpuinfo.write_text(CPUINFO.format(vendor, family))
    assert products.is_mkl_slow(cpuinfo) is slow


def test_a_machine_that_should_use_it_does() -> None:
    """On such a machine; the others say why not."""
    if not products.is_mkl_slow():
        pytest.skip("MKL is fast on this processor")
    layer, x = layer_and_input()
    with torch.profiler.profile() as profile:
        layer(x).sum().backward()
    used = [event.count for event in profile.key_averages() if "_linear_pointwise" in event.key]
    assert used == [3]
