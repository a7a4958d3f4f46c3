# SPDX-License-Identifier: Apache-2.0
"""The linear layer by oneDNN equals torch's in float64, with every gradient, and steps aside where it is of no use."""

import importlib

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from pluri.ssl import linear as module
from pluri.ssl.linear import Linear, linear, linear_gelu

SHAPES = [(512, 192, 192), (2001, 768, 3072), (1499, 3072, 768), (8320, 192, 576), (513, 200, 333)]


def drawn(rows: int, before: int, after: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, before, generator=generator)
    weight = torch.randn(after, before, generator=generator) * before**-0.5
    return x, weight, torch.randn(after, generator=generator)


def off(got: Tensor, wanted: Tensor) -> float:
    return ((got.double() - wanted).abs().max() / wanted.abs().max()).item()


@pytest.fixture
def products(monkeypatch):
    """How often oneDNN was called."""
    calls = []

    def counted(*args, real=module._product):
        calls.append(args)
        return real(*args)

    monkeypatch.setattr(module, "_product", counted)
    return calls


needs_onednn = pytest.mark.skipif(not module._AVAILABLE, reason="this torch has no MKL or no oneDNN")


@needs_onednn
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("biased", [True, False])
def test_it_is_the_layer_in_float64_with_every_gradient(shape, biased, products):
    x, weight, bias = drawn(*shape)
    given = (x, weight, bias) if biased else (x, weight)
    exact = [t.double().requires_grad_() for t in given]
    wanted = F.linear(*exact)
    direction = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1))
    slopes = torch.autograd.grad(wanted, exact, direction.double())

    ours = [t.requires_grad_() for t in given]
    got = linear(*ours)
    got_slopes = torch.autograd.grad(got, ours, direction)
    assert off(got, wanted) < 2e-6
    assert all(off(a, b) < 2e-6 and a.shape == b.shape for a, b in zip(got_slopes, slopes, strict=True))
    assert len(products) == 2  # forward, and the gradient of the input
    with torch.no_grad():
        assert torch.equal(linear(*ours), got)


@needs_onednn
def test_only_the_gradients_that_are_asked_for_are_made(products):
    x, weight, bias = drawn(*SHAPES[0])
    linear(x, weight.requires_grad_(), bias).sum().backward()
    assert len(products) == 1 and weight.grad is not None and bias.grad is None
    linear(x.requires_grad_(), weight.detach(), bias).sum().backward()
    assert x.grad is not None and off(x.grad, weight.double().sum(0).expand(x.shape)) < 1e-5


@needs_onednn
@pytest.mark.parametrize("turned", ["rows", "expanded", "batched"])
def test_any_layout_of_input_and_gradient_will_do(turned):
    x, weight, bias = drawn(*SHAPES[0])
    if turned == "rows":
        x = torch.randn(x.shape[1], len(x)).T
    if turned == "batched":
        x = x.view(4, 128, -1)
    x.requires_grad_()
    got = linear(x, weight, bias)
    direction = torch.randn(()).expand(got.shape) if turned == "expanded" else torch.randn(got.shape[::-1]).mT
    if turned == "batched":
        direction = torch.randn(got.shape)
    (slope,) = torch.autograd.grad(got, x, direction)
    assert off(got, F.linear(x.double(), weight.double(), bias.double())) < 2e-6
    assert off(slope, direction.double() @ weight.double()) < 2e-6


@needs_onednn
def test_a_gradient_of_a_gradient_is_torchs():
    x, weight, bias = (t.requires_grad_() for t in drawn(*SHAPES[0]))
    penalties = []
    for layer in (linear, F.linear):
        (slope,) = torch.autograd.grad(layer(x, weight, bias).square().sum(), x, create_graph=True)
        penalties.append(torch.autograd.grad(slope.square().sum(), (x, weight)))
    assert all(off(ours, theirs.double()) < 1e-5 for ours, theirs in zip(*penalties, strict=True))


@needs_onednn
def test_gelu_is_the_exact_one_and_the_same_with_gradients_and_without(products):
    x, weight, bias = drawn(*SHAPES[1])
    x[0] *= 20.0  # far tails
    wanted = F.gelu(F.linear(x.double(), weight.double(), bias.double()))
    with torch.no_grad():
        alone = linear_gelu(x, weight, bias)
    assert products[-1][-1] == "gelu"
    assert off(alone, wanted) < 2e-6 and off(linear_gelu(x, weight.requires_grad_(), bias), wanted) < 2e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_gelu_in_other_types_is_torchs_own(dtype, products):
    x, weight, bias = drawn(*SHAPES[0])
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        if dtype != torch.bfloat16:
            x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
        got = linear_gelu(x, weight, bias)
        assert not products and torch.equal(got, F.gelu(F.linear(x, weight, bias))) and got.dtype == dtype


