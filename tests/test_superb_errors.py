# SPDX-License-Identifier: Apache-2.0
"""Phone, word and character error rates against jiwer, greedy CTC against its definition, and the rules of slots."""

import random

import jiwer
import pytest
import torch

from pluri.benchmarks.superb.ctc.errors import (
    Errors,
    character_error_rate,
    collapse,
    count_errors,
    edits,
    greedy,
    word_error_rate,
)
from pluri.benchmarks.superb.ctc.slots import read_slots, slot_type_f1, slot_value_cer, slot_value_errors


def texts(n, seed, least=0):
    rng = random.Random(seed)
    return [" ".join(rng.choices(["A", "BE", "SEE", "Ü", "naïve", "日本"], k=rng.randint(least, 9))) for _ in range(n)]


def slow_edits(said, meant):
    """By the recursion itself, over a full table."""
    table = [[row + column for column in range(len(meant) + 1)] for row in range(len(said) + 1)]
    for row in range(1, len(said) + 1):
        for column in range(1, len(meant) + 1):
            replaced = table[row - 1][column - 1] + (said[row - 1] != meant[column - 1])
            table[row][column] = min(replaced, table[row - 1][column] + 1, table[row][column - 1] + 1)
    return table[-1][-1]


@pytest.mark.parametrize("seed", range(8))
def test_word_and_character_error_rates_equal_jiwer(seed):
    said, meant = texts(20, seed), texts(20, seed + 100, least=1)
    assert word_error_rate(said, meant) == pytest.approx(jiwer.wer(meant, said), abs=1e-12)
    assert character_error_rate(said, meant) == pytest.approx(jiwer.cer(meant, said), abs=1e-12)


def test_edits_equal_the_full_table():
    rng = random.Random(0)
    for _ in range(100):
        said, meant = ([rng.randint(0, 3) for _ in range(rng.randint(0, 12))] for _ in range(2))
        assert edits(said, meant) == slow_edits(said, meant)


def test_an_empty_hypothesis_loses_every_token_and_an_empty_reference_counts_insertions():
    assert count_errors([[], ["a", "b"]], [["a", "b", "c"], []]) == Errors(5, 3)
    assert word_error_rate(["x y", "a"], ["", "a"]) == jiwer.wer(["", "a"], ["x y", "a"]) == 2.0


def test_stress_marks_and_letter_case_count_as_they_are_written():
    assert word_error_rate(["AA0 B"], ["AA1 B"]) == 0.5
    assert word_error_rate(["the"], ["THE"]) == 1.0


def test_references_without_tokens_and_unlike_lengths_are_refused():
    with pytest.raises(ValueError, match="hold no token"):
        word_error_rate(["a"], [" "])
    with pytest.raises(ValueError, match="2 hypotheses do not pair with 1 references"):
        word_error_rate(["a", "b"], ["a"])


def test_greedy_decoding_joins_repeats_before_it_drops_blanks():
    assert collapse([0, 5, 5, 0, 5, 7, 7, 1, 0], blank=0, dropped=(1,)) == [5, 5, 7]
    assert collapse([5, 1, 5], blank=0, dropped=(1,)) == [5, 5]
    assert collapse([], blank=0) == collapse([0, 0], blank=0) == []


def test_padding_is_not_decoded():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 40, 5, generator=generator)
    lengths = [40, 1, 17, 0, 33, 8]
    together = greedy(logits, lengths, blank=0, dropped=(1,))
    for row, length in enumerate(lengths):
        path = logits[row, :length].argmax(-1).unique_consecutive().tolist()
        assert together[row] == [token for token in path if token not in (0, 1)]
        assert [together[row]] == greedy(logits[row : row + 1, :length], [length], blank=0, dropped=(1,))


