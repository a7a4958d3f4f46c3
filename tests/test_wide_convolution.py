# SPDX-License-Identifier: Apache-2.0
"""The convolution by transforms equals torch's direct one in float64, with every gradient, and beats float32's."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pluri.ssl.wide_convolution import convolve


def direct(x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    return F.conv1d(x.T[None], weight, bias, groups=groups)[0].T


def off(got: Tensor, wanted: Tensor) -> float:
    return ((got.double() - wanted).abs().max() / wanted.abs().max()).item()


@pytest.mark.parametrize(
    ("length", "width", "groups", "kernel"),
    [(2300, 768, 16, 128), (128, 64, 4, 128), (129, 64, 4, 128), (257, 64, 4, 128), (700, 96, 3, 95), (40, 32, 2, 19)],
)
def test_it_is_the_direct_convolution_in_float64_with_every_gradient(length, width, groups, kernel):
    generator = torch.Generator().manual_seed(length)
    x = torch.randn(length, width, generator=generator).double().requires_grad_()
    weight = torch.randn(width, width // groups, kernel, generator=generator).double().requires_grad_()
    bias = torch.randn(width, generator=generator).double().requires_grad_()
    wanted = direct(x, weight, bias, groups)
    direction = torch.randn(wanted.shape, generator=generator).double()
    slopes = torch.autograd.grad(wanted, (x, weight, bias), direction)

    ours = x.detach().float(), weight.detach().float(), bias.detach().float()
    for t in ours:
        t.requires_grad_()
    got = convolve(*ours, groups)
    got_slopes = torch.autograd.grad(got, ours, direction.float())
    assert got.shape == wanted.shape and got.dtype == torch.float32
    assert max(off(got, wanted), *map(off, got_slopes, slopes)) < 1e-6
    with torch.no_grad():
        assert off(got, wanted) < off(direct(*ours, groups), wanted)


def test_under_autocast_it_stays_in_float32():
    x, weight, bias = torch.randn(300, 32), torch.randn(32, 8, 128), torch.randn(32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = convolve(x.bfloat16(), weight, bias, 4)
    assert got.dtype == torch.float32
    assert off(got, direct(x.bfloat16().double(), weight.double(), bias.double(), 4)) < 1e-6
