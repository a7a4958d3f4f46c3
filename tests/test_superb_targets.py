# SPDX-License-Identifier: Apache-2.0
"""Targets of PR, ASR and SF: the published vocabularies, lexicons, slots, and text that comes back from numbers."""

import os
from pathlib import Path

import pytest

from pluri.benchmarks.superb.ctc.slots import read_slots
from pluri.benchmarks.superb.ctc.targets import (
    LETTERS,
    PHONES,
    letter_vocabulary,
    letters_in,
    letters_of,
    need_words,
    phone_vocabulary,
    phones_in,
    phones_of,
    read_lexicon,
    slot_vocabulary,
    slots_of,
)
from pluri.benchmarks.superb.layouts.an4 import an4

DATA = Path(os.environ.get("PLURI_TRIAL_DATA", "")) / "speech"


def test_the_phones_are_the_71_of_superb_and_their_vocabulary_has_74():
    assert len(PHONES) == len(set(PHONES)) == 71 and PHONES[:5] == ("SIL", "SPN", "AA0", "AA1", "AA2")
    assert PHONES[-5:] == ("V", "W", "Y", "Z", "ZH") and PHONES.index("B") == PHONES.index("AY2") + 1
    vocabulary = phone_vocabulary()
    assert len(vocabulary.symbols) == 74 and vocabulary.symbols[vocabulary.blank] == "<pad>"
    assert vocabulary.encode(["SIL", "ZH"]) == [3, 73, 1]
    assert vocabulary.text([0, 3, 0, 73, 1, 0]) == "SIL ZH"


def test_the_letters_are_the_32_of_superb_and_words_end_in_a_bar():
    vocabulary = letter_vocabulary()
    assert len(LETTERS) == 28 and len(vocabulary.symbols) == 32
    assert vocabulary.symbols[:6] == ("<s>", "<pad>", "</s>", "<unk>", "|", "E")
    assert vocabulary.symbols[7:13] == tuple("AONIHS") and vocabulary.symbols[17:20] == tuple("MCW")
    numbers = vocabulary.encode(letters_of("I'm  here"))
    assert "".join(vocabulary.symbols[n] for n in numbers) == "I'M|HERE|</s>" and vocabulary.blank == 0
    assert vocabulary.text([0, *numbers, 0]) == "I'M HERE"
    assert vocabulary.text(vocabulary.encode(letters_of(""))) == ""
    assert letter_vocabulary((*LETTERS, "Ü")).encode("Ü") == [32, 2]


def test_letters_are_the_published_and_the_corpus_s_own_and_what_is_unknown_is_never_right():
    assert letters_in(["Hello"]) == LETTERS and letters_in(["café 4", "ça"]) == (*LETTERS, "4", "Ç", "É")
    vocabulary = letter_vocabulary()
    spelt = letters_of("4 über")
    assert vocabulary.encode(spelt)[:3] == [3, 4, 3] and vocabulary.reference(spelt) == "4 ÜBER"
    slots = slot_vocabulary(("a",))
    assert slots.reference(slots_of("Ü", ("a",))) == "B-a <unk> E-a"  # as published


