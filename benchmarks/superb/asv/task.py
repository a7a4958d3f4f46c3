# SPDX-License-Identifier: Apache-2.0
"""ASV: is it the same speaker? A network learns some speakers, and trials of others are scored by the cosine.

Yang et al. 2021 (arXiv:2105.01051, section 2); settings of s3prl@ec8064b, downstream/sv_voxceleb1 (its batches of 10
are accumulated five times; here 50 are one batch). Silence is cut out of every clip first (`silence.py`).
"""

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

from .. import corpora
from ..clips import Clips
from ..featurizer import FeaturizerConfig
from ..order import ACROSS
from ..predictions import FILES, write_scores
from ..states import Reading, States
from ..sweep import Plan, Probe, Run
from ..swept import CorpusConfig, Fold, Prepared, SweptConfig, need_positive
from ..utterance.config import need_all, usable
from ..utterance.probe import Labelled, label
from ..utterances import Kept, Parts, Utterance, fixed_crops, heard_seconds
from .probe import Trials, VerificationProbe, read_scores
from .silence import span, without_silence


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialCorpusConfig(CorpusConfig):
    """Where the speakers and the trials are."""

    trials: str = ""  # a list of trials, if it is not in the corpus's folder, or "all" pairs; a manifest's are drawn


class _Prepared(Prepared):
    def __init__(
        self,
        train: Labelled,
        speakers: int,
        trials: tuple[Trials, Trials],
        clips: Clips,
        featurizer: FeaturizerConfig,
        batch: int,
    ) -> None:
        self.train, self.speakers, self.trials, self.clips = train, speakers, trials, clips
        self.featurizer, self.batch = featurizer, batch

    def probe(self, states: States, reading: Reading, plan: Plan) -> Probe:
        need_all((number for one in self.trials for number in one.clips), states, self.clips)
        train = usable("train", self.train, states, self.clips)
        return VerificationProbe(train, self.speakers, self.trials, states, reading, self.featurizer, plan, self.batch)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerificationConfig(SweptConfig):
    """Settings of ASV."""

    pooled: ClassVar[bool] = False
    gain: ClassVar[float] = -3.0
    decay: ClassVar[float] = 0.01  # torch's default of AdamW
    label: ClassVar[str] = "speaker"

    data: TrialCorpusConfig = TrialCorpusConfig()
    protocol: Literal["published", "clean"] = "published"
    evaluations: int = 10  # every 20 000
    batch: int = 50
    clip: float = 1000.0
    silence: Literal["cut", "keep"] = "cut"  # of training clips and of trials, before they are measured and cropped
    shortest: float = 2.0  # seconds; training clips that are no longer are left out
    longest: float = 8.0  # seconds of a training clip
    crops: int = 4  # pieces at even distances in a longer one, where s3prl draws a random one

    def __post_init__(self) -> None:
        super().__post_init__()
        need_positive({"longest": self.longest, "crops": self.crops})

    def folds(self) -> list[Fold]:
        found = corpora.verification(self.data.path, self.data.trials, self.protocol == "clean")
        if self.silence == "keep":
            return found
        return [one._replace(parts=without_silence(one.parts, self.gain, self.store.threads)) for one in found]

    def notes(self, folds: list[Fold]) -> list[str]:
        parts = folds[0].parts
        notes = [ACROSS]
        notes.append("pooling takes a clip's own frames; s3prl's takes one of padding too, save for a batch's longest")
        if silent := sum(not kept for kept in parts.kept.values()):
            notes.append(f"{silent} clips of trials are silence throughout: heard as they are, where s3prl has nothing")
        if short := len(parts.train) - len(self._long(parts)):
            cut = "without their silence " if parts.kept else ""
            no_longer = f"no longer than {self.shortest:g} s"
            notes.append(f"{short} of {len(parts.train)} training clips are {cut}{no_longer}: left out")
        if any(_seconds(parts, one) > self.longest for one in parts.train):
            longer = f"of training clips longer than {self.longest:g} s"
            notes.append(f"{longer} one of {self.crops} fixed pieces is heard at a time, instead of any")
        if self.protocol == "clean":
            drawn = f"{len(parts.dev_trials)} drawn trials of {len({one.speaker for one in parts.dev})} speakers"
            return [*notes, f"clean: states and learning rate are chosen by {drawn} that training does not hear"]
        best = "states and learning rate are those with the lowest error rate on test itself, so it is too low"
        return [*notes, f"published: {best}; --protocol clean chooses by speakers held apart"]

    def _long(self, parts: Parts) -> list[Utterance]:
        return [one for one in parts.train if _seconds(parts, one) > self.shortest]

    def _pieces(self, parts: Parts, utterance: Utterance) -> list[tuple[Utterance, Kept]]:
        """What stands for a training clip, of which one is drawn each time: itself, or crops, without silence."""
        length, kept = _seconds(parts, utterance), parts.kept.get(utterance, ())
        if length <= self.longest:
            return [(utterance, kept)]
        if not kept:
            return [(one, ()) for one in fixed_crops(utterance._replace(crop=self.longest), self.crops)]
        crops = fixed_crops(utterance._replace(start=0.0, end=length, crop=self.longest), self.crops)
        return [(utterance, span(kept, one.start, self.longest)) for one in crops]

    def prepare(self, fold: Fold, clips: Clips) -> Prepared:
        parts = fold.parts
        train = self._long(parts)
        if not train:
            cut = ", without their silence," if parts.kept else ""
            short = f"all {len(parts.train)} training clips{cut} are no longer than {self.shortest:g} s"
            raise ValueError(f"{self.data.path}: {short}: set --shortest")
        clean = self.protocol == "clean"
        if clean and not {trial.same for trial in parts.dev_trials} == {True, False}:
            raise ValueError(
                f"{self.data.path} leaves no dev trials to choose by: add speakers, or restore their clips"
            )
        test = Trials.of(parts.trials, parts.test, parts.kept, clips)
        judge = Trials.of(parts.dev_trials, parts.dev, parts.kept, clips) if clean else test
        speakers = len(parts.slots[0].values)
        made = label([(one, []) for one in train], parts.slots, clips)
        made = made._replace(pieces=[[clips.add(*piece) for piece in self._pieces(parts, one)] for one in train])
        return _Prepared(made, speakers, (judge, test), clips, self.featurizer, self.batch)

    def write(self, fold: Fold, folder: Path, run: Run, to: Path) -> None:
        path = to / "predict" / FILES["asv"] if fold.official else to / "asv.txt"
        write_scores(path, read_scores(folder, run.seed, run.rate))


def _seconds(parts: Parts, utterance: Utterance) -> float:
    """How long a clip is without what is cut out of it."""
    assert utterance.end is not None
    return heard_seconds(parts.kept.get(utterance, ())) or utterance.end - utterance.start


def asv() -> VerificationConfig:
    """Speaker verification; equal error rate, lower is better (VoxCeleb1, AN4, or a manifest)."""
    return VerificationConfig()
