# SPDX-License-Identifier: Apache-2.0
"""Classes of whole utterances as the sweep sees them: batches of mean states, accuracy on dev, predictions on test.

Shape letters: G seeds, K learning rates, B clips of a batch, n clips of a part, L layers, D width.
"""

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import order
from ..clips import Clips
from ..featurizer import FeaturizerConfig
from ..states import Reading, States
from ..sweep import Plan, Probe
from ..utterances import Slot, Utterance
from .heads import UtteranceHeads

PREDICTIONS = "predictions.json"
_CHUNK = 512  # clips that are scored at once


class Labelled(NamedTuple):
    """A part: utterances, of each the pieces of which one is drawn when it is used, and its classes."""

    names: list[str]
    pieces: list[list[int]]  # numbers among the clips
    labels: np.ndarray  # (n, slots) int64

    def without(self, bad: Iterable[int]) -> "Labelled":
        """The utterances that have a piece left when bad clips are taken out."""
        gone = set(bad)
        left = [[piece for piece in pieces if piece not in gone] for pieces in self.pieces]
        kept = [i for i, pieces in enumerate(left) if pieces]
        return Labelled([self.names[i] for i in kept], [left[i] for i in kept], self.labels[kept])


def label(utterances: Sequence[tuple[Utterance, list[Utterance]]], slots: Sequence[Slot], clips: Clips) -> Labelled:
    """A part of utterances and the pieces that stand for each, which are added to the clips.

    Raises: ValueError for a label that is none of the slot's values.
    """
    numbers = [{value: number for number, value in enumerate(slot.values)} for slot in slots]
    rows, pieces = [], []
    for utterance, parts in utterances:
        for slot, known, value in zip(slots, numbers, utterance.labels, strict=True):
            if value not in known:
                raise ValueError(f"{utterance.path}: the {slot.name} {value!r} is none of the {len(known)} known ones")
        rows.append([known[value] for known, value in zip(numbers, utterance.labels, strict=True)])
        pieces.append([clips.add(part) for part in parts])
    names = [utterance.name for utterance, _ in utterances]
    return Labelled(names, pieces, np.array(rows, dtype=np.int64).reshape(-1, len(slots)))


class Drawing(NamedTuple):
    """How a task draws utterances."""

    batch: int
    balanced: bool = False  # classes are equally likely in training, with replacement
    dev: str = "all"  # "all": each utterance once; "drawn": as many as there are, balanced, with replacement, as
    # s3prl does for KS; "classes": the mean over the classes' accuracies, which is what "drawn" estimates


