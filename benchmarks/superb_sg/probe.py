# SPDX-License-Identifier: Apache-2.0
"""Separation and enhancement as the sweep sees them: spectra and masks, SI-SDRi or PESQ on dev, waveforms on test.

Shape letters: G seeds, K learning rates, N frames of all clips, T of one, L layers, D width, R speakers, F bins,
S samples.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...speech import audio
from ...ssl import draw
from ...ssl.data import BadItem
from ..superb import order
from ..superb.clips import Clips
from ..superb.states import States
from ..superb.sweep import Plan, Probe
from .heads import SeparatorHeads, permuted, phase_sensitive
from .signals import RATE, improvement
from .stft import quiet_end, spacing, spectrum, waveform

FIGURES = "clips.json"
HEARD, WORST = 3, 3  # test clips whose waveforms are kept: the first, and those that score lowest
_CHUNK = 8  # clips that are separated at once
_APART = 5  # frames: an encoder that differs by so many from the spectrum has another distance between frames

Figures = Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, float]]  # of estimates, sources (R, S), mixture (S,)


class Mixture(NamedTuple):
    """A clip and the files of what it was mixed from."""

    name: str
    clip: int
    sources: tuple[Path, ...]


class Mixtures(list[Mixture]):
    """A part."""

    @property
    def names(self) -> list[str]:
        """What the mixtures are called."""
        return [one.name for one in self]

    def without(self, bad: Iterable[int]) -> "Mixtures":
        """The part without bad clips."""
        gone = set(bad)
        return Mixtures(one for one in self if one.clip not in gone)


class Batch(NamedTuple):
    """Mixtures with everything that heads need of them, on the heads' device."""

    x: Tensor  # (N, L, D)
    mixtures: list[Tensor]  # complex (T, F)
    sources: list[Tensor]  # (R, S), on the CPU
    waves: list[Tensor]  # (S,), on the CPU


class Scoring(NamedTuple):
    """How estimates are scored."""

    test: Figures  # the main figure first
    dev: Figures  # its only figure chooses, and more is better


class SeparationProbe(Probe):
    """LSTMs that mask spectra.

    Args:
        parts: train, dev and test.
    """

    def __init__(
        self,
        parts: tuple[Mixtures, Mixtures, Mixtures],
        clips: Clips,
        states: States,
        heads: SeparatorHeads,
        scoring: Scoring,
        plan: Plan,
        batch: int,
    ) -> None:
        self.train, self.dev_part, self.test_part = parts
        self.clips, self.states, self.scoring, self.plan, self.batch = clips, states, scoring, plan, batch
        self.hop, self.repeats = spacing(clips.hop)
        self._heads = heads

    @property
    def heads(self) -> SeparatorHeads:
        return self._heads

    def _read(self, mixtures: Sequence[Mixture]) -> Batch:
        """Raises ValueError for audio that cannot be decoded, or frames that do not fit the spectrum."""
        device = self.heads.device
        x, lengths = self.states.read([one.clip for one in mixtures])
        waves, sources, spectra, parts = [], [], [], []
        for one, states in zip(mixtures, x.split(lengths), strict=True):
            wave = _wave(self.clips.pieces[one.clip].path)
            source = torch.stack([_same_length(_wave(path), len(wave)) for path in one.sources])
            spectra.append(spectrum(wave.to(device), self.hop))
            parts.append(fit(states, self.repeats, len(spectra[-1]), one.name))
            waves.append(wave)
            sources.append(source)
        return Batch(torch.cat(parts).to(device), spectra, sources, waves)

    def losses(self, step: int) -> Tensor:
        """(G, K); gradients are there already, as the graphs of all heads at once would not fit."""
        rows = []
        for group, seed in enumerate(self.plan.seeds):
            chosen = order.shuffled(len(self.train), self.batch, seed, step).tolist()
            batch = self._read([self.train[number] for number in chosen])
            magnitudes = [one.abs() for one in batch.mixtures]
            wanted = [
                phase_sensitive(torch.stack([spectrum(wave.to(mixture.device), self.hop) for wave in source]), mixture)
                for source, mixture in zip(batch.sources, batch.mixtures, strict=True)
            ]

            def loss(masks: Tensor, magnitudes: list[Tensor] = magnitudes, wanted: list[Tensor] = wanted) -> Tensor:
                return permuted(masks, magnitudes, wanted)  # bound now

            lengths = [len(one) for one in magnitudes]
            rows.append(self.heads.learn(group, batch.x, lengths, loss, draw.key(seed, "noise", step)))
        return torch.stack(rows).requires_grad_()

    def _separate(self, g: int, k: int, batch: Batch) -> list[np.ndarray]:
        """What a head makes of each mixture, (R, S)."""
        lengths = [len(one) for one in batch.mixtures]
        masks = self.heads.masks(g, k, batch.x, lengths).split(lengths)
        return [
            separated(mask, mixture, self.hop, len(wave))
            for mask, mixture, wave in zip(masks, batch.mixtures, batch.waves, strict=True)
        ]

    def _score(self, part: Mixtures, figures: Figures) -> list[list[list[dict[str, float]]]]:
        """The figures of each seed, rate and clip."""
        seeds, rates = range(len(self.plan.seeds)), range(len(self.plan.rates))
        found: list[list[list[dict[str, float]]]] = [[[] for _ in rates] for _ in seeds]
        for start in range(0, len(part), _CHUNK):
            batch = self._read(part[start : start + _CHUNK])
            for one, source in zip(part[start:], batch.sources, strict=False):
                if silent := [path for path, wave in zip(one.sources, source, strict=True) if not wave.any()]:
                    raise ValueError(f"{silent[0]} is silent, so nothing can be scored by it: take the mixture out")
            for g in seeds:
                for k in rates:
                    for said, source, wave in zip(self._separate(g, k, batch), batch.sources, batch.waves, strict=True):
                        found[g][k].append(figures(said, source.numpy(), wave.numpy()))
        return found

    def dev(self) -> Tensor:
        """(G, K): the mean over clips of what chooses."""
        found = self._score(self.dev_part, self.scoring.dev)
        means = [[np.mean([value for one in clips for value in one.values()]) for clips in row] for row in found]
        return torch.tensor(means, dtype=torch.float64)

    def said(self, folder: Path) -> list[list[dict[str, float]]]:
        found = self._score(self.test_part, self.scoring.test)
        figures: list[list[dict[str, float]]] = []
        for g, seed in enumerate(self.plan.seeds):
            figures.append([])
            for k, rate in enumerate(self.plan.rates):
                to, clips = folder / folder_of(seed, rate), dict(zip(self.test_part.names, found[g][k], strict=True))
                to.mkdir(parents=True, exist_ok=True)
                (to / FIGURES).write_text(json.dumps(clips, indent=1) + "\n")
                self._keep(g, k, {*self.test_part.names[:HEARD], *lowest(clips)}, to)
                figures[-1].append(
                    {name: float(np.mean([one[name] for one in clips.values()])) for name in found[g][k][0]}
                )
        return figures

    def _keep(self, g: int, k: int, names: set[str], to: Path) -> None:
        """Writes what a head makes of some test mixtures, estimates in the order of the sources that they resemble."""
        kept = [one for one in self.test_part if one.name in names]
        batch = self._read(kept)
        for place, (one, said) in enumerate(zip(kept, self._separate(g, k, batch), strict=True)):
            wave = batch.waves[place].numpy()
            _, order = improvement(said, batch.sources[place].numpy(), wave)
            write_waves(to, one.name, said[list(order)], wave)

    def shares(self) -> Tensor | None:
        return self.heads.stacked.shares()


