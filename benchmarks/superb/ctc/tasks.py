# SPDX-License-Identifier: Apache-2.0
"""PR, ASR and SF: phones, letters and slots, by CTC (Yang et al. 2021, arXiv:2105.01051, section 2).

Batches, steps and selection are those of s3prl@ec8064b, downstream/ctc (libriphone.yaml, snips.yaml) and
downstream/asr. Its figure on dev is of greedy transcripts, and so is ours; error rates are fractions.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from .. import corpora
from ..swept import Fold, need_positive
from ..utterances import Parts, Slot, Utterance
from .beam import BeamConfig
from .buckets import LONG, buckets, windows
from .config import CtcConfig, PronouncedCorpusConfig, Spelling, TranscribedCorpusConfig
from .errors import character_error_rate, word_error_rate
from .heads import CtcHeads, LinearHeads, Recurrent, RecurrentHeads
from .probe import Batches, Decoder, Scoring
from .slots import read_slots, slot_type_f1, slot_value_cer
from .spec_augment import SpecAugmentConfig
from .targets import (
    LETTERS,
    PHONES,
    Vocabulary,
    letter_vocabulary,
    letters_in,
    letters_of,
    need_words,
    phone_vocabulary,
    phones_in,
    phones_of,
    slot_vocabulary,
    slots_of,
)

MOST_UNKNOWN = 0.05  # share of the symbols of a part of own data
HALVED = f"half as many where the first lasts more than {LONG:g} s"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhoneConfig(CtcConfig):
    """Settings of PR."""

    task: ClassVar[str] = "pr"
    scoring: ClassVar[Scoring] = Scoring({"per": word_error_rate}, True)

    data: PronouncedCorpusConfig = PronouncedCorpusConfig()
    grid: tuple[float, ...] = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)  # around that of s3prl's file
    steps: int = 100_000
    evaluations: int = 100  # every 1000
    windows: int = 2  # that make a batch

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.windows < 1 or self.batch % self.windows:
            raise ValueError(f"a batch of {self.batch} is not {self.windows} windows of one size: set --windows")

    def folds(self) -> list[Fold]:
        """The utterances' `text` is the phones of their words, `slots` all phones. Raises as `SweptConfig.folds`."""
        folds, lexicon = self.data.folds(), corpora.lexicon(self.data.path, self.data.lexicon)
        need_words((one.text or "" for fold in folds for one in _everyone(fold)), lexicon, self.data.path)
        slot = Slot("phones", phones_in(lexicon))

        def spoken(utterances: list[Utterance]) -> list[Utterance]:
            return [one._replace(text=" ".join(phones_of(one.text or "", lexicon))) for one in utterances]

        def of(parts: Parts) -> Parts:
            train, dev, test = spoken(parts.train), spoken(parts.dev), spoken(parts.test)
            return parts._replace(train=train, dev=dev, test=test, slots=(slot,))

        own = all(Path(name).name in corpora.LEXICONS for name in self.data.lexicon)
        return [fold._replace(parts=of(fold.parts), official=fold.official and own) for fold in folds]

    def notes(self, folds: list[Fold]) -> list[str]:
        phones = folds[0].parts.slots[0].values
        own = "the published ones" if phones == PHONES else "the lexicon's own"
        size = self.batch // self.windows
        return [
            f"{len(phones)} phones, {own}; greedy transcripts; dev is 1 - PER",
            f"published: a batch is {self.windows} windows of {size} neighbours by the length of targets; {HALVED}",
            *_fewer(folds, size),
        ]

    def spelling(self, fold: Fold) -> Spelling:
        vocabulary = phone_vocabulary(fold.parts.slots[0].values)
        return Spelling(vocabulary, lambda utterance: (utterance.text or "").split())

    def batches(self, targets: Sequence[Sequence[int]], seconds: Sequence[float]) -> Batches:
        size = self.batch // self.windows
        return Batches(windows([len(target) for target in targets], seconds, size), self.windows)

    def heads(self, seeds: Sequence[int], layers: int, width: int, symbols: int) -> CtcHeads:
        return LinearHeads(seeds, len(self.rates()), layers, width, symbols, self.featurizer)

    def decoders(self, vocabulary: Vocabulary) -> dict[str, Decoder]:
        return {}

    def files(self) -> list[str]:
        return []


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentConfig(CtcConfig):
    """What ASR and SF share."""

    grid: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # around that of s3prl's files
    evaluations: int = 100  # every 2000
    hidden: int = 1024  # of the projection, and of each LSTM in each direction
    augmented: bool = True  # features are, in training
    augment: SpecAugmentConfig = SpecAugmentConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        need_positive({"hidden": self.hidden})
        published = {field.name: field.default for field in dataclasses.fields(self)}["augment"]
        if not self.augmented and self.augment != published:
            raise ValueError("augment has no effect: leave --augmented True")

    def heads(self, seeds: Sequence[int], layers: int, width: int, symbols: int) -> CtcHeads:
        make = partial(Recurrent, layers, width, symbols, self.featurizer, self.hidden)
        return RecurrentHeads(make, seeds, len(self.rates()), self.augment if self.augmented else None)

    def heads_differ(self) -> list[str]:
        """Notes on what is not the published head, or the published masks on what it hears."""
        sizes = [] if self.hidden == 1024 else [f"LSTMs of {self.hidden}, where 1024 is published"]
        masks = "SpecAugment goes by each row's length, and masks reach their greatest width"
        return [*sizes, f"{masks}; s3prl's go by the batch's and end one short"] if self.augmented else sizes


