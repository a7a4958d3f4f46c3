# SPDX-License-Identifier: Apache-2.0
"""Speaker diarization as the sweep sees it: chunks of recordings, frame accuracy on dev, error rates of recordings.

Shape letters: B chunks of a batch, T frames of the longest, L layers, D width, R speakers.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .. import order
from ..featurizer import FeaturizerConfig
from ..one_by_one import learn
from ..stacked import Stacked
from ..states import Reading, States
from ..sweep import Plan, Probe
from . import diarization
from .chunks import RATE, Chunk, Recording, fit
from .diarization import Setting, Tally, lowest
from .head import Diarizer, right

HOP = "frame_shift"  # the file that says how many samples lie between frames
_CHUNK = 8  # chunks that are scored at once


class DiarizationProbe(Probe):
    """LSTMs.

    Args:
        parts: chunks of train and of dev.
        test: recordings. judge: those by which the threshold and the filter are chosen; None, as published: test
            itself, and `dev` counts its chunks alike.
    """

    def __init__(
        self,
        parts: tuple[list[Chunk], list[Chunk]],
        test: list[Recording],
        judge: list[Recording] | None,
        states: States,
        reading: Reading,
        featurizer: FeaturizerConfig,
        plan: Plan,
        sizes: tuple[int, int, int],
    ) -> None:
        self.train, self.dev_part = parts
        self.test, self.judge, self.states, self.plan = test, judge, states, plan
        self.batch, self.speakers, self.hop = sizes
        layers, width = len(reading.layers), reading.width
        self._heads = Stacked(lambda: Diarizer(layers, width, self.speakers, featurizer), plan.seeds, len(plan.rates))

    @property
    def heads(self) -> Stacked:
        return self._heads

    def _read(self, chunks: Iterable[Chunk]) -> tuple[Tensor, list[int], Tensor]:
        """States (N, L, D), frames of each chunk, and labels (B, T, R), on the heads' device."""
        chunks = list(chunks)
        wanted = [chunk.frames for chunk in chunks]
        x, lengths = self.states.read([chunk.clip for chunk in chunks])
        labels = pad_sequence([torch.from_numpy(chunk.labels).float() for chunk in chunks], batch_first=True)
        return fit(x, lengths, wanted).to(self.heads.device), wanted, labels.to(self.heads.device)

    def losses(self, step: int) -> Tensor:
        """(G, K); gradients are there already, as the graphs of all heads at once may not fit."""
        rows = []
        for group, seed in enumerate(self.plan.seeds):
            chosen = order.shuffled(len(self.train), self.batch, seed, step)
            x, lengths, labels = self._read(self.train[number] for number in chosen.tolist())
            rows.append(learn(self.heads, group, x, lengths, labels))
        return torch.stack(rows).requires_grad_()

    @torch.no_grad()
    def dev(self) -> Tensor:
        """The share of frames and speakers of which a head says right whether they speak.

        As published it is the mean over chunks, where one in which nobody speaks counts 0 (s3prl@ec8064b,
        downstream/diarization/expert.py, forward and log_records, with its eval_batchsize of 1).
        """
        each, found = self.heads.each(), []
        for start in range(0, len(self.dev_part), _CHUNK):
            x, lengths, labels = self._read(self.dev_part[start : start + _CHUNK])
            counts = [[right(self.heads.call(one, x, lengths), labels, lengths) for one in group] for group in each]
            found.append(torch.stack([torch.stack(row) for row in counts]).cpu())  # (G, K, B)
        count = torch.cat(found, dim=2).double()
        total = torch.tensor([chunk.frames * self.speakers for chunk in self.dev_part], dtype=torch.float64)
        if self.judge is not None:
            return count.sum(2) / total.sum()
        spoken = torch.tensor([bool(chunk.labels.any()) for chunk in self.dev_part])
        return torch.where(spoken, count / total, 0.0).mean(2)

    @torch.no_grad()
    def activity(self, recordings: list[Recording]) -> list[list[dict[str, np.ndarray]]]:
        """(T, R) float32 of each seed, rate and recording: the probability that each speaker speaks.

        It is rounded to half precision, as it is kept: what is scored is what is handed in.
        """
        each = self.heads.each()
        found: list[list[dict[str, np.ndarray]]] = [[{} for _ in group] for group in each]
        for recording in recordings:
            read = [self._read([chunk])[:2] for chunk in recording.chunks]
            for group, said in zip(each, found, strict=True):
                for head, one in zip(group, said, strict=True):
                    parts = [self.heads.call(head, x, lengths)[0].sigmoid().half().float().cpu() for x, lengths in read]
                    one[recording.name] = torch.cat(parts).numpy()
        return found

    def said(self, folder: Path) -> list[list[dict[str, float]]]:
        (folder / HOP).write_text(f"{self.hop}\n")
        test = self.activity(self.test)
        judge = None if self.judge is None else self.activity(self.judge)
        figures: list[list[dict[str, float]]] = []
        for g, seed in enumerate(self.plan.seeds):
            figures.append([])
            for k, rate in enumerate(self.plan.rates):
                write_probabilities(folder, seed, rate, test[g][k])
                tallies = rates(test[g][k], self.test, self.hop)
                by = tallies if judge is None else rates(judge[g][k], self.judge or [], self.hop)
                figures[-1].append(_figures(lowest(by), tallies[lowest(by)]))
        return figures

    def shares(self) -> Tensor | None:
        return self.heads.shares()


def rates(found: dict[str, np.ndarray], recordings: list[Recording], hop: int) -> dict[Setting, Tally]:
    """The errors of some recordings at each setting."""
    reference = {recording.name: recording.turns for recording in recordings}
    regions = None
    if any(one.scored for one in recordings):
        regions = {one.name: one.scored or ((0.0, len(found[one.name]) * hop / RATE),) for one in recordings}
    return diarization.sweep(found, reference, hop / RATE, regions)


def _figures(setting: Setting, tally: Tally) -> dict[str, float]:
    parts = {"missed": tally.missed, "false_alarm": tally.false_alarm, "confused": tally.confused}
    shares = {name: seconds / tally.scored for name, seconds in parts.items()}
    return {"der": tally.rate, **shares, "threshold": setting.threshold, "median": float(setting.median)}


def write_probabilities(folder: Path, seed: int, rate: float, found: dict[str, np.ndarray]) -> None:
    """Keeps what a head says, at half precision."""
    names, lengths = np.array(list(found)), np.array([len(frames) for frames in found.values()])
    frames = np.concatenate(list(found.values())).astype(np.float16)
    np.savez(folder / f"activity-{seed}-{rate:g}.npz", names=names, lengths=lengths, frames=frames)


def read_probabilities(folder: Path, seed: int, rate: float) -> dict[str, np.ndarray]:
    """(T, R) float32 of each recording."""
    with np.load(folder / f"activity-{seed}-{rate:g}.npz") as kept:
        parts = np.split(kept["frames"].astype(np.float32), np.cumsum(kept["lengths"])[:-1])
        return dict(zip(kept["names"].tolist(), parts, strict=True))
