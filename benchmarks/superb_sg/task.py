# SPDX-License-Identifier: Apache-2.0
"""SS and SE: which part of a mixture is whose? LSTMs on the states mask its spectrum.

Tsai et al. 2022 (arXiv:2203.06849, section 3); settings of s3prl@ec8064b, downstream/separation_stft/configs/cfg.yaml
and downstream/enhancement_stft/configs/cfg_voicebank.yaml.
"""

import dataclasses
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..finetune import MissingFiles
from ..superb.clips import Clips
from ..superb.featurizer import FeaturizerConfig
from ..superb.layouts.listings import need_folder
from ..superb.layouts.published import lacks
from ..superb.order import ACROSS
from ..superb.stacked import Epsilon
from ..superb.states import Reading, States
from ..superb.sweep import Plan, Probe, Run
from ..superb.swept import Fold, Prepared, SweptConfig
from ..superb.utterance.config import need_all, usable
from ..superb.utterances import Parts, Utterance
from .heads import Separator, SeparatorHeads
from .mixtures import libri2mix, speakers_apart, voicebank, without_noise
from .probe import Mixture, Mixtures, Scoring, SeparationProbe, folder_of
from .signals import improvement, need_packages, pesq, si_sdr, stoi

METRICS = "metrics.txt"


class _Prepared(Prepared):
    def __init__(
        self,
        parts: tuple[Mixtures, Mixtures, Mixtures],
        clips: Clips,
        featurizer: FeaturizerConfig,
        scoring: Scoring,
        sizes: tuple[int, int],
    ) -> None:
        self.parts, self.clips, self.featurizer, self.scoring = parts, clips, featurizer, scoring
        self.batch, self.hidden = sizes
        self.key = repr(SeparationConfig.epsilon)

    def probe(self, states: States, reading: Reading, plan: Plan) -> Probe:
        train, dev, test = self.parts
        need_all((one.clip for one in test), states, self.clips)
        kept = usable("train", train, states, self.clips), usable("dev", dev, states, self.clips), test
        speakers, layers = len(test[0].sources), len(reading.layers)

        def make() -> Separator:
            return Separator(layers, reading.width, speakers, self.featurizer, self.hidden)

        heads = SeparatorHeads(make, plan.seeds, len(plan.rates))
        return SeparationProbe(kept, self.clips, states, heads, self.scoring, plan, self.batch)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeparationConfig(SweptConfig, ABC):
    """What SS and SE share."""

    pooled: ClassVar[bool] = False
    task: ClassVar[str]
    epsilon: ClassVar[Epsilon] = Epsilon(1e-7, hat=True)  # of s3prl's own AdamW, which decays nothing

    steps: int = 150_000
    batch: int = 8  # mixtures
    hidden: int = 896  # of each LSTM in each direction

    @abstractmethod
    def sources(self, mixture: Path) -> tuple[Path, ...]:
        """The files of what a mixture is made of."""

    @abstractmethod
    def scoring(self) -> Scoring:
        """How estimates are scored. Raises ValueError, which says what to install, if that is not possible."""

    def notes(self, folds: list[Fold]) -> list[str]:
        return [
            "s3prl's stft2 recipes (other masks and losses) score higher; the leaderboard's rows are not theirs",
            "where an encoder's frames are more than 320 samples apart, they are repeated and the windows stand closer",
            ACROSS,
        ]

    def prepare(self, fold: Fold, clips: Clips) -> Prepared:
        if not fold.parts.dev:
            raise ValueError(f"{self.data.path} leaves nothing for dev, by which the learning rate is chosen")

        def part(utterances: list[Utterance]) -> Mixtures:
            return Mixtures(Mixture(one.name, clips.add(one), self.sources(one.path)) for one in utterances)

        parts = part(fold.parts.train), part(fold.parts.dev), part(fold.parts.test)
        return _Prepared(parts, clips, self.featurizer, self.scoring(), (self.batch, self.hidden))

    def write(self, fold: Fold, folder: Path, run: Run, to: Path) -> None:
        """metrics.txt with a figure a line, as s3prl writes it, the figures of each clip, and a few waveforms."""
        inside = to / self.task
        shutil.copytree(folder / folder_of(run.seed, run.rate), inside, dirs_exist_ok=True)
        lines = [f"{'si_sdr' if name == 'si_sdri' else name} {value}\n" for name, value in run.test.items()]
        (inside / METRICS).write_text("".join(lines))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechSeparationConfig(SeparationConfig):
    """Settings of SS."""

    task: ClassVar[str] = "ss"

    evaluations: int = 75  # every 2000

    def sources(self, mixture: Path) -> tuple[Path, ...]:
        return speakers_apart(mixture)

    def scoring(self) -> Scoring:
        return Scoring(_separation, _separation)

    def folds(self) -> list[Fold]:
        root = _root(self.data.path)
        for folder in (root, root / "wav16k" / "min", root / "Libri2Mix" / "wav16k" / "min"):
            if (folder / "test" / "mix_clean").is_dir():
                return [_fold("ss", libri2mix(folder))]
        raise MissingFiles(f"{root} holds none of what the task can read: it wants Libri2Mix's wav16k/min")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechEnhancementConfig(SeparationConfig):
    """Settings of SE."""

    task: ClassVar[str] = "se"

    evaluations: int = 120  # every 1250

    def sources(self, mixture: Path) -> tuple[Path, ...]:
        return without_noise(mixture)

    def scoring(self) -> Scoring:
        need_packages()
        return Scoring(_enhancement, _quality)

    def folds(self) -> list[Fold]:
        root = _root(self.data.path)
        if not (root / "noisy_testset_wav_16k").is_dir():
            raise MissingFiles(
                f"{root} holds none of what the task can read: it wants Voicebank's noisy_testset_wav_16k"
            )
        return [_fold("se", voicebank(root))]


def _root(path: str) -> Path:
    if not path:
        raise ValueError("no data named: set --data.path to the corpus's folder")
    return need_folder(Path(path))


def _fold(task: str, parts: Parts) -> Fold:
    """The only fold, which is compared with nothing if it lacks anything."""
    short = lacks(task, parts)
    return Fold("", parts._replace(protocol=f"{short}; {parts.protocol}") if short else parts, official=not short)


def _separation(estimates: np.ndarray, sources: np.ndarray, mixture: np.ndarray) -> dict[str, float]:
    return {"si_sdri": improvement(estimates, sources, mixture)[0]}


def _enhancement(estimates: np.ndarray, sources: np.ndarray, mixture: np.ndarray) -> dict[str, float]:
    (said,), (meant,) = estimates, sources
    better = si_sdr(said, meant) - si_sdr(mixture, meant)
    return {"pesq": pesq(said, meant), "stoi": stoi(said, meant), "si_sdri": better}


def _quality(estimates: np.ndarray, sources: np.ndarray, mixture: np.ndarray) -> dict[str, float]:
    return {"pesq": pesq(estimates[0], sources[0])}


def ss() -> SpeechSeparationConfig:
    """Speech separation; SI-SDR improvement in dB, higher is better (Libri2Mix)."""
    return SpeechSeparationConfig()


def se() -> SpeechEnhancementConfig:
    """Speech enhancement; PESQ, STOI and SI-SDR improvement, higher is better (Voicebank-DEMAND)."""
    return SpeechEnhancementConfig()