def test_of_several_pronunciations_the_first_is_taken_across_files(tmp_path):
    (tmp_path / "a.txt").write_text("A\tAH0\nA  EY1\nREAD  R EH1 D\nREAD(2) R IY1 D\n")
    (tmp_path / "b.txt").write_text(";;; words\nREAD R IY1 D\n'TIS T IH1 Z\n(2) T UW1\n")
    lexicon = read_lexicon(tmp_path / "a.txt", tmp_path / "b.txt")
    assert lexicon == {"A": ("AH0",), "READ": ("R", "EH1", "D"), "'TIS": ("T", "IH1", "Z"), "(2)": ("T", "UW1")}
    assert phones_of("'TIS READ", lexicon) == ["T", "IH1", "Z", "R", "EH1", "D"] and phones_of("", lexicon) == []
    assert phones_in(lexicon) == PHONES and phones_in({"A": ["b", "a"], "B": ["a"]}) == ("a", "b")
    need_words(["READ A", ""], lexicon, "x")
    with pytest.raises(ValueError, match="^m.tsv: the lexicon has no BY, TO; add a line `BY PHONE ...` for each$"):
        need_words(["TO READ", "BY TO"], lexicon, "m.tsv")
    with pytest.raises(ValueError, match="no W00, .*, W09 and 5 more words; add"):
        need_words([f"W{i:02}" for i in range(15)], lexicon, "m.tsv")
    with pytest.raises(ValueError, match="^m.tsv: the lexicon has no a, read, but in other case: write both alike$"):
        need_words(["read a"], lexicon, "m.tsv")
    (tmp_path / "a.txt").write_text("A AH0\nB\n")
    with pytest.raises(ValueError, match="a.txt, line 2: B has no phones"):
        read_lexicon(tmp_path / "a.txt")
    with pytest.raises(ValueError, match="c.txt is missing"):
        read_lexicon(tmp_path / "c.txt")


@pytest.mark.parametrize(
    ("text", "tags", "expected"),
    [
        ("PLAY QUEEN NOW", "O artist O", "PLAY B-artist QUEEN E-artist NOW"),
        ("PLAY THE QUEEN", "O artist artist", "PLAY B-artist THE QUEEN E-artist"),
        ("SALT & BONN TODAY", "dish dish city day", "B-dish SALT AND E-dish B-city BONN E-city B-day TODAY E-day"),
        ("BONN KIEL", "B-city B-city", "B-city BONN E-city B-city KIEL E-city"),
        ("NEW YORK KIEL", "B-city I-city B-city", "B-city NEW YORK E-city B-city KIEL E-city"),
        ("BONN KIEL", "city city", "B-city BONN KIEL E-city"),
        ("GO , NOW !", "O O O O", "GO NOW"),
        ("IN BONN !", "O city city", "IN B-city BONN E-city"),
        ("BONN ? KIEL", "city O city", "B-city BONN E-city B-city KIEL E-city"),
        ("BAD , KIEL", "city city city", "B-city BAD KIEL E-city"),
        ("GO", "O", "GO"),
        ("?", "O", ""),
    ],
)
def test_slots_are_opened_and_closed_around_each_value(text, tags, expected):
    vocabulary = slot_vocabulary(("artist", "city", "day", "dish"))
    numbers = vocabulary.encode(slots_of(text, tags.split(" ")))
    assert vocabulary.text(numbers) == expected and numbers[-1] == 1
    opened = sum(number >= 31 and (number - 31) % 2 == 0 for number in numbers)
    assert sum(map(len, read_slots(vocabulary.text(numbers)).values())) == opened


def test_the_slot_vocabulary_takes_strange_letters_for_unknown():
    vocabulary = slot_vocabulary(("a", "b"))
    assert vocabulary.symbols[3:5] == (" ", "A") and vocabulary.symbols[30:] == ("'", "B-a", "E-a", "B-b", "E-b")
    assert vocabulary.encode(slots_of("Ü 4", ("b", "O"))) == [33, 2, 34, 3, 2, 1]
    assert vocabulary.text([33, 2, 34]) == "B-b <unk> E-b"
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        slots_of("A B", ("O",))


@pytest.mark.skipif("PLURI_TRIAL_DATA" not in os.environ, reason="needs the trial data")
def test_the_real_an4_can_be_spelt_in_phones_and_letters():
    lexicon = read_lexicon(DATA / "an4/etc/an4.dic")
    assert len(lexicon) == sum("(" not in line for line in (DATA / "an4/etc/an4.dic").read_text().split("\n") if line)
    phones, letters = phone_vocabulary(phones_in(lexicon)), letter_vocabulary()
    assert len(phones.symbols) == 3 + 33 and lexicon["A"] == ("AH",)
    parts = an4(DATA / "an4")
    for utterance in (*parts.train, *parts.dev, *parts.test):
        assert utterance.text and phones.encode(phones_of(utterance.text, lexicon))
        assert letters.text(letters.encode(letters_of(utterance.text))) == utterance.text
