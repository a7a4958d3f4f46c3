# SPDX-License-Identifier: Apache-2.0
"""The CTC probe in a sweep: symbols that are vectors of their own are learnt, by the head of each kind."""

import json

import pytest
import torch

from pluri.benchmarks.superb.ctc.buckets import buckets, windows
from pluri.benchmarks.superb.ctc.errors import character_error_rate, word_error_rate
from pluri.benchmarks.superb.ctc.heads import LinearHeads, Recurrent, RecurrentHeads
from pluri.benchmarks.superb.ctc.probe import Batches, CtcProbe, Scoring, Spoken, greedy_decoder, read_predictions
from pluri.benchmarks.superb.ctc.slots import slot_type_f1
from pluri.benchmarks.superb.ctc.targets import phone_vocabulary
from pluri.benchmarks.superb.featurizer import FeaturizerConfig
from pluri.benchmarks.superb.states import Frames, States
from pluri.benchmarks.superb.sweep import Plan, sweep

VOCABULARY = phone_vocabulary(("A", "B", "C", "D"))
LAYERS, WIDTH = 2, 8


class Constant(States):
    """Clip i says symbols that i decides; each is two to four frames of a vector of its own, and so is silence."""

    def __init__(self, count):
        source = torch.Generator().manual_seed(0)
        vectors = 2.0 * torch.eye(WIDTH)[: 1 + 4]
        self.bad, self.clips, self.targets = {}, [], []
        for i in range(count):
            size = 1 + i % 4
            symbols = torch.randint(4, (size,), generator=source)
            parts = [vectors[:1]]
            for symbol in symbols.tolist():
                parts += [vectors[symbol + 1 : symbol + 2].repeat(2 + i % 3, 1), vectors[:1]]
            x = torch.cat(parts)
            noise = 0.3 * torch.randn(len(x), WIDTH, generator=source)  # the other layer
            self.clips.append(torch.stack([x, noise], 1))
            self.targets.append([*(symbols + 3).tolist(), VOCABULARY.end])

    def read(self, numbers, place=None):
        chosen = [self.clips[number] for number in numbers]
        return Frames(torch.cat(chosen), [len(one) for one in chosen])

    def part(self, first, last):
        targets = self.targets[first:last]
        texts = [VOCABULARY.text(target) for target in targets]
        return Spoken([f"clip{i}" for i in range(first, last)], list(range(first, last)), targets, texts)


SCORING = Scoring({"per": word_error_rate, "cer": character_error_rate}, True)


def probe(kind, plan, scoring=SCORING, featurizer=FeaturizerConfig()):  # noqa: B008  frozen
    states = Constant(200)
    train, dev, test = states.part(0, 160), states.part(160, 180), states.part(180, 200)
    seconds = [float(len(states.clips[clip])) for clip in train.clips]
    if kind == "linear":
        heads = LinearHeads(plan.seeds, len(plan.rates), LAYERS, WIDTH, len(VOCABULARY.symbols), featurizer)
        batches = Batches(windows([len(target) for target in train.targets], seconds, 8), 2)
    else:
        symbols = len(VOCABULARY.symbols)
        heads = RecurrentHeads(
            lambda: Recurrent(LAYERS, WIDTH, symbols, featurizer, 16), plan.seeds, len(plan.rates), None
        )
        batches = Batches(buckets(seconds, 16, False), 1)
    decoders = {"greedy": greedy_decoder(VOCABULARY)}
    return CtcProbe((train, dev, test), states, heads, VOCABULARY, scoring, batches, decoders, plan)


@pytest.mark.parametrize(("kind", "rate", "steps"), [("linear", 3e-2, 80), ("recurrent", 3e-2, 80)])
def test_symbols_that_are_vectors_of_their_own_are_learnt(tmp_path, kind, rate, steps):
    plan = Plan((rate, 1e-6), (0, 1) if kind == "linear" else (1,), steps, 4, 1.0, "cpu")
    runs = sweep(probe(kind, plan), plan, tmp_path, print)
    for run in runs:
        assert list(run.test) == ["per_greedy", "cer_greedy"]
        if run.rate == rate:
            assert run.test["per_greedy"] <= (0.0 if kind == "linear" else 0.1)
            assert run.shares[0] > 0.5  # the layer that is no noise
        else:
            assert run.dev < 0.5
    said = read_predictions(tmp_path, 1, rate)["greedy"]
    kept = json.loads((tmp_path / "predictions.json").read_text())
    wrong = word_error_rate(list(said.values()), kept["references"])
    assert list(said) == [f"clip{i}" for i in range(180, 200)] and wrong == runs[-2].test["per_greedy"]


def test_dev_is_the_figure_itself_where_more_is_better():
    plan = Plan((1e-2, 1e-3), (0,), 4, 1, 1.0, "cpu")
    assert torch.equal(
        probe("linear", plan, Scoring({"f1": slot_type_f1}, False)).dev(), torch.ones(1, 2, dtype=torch.float64)
    )  # neither has any slot
    errors = probe("linear", plan)
    said = [errors.decoders["greedy"](errors.heads.logits(0, 0, *errors._read([clip]))) for clip in range(160, 180)]
    assert float(errors.dev()[0, 0]) == pytest.approx(1.0 - word_error_rate(said, errors.dev_part.texts))


def slope(one: CtcProbe) -> torch.Tensor:
    assert isinstance(one.heads, LinearHeads)
    assert one.heads.into.grad is not None
    return one.heads.into.grad


def test_a_step_s_gradient_is_the_mean_over_its_windows():
    plan = Plan((1e-2,), (0,), 4, 1, 1.0, "cpu")
    both = probe("linear", plan)
    loss = both.losses(3)
    loss.sum().backward()  # as the sweep does; everything is there already
    gradient = slope(both).clone()
    one = probe("linear", plan)
    one.batches = Batches(one.batches.groups, 1)
    halves = []
    for step in (6, 7):  # the same windows, one by one
        halves.append(one.losses(step))
    assert torch.allclose(torch.stack(halves).mean(0), loss, atol=1e-6)
    assert torch.allclose(slope(one) / 2, gradient, atol=1e-6)


def test_bad_clips_are_left_out_of_a_part():
    part = Constant(6).part(0, 6).without([1, 4, 99])
    assert part.names == ["clip0", "clip2", "clip3", "clip5"] and part.clips == [0, 2, 3, 5]
    assert len(part.targets) == len(part.texts) == 4
