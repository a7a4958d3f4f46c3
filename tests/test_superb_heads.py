# SPDX-License-Identifier: Apache-2.0
"""Heads that are trained side by side: the same as one after the other, and as s3prl's."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pluri.benchmarks.superb.featurizer import FeaturizerConfig
from pluri.benchmarks.superb.stacked import Adam
from pluri.benchmarks.superb.utterance.heads import UtteranceHeads

RATES = (1e-1, 1e-2, 1e-4)
SEEDS = (0, 7)
LAYERS, WIDTH, SLOTS = 4, 12, (5, 3)


class Separate(nn.Module):
    """One head as s3prl writes it, on frames."""

    def __init__(self, seed, kind):
        super().__init__()
        self.kind = kind
        if kind == "weighted":
            self.weights = nn.Parameter(torch.zeros(LAYERS))
        torch.manual_seed(seed)
        self.projector = nn.Linear(WIDTH * (LAYERS if kind == "concat" else 1), 256)
        self.linear = nn.Linear(256, sum(SLOTS))

    def forward(self, clips):
        """Clips (T, L, D) to logits (B, C)."""
        rows = []
        for clip in clips:
            if self.kind == "weighted":
                x = (self.weights.softmax(0)[:, None] * clip).sum(1)
            else:
                x = clip.flatten(1)
            rows.append(self.linear(self.projector(x).mean(0)))
        return torch.stack(rows)


def batch(step, dtype=torch.float32):
    generator = torch.Generator().manual_seed(step)
    clips = [torch.randn(3 + i, LAYERS, WIDTH, generator=generator, dtype=dtype) for i in range(6)]
    labels = torch.stack([torch.randint(size, (6,), generator=generator) for size in SLOTS], 1)
    return clips, labels


def means(clips):
    return torch.stack([clip.mean(0) for clip in clips])


@pytest.mark.parametrize("kind", ["weighted", "concat"])
def test_stacked_runs_are_as_many_runs_of_torch_s_own_adam_on_frames(kind):
    # In float64: Adam divides by the size of a gradient, so with a rate of 0.1 what is rounded away soon shows.
    dtype, steps, tolerance = torch.float64, 30, 1e-9
    heads = UtteranceHeads(SEEDS, len(RATES), LAYERS, WIDTH, SLOTS, FeaturizerConfig(kind=kind)).to(dtype)
    adam = Adam(list(heads.parameters()), RATES, 0.05)  # low enough that the clipping acts
    alone = {(s, r): Separate(s, kind).to(dtype) for s in SEEDS for r in RATES}
    optimizers = {key: torch.optim.Adam(head.parameters(), lr=key[1]) for key, head in alone.items()}
    for step in range(steps):
        found = [batch(100 * s + step, dtype) for s in range(len(SEEDS))]  # each seed sees batches of its own
        losses = heads.losses(torch.stack([means(clips) for clips, _ in found]), torch.stack([y for _, y in found]))
        losses.sum().backward()
        adam.step()
        for s, seed in enumerate(SEEDS):
            for k, rate in enumerate(RATES):
                head, (clips, labels) = alone[seed, rate], found[s]
                parts = head(clips).split(SLOTS, 1)
                loss = torch.stack([F.cross_entropy(part, labels[:, i]) for i, part in enumerate(parts)]).sum()
                torch.testing.assert_close(losses[s, k], loss, atol=tolerance, rtol=tolerance)
                loss.backward()
                nn.utils.clip_grad_norm_(head.parameters(), 0.05)
                optimizers[seed, rate].step()
                optimizers[seed, rate].zero_grad()
    clips, _ = batch(999, dtype)
    logits = heads(means(clips)[None])
    for s, seed in enumerate(SEEDS):
        for k, rate in enumerate(RATES):
            torch.testing.assert_close(logits[s, k], alone[seed, rate](clips), atol=tolerance, rtol=tolerance)
    if kind == "weighted":
        shares = heads.shares()
        assert shares is not None
        torch.testing.assert_close(shares[1, 0], alone[7, 1e-1].weights.detach().softmax(0))
    else:
        assert heads.shares() is None


def train(seeds, rates, steps):
    heads = UtteranceHeads(seeds, len(rates), LAYERS, WIDTH, SLOTS, FeaturizerConfig())
    adam = Adam(list(heads.parameters()), rates, 0.5)
    for step in range(steps):
        found = [batch(100 * seed + step) for seed in seeds]
        heads.losses(
            torch.stack([means(clips) for clips, _ in found]), torch.stack([y for _, y in found])
        ).sum().backward()
        adam.step()
    return heads(means(batch(999)[0])[None]).detach()


def test_stacked_runs_are_as_many_runs_alone_in_float32():
    together = train(SEEDS, RATES, 30)
    for s, seed in enumerate(SEEDS):
        for k, rate in enumerate(RATES):
            alone = train((seed,), (rate,), 30)[0, 0]
            torch.testing.assert_close(together[s, k], alone, atol=1e-5, rtol=1e-5)


def test_a_head_whose_gradient_is_no_number_stays_as_it_is_and_the_others_go_on():
    heads = UtteranceHeads((0,), 2, LAYERS, WIDTH, SLOTS, FeaturizerConfig())
    adam = Adam(list(heads.parameters()), (1e-1, 1e-1), 1.0)
    before = {name: value.clone() for name, value in heads.state_dict().items()}
    clips, labels = batch(0)
    weight = torch.tensor([[1.0, float("nan")]])
    (heads.losses(means(clips)[None], labels[None]) * weight).sum().backward()
    adam.step()
    after = heads.state_dict()
    assert all(torch.equal(after[name][:, 1], before[name][:, 1]) for name in before)
    assert not torch.equal(after["into"][:, 0], before["into"][:, 0]) and adam.steps.tolist() == [[1.0, 0.0]]


def test_predictions_are_the_likeliest_class_of_each_slot():
    heads = UtteranceHeads((0,), 1, 1, WIDTH, SLOTS, FeaturizerConfig())
    x = torch.randn(1, 9, 1, WIDTH)
    logits = heads(x)[0, 0]
    said = heads.predict(x)[0, 0]
    assert said[:, 0].tolist() == logits[:, :5].argmax(1).tolist()
    assert said[:, 1].tolist() == logits[:, 5:].argmax(1).tolist()