def test_slots_are_what_stands_between_an_opening_and_its_closing_tag():
    text = "PLAY  B-artist QUEEN   BEE E-artist OR B-artist ABBA E-artist ON B-service X E-service"
    assert read_slots(text) == {"artist": ["QUEEN BEE", "ABBA"], "service": ["X"]}
    assert read_slots("") == read_slots("B-artist E-artist") == read_slots("B-artist QUEEN") == {}
    assert read_slots("B-album NO B-artist WAY E-service OUT E-album") == {"album": ["NO WAY OUT"]}
    assert read_slots("B-track 10:30; LIVE E-track") == {"track": ["10:30; LIVE"]}


@pytest.mark.parametrize(
    ("said", "meant", "f1"),
    [
        ("NOTHING", "AT ALL", 1.0),
        ("B-a X E-a", "X", 0.0),
        ("X", "B-a X E-a", 0.0),
        ("B-a WRONG E-a", "B-a X E-a", 1.0),  # types alone
        ("B-a X E-a B-a Y E-a", "B-a X E-a", 1.0),  # a set, not a count
        ("B-a X E-a", "B-a X E-a B-b Y E-b", 2 / 3),
        ("B-a X E-a B-c Z E-c", "B-a X E-a B-b Y E-b", 0.5),
        ("B-c X E-c", "B-a X E-a", 0.0),
    ],
)
def test_slot_type_f1_follows_the_rules(said, meant, f1):
    assert slot_type_f1([said], [meant]) == pytest.approx(f1)
    assert slot_type_f1([said, "X"], [meant, "Y"]) == pytest.approx((f1 + 1) / 2)  # a mean over utterances


@pytest.mark.parametrize(
    ("said", "meant", "counted"),
    [
        ("B-a ABC E-a", "B-a ABCD E-a", Errors(1, 4)),
        ("X", "B-a ABCD E-a", Errors(4, 4)),  # a missing type is an empty value
        ("B-b ABCD E-b", "B-a ABCD E-a", Errors(4, 4)),
        ("B-a ZZZZ E-a B-a ABCD E-a", "B-a ABCD E-a", Errors(0, 4)),  # the nearest of its type
        ("B-a ABCD E-a", "B-a ABCD E-a B-a ABCE E-a", Errors(1, 8)),  # one may serve two
        ("B-a A B E-a", "B-a AB E-a", Errors(1, 2)),  # spaces are characters
        ("B-a ABCD E-a B-b LONG E-b", "B-a ABCD E-a", Errors(0, 4)),  # types of its own cost nothing
    ],
)
def test_slot_value_errors_follow_the_rules(said, meant, counted):
    assert slot_value_errors([said], [meant]) == counted
    assert slot_value_cer([said, said], [meant, meant]) == counted.rate


def test_slots_equal_s3prl_on_random_texts():
    published = pytest.importorskip("s3prl.metric.slot_filling")
    rng = random.Random(0)
    words = ["X", "YES", "AND B", "B-a", "E-a", "B-ab", "E-ab", "B-c", "E-c"]
    said = [" ".join(rng.choices(words, k=rng.randint(0, 14))) for _ in range(400)]
    spans = [f"B-{name} {value} E-{name}" for name in ("a", "ab", "c") for value in ("X", "YES NO", "ANDY")]
    meant = [" ".join(rng.choices([*spans, "X", "YES"], k=rng.randint(0, 6))) for _ in range(400)]
    assert slot_type_f1(said, meant) == pytest.approx(published.slot_type_f1(said, meant))
    assert slot_value_cer(said, meant) == pytest.approx(published.slot_value_cer(said, meant))


def test_slots_that_cannot_be_scored_are_refused():
    with pytest.raises(ValueError, match="1 hypotheses do not fit 2"):
        slot_type_f1(["X"], ["X", "Y"])
    with pytest.raises(ValueError, match="do not fit 0"):
        slot_value_cer([], [])
    with pytest.raises(ValueError, match="hold no token"):
        slot_value_cer(["X"], ["Y"])
