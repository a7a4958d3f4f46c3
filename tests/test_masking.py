# SPDX-License-Identifier: Apache-2.0
"""Masks against slow loops, and their proportions."""

import pytest
import torch

from pluri.ssl import draw, masking
from pluri.ssl.contrast import draw_negatives, place_in_row, row_contrast


def keys(n, name="masks"):
    return draw.fold(torch.tensor(draw.key(0, name)), torch.arange(n))


def test_choices_have_the_number_asked_for_and_fall_everywhere_alike():
    allowed = torch.ones(4000, 12, dtype=torch.bool)
    allowed[:, 9:] = False
    allowed[:, 0] = False
    count = torch.arange(4000) % 11
    chosen = masking.choose(keys(4000), allowed, count)
    assert torch.equal(chosen.sum(1), count.clamp(max=8)) and not chosen[:, 9:].any() and not chosen[:, 0].any()
    share = masking.choose(keys(4000), allowed, torch.full((4000,), 4)).float().mean(0)[1:9]
    assert (share - 0.5).abs().max() < 0.04


@pytest.mark.parametrize("span", [1, 3, 10])
def test_grown_spans_equal_a_loop(span):
    starts = draw.uniform(keys(50), 40) < 0.08
    wanted = torch.zeros_like(starts)
    for row, column in starts.nonzero().tolist():
        wanted[row, column : column + span] = True
    assert torch.equal(masking.grow(starts, span), wanted)
    each = torch.arange(50)[:, None] % 5 + 1
    wanted = torch.zeros_like(starts)
    for row, column in starts.nonzero().tolist():
        wanted[row, column : column + int(each[row])] = True
    assert torch.equal(masking.grow(starts, each), wanted)


def test_spans_lie_within_their_rows_and_short_rows_get_none():
    lengths = torch.tensor([4, 5, 6, 30, 60])
    hidden = masking.spans(keys(5), lengths, 60, torch.tensor([3, 3, 3, 2, 4]), 5)
    assert not hidden[0].any() and hidden[1].sum() == 5 and 5 <= hidden[2].sum() <= 6
    assert 5 < hidden[3].sum() <= 10 and not hidden[3, 30:].any() and hidden[4].sum() <= 20


def test_whole_words_are_hidden_whole_and_never_too_many():
    # [CLS] a ##b ##c d e ##f [SEP] and so on
    pattern = torch.tensor([0, 0, 1, 1, 0, 0, 1, 0, 0, 1, 1, 1, 0], dtype=torch.bool).repeat(500, 1)
    allowed = torch.ones_like(pattern)
    allowed[:, [0, 12]] = False
    count = torch.arange(500) % 6 + 1
    hidden = masking.words(keys(500), allowed, pattern, count)
    assert not hidden[:, [0, 12]].any() and (hidden.sum(1) <= count).all()
    for first, last in ((1, 4), (5, 7), (8, 12)):
        together = hidden[:, first:last].sum(1)
        assert ((together == 0) | (together == last - first)).all()
    # A word of one piece is always there to fill up with (4 and 7), so a count of one is always used.
    assert (hidden.sum(1)[count == 1] == 1).all()


def test_a_word_does_not_reach_over_a_unit_that_may_not_be_hidden():
    allowed = torch.tensor([1, 1, 0, 1, 1], dtype=torch.bool).repeat(300, 1)
    continues = torch.tensor([0, 1, 0, 1, 1], dtype=torch.bool).repeat(300, 1)
    hidden = masking.words(keys(300), allowed, continues, torch.full((300,), 2))
    assert (hidden[:, 0] == hidden[:, 1]).all() and (hidden[:, 3] == hidden[:, 4]).all()
    assert (hidden.sum(1) == 2).all() and hidden[:, 0].float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_where_lists_the_hidden_units_row_by_row():
    masked = draw.uniform(keys(6), 9) < 0.4
    chosen = masking.where(masked, int(masked.sum()))
    assert torch.equal(masked.nonzero(), torch.stack([chosen.row, chosen.column], 1)) and chosen.real.all()
    assert torch.equal(chosen.flat, masked.flatten().nonzero()[:, 0])


