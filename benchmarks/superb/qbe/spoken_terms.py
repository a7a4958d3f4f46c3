# SPDX-License-Identifier: Apache-2.0
"""Finds spoken queries in recordings (QbE) by subsequence DTW of features, without any training.

Follows s3prl@ec8064b, downstream/quesst14_dtw/expert.py, of SUPERB (Yang et al. 2021, arXiv:2105.01051); differs: all
recordings of like length are matched at once, in the features' precision.
Shape letters: Q frames of a query, N recordings, T frames of a recording, D width.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

SHORTEST = 5  # frames; shorter queries score 0 everywhere
CELLS = 1 << 24  # of distance matrices at once: 64 MiB in float32


def standardise(features: Sequence[Tensor]) -> list[Tensor]:
    """Every dimension with mean 0 and deviation 1 over all frames of all queries and recordings, each (T, D)."""
    frames = torch.cat(list(features))
    mean, deviation = frames.mean(0), frames.std(0).clamp(min=1e-9)
    return [(each - mean) / deviation for each in features]


def distances(query: Tensor, recordings: Tensor, lengths: Tensor) -> Tensor:
    """exp(1 - cosine) - 1, then each query frame scaled so that its nearest frame is at 0 and its farthest at 1.

    Args:
        query: (Q, D), each frame L2-normalised.
        recordings: (N, T, D), likewise; padded with anything finite.
        lengths: (N,) frames, each at least 1.
    Returns: (N, Q, T); what stands at padding is meaningless.
    """
    apart = torch.expm1(1 - query @ recordings.transpose(1, 2))  # (N, Q, T)
    padding = torch.arange(recordings.shape[1], device=query.device) >= lengths[:, None]  # (N, T)
    nearest = apart.masked_fill(padding[:, None], torch.inf).amin(-1, keepdim=True)  # (N, Q, 1)
    farthest = apart.masked_fill(padding[:, None], -torch.inf).amax(-1, keepdim=True)
    return (apart - nearest) / (farthest - nearest).clamp(min=1e-9)


def least_path(apart: Tensor, lengths: Tensor) -> Tensor:
    """The mean distance along the best path that passes all of the query and any stretch of the recording.

    Each step goes on by one query frame and by none, one or two frames of the recording, all at the same weight
    (pattern "asymmetric" of dtw-python, begin and end open; Tormene et al. 2009).

    Args:
        apart: (N, Q, T), as `distances` gives it.
        lengths: (N,) frames.
    Returns: (N,).
    """
    cost = apart[:, 0]  # (N, T), up to here; padding comes last, so no real frame is reached from it
    for row in apart.unbind(1)[1:]:
        before = F.pad(cost, (2, 0), value=torch.inf)  # (N, T + 2)
        cost = row + torch.minimum(cost, torch.minimum(before[:, 1:-1], before[:, :-2]))
    padding = torch.arange(apart.shape[2], device=apart.device) >= lengths[:, None]
    return cost.masked_fill(padding, torch.inf).amin(-1) / apart.shape[1]


def search(queries: Sequence[Tensor], recordings: Sequence[Tensor]) -> Tensor:
    """How surely each recording holds each query: the negative cost of the best path, then normalised by query.

    Args:
        queries, recordings: (Q, D) and (T, D) each, already standardised.
    Returns: (queries, N) on the CPU, each row with mean 0 and deviation 1, or all 0.
    Raises: ValueError where there is nothing to search, or a recording has no frames.
    """
    if not queries or not recordings:
        raise ValueError(f"nothing to search: {len(queries)} queries, {len(recordings)} recordings")
    empty = [number for number, recording in enumerate(recordings) if not len(recording)]
    if empty:
        raise ValueError(f"recording {empty[0]} (from 0) has no frames: leave it out")
    found = torch.zeros(len(queries), len(recordings), dtype=recordings[0].dtype)
    directions = [F.normalize(query, dim=-1) for query in queries]
    for numbers in _groups(recordings, max(len(query) for query in queries)):
        lengths = torch.tensor([len(recordings[number]) for number in numbers], device=recordings[0].device)
        padded = pad_sequence([recordings[number] for number in numbers], batch_first=True)  # (N, T, D)
        padded = F.normalize(padded, dim=-1)
        for row, query in enumerate(directions):
            if len(query) >= SHORTEST:
                found[row, numbers] = -least_path(distances(query, padded, lengths), lengths).cpu()
    return normalise(found)


def _groups(recordings: Sequence[Tensor], query: int) -> Iterator[list[int]]:
    """Numbers of recordings of like length, so many that a query of this many frames makes `CELLS` distances."""
    group: list[int] = []
    for number in sorted(range(len(recordings)), key=lambda number: len(recordings[number])):
        if group and (len(group) + 1) * len(recordings[number]) * query > CELLS:
            yield group
            group = []
        group.append(number)
    yield group


def normalise(scores: Tensor) -> Tensor:
    """Each row of (queries, N) with mean 0 and (population) deviation 1; rows without any spread become 0."""
    centred = scores - scores.mean(1, keepdim=True)
    return centred / scores.std(1, correction=0, keepdim=True).clamp(min=1e-9)
