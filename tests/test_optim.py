# SPDX-License-Identifier: Apache-2.0
"""Schedules at their corners, LARS against a slow loop, parameter groups, and steps that are not finite."""

import math

import pytest
import torch
from torch import nn

from pluri.ssl.optim import OptimizerConfig, ScheduleConfig, clipped_step


def factors(points, **settings):
    schedule = ScheduleConfig(**settings)
    return [schedule.factor(point) for point in points]


def test_schedules_have_their_corners():
    assert factors([0, 0.05, 0.1, 0.55, 1.0], kind="linear", warmup=0.1) == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert factors([0.1, 0.55, 1.0], kind="linear", warmup=0.1, end=0.2) == pytest.approx([1, 0.6, 0.2])
    assert factors([0.0, 0.5], kind="linear", warmup=0.0) == pytest.approx([1, 0.5])
    assert factors([0.1, 0.55, 1.0], kind="cosine", warmup=0.1, end=0.2) == pytest.approx([1, 0.6, 0.2])
    # fairseq's tri-stage: from 1 % up, level, then exponentially to 5 %.
    tri = factors([0, 0.05, 0.1, 0.4, 0.5, 0.75, 1.0], kind="tri_stage", warmup=0.1, decay=0.5, end=0.05)
    assert tri == pytest.approx([0.01, 0.505, 1, 1, 1, math.sqrt(0.05), 0.05])
    trapezoid = factors([0.1, 0.5, 0.9, 0.95, 1.0], kind="trapezoid", warmup=0.1, decay=0.1)
    assert trapezoid == pytest.approx([1, 1, 1, 1 - math.sqrt(0.5), 0], abs=1e-6)
    trapezoid = factors([0.95, 1.0], kind="trapezoid", warmup=0.1, decay=0.1, end=0.2)
    assert trapezoid == pytest.approx([1 - 0.8 * math.sqrt(0.5), 0.2], abs=1e-6)
    assert factors([0.1, 1.0], kind="constant", warmup=0.1) == pytest.approx([1, 1])
    with pytest.raises(ValueError, match="schedule.end"):
        ScheduleConfig(kind="tri_stage")


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3))


def test_biases_and_norms_are_never_decayed():
    groups = OptimizerConfig(weight_decay=0.3).build(model()).param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert [len(group["params"]) for group in groups] == [2, 4]
    assert all(p.ndim > 1 for p in groups[0]["params"]) and all(p.ndim <= 1 for p in groups[1]["params"])


@pytest.mark.parametrize("kind", ["adamw", "lars"])
def test_frozen_parameters_are_left_out(kind):
    net = model()
    net[0].requires_grad_(False)
    groups = OptimizerConfig(kind=kind).build(net).param_groups
    assert [len(group["params"]) for group in groups] == [1, 3]


def test_adamw_is_torchs_with_the_settings_in_their_places():
    net, plain = model(), model()
    ours = OptimizerConfig(lr=0.1, betas=(0.5, 0.7), eps=0.3, weight_decay=0.2).build(net)
    matrices, others = ([p for p in plain.parameters() if (p.ndim > 1) == wide] for wide in (True, False))
    theirs = [
        torch.optim.AdamW(matrices, lr=0.1, betas=(0.5, 0.7), eps=0.3, weight_decay=0.2),
        torch.optim.AdamW(others, lr=0.1, betas=(0.5, 0.7), eps=0.3, weight_decay=0.0),
    ]
    torch.manual_seed(1)
    for _ in range(3):
        for mine, its in zip(net.parameters(), plain.parameters(), strict=True):
            mine.grad = torch.randn_like(mine)
            its.grad = mine.grad.clone()
        for optimizer in (ours, *theirs):
            optimizer.step()
    for mine, its in zip(net.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(mine, its, atol=1e-6)


def test_lars_moves_a_matrix_of_zeros_by_its_gradient():
    net = nn.Linear(3, 2, bias=False)
    nn.init.zeros_(net.weight)
    net.weight.grad = torch.ones(2, 3)
    OptimizerConfig(kind="lars", lr=0.5).build(net).step()  # a share of its norm would leave it at zero for ever
    assert torch.allclose(net.weight, torch.tensor(-0.5))


def test_lars_equals_a_loop_from_the_paper():
    net = model()
    optimizer = OptimizerConfig(kind="lars", lr=0.2, weight_decay=0.1, momentum=0.9, trust=0.02).build(net)
    slow = [p.detach().clone().double() for p in net.parameters()]
    velocity = [torch.zeros_like(p) for p in slow]
    torch.manual_seed(1)
    for _ in range(3):
        gradients = [torch.randn_like(p) for p in net.parameters()]
        for parameter, gradient in zip(net.parameters(), gradients, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
        for i, gradient in enumerate(gradients):
            g = gradient.double()
            if slow[i].ndim > 1:
                g = g + 0.1 * slow[i]
                g = g * 0.02 * slow[i].norm() / g.norm()
            velocity[i] = 0.9 * velocity[i] + g
            slow[i] = slow[i] - 0.2 * velocity[i]
    for parameter, wanted in zip(net.parameters(), slow, strict=True):
        assert torch.allclose(parameter.double(), wanted, atol=1e-6)


@pytest.mark.parametrize("kind", ["adamw", "lars"])
def test_a_step_that_is_not_finite_changes_nothing(kind):
    net = model()
    optimizer = OptimizerConfig(kind=kind).build(net)
    for found in (0.0, 1.0, 0.0):
        before = [p.detach().clone() for p in net.parameters()]
        for parameter in net.parameters():
            parameter.grad = torch.full_like(parameter, math.inf if found else 0.5)
        optimizer.found_inf = torch.tensor(found)  # pyright: ignore[reportAttributeAccessIssue]
        optimizer.step()
        same = [torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True)]
        assert all(same) if found else not any(same)
        assert all(torch.isfinite(p).all() for p in net.parameters())


@pytest.mark.parametrize("kind", ["adamw", "lars"])
@pytest.mark.parametrize("clip", [None, 0.3, 3e3])
def test_a_clipped_step_is_torchs_clip_and_then_a_step(kind, clip):
    net, plain = model(), model()
    config = OptimizerConfig(kind=kind, lr=0.1, eps=0.3, weight_decay=0.2)
    ours, theirs = config.build(net), config.build(plain)
    torch.manual_seed(1)
    for scale in (1.0, 100.0, 0.01):
        for mine, its in zip(net.parameters(), plain.parameters(), strict=True):
            mine.grad = scale * torch.randn_like(mine)
            its.grad = mine.grad.clone()
        norm = clipped_step(ours, list(net.parameters()), clip)
        wanted = nn.utils.clip_grad_norm_(plain.parameters(), clip or math.inf)
        theirs.step()
        assert torch.equal(norm, wanted)
        for mine, its in zip(net.parameters(), plain.parameters(), strict=True):
            assert torch.allclose(mine, its, atol=1e-6, rtol=1e-5)
