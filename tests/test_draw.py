# SPDX-License-Identifier: Apache-2.0
"""Keyed random numbers: the published generator, its moments, and the same on whatever shape they are drawn for."""

import pytest
import torch

from pluri.ssl import draw


def test_the_bits_are_splitmix64():
    # The first outputs of SplitMix64 seeded with 1234567 (Vigna's splitmix64.c, as quoted by Rosetta Code).
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    found = draw._bits(torch.tensor(1234567), 4).tolist()
    assert [value % 2**64 for value in found] == expected


def test_host_and_device_keys_agree():
    parts = torch.arange(-5, 5)
    folded = draw.fold(torch.tensor(draw.key(3)), parts)
    assert folded.tolist() == [draw.key(3, int(part)) for part in parts]
    assert draw.fold(torch.tensor(draw.key(3)), "mask").item() == draw.key(3, "mask")


def test_a_row_draws_the_same_alone_and_in_a_batch():
    keys = torch.tensor([draw.key(0, i) for i in range(7)])
    together = draw.uniform(keys, 33)
    for i in range(7):
        assert torch.equal(together[i], draw.uniform(keys[i], 33))
    assert torch.equal(together[:, :10], draw.uniform(keys, 10))


@pytest.fixture(scope="module")
def many():
    return torch.tensor([draw.key(1, "moments", i) for i in range(2000)])


def test_uniform_numbers_are_uniform_and_independent_between_keys_and_places(many):
    u = draw.uniform(many, 100).double()
    assert 0.0 <= u.min() and u.max() < 1.0
    histogram = torch.histc(u, 64, 0.0, 1.0) / u.numel()
    assert (histogram * 64 - 1.0).abs().max() < 0.1
    for other in (u.roll(1, 0), u.roll(1, 1)):
        correlation = ((u - 0.5) * (other - 0.5)).mean() * 12
        assert correlation.abs() < 5 / u.numel() ** 0.5


def test_normal_numbers_have_the_moments_of_a_normal(many):
    x = draw.normal(many, 101).double()
    assert x.shape == (2000, 101)
    n = x.numel()
    assert x.mean().abs() < 5 / n**0.5
    assert (x.square().mean() - 1).abs() < 5 * (2 / n) ** 0.5
    assert (x.pow(4).mean() - 3).abs() < 5 * (96 / n) ** 0.5


def test_normal_numbers_of_a_pair_are_independent_and_do_not_hang_on_how_many_are_drawn(many):
    x = draw.normal(many, 100)
    assert torch.equal(draw.normal(many, 7), x[:, :7])
    pairs = x.double().unflatten(1, (-1, 2)).flatten(0, 1)
    for numbers in (pairs, pairs.square()):
        assert torch.corrcoef(numbers.T)[0, 1].abs() < 5 / len(pairs) ** 0.5


def test_the_least_and_the_greatest_bits_give_numbers_that_can_be_used(monkeypatch):
    for bits, wanted in ((0, 0.0), (-1, 1 - 2.0**-24)):
        monkeypatch.setattr(draw, "_bits", lambda keys, n, bits=bits: torch.full((*keys.shape, n), bits))
        assert (draw.uniform(torch.zeros(2), 4) == wanted).all()
        assert torch.isfinite(draw.normal(torch.zeros(2), 4)).all()
        for high in (1, 3, 1000, 2**24):
            assert (draw.integers(torch.zeros(2), 4, high) == (0 if bits == 0 else high - 1)).all()


def test_keys_of_names_are_what_they_were():
    # Written down once: whoever changes them changes everybody's runs.
    assert [draw.key(3, "mask"), draw.key(0, "epoch", 1)] == GUARD


GUARD = [1597051161018886885, -9184120830470631281]


def test_integers_stay_below_their_bound_even_at_its_edge():
    keys = torch.arange(4096) * 7919
    for high in (1, 2, 3, 100, 2**24):
        x = draw.integers(keys, 64, high)
        assert 0 <= x.min() and x.max() < high
    per_row = draw.integers(keys, 8, torch.arange(1, 4097)[:, None])
    assert (per_row < torch.arange(1, 4097)[:, None]).all()
    counts = torch.bincount(draw.integers(keys, 64, 3).flatten()) / (4096 * 64)
    assert (counts - 1 / 3).abs().max() < 0.01


def test_a_permutation_has_every_number_once_and_no_bias():
    assert sorted(draw.permutation(5, 1000).tolist()) == list(range(1000))
    first = torch.stack([draw.permutation(draw.key(9, i), 5) for i in range(2000)])
    for place in range(5):
        share = torch.bincount(first[:, place], minlength=5) / 2000
        assert (share - 0.2).abs().max() < 0.05