def test_random_rounding_keeps_the_mean():
    rounded = masking.stochastic_round(keys(20000), torch.full((20000,), 3.3))
    assert set(rounded.tolist()) == {3, 4} and abs(rounded.double().mean().item() - 3.3) < 0.02


def padded(chosen, extra):
    """The same choice as a GPU would list it: with entries at the end that are not real."""
    fill = torch.zeros(extra, dtype=torch.int64)
    return masking.Chosen(
        torch.cat([chosen.flat, fill]),
        torch.cat([chosen.real, fill.bool()]),
        torch.cat([chosen.row, fill]),
        torch.cat([chosen.column, fill]),
    )


def test_negatives_are_other_hidden_units_of_the_same_row():
    masked = draw.uniform(keys(5), 30) < torch.tensor([0.5, 0.2, 0.9, 0.3, 0.0])[:, None]
    masked[4, 7] = True
    chosen = masking.where(masked, int(masked.sum()))
    place, count = place_in_row(chosen, 5)
    assert torch.equal(count, masked.sum(1))
    negatives = draw_negatives(keys(len(place), "negatives"), place, count[chosen.row], 2000)
    assert (negatives >= 0).all() and (negatives < count[chosen.row][:, None]).all()
    several = count[chosen.row] > 1
    assert not (negatives == place[:, None])[several].any()
    assert (negatives == place[:, None])[~several].all()
    row = chosen.row == 1
    seen = torch.stack([torch.bincount(x, minlength=int(count[1])) for x in negatives[row]]) / 2000
    others = seen[~torch.eye(int(count[1]), dtype=torch.bool)]
    assert (others - 1 / (int(count[1]) - 1)).abs().max() < 0.06


@pytest.mark.parametrize("extra", [0, 4])
def test_the_row_contrast_equals_a_loop(extra):
    torch.manual_seed(0)
    masked = draw.uniform(keys(4), 12) < 0.6
    chosen = masking.where(masked, int(masked.sum()))
    n = len(chosen.flat)
    chosen = padded(chosen, extra)
    place, count = place_in_row(chosen, 4)
    negatives = draw_negatives(keys(n + extra, "n"), place, count[chosen.row], 20)
    query, key = torch.randn(2, n + extra, 8)
    codes = torch.randint(0, 5, (n + extra,))
    loss, right = row_contrast(query, key, chosen, negatives, codes, (4, 12), 10.0)
    for i in range(n):
        mine = [j for j in range(n) if chosen.row[j] == chosen.row[i]]
        similar = [torch.cosine_similarity(query[i], key[i], dim=0) * 10.0]
        for j in negatives[i].tolist():
            if codes[mine[j]] != codes[i]:
                similar.append(torch.cosine_similarity(query[i], key[mine[j]], dim=0) * 10.0)
        scores = torch.stack(similar)
        assert loss[i].item() == pytest.approx((scores.logsumexp(0) - scores[0]).item(), abs=1e-4)
        assert right[i].item() == (len(scores) == 1 or bool(scores[0] > scores[1:].max()))


def test_the_row_contrast_stays_in_float32_under_autocast():
    torch.manual_seed(0)
    chosen = masking.where(torch.ones(1, 12, dtype=torch.bool), 12)
    place, count = place_in_row(chosen, 1)
    negatives = draw_negatives(keys(12, "n"), place, count[chosen.row], 20)
    query, key = torch.randn(2, 12, 8)
    exact, _ = row_contrast(query, key, chosen, negatives, torch.arange(12), (1, 12), 10.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(row_contrast(query, key, chosen, negatives, torch.arange(12), (1, 12), 10.0)[0], exact)