@dataclasses.dataclass(frozen=True, kw_only=True)
class LetterConfig(RecurrentConfig):
    """Settings of ASR."""

    task: ClassVar[str] = "asr"
    scoring: ClassVar[Scoring] = Scoring({"wer": word_error_rate, "cer": character_error_rate}, True)

    data: TranscribedCorpusConfig = TranscribedCorpusConfig()
    protocol: Literal["published", "clean"] = "published"
    beam: BeamConfig = BeamConfig()

    def folds(self) -> list[Fold]:
        """`slots` is all letters, where train has others than the published ones. Raises as `SweptConfig.folds`."""
        folds = self.data.folds()
        slots = [Slot("letters", letters_in(one.text or "" for one in fold.parts.train)) for fold in folds]
        return [
            fold if slot.values == LETTERS else fold._replace(parts=fold.parts._replace(slots=(slot,)))
            for fold, slot in zip(folds, slots, strict=True)
        ]

    def notes(self, folds: list[Fold]) -> list[str]:
        letters = _letters(folds[0])
        own = "the published ones" if letters == LETTERS else f"the {len(LETTERS)} published and those of train besides"
        search = f"; beam: beam search of {self.beam.size} with {self.beam.lm}" if self.beam.lm else ""
        greedy = f"{len(letters)} letters, {own}; greedy: each frame's likeliest{search}; dev is 1 - WER, greedy"
        unknown = _unknown(self.spelling(folds[0]), folds[0])
        unseen = [f"{one.said}, as train has none: each is an error" for one in unknown]
        notes = [greedy, *unseen, *self.heads_differ()]
        if self.protocol == "clean":
            return [*notes, f"clean: batches of {self.batch}", *_fewer(folds, self.batch)]
        half = f"each full batch of {self.batch} is cut into two of {self.batch // 2}"
        return [
            *notes,
            f"published: {half}, as s3prl's limit for long clips is 2000 samples; --protocol clean does not",
            *_fewer(folds, self.batch),
        ]

    def spelling(self, fold: Fold) -> Spelling:
        return Spelling(letter_vocabulary(_letters(fold)), lambda utterance: letters_of(utterance.text or ""))

    def batches(self, targets: Sequence[Sequence[int]], seconds: Sequence[float]) -> Batches:
        return Batches(buckets(seconds, self.batch, self.protocol == "published"), 1)

    def decoders(self, vocabulary: Vocabulary) -> dict[str, Decoder]:
        return {"beam": self.beam.build(vocabulary)} if self.beam.lm else {}

    def files(self) -> list[str]:
        return [name for name in (self.beam.lm, self.beam.words) if name]


def _fewer(folds: Sequence[Fold], size: int) -> list[str]:
    """A note if train has fewer utterances than are to be drawn together."""
    have = min(len(fold.parts.train) for fold in folds)
    return [f"train has {have} utterances, not the {size} that are drawn together: all are, every time"] * (have < size)