def fit(states: Tensor, repeats: int, frames: int, name: str) -> Tensor:
    """A clip's states (T, L, D), each repeated, then cut, or followed by zeros, to as many frames as its spectrum has.

    Raises: ValueError if five of the encoder's frames or more are missing or too many.
    """
    states = states.repeat_interleave(repeats, dim=0)
    more = frames - len(states)
    if abs(more) >= _APART * repeats:
        raise ValueError(f"{name}: the encoder gives {len(states)} frames where the spectrum has {frames}")
    return states[:frames] if more <= 0 else torch.cat([states, states.new_zeros(more, *states.shape[1:])])


def separated(masks: Tensor, mixture: Tensor, hop: int, samples: int) -> np.ndarray:
    """What masks (T, R, F) leave of a spectrum (T, F), as waveforms (R, S) with a quiet end."""
    waves = waveform(masks.transpose(0, 1) * mixture, hop, samples).cpu()
    return torch.stack([quiet_end(wave) for wave in waves]).numpy()


def folder_of(seed: int, rate: float) -> str:
    """Where, in a sweep's folder, the figures and waveforms of a head are."""
    return f"{seed}-{rate:g}"


def read_figures(folder: Path, seed: int, rate: float) -> dict[str, dict[str, float]]:
    """The figures of each test clip, the main one first."""
    return json.loads((folder / folder_of(seed, rate) / FIGURES).read_text())


def lowest(clips: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The names of the few clips whose main figure is lowest, the lowest first."""
    return sorted(clips, key=lambda name: (next(iter(clips[name].values())), name))[:WORST]


def write_waves(folder: Path, name: str, estimates: np.ndarray, mixture: np.ndarray) -> None:
    """Keeps a mixture and its estimates, each as loud as fits, to be listened to."""
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    for end, wave in [("mixture", mixture), *((str(i + 1), one) for i, one in enumerate(estimates))]:
        soundfile.write(folder / f"{name}-{end}.wav", wave * (0.9 / max(1e-9, float(np.abs(wave).max()))), RATE)


def _wave(path: Path) -> Tensor:
    try:
        return audio.read(path)
    except BadItem as error:
        raise ValueError(f"{path}: {error}; restore it, or take the mixture out") from error


def _same_length(wave: Tensor, samples: int) -> Tensor:
    """A source as long as its mixture; resampling may leave a sample's difference."""
    return torch.nn.functional.pad(wave, (0, max(0, samples - len(wave))))[:samples]