class UtteranceProbe(Probe):
    """Heads for whole utterances."""

    def __init__(
        self,
        parts: tuple[Labelled, Labelled, Labelled],
        slots: Sequence[Slot],
        states: States,
        reading: Reading,
        featurizer: FeaturizerConfig,
        drawing: Drawing,
        plan: Plan,
    ) -> None:
        self.train, self.dev_part, self.test_part = parts
        self.slots, self.states, self.drawing, self.plan = slots, states, drawing, plan
        sizes = [len(slot.values) for slot in slots]
        layers = len(reading.layers)
        self._heads = UtteranceHeads(plan.seeds, len(plan.rates), layers, reading.width, sizes, featurizer)
        self._flat = np.array(list(itertools.chain.from_iterable(self.train.pieces)))
        self._counts = np.array([len(pieces) for pieces in self.train.pieces])
        self._starts = np.cumsum(self._counts) - self._counts
        self._classes = _by_class(self.train.labels)
        self._dev_pieces, self._dev_weights = self._weigh_dev()

    @property
    def heads(self) -> UtteranceHeads:
        return self._heads

    @property
    def _device(self) -> torch.device:
        return self.heads.into.device

    def _batch(self, seed: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(B,) clips and (B,) utterances that a seed's heads see at a step."""
        size = self.drawing.batch
        if self.drawing.balanced:
            chosen = order.balanced(self._classes, size, seed, step)
        else:
            chosen = order.shuffled(len(self._counts), size, seed, step)
        return self._flat[self._starts[chosen] + order.pick(self._counts[chosen], seed, step)], chosen

    def losses(self, step: int) -> Tensor:
        found = [self._batch(seed, step) for seed in self.plan.seeds]
        x = self._read(np.concatenate([pieces for pieces, _ in found])).unflatten(0, (len(found), -1))  # (G, B, L, D)
        labels = torch.from_numpy(self.train.labels[np.stack([chosen for _, chosen in found])])
        return self.heads.losses(x, labels.to(self._device))

    def _read(self, pieces: np.ndarray) -> Tensor:
        """(n, L, D) on the heads' device."""
        return self.states.read(pieces.tolist()).x.to(self._device)

    def _weigh_dev(self) -> tuple[np.ndarray, np.ndarray]:
        """The clips of dev (n,), and what each counts for every seed (G, n)."""
        part = self.dev_part
        pieces = np.array(list(itertools.chain.from_iterable(part.pieces)))
        counts = np.array([len(one) for one in part.pieces])
        starts = np.cumsum(counts) - counts
        classes = _by_class(part.labels)
        if self.drawing.dev == "drawn":
            weights = np.zeros((len(self.plan.seeds), len(pieces)))
            for row, seed in zip(weights, self.plan.seeds, strict=True):
                chosen = order.balanced(classes, len(counts), seed, "dev")
                np.add.at(row, starts[chosen] + order.pick(counts[chosen], seed, "dev"), 1.0)
        else:
            each = np.ones(len(counts))
            if self.drawing.dev == "classes":
                for one in classes:
                    each[one] = 1.0 / len(one)
            weights = np.tile((each / counts).repeat(counts), (len(self.plan.seeds), 1))
        return pieces, weights / weights.sum(1, keepdims=True)

    def _predict(self, pieces: np.ndarray) -> Tensor:
        """(G, K, n, slots) int64 on the CPU."""
        parts = [pieces[start : start + _CHUNK] for start in range(0, len(pieces), _CHUNK)]
        return torch.cat([self.heads.predict(self._read(part)[None]).cpu() for part in parts], dim=2)

    @torch.no_grad()
    def _sureness(self, pieces: np.ndarray) -> Tensor:
        """(G, K, n) on the CPU: the probability that a head gives to what it says, of several slots their product."""
        found = []
        for start in range(0, len(pieces), _CHUNK):
            parts = self.heads(self._read(pieces[start : start + _CHUNK])[None]).split(self.heads.slots, dim=-1)
            found.append(torch.stack([part.softmax(-1).amax(-1) for part in parts]).prod(0).cpu())
        return torch.cat(found, dim=2)

    def dev(self) -> Tensor:
        labels = np.repeat(self.dev_part.labels, [len(one) for one in self.dev_part.pieces], axis=0)
        right = (self._predict(self._dev_pieces) == torch.from_numpy(labels)).all(-1)  # (G, K, n)
        found = (right.double() * torch.from_numpy(self._dev_weights)[:, None]).sum(-1)
        return found.round(decimals=12)  # equal shares are equal, whichever clips they are of

    def said(self, folder: Path) -> list[list[dict[str, float]]]:
        pieces = np.array([pieces[0] for pieces in self.test_part.pieces])
        said, sure = self._predict(pieces), self._sureness(pieces)
        right = said == torch.from_numpy(self.test_part.labels)  # (G, K, n, slots)
        heads = [(seed, rate) for seed in self.plan.seeds for rate in self.plan.rates]
        rows = {f"{seed} {rate:g}": x.tolist() for (seed, rate), x in zip(heads, said.flatten(0, 1), strict=True)}
        shares = {name: [round(one, 4) for one in x.tolist()] for name, x in zip(rows, sure.flatten(0, 1), strict=True)}
        kept = {"names": self.test_part.names, "said": rows, "sure": shares}
        (folder / PREDICTIONS).write_text(json.dumps(kept))

        def figures(one: Tensor) -> dict[str, float]:
            out = {"accuracy": float(one.all(-1).double().mean())}
            if len(self.slots) > 1:
                out |= {slot.name: float(one[:, i].double().mean()) for i, slot in enumerate(self.slots)}
            return out

        return [[figures(one) for one in group] for group in right]

    def shares(self) -> Tensor | None:
        return self.heads.shares()


def _by_class(labels: np.ndarray) -> list[np.ndarray]:
    """The utterances of each class of the first slot that has any."""
    return [np.flatnonzero(labels[:, 0] == value) for value in np.unique(labels[:, 0])]


def read_predictions(folder: Path, seed: int, rate: float, slots: Sequence[Slot]) -> dict[str, tuple[str, ...]]:
    """What the head of a seed and rate says of each test utterance: a value of each slot."""
    kept = json.loads((folder / PREDICTIONS).read_text())
    return {
        name: tuple(slot.values[number] for slot, number in zip(slots, numbers, strict=True))
        for name, numbers in zip(kept["names"], kept["said"][f"{seed} {rate:g}"], strict=True)
    }


def read_sureness(folder: Path, seed: int, rate: float) -> dict[str, float]:
    """The probability that the head of a seed and rate gives to what it says; nothing where it was not kept."""
    kept = json.loads((folder / PREDICTIONS).read_text())
    return dict(zip(kept["names"], kept["sure"][f"{seed} {rate:g}"], strict=True)) if "sure" in kept else {}
