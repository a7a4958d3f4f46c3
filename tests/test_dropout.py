# SPDX-License-Identifier: Apache-2.0
"""Dropout leaves out the share that it says, independently, without bias, and its gradient follows its choice."""

import pytest
import torch

from pluri.ssl.dropout import Dropout, dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.003])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_share_and_the_scale_are_right_whichever_of_four_elements_shares_a_number(rate, dtype):
    torch.manual_seed(0)
    x = torch.ones(1000, 803, dtype=dtype)
    out = dropout(x, rate)
    kept = out != 0
    assert torch.equal(out[kept], torch.full_like(out[kept], 1 / (1 - round(rate * 65536) / 65536)))
    for lane in range(4):
        share = kept.flatten()[lane::4].float().mean().item()
        assert share == pytest.approx(1 - rate, abs=4 * (rate * (1 - rate) / 200_000) ** 0.5)
    both = (kept[:, 1:] & kept[:, :-1]).float().mean().item()  # neighbours know nothing of one another
    assert both == pytest.approx((1 - rate) ** 2, abs=0.003)


def test_the_gradient_is_the_choice_and_no_element_is_forgotten():
    for size in (1, 2, 3, 4, 5, 1001):
        x = torch.randn(size, requires_grad=True)
        torch.manual_seed(1)
        out = dropout(x, 0.4)
        (slope,) = torch.autograd.grad(out.sum(), x)
        assert torch.allclose(out, x * slope) and set(slope.tolist()) <= {0.0, slope.max().item()}
        torch.manual_seed(1)
        assert torch.equal(dropout(x, 0.4), out)


def test_it_is_the_identity_in_eval_mode_and_at_zero_and_nothing_at_one():
    x = torch.randn(50)
    assert Dropout(0.5).eval()(x) is x and Dropout(0.0)(x) is x
    assert Dropout(1.0)(x).abs().max() == 0
    with pytest.raises(ValueError, match="lies in"):
        Dropout(1.5)


def test_bf16_keeps_the_mean_where_torchs_own_scale_is_rounded():
    torch.manual_seed(0)
    x = torch.rand(2_000_000).bfloat16()
    ours = dropout(x, 0.1).float().mean() / x.float().mean()
    assert ours.item() == pytest.approx(1.0, abs=6e-4)
