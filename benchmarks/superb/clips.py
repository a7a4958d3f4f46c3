# SPDX-License-Identifier: Apache-2.0
"""The pieces of audio that a task reads, each once, and how they become waveforms."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ...speech import audio
from ...ssl.data import BadItem
from .utterances import Kept, Utterance, heard_seconds

_AHEAD = 3  # batches whose audio is read while another is worked on


class Piece(NamedTuple):
    """A stretch of a file."""

    path: Path
    start: float  # seconds
    end: float  # seconds
    kept: Kept = ()  # from `start` on; empty: all of it


class Clips:
    """Pieces, numbered in the order in which they were added; the same piece is added once.

    Args:
        gain: decibels by which waveforms are changed; s3prl gives KS, QbE and ASV -3.
        hop: samples (16 kHz) between the frames of the encoder that will read them, for tasks that cut by frames.
    """

    def __init__(self, gain: float = 0.0, hop: int = 0) -> None:
        self.gain, self.hop = gain, hop
        self.pieces: list[Piece] = []
        self._numbers: dict[Piece, int] = {}

    def __len__(self) -> int:
        return len(self.pieces)

    def add(self, utterance: Utterance, kept: Kept = ()) -> int:
        """The number of an utterance, which is measured (`utterances.measured`) and no random crop.

        Args:
            kept: what is heard of it, back to back; empty: all.
        """
        assert utterance.end is not None and utterance.crop is None
        piece = Piece(utterance.path, utterance.start, utterance.end, kept)
        if piece not in self._numbers:
            self._numbers[piece] = len(self.pieces)
            self.pieces.append(piece)
        return self._numbers[piece]

    def seconds(self, number: int) -> float:
        """How long a piece is, or what is heard of it."""
        piece = self.pieces[number]
        return heard_seconds(piece.kept) or piece.end - piece.start

    def read(self, number: int) -> Tensor:
        """(S,) float32 at 16 kHz, mono. Raises BadItem."""
        piece = self.pieces[number]
        wave = audio.read(piece.path, piece.start, piece.end - piece.start)
        wave = torch.cat([wave[first:last] for first, last in piece.kept]) if piece.kept else wave
        return wave * 10.0 ** (self.gain / 20.0) if self.gain else wave

    def name(self, number: int) -> str:
        """What a person calls a piece."""
        path, start, end, _ = self.pieces[number]
        return f"{path} from {start:.10g} to {end:.10g} s" if start else str(path)

    def hash(self) -> str:
        """Changes with any piece, the gain, and the size or date of any file."""
        stats = {path: path.stat() for path in {piece.path for piece in self.pieces}}
        rows = [
            (str(path.resolve()), start, end, stats[path].st_size, stats[path].st_mtime_ns, *kept)
            for path, start, end, kept in self.pieces
        ]
        return hashlib.blake2b(json.dumps([self.gain, rows]).encode(), digest_size=16).hexdigest()


def batches(clips: Clips, seconds: float) -> list[list[int]]:
    """All pieces, longest first, in batches that last, padded, no longer than `seconds`, or hold one piece.

    They depend on nothing else, so that a fill that was cut off goes on with the same ones.
    """
    order = sorted(range(len(clips)), key=lambda number: (-clips.seconds(number), number))
    out: list[list[int]] = []
    for number in order:
        if out and (len(out[-1]) + 1) * clips.seconds(out[-1][0]) <= seconds:
            out[-1].append(number)
        else:
            out.append([number])
    return out


def pad(waves: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Waves (S,) as one batch (B, S), zero at the ends, and their lengths (B,)."""
    rows = list(waves)
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


def read_or_why(clips: Clips, number: int) -> Tensor | str:
    """A piece's waveform, or in one line why there is none."""
    try:
        return clips.read(number)
    except BadItem as error:
        return str(error)


def loaded(clips: Clips, todo: list[list[int]], threads: int) -> Iterator[tuple[list[int], list[Tensor | str]]]:
    """Batches of pieces with their waveforms, or why there is none, read ahead of their use."""
    with ThreadPoolExecutor(threads) as pool:
        ahead: list[tuple[list[int], list[Future[Tensor | str]]]] = []
        for batch in todo:
            ahead.append((batch, [pool.submit(read_or_why, clips, number) for number in batch]))
            if len(ahead) > _AHEAD:
                numbers, futures = ahead.pop(0)
                yield numbers, [future.result() for future in futures]
        for numbers, futures in ahead:
            yield numbers, [future.result() for future in futures]
