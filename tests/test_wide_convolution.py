# SPDX-License-Identifier: Apache-2.0
"""The convolution by transforms equals torch's direct one in float64, with every gradient, and beats float32's."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pluri.ssl.wide_convolution import convolve


def direct(x: Tensor, lengths: list[int], weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    K = weight.shape[2]
    rows = [F.pad(row, (0, 0, K // 2, (K - 1) // 2)).T[None] for row in x.split(lengths)]
    return torch.cat([F.conv1d(row, weight, bias, groups=groups)[0].T for row in rows])


def off(got: Tensor, wanted: Tensor) -> float:
    return ((got.double() - wanted).abs().max() / wanted.abs().max()).item()


@pytest.mark.parametrize(
    ("lengths", "width", "groups", "kernel"),
    [
        ([700, 129, 1, 1470], 768, 16, 128),
        ([1], 64, 4, 128),
        ([129], 64, 4, 128),
        ([130, 128, 258], 64, 4, 128),
        ([572, 33], 96, 3, 95),
        ([22, 3], 32, 2, 19),
    ],
)
def test_it_is_the_direct_convolution_in_float64_with_every_gradient(lengths, width, groups, kernel):
    generator = torch.Generator().manual_seed(sum(lengths))
    x = torch.randn(sum(lengths), width, generator=generator).double().requires_grad_()
    weight = torch.randn(width, width // groups, kernel, generator=generator).double().requires_grad_()
    bias = torch.randn(width, generator=generator).double().requires_grad_()
    wanted = direct(x, lengths, weight, bias, groups)
    direction = torch.randn(wanted.shape, generator=generator).double()
    slopes = torch.autograd.grad(wanted, (x, weight, bias), direction)

    ours = x.detach().float(), weight.detach().float(), bias.detach().float()
    for t in ours:
        t.requires_grad_()
    got = convolve(ours[0], lengths, *ours[1:], groups)
    got_slopes = torch.autograd.grad(got, ours, direction.float())
    assert got.shape == wanted.shape and got.dtype == torch.float32
    assert max(off(got, wanted), *map(off, got_slopes, slopes)) < 1e-6
    with torch.no_grad():
        assert sum(lengths) == 1 or off(got, wanted) < off(direct(ours[0], lengths, *ours[1:], groups), wanted)


@pytest.mark.parametrize("loud", [1e6, float("inf"), float("nan")])
def test_no_row_reaches_another(loud):
    x, weight, bias = torch.randn(500, 32), torch.randn(32, 8, 128), torch.randn(32)
    alone = convolve(x[100:230], [130], weight, bias, 4)
    x[:100] *= loud
    x[230:] *= loud
    assert torch.equal(convolve(x, [100, 130, 270], weight, bias, 4)[100:230], alone)


def test_under_autocast_it_stays_in_float32():
    x, weight, bias = torch.randn(300, 32), torch.randn(32, 8, 128), torch.randn(32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = convolve(x.bfloat16(), [300], weight, bias, 4)
    assert got.dtype == torch.float32
    assert off(got, direct(x.bfloat16().double(), [300], weight.double(), bias.double(), 4)) < 1e-6
