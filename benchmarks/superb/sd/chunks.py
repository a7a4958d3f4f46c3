# SPDX-License-Identifier: Apache-2.0
"""Recordings in chunks with a label for every frame and speaker, as diarization learns them.

Chunks and labels follow s3prl@ec8064b, downstream/diarization/dataset.py; differs: turns that outlast a chunk on both
sides are labelled, and a rest of a few frames makes no chunk of its own.
Shape letters: N frames of all clips, L layers, D width, R speakers.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..clips import Clips
from ..utterances import Utterance
from .rttm import Turn

RATE = 16_000
SHORTEST = 10  # frames; a rest that is shorter belongs to the chunk before


class Chunk(NamedTuple):
    """A piece of a recording."""

    clip: int
    frames: int
    labels: np.ndarray  # (frames, R) uint8: who speaks


class Recording(NamedTuple):
    """A recording that is scored as a whole."""

    name: str
    chunks: list[Chunk]
    turns: tuple[Turn, ...]
    scored: tuple[tuple[float, float], ...]  # seconds; empty: all


def cut(utterance: Utterance, clips: Clips, size: int | None, speakers: int | None) -> Recording:
    """A measured recording in chunks of `size` frames, or in one, which are added to the clips.

    Args:
        speakers: R, for labels; None: there are none.
    Raises: ValueError for more speakers than that.
    """
    assert utterance.end is not None and utterance.start == 0.0
    total = max(1, round(utterance.end * RATE) // clips.hop)
    names = sorted({turn.speaker for turn in utterance.turns})
    if speakers is not None and len(names) > speakers:
        raise ValueError(f"{utterance.path} has {len(names)} speakers: set --speakers {len(names)}")
    whole = np.zeros((total, speakers or 0), dtype=np.uint8)
    if speakers is not None:
        for speaker, start, end in utterance.turns:
            first, last = (int(np.rint(time * RATE / clips.hop)) for time in (start, end))
            whole[first:last, names.index(speaker)] = 1
    starts = list(range(0, total, size or total))
    if len(starts) > 1 and total - starts[-1] < SHORTEST:
        starts.pop()
    chunks = []
    for first, last in itertools.pairwise([*starts, total]):
        end = utterance.end if last == total else last * clips.hop / RATE
        clip = clips.add(utterance._replace(start=first * clips.hop / RATE, end=end))
        chunks.append(Chunk(clip, last - first, whole[first:last]))
    return Recording(utterance.name, chunks, utterance.turns, utterance.scored)


def fit(x: Tensor, lengths: Sequence[int], wanted: Sequence[int]) -> Tensor:
    """Clips back to back, each cut, or its last frame repeated, to the frames that its labels have."""
    parts = []
    for part, length in zip(x.split(list(lengths)), wanted, strict=True):
        more = length - len(part)
        parts.append(torch.cat([part, part[-1:].expand(more, -1, -1)]) if more > 0 else part[:length])
    return torch.cat(parts)
