# SPDX-License-Identifier: Apache-2.0
"""What PR, ASR and SF share: parts become clips and targets, and transcripts become prediction files."""

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from .. import corpora
from ..clips import Clips
from ..featurizer import hop
from ..predictions import FILES, write_pairs
from ..states import Reading, States
from ..sweep import Plan, Probe, Run
from ..swept import CorpusConfig, Fold, Prepared, SweptConfig
from ..utterance.config import need_all, usable
from ..utterances import Utterance
from .heads import CtcHeads
from .loss import frames_needed
from .probe import Batches, CtcProbe, Decoder, Scoring, Spoken, greedy_decoder, read_predictions
from .targets import Vocabulary

_RATE = 16_000  # samples a second


@dataclasses.dataclass(frozen=True, kw_only=True)
class TranscribedCorpusConfig(CorpusConfig):
    """Where the transcripts are."""

    train: tuple[str, ...] = corpora.SUBSETS[0]  # of LibriSpeech
    dev: tuple[str, ...] = corpora.SUBSETS[1]
    test: tuple[str, ...] = corpora.SUBSETS[2]

    def folds(self) -> list[Fold]:
        """LibriSpeech, AN4, or a manifest."""
        return corpora.transcripts(self.path, (self.train, self.dev, self.test))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PronouncedCorpusConfig(TranscribedCorpusConfig):
    """Where the transcripts and their words' phones are."""

    lexicon: tuple[str, ...] = ()  # files of rows `WORD PHONE ...`, first come first served; (): the corpus's own


class Spelling(NamedTuple):
    """What a task's heads tell apart, and how an utterance is spelt by it."""

    vocabulary: Vocabulary
    symbols: Callable[[Utterance], Sequence[str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CtcConfig(SweptConfig, ABC):
    """A task whose head says for each frame which symbol it is."""

    pooled: ClassVar[bool] = False
    task: ClassVar[str]
    scoring: ClassVar[Scoring]

    @abstractmethod
    def spelling(self, fold: Fold) -> Spelling:
        """The symbols of a fold. Raises ValueError if they cannot be told."""

    @abstractmethod
    def batches(self, targets: Sequence[Sequence[int]], seconds: Sequence[float]) -> Batches:
        """How the utterances of train, of which lengths of both kinds are given, are drawn."""

    @abstractmethod
    def heads(self, seeds: Sequence[int], layers: int, width: int, symbols: int) -> CtcHeads:
        """One head for each seed and learning rate."""

    @abstractmethod
    def decoders(self, vocabulary: Vocabulary) -> dict[str, Decoder]:
        """Ways of reading transcripts besides greedy ones. Raises ValueError if what they need is missing."""

    @abstractmethod
    def files(self) -> list[str]:
        """The files that these ways need, by whose contents a sweep is known."""

    def prepare(self, fold: Fold, clips: Clips) -> Prepared:
        if not fold.parts.dev:
            raise ValueError(f"{self.data.path} leaves nothing for dev, by which the learning rate is chosen")
        spelling = self.spelling(fold)
        decoders = {"greedy": greedy_decoder(spelling.vocabulary), **self.decoders(spelling.vocabulary)}
        train, dev, test = (
            _spoken(utterances, spelling, clips) for utterances in (fold.parts.train, fold.parts.dev, fold.parts.test)
        )
        return _Prepared(self, (train, dev, test), spelling.vocabulary, decoders, clips)

    def write(self, fold: Fold, folder: Path, run: Run, to: Path) -> None:
        for decoder, said in read_predictions(folder, run.seed, run.rate).items():
            name = self.task if decoder == "greedy" else f"{self.task}_lm"
            path = to / "predict" / FILES[name] if fold.official else to / f"{name}.txt"
            write_pairs(path, {one: text.strip() for one, text in said.items()})


def _spoken(utterances: Sequence[Utterance], spelling: Spelling, clips: Clips) -> Spoken:
    spelt = [spelling.symbols(one) for one in utterances]
    targets = [spelling.vocabulary.encode(symbols) for symbols in spelt]
    texts = [spelling.vocabulary.reference(symbols) for symbols in spelt]
    return Spoken([one.name for one in utterances], [clips.add(one) for one in utterances], targets, texts)


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


class _Prepared(Prepared):
    """The three parts of a fold."""

    def __init__(
        self,
        config: CtcConfig,
        parts: tuple[Spoken, Spoken, Spoken],
        vocabulary: Vocabulary,
        decoders: dict[str, Decoder],
        clips: Clips,
    ) -> None:
        self.config, self.parts, self.vocabulary, self.decoders = config, parts, vocabulary, decoders
        self.clips = clips
        self.key = " ".join(map(_digest, config.files()))

    def probe(self, states: States, reading: Reading, plan: Plan) -> Probe:
        train, dev, test = self.parts
        need_all(test.clips, states, self.clips)
        train, dev = usable("train", train, states, self.clips), usable("dev", dev, states, self.clips)
        seconds = [self.clips.seconds(clip) for clip in train.clips]
        remarks = self._short(train, seconds, hop(reading.backbone.front_end))
        heads = self.config.heads(plan.seeds, len(reading.layers), reading.width, len(self.vocabulary.symbols))
        batches = self.config.batches(train.targets, seconds)
        scoring = self.config.scoring
        probe = CtcProbe((train, dev, test), states, heads, self.vocabulary, scoring, batches, self.decoders, plan)
        probe.remarks = remarks
        return probe

    def _short(self, train: Spoken, seconds: Sequence[float], hop: int) -> list[str]:
        """A line on clips with fewer frames than symbols, of which CTC learns nothing.

        Raises: ValueError if these are most.
        """
        short = [i for i, target in enumerate(train.targets) if round(seconds[i] * _RATE / hop) < frames_needed(target)]
        if not short:
            return []
        words = (
            f"{len(short)} of {len(train.targets)} training clips, first {self.clips.name(train.clips[short[0]])}, "
            f"have fewer frames (one in {1000 * hop / _RATE:g} ms) than symbols"
        )
        if len(short) > len(train.targets) / 2:
            raise ValueError(f"{words}: take an encoder with more frames a second")
        return [f"{words}: nothing is learnt of them"]