def _letters(fold: Fold) -> tuple[str, ...]:
    return fold.parts.slots[0].values if fold.parts.slots else LETTERS


def _everyone(fold: Fold) -> tuple[Utterance, ...]:
    return (*fold.parts.train, *fold.parts.dev, *fold.parts.test)


class _Unknown(NamedTuple):
    """What a part's transcripts hold and a vocabulary does not list."""

    first: Utterance  # that holds any
    share: float  # of the part's symbols
    said: str


def _unknown(spelling: Spelling, fold: Fold) -> list[_Unknown]:
    """What is not listed, of each part that holds any."""
    found, listed = [], set(spelling.vocabulary.symbols)
    for part, utterances in (("train", fold.parts.train), ("dev", fold.parts.dev), ("test", fold.parts.test)):
        spelt = [spelling.symbols(one) for one in utterances]
        strange = Counter(symbol for symbols in spelt for symbol in symbols if symbol not in listed)
        if strange:
            first = next(one for one, symbols in zip(utterances, spelt, strict=True) if not listed.issuperset(symbols))
            kinds = ", ".join(repr(symbol) for symbol, _ in strange.most_common(5))
            rest = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
            count, total = strange.total(), sum(map(len, spelt))
            said = f"{count} of {total} symbols of {part} are unknown ({kinds}{rest})"
            found.append(_Unknown(first, count / total, said))
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlotConfig(RecurrentConfig):
    """Settings of SF."""

    task: ClassVar[str] = "sf"
    scoring: ClassVar[Scoring] = Scoring({"slot_type_f1": slot_type_f1, "slot_value_cer": slot_value_cer}, False)

    def folds(self) -> list[Fold]:
        """Raises also ValueError, before training, if the test part has no slot, or own data much that is unknown."""
        folds = corpora.slots(self.data.path)
        for fold in folds:
            for one in _unknown(self.spelling(fold), fold) if fold.parts.own else []:
                if one.share > MOST_UNKNOWN:
                    how = f"more than {MOST_UNKNOWN:.0%}, so spell them with A to Z and '"
                    raise ValueError(f"{corpora.place(self.data.path, one.first)}: {one.said}, {how}")
            vocabulary, symbols = self.spelling(fold)
            if not any(read_slots(vocabulary.reference(symbols(one))) for one in fold.parts.test):
                lacks = f"none of the {len(fold.parts.test)} test utterances has a slot's value"
                raise ValueError(f"{self.data.path}: {lacks}, which SF scores: move some that have one to test")
        return folds

    def notes(self, folds: list[Fold]) -> list[str]:
        how = f"published: a batch is {self.batch} neighbours by the length of targets; {HALVED}"
        unknown = _unknown(self.spelling(folds[0]), folds[0])
        strange = [f"{one.said}, in references too, as published" for one in unknown]
        marks = "unlike in s3prl, values are marked also at punctuation, and all sentences end"
        few = _fewer(folds, self.batch)
        return ["greedy transcripts; dev is the F1 of slot types", *strange, *self.heads_differ(), marks, how, *few]

    def spelling(self, fold: Fold) -> Spelling:
        names = fold.parts.slots[0].values
        return Spelling(slot_vocabulary(names), lambda utterance: slots_of(utterance.text or "", utterance.tags))

    def batches(self, targets: Sequence[Sequence[int]], seconds: Sequence[float]) -> Batches:
        return Batches(windows([len(target) for target in targets], seconds, self.batch), 1)

    def decoders(self, vocabulary: Vocabulary) -> dict[str, Decoder]:
        return {}

    def files(self) -> list[str]:
        return []


def pr() -> PhoneConfig:
    """Phone recognition; phone error rate, lower is better (LibriSpeech, AN4, or a manifest, with a lexicon)."""
    return PhoneConfig()


def asr() -> LetterConfig:
    """Speech recognition by letters; word error rate, lower is better (LibriSpeech, AN4, or a manifest)."""
    return LetterConfig()


def sf() -> SlotConfig:
    """Slot filling; F1 of slot types and error rate of values (Audio SNIPS, or a manifest with the column tags)."""
    return SlotConfig()
