# SPDX-License-Identifier: Apache-2.0
"""KS, IC, SID and ER: a class, or three, for each utterance (Yang et al. 2021, arXiv:2105.01051, section 2).

Batches, steps, selection and samplers are those of s3prl@ec8064b, downstream/{speech_commands, fluent_commands,
voxceleb1, emotion}; gradients of its accumulated small batches are those of one batch of 32.
"""

import dataclasses
from typing import ClassVar, Literal

from .. import corpora
from ..order import ACROSS
from ..swept import CorpusConfig, Fold, need_positive
from ..utterances import Utterance, fixed_crops
from .config import UtteranceConfig
from .probe import Drawing

Protocol = Literal["published", "clean"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeywordCorpusConfig(CorpusConfig):
    """Where the keywords are."""

    test: str = ""  # speech_commands_test_set_v0.01, if it does not stand beside the corpus


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeywordConfig(UtteranceConfig):
    """Settings of KS."""

    task: ClassVar[str] = "ks"
    label: ClassVar[str] = "keyword"
    gain: ClassVar[float] = -3.0

    data: KeywordCorpusConfig = KeywordCorpusConfig()
    protocol: Protocol = "published"
    crops: int = 64  # seconds at even distances in each recording of noise, where s3prl draws a random one

    def __post_init__(self) -> None:
        super().__post_init__()
        need_positive({"crops": self.crops})

    def folds(self) -> list[Fold]:
        return corpora.keywords(self.data.path, self.data.test)

    def notes(self, folds: list[Fold]) -> list[str]:
        shared = any(utterance.crop for fold in folds for utterance in fold.parts.train)
        notes = []
        if shared:
            notes.append(f"silence is one of {self.crops} fixed seconds of each recording of noise, instead of any")
        if self.protocol == "clean":
            own = " and has noise of its own" if shared else ""
            return [*notes, f"clean: dev is scored whole, as the mean over classes{own}"]
        noise = ", and train and dev share the recordings of noise" if shared else ""
        drawn = "dev is drawn with replacement, balanced by class, so some of its clips never count"
        return [*notes, f"published: {drawn}{noise}; --protocol clean mends it"]

    def pieces(self, part: str, utterance: Utterance) -> list[Utterance]:
        if utterance.crop is None:
            return [utterance]
        start, end = utterance.start, utterance.end
        assert end is not None
        if self.protocol == "clean":  # the last fifth of a recording is for dev
            border = start + 0.8 * (end - start)
            start, end = (border, end) if part == "dev" else (start, border)
            if end - start < utterance.crop:
                raise ValueError(f"{utterance.path} is too short for noise of their own in train and dev")
        utterance = utterance._replace(start=start, end=end)
        return fixed_crops(utterance, self.crops)

    def drawing(self) -> Drawing:
        return Drawing(self.batch, balanced=True, dev="drawn" if self.protocol == "published" else "classes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class IntentConfig(UtteranceConfig):
    """Settings of IC."""

    task: ClassVar[str] = "ic"
    label: ClassVar[str] = "intent"

    def folds(self) -> list[Fold]:
        return corpora.intents(self.data.path)

    def notes(self, folds: list[Fold]) -> list[str]:
        if len(folds[0].parts.slots) == 1:
            return [ACROSS, "an intent is the one label of a clip, not action, object and location, all right"]
        return [ACROSS]

    def pieces(self, part: str, utterance: Utterance) -> list[Utterance]:
        return [utterance]

    def drawing(self) -> Drawing:
        return Drawing(self.batch)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeakerCorpusConfig(CorpusConfig):
    """Where the speakers are."""

    listing: str = ""  # VoxCeleb1's identification list, if it is not in the corpus's folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeakerConfig(UtteranceConfig):
    """Settings of SID."""

    task: ClassVar[str] = "sid"
    label: ClassVar[str] = "speaker"

    data: SpeakerCorpusConfig = SpeakerCorpusConfig()
    longest: float = 8.0  # seconds of a training clip
    crops: int = 4  # pieces at even distances in a longer one, where s3prl draws a random one

    def __post_init__(self) -> None:
        super().__post_init__()
        need_positive({"longest": self.longest, "crops": self.crops})

    def folds(self) -> list[Fold]:
        return corpora.speakers(self.data.path, self.data.listing)

    def notes(self, folds: list[Fold]) -> list[str]:
        if not any((one.end or 0.0) - one.start > self.longest for one in folds[0].parts.train):
            return [ACROSS]
        longer = f"of training clips longer than {self.longest:g} s"
        pieces = f"one of {self.crops} fixed pieces is heard at a time, instead of any; dev and test are whole"
        return [ACROSS, f"{longer} {pieces}"]

    def pieces(self, part: str, utterance: Utterance) -> list[Utterance]:
        assert utterance.end is not None
        if part != "train" or utterance.end - utterance.start <= self.longest:
            return [utterance]
        return fixed_crops(utterance._replace(crop=self.longest), self.crops)

    def drawing(self) -> Drawing:
        return Drawing(self.batch)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmotionConfig(UtteranceConfig):
    """Settings of ER."""

    task: ClassVar[str] = "er"
    label: ClassVar[str] = "emotion"

    protocol: Protocol = "published"
    folds_used: tuple[int, ...] = ()  # from 1; none: all, whose mean is the score
    steps: int = 30_000
    evaluations: int = 30  # every 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.folds_used)) < len(self.folds_used):
            raise ValueError(f"--folds-used {' '.join(map(str, self.folds_used))}: name each fold once")

    def folds(self) -> list[Fold]:
        return corpora.emotions(self.data.path, self.protocol == "clean", self.folds_used)

    def notes(self, folds: list[Fold]) -> list[str]:
        some = [f"only the folds {', '.join(map(str, self.folds_used))} were used"] if self.folds_used else []
        if self.protocol == "clean":
            return [ACROSS, *some, "clean: dev is a session of its own"]
        if folds[0].official:
            some.append("published: dev has the speakers of train; --protocol clean takes a session instead")
        return [ACROSS, *some]

    def pieces(self, part: str, utterance: Utterance) -> list[Utterance]:
        return [utterance]

    def drawing(self) -> Drawing:
        return Drawing(self.batch)


def ks() -> KeywordConfig:
    """Keyword spotting: ten words, silence or another; accuracy (Speech Commands, FSDD, or a manifest)."""
    return KeywordConfig()


def ic() -> IntentConfig:
    """Intent classification: action, object and location, all right; accuracy (Fluent Speech Commands, a manifest)."""
    return IntentConfig()


def sid() -> SpeakerConfig:
    """Speaker identification; accuracy (VoxCeleb1, FSDD, AN4, or a manifest)."""
    return SpeakerConfig()


def er() -> EmotionConfig:
    """Emotion recognition; accuracy, the mean over folds (IEMOCAP, EMO-DB, or a manifest)."""
    return EmotionConfig()
