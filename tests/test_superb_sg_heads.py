# SPDX-License-Identifier: Apache-2.0
"""SS and SE's head: the loss against a loop over orders, padding, dropout, and many heads against single ones."""

import itertools

import numpy as np
import pytest
import torch

from pluri.benchmarks.superb.featurizer import FeaturizerConfig
from pluri.benchmarks.superb.stacked import Adam
from pluri.benchmarks.superb_sg.heads import Separator, SeparatorHeads, permuted, phase_sensitive
from pluri.benchmarks.superb_sg.probe import fit
from pluri.benchmarks.superb_sg.stft import BINS
from pluri.benchmarks.superb_sg.task import SpeechSeparationConfig

LENGTHS = [9, 4, 1]


def network(speakers=2):
    torch.manual_seed(0)
    return Separator(2, 5, speakers, FeaturizerConfig(), 6)


def spectra(*shape, seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.complex(torch.randn(shape, generator=source), torch.randn(shape, generator=source))


def batch(speakers=2):
    """Magnitudes of mixtures, and what masks aim at."""
    sources = [spectra(speakers, length, BINS, seed=length) for length in LENGTHS]
    return [one.sum(0).abs() for one in sources], [phase_sensitive(one, one.sum(0)) for one in sources]


@pytest.mark.parametrize("speakers", [1, 2, 3])
def test_the_loss_is_the_least_over_the_orders_of_each_clip(speakers):
    magnitudes, wanted = batch(speakers)
    masks = torch.rand(14, speakers, BINS)
    total = 0.0
    for part, mixture, meant in zip(masks.split(LENGTHS), magnitudes, wanted, strict=True):
        found = []
        for order in itertools.permutations(range(speakers)):
            errors = [((part[:, i] * mixture - meant[order[i]]) ** 2).sum() for i in range(speakers)]
            found.append(float(sum(errors)) / len(mixture))
        total += min(found)
    assert float(permuted(masks, magnitudes, wanted)) == pytest.approx(total / (3 * speakers), rel=1e-5)


def test_masks_aim_at_what_points_the_mixtures_way():
    sources = spectra(2, 4, BINS)
    mixture = sources.sum(0)
    found = phase_sensitive(sources, mixture)
    for part, source in zip(found.numpy(), sources.numpy(), strict=True):
        along = (source * mixture.numpy().conj()).real / np.abs(mixture.numpy())
        assert np.allclose(part, np.maximum(along, 0), atol=1e-5)
    assert torch.allclose(phase_sensitive(mixture[None], mixture)[0], mixture.abs())
    assert not phase_sensitive(-mixture[None], mixture).any()


def test_a_clip_alone_and_in_a_batch_has_the_same_masks():
    made, x = network(), torch.randn(14, 2, 5)
    with torch.no_grad():
        together = made(x, LENGTHS)
        alone = torch.cat([made(part, [len(part)]) for part in x.split(LENGTHS)])
    assert together.shape == (14, 2, BINS) and (together >= 0).all()
    assert torch.allclose(alone, together, atol=1e-6)


def test_every_parameter_learns_and_the_loss_falls():
    made, x = network(), torch.randn(14, 2, 5)
    magnitudes, wanted = batch()
    adam, losses = torch.optim.Adam(made.parameters(), 1e-2), []
    for _ in range(15):
        loss = permuted(made(x, LENGTHS), magnitudes, wanted)
        adam.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in made.parameters())
        adam.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


def test_dropout_depends_on_its_key_alone_and_without_one_there_is_none():
    made, x = network(), torch.randn(14, 2, 5)
    with torch.no_grad():
        first, again, other, none = (made(x, LENGTHS, key) for key in (7, 7, 8, None))
        torch.rand(3)
        assert torch.equal(first, again) and torch.equal(none, made(x, LENGTHS))
        assert not torch.allclose(first, other) and not torch.allclose(first, none)


def test_many_heads_learn_as_each_alone_would():
    magnitudes, wanted = batch()
    rates, seeds, x = (1e-2, 1e-3), (0, 1), torch.randn(14, 2, 5)

    def loss(masks):
        return permuted(masks, magnitudes, wanted)

    def make():
        return Separator(2, 5, 2, FeaturizerConfig(), 6)

    heads = SeparatorHeads(make, seeds, len(rates))
    adam = Adam(list(heads.parameters()), rates, 1.0)
    for step in range(4):
        for group in range(len(seeds)):
            heads.learn(group, x, LENGTHS, loss, 10 * step + group)
        adam.step()
    for group, seed in enumerate(seeds):
        for head, rate in enumerate(rates):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                single = make()
            plain = torch.optim.Adam(single.parameters(), rate)
            for step in range(4):
                plain.zero_grad()
                loss(single(x, LENGTHS, 10 * step + group)).backward()
                torch.nn.utils.clip_grad_norm_(single.parameters(), 1.0)
                plain.step()
            with torch.no_grad():
                assert torch.allclose(heads.masks(group, head, x, LENGTHS), single(x, LENGTHS), atol=1e-5)


def test_small_gradients_are_weighed_as_in_the_published_optimiser():
    plan = SpeechSeparationConfig(lr=1e-2).plan((0,))
    rate, x, first, second = 1e-2, 1.0, 0.0, 0.0
    value = torch.nn.Parameter(torch.ones(1, 1, 1))
    adam = Adam([value], plan.rates, plan.clip, plan.decay, plan.epsilon)
    for step in range(1, 6):
        slope = 1e-7 * step  # s3prl's AdamW has an epsilon of 1e-7, beside which torch's is small
        value.grad = torch.full((1, 1, 1), slope)
        adam.step()
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        x -= rate * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step) * first / (second**0.5 + 1e-7)
    assert value.item() == pytest.approx(x, rel=1e-6) and 0.9 < x < 0.999


def test_states_are_repeated_and_followed_by_zeros_until_they_fit_the_spectrum():
    x = torch.arange(1.0, 4.0).view(3, 1, 1)
    assert fit(x, 1, 4, "a").flatten().tolist() == [1, 2, 3, 0]
    assert fit(x, 1, 2, "a").flatten().tolist() == [1, 2]
    assert fit(x, 2, 7, "a").flatten().tolist() == [1, 1, 2, 2, 3, 3, 0]
    with pytest.raises(ValueError, match="one.wav: the encoder gives 3 frames where the spectrum has 8"):
        fit(x, 1, 8, "one.wav")