@needs_onednn
@pytest.mark.parametrize("turned", ["expanded", "part"])
def test_a_bias_of_any_layout_is_read_as_it_is(turned, products):
    x, weight, bias = drawn(*SHAPES[0])
    bias = torch.ones(1).expand(len(bias)) if turned == "expanded" else torch.randn(len(bias), 2)[:, 0]
    wanted = F.linear(x.double(), weight.double(), bias.double())
    assert off(linear(x, weight, bias), wanted) < 2e-6 and off(linear_gelu(x, weight, bias), F.gelu(wanted)) < 2e-6
    layer = Linear(192, len(bias))
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias, requires_grad=False)
    assert off(layer(x), wanted) < 2e-6 and not products


@pytest.mark.parametrize("wrong", ["x", "bias", "bias's type"])
def test_what_does_not_fit_is_refused_as_by_torch(wrong):
    x, weight, bias = drawn(*SHAPES[0])
    if wrong == "x":
        x = x[:, :191].contiguous()
    if wrong == "bias":
        bias = bias[:191].contiguous()
    if wrong == "bias's type":
        bias = bias.bfloat16()
    with pytest.raises(RuntimeError) as theirs:
        F.linear(x, weight, bias)
    with pytest.raises(RuntimeError) as ours:
        linear(x, weight, bias)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")  # the newest torch calls them deprecated
def test_transforms_tracers_and_a_second_import_find_torchs_own_layer(products):
    x, weight, bias = drawn(*SHAPES[0])
    slope = torch.func.grad(lambda w: linear(x, w, bias).sum())(weight)
    assert off(slope, x.double().sum(0).expand(weight.shape)) < 1e-5
    rows = torch.func.vmap(lambda some: linear(some, weight, bias))(x.expand(3, *x.shape))
    assert off(rows[2], F.linear(x.double(), weight.double(), bias.double())) < 2e-6
    layer = Linear(192, len(weight))
    traced = torch.jit.trace(layer, x)
    assert isinstance(traced, torch.jit.ScriptModule)
    assert torch.equal(traced(x), F.linear(x, layer.weight, layer.bias))
    products.clear()
    torch._C._set_mkldnn_enabled(False)  # as torch.backends.mkldnn.flags does, which warns of GPUs
    try:
        linear(x, weight, bias)
    finally:
        torch._C._set_mkldnn_enabled(True)
    assert not products
    importlib.reload(module)


@pytest.mark.parametrize("case", ["few rows", "narrow", "double", "bf16", "part of a weight", "no rows", "meta"])
def test_elsewhere_it_is_torchs_own_layer(case, products):
    x, weight, bias = drawn(*SHAPES[0])
    if case == "few rows":
        x = x[:100]
    if case == "no rows":
        x = x[:0]
    if case == "narrow":
        weight, bias = weight[:100], bias[:100]
    if case == "part of a weight":  # oneDNN's reference would take its place, a thousand times as slow
        weight = torch.randn(192, 400)[:, :192]
    if case == "double":
        x, weight, bias = x.double(), weight.double(), bias.double()
    if case == "meta":
        x, weight, bias = x.to("meta"), weight.to("meta"), bias.to("meta")
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=case == "bf16"):
        weight.requires_grad_()
        got, wanted = linear(x, weight, bias), F.linear(x, weight, bias)
    assert not products and got.dtype == wanted.dtype and got.device == wanted.device
    assert case == "meta" or torch.equal(got, wanted)


@needs_onednn
def test_torch_counts_its_operations():
    x, weight, bias = (t.requires_grad_() for t in drawn(*SHAPES[0]))
    counts = []
    for layer in (linear, F.linear):
        with FlopCounterMode(display=False) as counter:
            layer(x, weight, bias).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 3 * 2 * 512 * 192 * 192


@needs_onednn
def test_the_module_is_nn_linear_with_its_names_and_its_numbers():
    torch.manual_seed(0)
    ours = Linear(192, 384)
    torch.manual_seed(0)
    theirs = nn.Linear(192, 384)
    assert [*ours.state_dict()] == [*theirs.state_dict()] and isinstance(ours, nn.Linear)
    x = torch.randn(600, 192)
    assert off(ours(x), theirs(x).double()) < 2e-6
