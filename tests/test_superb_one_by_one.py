# SPDX-License-Identifier: Apache-2.0
"""ASV and SD one head at a time: the gradients of all at once, in the memory of one; SD's figure on dev by chunk."""

import itertools

import numpy as np
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from pluri.benchmarks.encoders import load
from pluri.benchmarks.superb import one_by_one
from pluri.benchmarks.superb.asv import probe as asv_probe
from pluri.benchmarks.superb.asv.probe import Trials, VerificationProbe
from pluri.benchmarks.superb.featurizer import FeaturizerConfig
from pluri.benchmarks.superb.sd import probe as sd_probe
from pluri.benchmarks.superb.sd.chunks import Chunk, Recording
from pluri.benchmarks.superb.sd.probe import DiarizationProbe
from pluri.benchmarks.superb.states import Frames, Reading, States
from pluri.benchmarks.superb.sweep import Plan, sweep
from pluri.benchmarks.superb.utterance.probe import Labelled

FRAMES = [20, 31, 25, 40, 18, 22]  # of each clip


class Drawn(States):
    """States of a few clips, drawn once."""

    def __init__(self, width, layers):
        source = torch.Generator().manual_seed(0)
        self.x = [torch.randn(count, layers, width, generator=source) for count in FRAMES]
        self.bad = {}

    def read(self, numbers, place=None):
        return Frames(torch.cat([self.x[n] for n in numbers]), [FRAMES[n] for n in numbers])


def labels(clip):
    """Who speaks in each frame; in the second clip nobody."""
    return (np.random.default_rng(clip).random((FRAMES[clip], 2)) < 0.5 * (clip != 1)).astype(np.uint8)


def plan_of(rates, seeds, clip=1.0):
    return Plan(tuple(10.0**-k for k in range(1, rates + 1)), tuple(range(seeds)), 4, 2, clip, "cpu")


def diarization(plan, judge=None):
    reading = Reading.of(load("fbank_no_cmvn"), FeaturizerConfig(), False, "fp32")
    chunks = [Chunk(clip, frames, labels(clip)) for clip, frames in enumerate(FRAMES)]
    states = Drawn(reading.width, len(reading.layers))
    return DiarizationProbe((chunks, chunks), [], judge, states, reading, FeaturizerConfig(), plan, (3, 2, 160))


def verification(plan):
    reading = Reading.of(load("fbank_no_cmvn"), FeaturizerConfig(), False, "fp32")
    names = [str(clip) for clip in range(len(FRAMES))]
    train = Labelled(names, [[clip] for clip in range(len(FRAMES))], np.arange(len(FRAMES))[:, None] % 3)
    trials = Trials([("0", "1"), ("2", "3")], [0, 1, 2, 3], np.array([0, 2]), np.array([1, 3]), np.array([1, 0]))
    states = Drawn(reading.width, len(reading.layers))
    return VerificationProbe(train, 3, (trials, trials), states, reading, FeaturizerConfig(), plan, 3)


@pytest.mark.parametrize(("make", "module"), [(diarization, sd_probe), (verification, asv_probe)])
def test_gradients_and_losses_are_those_of_all_graphs_at_once(make, module, monkeypatch):
    probe, other, asked = make(plan_of(3, 2)), make(plan_of(3, 2)), []

    def learn(heads, group, *inputs):
        asked.append((group, inputs))
        return one_by_one.learn(heads, group, *inputs)

    monkeypatch.setattr(module, "learn", learn)
    losses = probe.losses(1)
    losses.sum().backward()  # as the sweep does: it adds nothing
    each = other.heads.each()
    wanted = torch.stack([other.heads.call(one, *inputs) for group, inputs in asked for one in each[group]])
    wanted.sum().backward()
    assert losses.shape == (2, 3) and torch.equal(losses.detach().flatten(), wanted.detach())
    for name, value in probe.heads.values.items():
        assert value.grad is not None and torch.equal(value.grad, other.heads.values[name].grad), name


class Counted:
    """Bytes that graphs hold, now and at most; what a graph frees no longer counts."""

    def __init__(self):
        self.now = self.most = 0

    def pack(self, x):
        return Held(x, self)


class Held:
    def __init__(self, x, count):
        self.x, self.count, self.size = x, count, x.numel() * x.element_size()
        count.now += self.size
        count.most = max(count.most, count.now)

    def __del__(self):
        self.count.now -= self.size


def most(make, plan):
    count = Counted()
    with saved_tensors_hooks(count.pack, lambda held: held.x):
        make(plan).losses(1).sum().backward()
    return count.most


@pytest.mark.parametrize("make", [diarization, verification])
def test_the_memory_of_graphs_does_not_grow_with_rates_and_seeds(make):
    assert most(make, plan_of(3, 2)) < 1.2 * most(make, plan_of(1, 1))


def test_a_sweep_of_two_rates_has_the_runs_of_each_alone(tmp_path):
    plan = plan_of(2, 1)
    probe = diarization(plan)
    probe.said = lambda folder: [[{"x": 0.0} for _ in plan.rates]]
    runs = sweep(probe, plan, tmp_path, lambda line: None)
    assert len(runs) == 2 and all(len(run.curve) == 2 for run in runs) and runs[0].curve != runs[1].curve


def slow_shares(probe, group, head):
    """Of each chunk of dev the share of right decisions, in the order with the least loss, clip by clip."""
    found = []
    for chunk in probe.dev_part:
        x, _ = probe.states.read([chunk.clip])
        logits = probe.heads.call(probe.heads.each()[group][head], x, [chunk.frames])[0]
        wanted = torch.from_numpy(chunk.labels).float()
        orders = [wanted[:, list(order)] for order in itertools.permutations(range(2))]
        loss = torch.nn.functional.binary_cross_entropy_with_logits
        best = min(orders, key=lambda one: float(loss(logits, one)))
        found.append(float(((logits > 0) == best.bool()).float().mean()))
    return found


@torch.no_grad()
def test_dev_of_diarization_is_the_mean_over_chunks_and_silence_counts_nothing_as_published():
    plan = plan_of(2, 2)
    published, clean = diarization(plan), diarization(plan, [Recording("a", [], (), ())])
    assert not labels(1).any() and labels(0).any()
    for group, head in itertools.product(range(2), range(2)):
        shares = slow_shares(published, group, head)
        mean = sum(share * (clip != 1) for clip, share in enumerate(shares)) / len(FRAMES)
        pooled = sum(share * count for share, count in zip(shares, FRAMES, strict=True)) / sum(FRAMES)
        assert float(published.dev()[group, head]) == pytest.approx(mean, abs=1e-6) and mean != pytest.approx(pooled)
        assert float(clean.dev()[group, head]) == pytest.approx(pooled, abs=1e-6)
