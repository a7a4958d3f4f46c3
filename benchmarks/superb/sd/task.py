# SPDX-License-Identifier: Apache-2.0
"""SD: who speaks when? An LSTM on the states says for each frame which of the speakers speak.

Yang et al. 2021 (arXiv:2105.01051, section 2); settings of s3prl@ec8064b, downstream/diarization (its batches of 8 are
accumulated four times; here 32 are one batch). Labels stand at the encoder's frames, as the leaderboard's rows do.
"""

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

from .. import corpora
from ..clips import Clips
from ..featurizer import FeaturizerConfig
from ..order import ACROSS
from ..predictions import FILES, write_activity
from ..states import Reading, States
from ..sweep import Plan, Probe, Run
from ..swept import Fold, Prepared, SweptConfig
from ..utterance.config import need_all
from .chunks import RATE, SHORTEST, Chunk, Recording, cut
from .diarization import Setting, decide, tally_turns, turns_of
from .probe import HOP, DiarizationProbe, read_probabilities
from .rttm import write_rttm


class _Prepared(Prepared):
    """The parts of a fold, in chunks."""

    def __init__(
        self,
        parts: tuple[list[Chunk], list[Chunk]],
        test: list[Recording],
        judge: list[Recording] | None,
        clips: Clips,
        featurizer: FeaturizerConfig,
        sizes: tuple[int, int],
    ) -> None:
        self.parts, self.test, self.judge, self.clips = parts, test, judge, clips
        self.featurizer, self.sizes = featurizer, sizes

    def probe(self, states: States, reading: Reading, plan: Plan) -> Probe:
        scored = [*self.test, *(self.judge or [])]
        need_all((chunk.clip for one in scored for chunk in one.chunks), states, self.clips)
        train, dev = ([chunk for chunk in part if chunk.clip not in states.bad] for part in self.parts)
        for name, before, after in (("train", self.parts[0], train), ("dev", self.parts[1], dev)):
            if len(after) < 0.95 * len(before):
                bad = next(chunk.clip for chunk in before if chunk.clip in states.bad)
                gone = f"{len(before) - len(after)} of {len(before)} chunks of {name} cannot be read, more than 5 %"
                raise ValueError(f"{gone}: {self.clips.name(bad)}: {states.bad[bad]}")
        sizes = (*self.sizes, self.clips.hop)
        return DiarizationProbe((train, dev), self.test, self.judge, states, reading, self.featurizer, plan, sizes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiarizationConfig(SweptConfig):
    """Settings of SD."""

    pooled: ClassVar[bool] = False
    settled: ClassVar[tuple[str, ...]] = ("threshold", "median")
    label: ClassVar[str] = "speaker"

    protocol: Literal["published", "clean"] = "published"
    speakers: int = 2  # that a head tells apart; AMI's meetings have 4
    chunk: int = 2000  # frames
    steps: int = 30_000
    evaluations: int = 60  # every 500

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.speakers <= 6:
            raise ValueError(f"--speakers is 1 to 6, as all their orders are tried, not {self.speakers}")
        if self.chunk < 100:
            raise ValueError(f"--chunk is 100 frames or more, not {self.chunk}")

    def folds(self) -> list[Fold]:
        """Raises also ValueError if nobody speaks where errors are counted, before anything is trained."""
        folds = corpora.conversations(self.data.path)
        for fold in folds:
            for name, part in (("test", fold.parts.test), ("dev", fold.parts.dev if self.protocol == "clean" else [])):
                if part and not any(tally_turns(one.turns, (), one.scored or None).scored for one in part):
                    many = f"nobody speaks in the {len(part)} recordings of {name}"
                    raise ValueError(f"{self.data.path}: {many}, so no error rate can be counted: add their turns")
        return folds

    def notes(self, folds: list[Fold]) -> list[str]:
        notes = ["turns that outlast a chunk on both sides are labelled, which s3prl leaves out", ACROSS]
        notes.append(
            f"a rest of less than {SHORTEST} frames belongs to the chunk before; s3prl makes it one of its own"
        )
        if folds[0].official:
            notes.append(
                "a recording's last chunk ends with its audio; s3prl fills it up to the longest, and scores that"
            )
            notes.append(
                "two turns of one name have the speakers of utt2spk in its order; s3prl gives both the last one"
            )
        if folds[0].official and find_spec("h5py") is None:
            notes.append("nothing was written for the leaderboard: pip install h5py, and run it again")
        if self.protocol == "clean":
            frames = "dev counts each frame alike"
            return [*notes, f"clean: test is heard whole; threshold and median filter are chosen on dev; {frames}"]
        best = "of ten thresholds and median filters the score takes those with the lowest error on test itself"
        dev = "dev is the mean over chunks, however long, of which one without speech counts 0"
        return [*notes, f"published: {best}, which is heard in chunks; {dev}; --protocol clean mends all three"]

    def prepare(self, fold: Fold, clips: Clips) -> Prepared:
        train, dev, test = fold.parts.train, fold.parts.dev, fold.parts.test
        if not dev:
            raise ValueError(f"{self.data.path} leaves nothing for dev, by which the learning rate is chosen")

        def chunks(part: list[Recording]) -> list[Chunk]:
            return [chunk for recording in part for chunk in recording.chunks]

        for one in test:
            if (many := len({turn.speaker for turn in one.turns})) > self.speakers:
                raise ValueError(f"{one.path} has {many} speakers: set --speakers {many}")
        clean = self.protocol == "clean"
        parts = [[cut(one, clips, self.chunk, self.speakers) for one in part] for part in (train, dev)]
        heard = [cut(one, clips, None if clean else self.chunk, None) for one in test]
        judge = [cut(one, clips, None, None) for one in dev] if clean else None
        sizes = (self.batch, self.speakers)
        return _Prepared((chunks(parts[0]), chunks(parts[1])), heard, judge, clips, self.featurizer, sizes)

    def write(self, fold: Fold, folder: Path, run: Run, to: Path) -> None:
        found = read_probabilities(folder, run.seed, run.rate)
        setting, hop = Setting(run.test["threshold"], int(run.test["median"])), int((folder / HOP).read_text())
        turns = {name: turns_of(decide(frames, setting), hop / RATE, name) for name, frames in found.items()}
        to.mkdir(parents=True, exist_ok=True)
        write_rttm(to / "sd.rttm", turns)
        if fold.official and find_spec("h5py") is not None:
            write_activity(to / "predict" / FILES["sd"], found, hop)


def sd() -> DiarizationConfig:
    """Speaker diarization; error rate, lower is better (Libri2Mix, AMI with --speakers 4, or a manifest of turns)."""
    return DiarizationConfig()
