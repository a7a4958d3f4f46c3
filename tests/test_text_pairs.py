# SPDX-License-Identifier: Apache-2.0
"""BERT's pairs of runs of sentences, spread as those of the published code; plain runs without gaps."""

import random

import numpy as np
import pytest

from pluri.ssl import draw
from pluri.text.pairs import Shard, pair_table, plain_table


def make_shard(counts, longest_sentence, seed=0):
    """Documents of `counts` sentences of 1 to `longest_sentence` tokens; token i is i."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest_sentence + 1, sum(counts))
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    return Shard(np.arange(bounds[-1]), bounds, np.concatenate([[0], np.cumsum(counts)]))


def document_of(shard, tokens):
    """Which document each token belongs to."""
    return np.searchsorted(shard.sentences[shard.documents], tokens, side="right") - 1


def test_half_of_the_pairs_are_random_and_come_from_other_documents():
    rng = np.random.default_rng(0)
    shard = make_shard(rng.integers(1, 40, 600), 12)
    chosen = rng.permutation(600)[:500]
    table = pair_table(shard, chosen, 64, 0.1, draw.key(0))
    _, a, a_end, b, b_end, is_random = table.T
    assert (table[:, 0] == np.arange(len(table))).all()
    assert (a_end > a).all() and (b_end > b).all() and ((a_end - a) + (b_end - b) + 3 <= 64).all()
    assert set(is_random) == {0, 1}
    for start, end in ((a, a_end), (b, b_end)):
        assert (document_of(shard, start) == document_of(shard, end - 1)).all()
        assert set(document_of(shard, start)) <= set(chosen)
    same = document_of(shard, a) == document_of(shard, b)
    assert (same == (is_random == 0)).all() and (b >= a_end)[is_random == 0].all()
    # Only sentences that are left over alone at the end of a document are always followed by something random.
    single = np.isin(a, shard.sentences[shard.documents[1:] - 1])
    assert abs(is_random[~single].mean() - 0.5) < 0.03
    again = pair_table(shard, chosen, 64, 0.1, draw.key(0))
    assert (table == again).all()
    assert (b[:50] != pair_table(shard, chosen, 64, 0.1, draw.key(1))[:50, 3]).any()


@pytest.mark.parametrize(("longest_sentence", "longest"), [(1, 24), (9, 1000)])
def test_every_sentence_is_used_once_because_replaced_ones_are_put_back(longest_sentence, longest):
    """With sentences of one token, and with documents far below `longest`, nothing has to be cut off."""
    shard = make_shard(np.random.default_rng(0).integers(1, 50, 200), longest_sentence)
    table = pair_table(shard, np.arange(200), longest, 0.2 if longest_sentence == 1 else 0.0, draw.key(3))
    used = np.zeros(len(shard.tokens), dtype=np.int64)
    for _, a, a_end, b, b_end, is_random in table.tolist():
        used[a:a_end] += 1
        if not is_random:
            assert b == a_end
            used[b:b_end] += 1
    assert (used == 1).all()


def published_pairs(lengths, longest, short, rng):
    """create_instances_from_document of google-research/bert@eedf5716, on lengths of sentences; (A, B, random) each."""
    out = []
    for number, document in enumerate(lengths):
        most = longest - 3
        target = rng.randint(2, most) if rng.random() < short else most
        chunk, total, i = [], 0, 0
        while i < len(document):
            chunk.append(document[i])
            total += document[i]
            if i == len(document) - 1 or total >= target:
                end = rng.randint(1, len(chunk) - 1) if len(chunk) >= 2 else 1
                a = sum(chunk[:end])
                is_random = len(chunk) == 1 or rng.random() < 0.5
                if is_random:
                    b = 0
                    other = number
                    while other == number:
                        other = rng.randint(0, len(lengths) - 1)
                    for length in lengths[other][rng.randint(0, len(lengths[other]) - 1) :]:
                        b += length
                        if b >= target - a:
                            break
                    i -= len(chunk) - end
                else:
                    b = sum(chunk[end:])
                while a + b > most:
                    a, b = (a - 1, b) if a > b else (a, b - 1)
                out.append((a, b, is_random))
                chunk, total = [], 0
            i += 1
    return np.array(out)


@pytest.mark.parametrize(("longest", "short"), [(64, 0.1), (128, 0.5), (20, 0.0)])
def test_pairs_are_spread_like_those_of_the_published_code(longest, short):
    shard = make_shard(np.random.default_rng(1).integers(1, 40, 1500), 25)
    lengths = [
        np.diff(shard.sentences[first : last + 1]).tolist()
        for first, last in zip(shard.documents[:-1], shard.documents[1:], strict=True)
    ]
    # Short items come in heaps, so that one draw's number of pairs has a deviation of 2 %.
    theirs = np.concatenate([published_pairs(lengths, longest, short, random.Random(seed)) for seed in range(6)])
    table = np.concatenate([pair_table(shard, np.arange(1500), longest, short, draw.key(seed)) for seed in range(6)])
    ours = np.stack([table[:, 2] - table[:, 1], table[:, 4] - table[:, 3], table[:, 5]], axis=1)
    assert abs(len(ours) / len(theirs) - 1) < 0.03
    assert np.abs(ours.mean(0) / theirs.mean(0) - 1).max() < 0.03
    for column in (0, 1):
        quantiles = [np.quantile(x[:, column], np.linspace(0.05, 0.95, 10)) for x in (ours, theirs)]
        assert np.abs(quantiles[0] - quantiles[1]).max() <= max(1.0, 0.04 * longest)  # whole tokens
    full = [((x[:, 0] + x[:, 1]) == longest - 3).mean() for x in (ours, theirs)]
    assert abs(full[0] - full[1]) < 0.03


def test_the_given_share_of_documents_is_cut_into_short_items():
    shard = make_shard([120] * 1500, 1)
    for short in (0.0, 0.1, 0.6):
        table = pair_table(shard, np.arange(1500), 23, short, draw.key(5))
        sizes = (table[:, 2] - table[:, 1]) + (table[:, 4] - table[:, 3])
        true = table[:, 5] == 0  # pairs of one document, which are as long as was wanted but for the document's last
        longest = np.zeros(1500, dtype=np.int64)
        np.maximum.at(longest, document_of(shard, table[true, 1]), sizes[true])
        assert longest.max() == 20
        # One of the 19 lengths that are drawn for short items is the longest.
        assert abs((longest < 20).mean() - short * 18 / 19) < 0.035
        if short == 0.6:
            below = np.bincount(longest, minlength=21)[2:20] / (1500 * short)
            assert np.abs(below - 1 / 19).max() < 0.03


def test_cuts_fall_on_the_fronts_and_backs_of_the_longer_side_alike():
    shard = make_shard([2] * 400, 1)
    shard = shard._replace(tokens=np.arange(800 * 50), sentences=np.arange(801) * 50)
    table = pair_table(shard, np.arange(400), 43, 0.0, draw.key(0))
    _, a, a_end, b, b_end, _ = table.T
    assert (a_end - a == 20).all() and (b_end - b == 20).all()  # 100 tokens for 40 places: half from each
    for start in (a, b):
        assert abs((start % 50).mean() - 15.0) < 0.5 and 2 < (start % 50).std() < 3.4


def test_next_sentences_of_a_single_document_are_refused():
    shard = make_shard([20], 5)
    with pytest.raises(ValueError, match="add --data.pairs False"):
        pair_table(shard, np.arange(1), 32, 0.1, 0)


def test_plain_runs_use_each_token_once_and_are_as_long_as_fits():
    shard = make_shard(np.random.default_rng(2).integers(1, 30, 100), 20)
    chosen = np.random.default_rng(3).permutation(100)[:80]
    starts = set(shard.sentences.tolist())
    for longest in (7, 24, 64, 2000):
        table = plain_table(shard, chosen, longest)
        used = np.zeros(len(shard.tokens), dtype=np.int64)
        for _, start, end, second, second_end, is_random in table.tolist():
            used[start:end] += 1
            assert 0 < end - start <= longest - 2 and (second, second_end, is_random) == (end, end, 0)
        wanted = np.isin(document_of(shard, shard.tokens), chosen)
        assert (used == wanted).all()
        assert (document_of(shard, table[:, 1]) == document_of(shard, table[:, 2] - 1)).all()
        if longest > 22:  # every sentence fits, so runs are of whole ones, and no run could take in the next
            assert set(table[:, 1].tolist()) <= starts and set(table[:, 2].tolist()) <= starts
            ends = {int(shard.sentences[last]) for last in shard.documents}
            for start, end in table[:, 1:3].tolist():
                following = int(shard.sentences[np.searchsorted(shard.sentences, end) + 1]) if end not in ends else None
                assert following is None or following - start > longest - 2
