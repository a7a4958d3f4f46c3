# SPDX-License-Identifier: Apache-2.0
"""CTC as the sweep sees it: batches of frames, error rates on dev, transcripts on test.

Shape letters: G seeds, K learning rates, N frames of all rows, n of one row, V symbols.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ....ssl import draw
from .. import order
from ..states import States
from ..sweep import Plan, Probe
from .errors import greedy
from .heads import CtcHeads
from .loss import ctc_losses
from .targets import Vocabulary

PREDICTIONS = "predictions.json"
_CHUNK = 32  # clips that are decoded at once

Decoder = Callable[[Tensor], str]  # from logits (n, V) of one row, on the CPU


class Spoken(NamedTuple):
    """A part: clips and what is said in them."""

    names: list[str]
    clips: list[int]  # numbers among the clips
    targets: list[list[int]]
    texts: list[str]  # that hypotheses are scored against

    def without(self, bad: Iterable[int]) -> "Spoken":
        """The part without bad clips."""
        gone = set(bad)
        kept = [i for i, clip in enumerate(self.clips) if clip not in gone]
        return Spoken(*([column[i] for i in kept] for column in self))  # pyright: ignore[reportArgumentType]


class Scoring(NamedTuple):
    """How transcripts are scored."""

    figures: dict[str, Callable[[Sequence[str], Sequence[str]], float]]  # of hypotheses and references; main first
    error: bool  # whether less is better of the main one


class Batches(NamedTuple):
    """The groups of utterances that an epoch draws, without replacement, and how many make a step."""

    groups: list[np.ndarray]
    together: int  # the gradient is the mean of so many groups' gradients


class CtcProbe(Probe):
    """Heads that spell.

    Args:
        batches: of the numbers of train's utterances.
        decoders: by name, "greedy" first, which chooses on dev.
    """

    def __init__(
        self,
        parts: tuple[Spoken, Spoken, Spoken],
        states: States,
        heads: CtcHeads,
        vocabulary: Vocabulary,
        scoring: Scoring,
        batches: Batches,
        decoders: dict[str, Decoder],
        plan: Plan,
    ) -> None:
        self.train, self.dev_part, self.test_part = parts
        self.states, self.vocabulary, self.scoring, self.plan = states, vocabulary, scoring, plan
        self.batches, self.decoders = batches, decoders
        self._heads = heads

    @property
    def heads(self) -> CtcHeads:
        return self._heads

    def _read(self, clips: Sequence[int]) -> tuple[Tensor, list[int]]:
        """(N, L, D) on the heads' device, and the frames of each clip."""
        x, lengths = self.states.read(clips)
        return x.to(next(self.heads.parameters()).device), lengths

    def losses(self, step: int) -> Tensor:
        """(G, K); gradients are there already, as the graphs of all heads at once would not fit."""
        rows = [self._learn(group, seed, step) for group, seed in enumerate(self.plan.seeds)]
        return torch.stack(rows).requires_grad_()

    def _learn(self, group: int, seed: int, step: int) -> Tensor:
        count = self.batches.together
        total = torch.zeros(len(self.plan.rates), device=next(self.heads.parameters()).device)
        for turn, number in enumerate(order.shuffled(len(self.batches.groups), count, seed, step).tolist()):
            chosen = self.batches.groups[number].tolist()
            x, lengths = self._read([self.train.clips[i] for i in chosen])
            targets = [self.train.targets[i] for i in chosen]

            def loss(
                logits: Tensor, lengths: list[int] = lengths, targets: list[list[int]] = targets
            ) -> Tensor:  # bound now
                return ctc_losses(logits, lengths, targets, self.vocabulary.blank) / count

            total += self.heads.learn(group, x, lengths, loss, draw.key(seed, "noise", step, turn))
        return total

    def _texts(self, part: Spoken, decoders: Sequence[Decoder]) -> list[list[list[list[str]]]]:
        """Of each decoder, seed and rate the transcripts of a part."""
        rates = range(len(self.plan.rates))
        said: list[list[list[list[str]]]] = [[[[] for _ in rates] for _ in self.plan.seeds] for _ in decoders]
        for start in range(0, len(part.clips), _CHUNK):
            x, lengths = self._read(part.clips[start : start + _CHUNK])
            for group in range(len(self.plan.seeds)):
                for head in rates:
                    rows = self.heads.logits(group, head, x, lengths).cpu().split(lengths)
                    for texts, decode in zip(said, decoders, strict=True):
                        texts[group][head] += [decode(row) for row in rows]
        return said

    def dev(self) -> Tensor:
        """(G, K): the main figure of greedy transcripts; of an error rate, what is left to 1."""
        (said,) = self._texts(self.dev_part, [self.decoders["greedy"]])
        main = next(iter(self.scoring.figures.values()))
        found = torch.tensor([[main(one, self.dev_part.texts) for one in group] for group in said], dtype=torch.float64)
        return 1.0 - found if self.scoring.error else found

    def said(self, folder: Path) -> list[list[dict[str, float]]]:
        """The figures are named by the decoder too, such as wer_greedy."""
        part = self.test_part
        said = dict(zip(self.decoders, self._texts(part, list(self.decoders.values())), strict=True))
        heads = [(g, k) for g in range(len(self.plan.seeds)) for k in range(len(self.plan.rates))]
        kept = {
            name: {f"{self.plan.seeds[g]} {self.plan.rates[k]:g}": texts[g][k] for g, k in heads}
            for name, texts in said.items()
        }
        rows = {"names": part.names, "references": part.texts, "said": kept}
        (folder / PREDICTIONS).write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")

        def figures(g: int, k: int) -> dict[str, float]:
            return {
                f"{name}_{decoder}": figure(texts[g][k], part.texts)
                for decoder, texts in said.items()
                for name, figure in self.scoring.figures.items()
            }

        return [[figures(g, k) for k in range(len(self.plan.rates))] for g in range(len(self.plan.seeds))]

    def shares(self) -> Tensor | None:
        return self.heads.shares()


def greedy_decoder(vocabulary: Vocabulary) -> Decoder:
    """The likeliest symbol of each frame, with repeats collapsed and without blanks and ends."""
    return partial(_greedy_text, vocabulary=vocabulary)


def _greedy_text(row: Tensor, vocabulary: Vocabulary) -> str:
    (numbers,) = greedy(row[None], [len(row)], vocabulary.blank, (vocabulary.end,))
    return vocabulary.text(numbers)


def read_predictions(folder: Path, seed: int, rate: float) -> dict[str, dict[str, str]]:
    """Of each decoder what the head of a seed and rate says of every test utterance."""
    kept = json.loads((folder / PREDICTIONS).read_text(encoding="utf-8"))
    return {
        decoder: dict(zip(kept["names"], said[f"{seed} {rate:g}"], strict=True))
        for decoder, said in kept["said"].items()
    }


def read_references(folder: Path) -> dict[str, str]:
    """What every test utterance's transcripts are scored against."""
    kept = json.loads((folder / PREDICTIONS).read_text(encoding="utf-8"))
    return dict(zip(kept["names"], kept["references"], strict=True))
