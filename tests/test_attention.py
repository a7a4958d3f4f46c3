# SPDX-License-Identifier: Apache-2.0
"""Every back-end of attention gives what a naive float64 loop over rows and heads gives."""

import functools

import pytest
import torch

from pluri.ssl import attention, cpu_attention
from pluri.ssl.packing import Rows

LENGTHS = {
    "uneven": [7, 1, 33, 12, 12, 30],
    "even": [9, 9, 9],
    "alike": [20, 19, 20, 18],
    "single": [5],
    "ones": [1, 1, 2],
}


def make(name, heads=3, width=8, device="cpu", dtype=torch.float32):
    lengths = LENGTHS[name]
    generator = torch.Generator().manual_seed(0)
    rows = Rows(lengths, max(lengths) + (0 if name == "even" else 3), torch.device(device))
    q, k, v = (torch.randn(sum(lengths), heads, width, generator=generator).to(device, dtype) for _ in range(3))
    return rows, q, k, v


def naive(rows, q, k, v, causal):
    out = torch.zeros(q.shape, dtype=torch.float64)
    q, k, v = (x.detach().cpu().double() for x in (q, k, v))
    for begin, end in zip(rows.starts[:-1], rows.starts[1:], strict=True):
        for head in range(q.shape[1]):
            for i in range(begin, end):
                last = i + 1 if causal else end
                scores = torch.stack([q[i, head] @ k[j, head] for j in range(begin, last)]) / q.shape[2] ** 0.5
                out[i, head] = scores.softmax(0) @ v[begin:last, head]
    return out


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.parametrize("allowance", [0, 2000, 2_000_000])  # many groups, some, one
def test_groups_equal_the_loop(allowance, name, causal, monkeypatch):
    monkeypatch.setattr(attention, "_PADDING", allowance)
    rows, q, k, v = make(name)
    out = attention.grouped(q, k, v, rows, causal)
    assert out.shape == q.shape
    assert (out.double() - naive(rows, q, k, v, causal)).abs().max() < 2e-6


def test_a_gpu_is_given_fewer_and_larger_groups():
    lengths = [128, 90, 60, 40, 33, 12]
    here, there = (
        attention._groups(Rows(lengths, 128, torch.device(device)))[0] for device in ("cpu", "meta")
    )  # any device that is no CPU
    assert len(here) == 4 and [one for one, _ in there] == [lengths]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", LENGTHS)
def test_the_explicit_path_equals_the_loop_and_gives_weights(name, causal):
    rows, q, k, v = make(name)
    out, weights = attention.explicit(q, k, v, rows, causal)
    assert (out.double() - naive(rows, q, k, v, causal)).abs().max() < 2e-6
    for i, length in enumerate(rows.lengths):
        assert torch.allclose(weights[i, :, :length].sum(-1), torch.ones(3, length))
        assert not weights[i, :, length:].any() and not weights[i, :, :, length:].any()
    if causal:
        assert not weights.triu(1).any()


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_of_groups_equal_those_of_the_explicit_path(causal):
    rows, *qkv = make("uneven")
    grads = []
    for run in (
        lambda q, k, v: attention.grouped(q, k, v, rows, causal),
        lambda q, k, v: attention.explicit(q, k, v, rows, causal)[0],
    ):
        inputs = [x.clone().requires_grad_() for x in qkv]
        (run(*inputs) * torch.arange(8.0)).sum().backward()
        grads.append([x.grad for x in inputs])
    for mine, its in zip(*grads, strict=True):
        assert torch.allclose(mine, its, atol=2e-5)


def test_dropout_drops_weights_and_keeps_the_mean():
    rows, q, k, _ = make("uneven")
    ones = torch.ones_like(q)
    torch.manual_seed(0)
    out = torch.stack([attention.grouped(q, k, ones, rows, False, rate=0.3) for _ in range(400)])
    assert out.std(0).max() > 0.05
    assert (out.mean(0) - 1.0).abs().max() < 0.2


@pytest.mark.parametrize("piece", [1, 2100, 1 << 20])
@pytest.mark.parametrize("seen", ["all", "padded", "causal"])
def test_attention_with_dropout_equals_its_own_weights_written_out_with_every_gradient(piece, seen, monkeypatch):
    monkeypatch.setattr(cpu_attention, "_PIECE", piece)
    monkeypatch.setattr(cpu_attention, "_KEPT", piece // 8)
    G, H, L = 3, 2, 11
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(G, H, L, L, generator=generator).double().requires_grad_() for _ in range(3))
    if seen == "padded":
        mask = (torch.arange(L) < torch.tensor([11, 7, 4])[:, None])[:, None, None]
    else:
        mask = torch.ones(1, 1, L, L, dtype=torch.bool).tril() if seen == "causal" else None
    torch.manual_seed(3)
    one = torch.eye(L, dtype=torch.float64).expand(G, H, L, L)
    kept = cpu_attention.attend(q, k, one, mask, 0.3) != 0  # the weights themselves
    torch.manual_seed(3)
    out = cpu_attention.attend(q, k, v, mask, 0.3)
    scores = q @ k.transpose(-1, -2) / L**0.5
    weights = (scores if mask is None else scores.masked_fill(~mask, float("-inf"))).softmax(-1)
    wanted = (weights * kept / (1 - round(0.3 * 65536) / 65536)) @ v
    assert (out - wanted).abs().max() < 1e-12
    direction = torch.randn(out.shape, generator=generator).double()
    mine = torch.autograd.grad((out * direction).sum(), (q, k, v))
    its = torch.autograd.grad((wanted * direction).sum(), (q, k, v))
    for a, b in zip(mine, its, strict=True):
        assert (a - b).abs().max() < 1e-12
    left_out = 1 - kept[weights > 0].double().mean().item()
    assert 0.2 < left_out < 0.4


def test_written_out_in_bf16_attention_errs_as_mixed_precision_does():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (2 * torch.randn(4, 3, 65, 64, generator=generator) for _ in range(3))
    truth = torch.nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double())
    q, k, v = q.bfloat16(), k.bfloat16(), v.bfloat16()
    kernel = torch.nn.functional.scaled_dot_product_attention(q, k, v)  # keeps scores in float32
    ours = attention._attention(q, k, v, None, 0.0, False)
    mine, its = ((x.double() - truth).square().mean().sqrt().item() for x in (ours, kernel))
    assert mine < 2 * its < 0.02


def test_the_choice_of_back_end_depends_on_the_device_alone_on_a_cpu():
    rows, *_ = make("uneven")
    for dtype in (torch.float32, torch.bfloat16):
        chosen = attention.fused(rows, False, 0.0, dtype)
        assert isinstance(chosen, functools.partial) and chosen.func is attention.grouped


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", LENGTHS)
def test_the_gpus_choice_equals_the_loop(name, causal, dtype):
    rows, q, k, v = make(name, width=64, device="cuda", dtype=dtype)
    out = attention.fused(rows, causal, 0.0, dtype)(q, k, v)
    tolerance = 2e-5 if dtype == torch.float32 else 3e-2
    assert (out.cpu().double() - naive(rows, q, k, v, causal)).abs().max() < tolerance
