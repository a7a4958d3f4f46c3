# SPDX-License-Identifier: Apache-2.0
"""Speaker verification as the sweep sees it: batches of clips with their speakers, and the error rate of trials.

Shape letters: G seeds, K learning rates, B clips of a batch, n clips of all trials, m trials.
"""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import order
from ..clips import Clips
from ..featurizer import FeaturizerConfig
from ..one_by_one import learn
from ..stacked import Stacked
from ..states import Reading, States
from ..sweep import Plan, Probe
from ..utterance.probe import Labelled
from ..utterances import Kept, Trial, Utterance
from .verification import equal_error_rate, least_cost
from .xvector import XVector

SCORES = "trials.json"
_CHUNK = 32  # clips that are embedded at once


class Trials(NamedTuple):
    """Pairs of clips, and which have one speaker."""

    names: list[tuple[str, str]]
    clips: list[int]  # (n,) those that occur, longest first so that little is padded
    first: np.ndarray  # (m,) places among `clips`
    second: np.ndarray
    same: np.ndarray  # (m,) int64, 1 or 0

    @classmethod
    def of(
        cls, trials: Sequence[Trial], utterances: Iterable[Utterance], kept: Mapping[Utterance, Kept], clips: Clips
    ) -> "Trials":
        """The trials of a part, whose utterances are added to the clips, or what is heard of them."""
        names = [(trial.first, trial.second) for trial in trials]
        wanted = set(itertools.chain.from_iterable(names))
        numbers = {one.name: clips.add(one, kept.get(one, ())) for one in utterances if one.name in wanted}
        longest = sorted(set(numbers.values()), key=lambda number: (-clips.seconds(number), number))
        places = {number: place for place, number in enumerate(longest)}
        first, second = (np.array([places[numbers[pair[side]]] for pair in names]) for side in (0, 1))
        return cls(names, longest, first, second, np.array([int(trial.same) for trial in trials]))


class VerificationProbe(Probe):
    """X-vector networks.

    Args:
        train: clips, whose one label is the speaker. judge: the trials by which states are chosen.
    """

    def __init__(
        self,
        train: Labelled,
        speakers: int,
        trials: tuple[Trials, Trials],
        states: States,
        reading: Reading,
        featurizer: FeaturizerConfig,
        plan: Plan,
        batch: int,
    ) -> None:
        self.train, self.states, self.plan, self.batch = train, states, plan, batch
        self.judge, self.test = trials
        layers, width = len(reading.layers), reading.width
        self._heads = Stacked(lambda: XVector(layers, width, speakers, featurizer), plan.seeds, len(plan.rates))
        self._flat = np.array(list(itertools.chain.from_iterable(train.pieces)))
        self._counts = np.array([len(pieces) for pieces in train.pieces])
        self._starts = np.cumsum(self._counts) - self._counts

    @property
    def heads(self) -> Stacked:
        return self._heads

    def losses(self, step: int) -> Tensor:
        """(G, K); gradients are there already, as the graphs of all heads at once may not fit."""
        rows = []
        for group, seed in enumerate(self.plan.seeds):
            chosen = order.shuffled(len(self._counts), self.batch, seed, step)
            pieces = self._flat[self._starts[chosen] + order.pick(self._counts[chosen], seed, step)]
            x, lengths = self.states.read(pieces.tolist())
            x = x.to(self.heads.device)
            labels = torch.from_numpy(self.train.labels[chosen, 0]).to(self.heads.device)
            rows.append(learn(self.heads, group, x, lengths, labels))
        return torch.stack(rows).requires_grad_()

    @torch.no_grad()
    def cosines(self, trials: Trials) -> np.ndarray:
        """(G, K, m) float64: how alike both clips of each trial are."""
        each, found = self.heads.each(), []
        for start in range(0, len(trials.clips), _CHUNK):
            x, lengths = self.states.read(trials.clips[start : start + _CHUNK])
            x = x.to(self.heads.device)
            made = [torch.stack([self.heads.call(one, x, lengths) for one in group]) for group in each]
            found.append(torch.stack(made).double().cpu())  # (G, K, chunk, 512)
        y = torch.cat(found, dim=2).numpy()
        # One network at a time: pairs of all of them would be many times larger.
        alike = [[(one[trials.first] * one[trials.second]).sum(-1) for one in group] for group in y]
        return np.array(alike)

    def dev(self) -> Tensor:
        """1 - the equal error rate of the trials that judge."""
        said = self.cosines(self.judge)
        rates = [[1.0 - figures(self.judge.same, one)["eer"] for one in group] for group in said]
        return torch.tensor(rates, dtype=torch.float64)

    def said(self, folder: Path) -> list[list[dict[str, float]]]:
        said = self.cosines(self.test)
        rows = {
            f"{seed} {rate:g}": one.tolist()
            for seed, group in zip(self.plan.seeds, said, strict=True)
            for rate, one in zip(self.plan.rates, group, strict=True)
        }
        (folder / SCORES).write_text(json.dumps({"names": self.test.names, "said": rows}))
        return [[figures(self.test.same, one) for one in group] for group in said]

    def shares(self) -> Tensor | None:
        return self.heads.shares()


def figures(same: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Error rates of (m,) scores; the worst there are if training has made one of them no number."""
    if not np.isfinite(scores).all():
        return {"eer": 1.0, "min_dcf": 1.0}
    return {"eer": equal_error_rate(same, scores), "min_dcf": least_cost(same, scores)}


def read_scores(folder: Path, seed: int, rate: float) -> list[tuple[str, str, float]]:
    """The names of each trial of test, in the list's order, and the score that the head of a seed and rate gives it."""
    kept = json.loads((folder / SCORES).read_text())
    pairs = zip(kept["names"], kept["said"][f"{seed} {rate:g}"], strict=True)
    return [(first, second, score) for (first, second), score in pairs]
