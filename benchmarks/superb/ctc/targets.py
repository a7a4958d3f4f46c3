# SPDX-License-Identifier: Apache-2.0
"""What the CTC tasks spell: phones (PR), letters (ASR), and characters with slot tags (SF).

Vocabularies are those of SUPERB (Yang et al. 2021, arXiv:2105.01051), in the order of s3prl@ec8064b, downstream/ctc and
downstream/asr, so that its heads' outputs mean the same. Each target ends in an end symbol, as published.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ..layouts.listings import numbered_lines

_VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split()
_CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH".split()
# Silence, spoken noise, and ARPAbet with stress on vowels, sorted.
PHONES = ("SIL", "SPN", *sorted([f"{vowel}{stress}" for vowel in _VOWELS for stress in "012"] + _CONSONANTS))
LETTERS = tuple("|ETAONIHSRDLUMCWFGYPBVK'XJQZ")  # by frequency in LibriSpeech; | stands between words
CHARACTERS = tuple(" ABCDEFGHIJKLMNOPQRSTUVWXYZ'")
PUNCTUATION = "?!.,;-"  # SF leaves out words that are a piece of this


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The symbols that a CTC head tells apart."""

    symbols: tuple[str, ...]
    blank: int
    end: int  # closes each target; no part of the text
    unknown: int  # stands for every symbol that is not listed
    lenient: bool  # whether it does so in what hypotheses are scored against too, so that two unknown ones are equal
    join: Callable[[Sequence[str]], str]  # from symbols to the text that is scored

    def encode(self, symbols: Iterable[str]) -> list[int]:
        """Numbers of the symbols, and the end."""
        numbers = {symbol: number for number, symbol in enumerate(self.symbols)}
        return [*(numbers.get(symbol, self.unknown) for symbol in symbols), self.end]

    def text(self, numbers: Iterable[int]) -> str:
        """The text of a target, or of an output whose repeats are collapsed, without blanks and ends."""
        return self.join([self.symbols[number] for number in numbers if number not in (self.blank, self.end)])

    def reference(self, symbols: Sequence[str]) -> str:
        """The text that is scored against. Unless lenient, it keeps what is not listed, which no hypothesis can say."""
        return self.text(self.encode(symbols)) if self.lenient else self.join(symbols)


def phone_vocabulary(phones: Sequence[str] = PHONES) -> Vocabulary:
    """Blank (which is also padding), end, unknown, then the phones: 74 as published."""
    return Vocabulary(("<pad>", "<eos>", "<unk>", *phones), 0, 1, 2, False, " ".join)


def letter_vocabulary(letters: Sequence[str] = LETTERS) -> Vocabulary:
    """Blank, padding, end, unknown, then the letters: 32 as published."""
    return Vocabulary(("<s>", "<pad>", "</s>", "<unk>", *letters), 0, 2, 3, False, _join_letters)


def slot_vocabulary(slots: Sequence[str]) -> Vocabulary:
    """Blank, end, unknown, 28 characters, and B-NAME and E-NAME of each slot.

    Other characters are unknown, in references too, as published. Where slots.txt ends with a line break s3prl has one
    more slot, without a name.
    """
    tags = [f"{mark}-{slot}" for slot in slots for mark in "BE"]
    return Vocabulary(("<pad>", "<eos>", "<unk>", *CHARACTERS, *tags), 0, 1, 2, True, _join_slots)


def read_lexicon(*paths: Path) -> dict[str, tuple[str, ...]]:
    """Words and their phones, from rows `WORD PHONE PHONE ...`; of several pronunciations the first is taken.

    SUPERB reads librispeech-lexicon-200k-g2p.txt, then librispeech-lexicon-allothers-g2p.txt. A word's further
    pronunciations may be named WORD(2), as in CMUdict, whose comments begin with ;;;.

    Raises: ValueError, with the line, for a word without phones.
    """
    found: dict[str, tuple[str, ...]] = {}
    for path in paths:
        for number, line in numbered_lines(path):
            if line.startswith(";;;"):
                continue
            word, *phones = line.split()
            if not phones:
                raise ValueError(f"{path}, line {number}: {word} has no phones")
            found.setdefault(re.sub(r"(?<=.)\(\d+\)$", "", word), tuple(phones))
    return found


def phones_in(lexicon: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The published phones if the lexicon has no others, else the lexicon's own, sorted."""
    used = {phone for phones in lexicon.values() for phone in phones}
    return PHONES if used <= set(PHONES) else tuple(sorted(used))


def phones_of(text: str, lexicon: Mapping[str, Sequence[str]]) -> list[str]:
    """The phones of a transcript, whose words the lexicon has."""
    return [phone for word in text.split() for phone in lexicon[word]]


def need_words(texts: Iterable[str], lexicon: Mapping[str, Sequence[str]], place: str) -> None:
    """Raises ValueError, with the place, naming the first ten words of the transcripts that the lexicon lacks."""
    if missing := sorted({word for text in texts for word in text.split()} - lexicon.keys()):
        more = f" and {len(missing) - 10} more words" if len(missing) > 10 else ""
        lacks = f"the lexicon has no {', '.join(missing[:10])}{more}"
        if {word.upper() for word in missing} <= {word.upper() for word in lexicon}:
            raise ValueError(f"{place}: {lacks}, but in other case: write both alike")
        raise ValueError(f"{place}: {lacks}; add a line `{missing[0]} PHONE ...` for each")


def letters_of(text: str) -> list[str]:
    """The upper-case letters of a transcript; each word, the last too, is followed by |."""
    return [letter for word in text.upper().split() for letter in f"{word}|"]


def letters_in(texts: Iterable[str]) -> tuple[str, ...]:
    """The published letters, then those that the transcripts have besides, sorted."""
    return (*LETTERS, *sorted({letter for text in texts for letter in letters_of(text)} - set(LETTERS)))


def slots_of(text: str, tags: Sequence[str]) -> list[str]:
    """The characters of a tagged transcript, with B-NAME before and E-NAME after each slot's value.

    Neighbours of one slot are one value, unless their tags are of the BIO kind and one begins with B-. Punctuation is
    left out and & is AND, as published; differs: a value that punctuation ends is closed all the same.

    Args:
        text: words, between single spaces. tags: of each word a slot, or with B- or I- before it, or O.
    """
    kept: list[tuple[str, str, int]] = []  # word, slot, and the value's number
    before, value = "O", 0
    for word, tag in zip(text.split(" "), tags, strict=True):
        value += _slot(tag) != _slot(before) or tag.startswith("B-")
        before = tag
        if word not in PUNCTUATION:
            kept.append(("AND" if word == "&" else word, _slot(tag), value))
    symbols: list[str] = []
    for i, (word, slot, value) in enumerate(kept):
        if i:
            symbols.append(" ")
        if slot != "O" and (i == 0 or kept[i - 1][2] != value):
            symbols.append(f"B-{slot}")
        symbols += word
        if slot != "O" and (i + 1 == len(kept) or kept[i + 1][2] != value):
            symbols.append(f"E-{slot}")
    return symbols


def _slot(tag: str) -> str:
    return tag.removeprefix("B-").removeprefix("I-")


def _join_letters(letters: Sequence[str]) -> str:
    return "".join(letters).replace("|", " ").strip()


def _join_slots(symbols: Sequence[str]) -> str:
    """Characters together, tags between spaces: "PLAY B-artist QUEEN E-artist NOW"."""
    marks = {"B-": "{} ", "E-": " {}"}
    return "".join(marks.get(symbol[:2], "{}").format(symbol) for symbol in symbols)
