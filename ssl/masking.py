# SPDX-License-Identifier: Apache-2.0
"""Which units to hide: choices without replacement, spans, whole words; from keys, on the device, for all rows at once.

Nothing here waits for the device: what depends on drawn numbers keeps a shape that the host knows from the lengths.
Shape letters: B rows, T units of the longest row, M chosen units of all rows.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from . import draw


class Chosen(NamedTuple):
    """The units where a (B, T) mask is True, row after row."""

    flat: Tensor  # (M,) int64 into the flattened mask (B * T)
    real: Tensor  # (M,) bool; False for entries that only fill up to a size that the host knows
    row: Tensor  # (M,) int64
    column: Tensor  # (M,) int64


def choose(keys: Tensor, allowed: Tensor, count: Tensor) -> Tensor:
    """(B, T) bool: `count` (B,) of each row's allowed units, uniformly without replacement, or all there are."""
    scores = draw.uniform(keys, allowed.shape[1]).masked_fill(~allowed, 2.0)
    place = scores.argsort(dim=1, stable=True).argsort(dim=1)  # (B, T), each unit's place in the row's random order
    return (place < count[:, None]) & allowed


def grow(starts: Tensor, span: int | Tensor) -> Tensor:
    """(B, T) bool: units covered by spans that begin where `starts` (B, T) is True; `span` is a number or (B, 1)."""
    T = starts.shape[1]
    place = torch.arange(T, device=starts.device) - span  # (T,) or (B, T): the start whose span has just ended
    before = place.expand(starts.shape).clamp(min=0)
    ends = starts.gather(1, before) & (place >= 0)
    return (starts.int() - ends.int()).cumsum(1) > 0


def spans(keys: Tensor, lengths: Tensor, longest: int, count: Tensor, span: int) -> Tensor:
    """(B, T) bool: spans of `span` units at `count` (B,) starts of each row, without replacement; spans may overlap.

    A span lies wholly within its row; rows shorter than a span get none.

    Args:
        lengths: (B,) int64 on the device of `keys`. longest: T.
    """
    place = torch.arange(longest, device=keys.device)
    allowed = place <= (lengths - span)[:, None]
    return grow(choose(keys, allowed, count), span)


def words(keys: Tensor, allowed: Tensor, continues: Tensor, count: Tensor) -> Tensor:
    """(B, T) bool: whole words in random order, as long as the next one still fits into `count` (B,) units.

    As published (google-research/bert, whole word masking): a word that does not fit is passed over and the next is
    tried. Here at most 16 words of a row are passed over, after which what is left of its count stays unused.

    Args:
        allowed: (B, T) bool, units that may be hidden.
        continues: (B, T) bool, units that belong to the word of the unit before them.
    """
    B, T = allowed.shape
    first = allowed & ~(continues & allowed.roll(1, dims=1))
    word = first.cumsum(1).clamp(min=1) - 1  # (B, T), number of the word in its row
    size = torch.zeros(B, T, dtype=torch.int64, device=allowed.device).scatter_add(1, word, allowed.long())
    scores = draw.uniform(keys, T).masked_fill(size == 0, 2.0)
    order = scores.argsort(dim=1, stable=True)
    size = size.gather(1, order)  # in the row's random order
    taken = size > 0
    for _ in range(16):
        over = (torch.where(taken, size, 0).cumsum(1) > count[:, None]) & taken
        taken = taken & ~(over & (over.cumsum(1) == 1))
    taken = taken & (torch.where(taken, size, 0).cumsum(1) <= count[:, None])
    by_word = torch.zeros_like(taken).scatter(1, order, taken)
    return by_word.gather(1, word) & allowed


def where(masked: Tensor, at_most: int) -> Chosen:
    """The True entries of a mask (B, T), of which the caller knows that they are no more than `at_most`.

    Where looking how many there are would wait for the device, the list is filled up to `at_most` with entries that are
    not `real`; on a CPU it is exact.
    """
    T = masked.shape[1]
    flat = masked.flatten()
    if flat.device.type == "cpu":
        index = flat.nonzero()[:, 0]
        real = torch.ones_like(index, dtype=torch.bool)
    else:
        index = torch.argsort(~flat, stable=True)[:at_most]
        real = flat[index]
    return Chosen(index, real, index // T, index % T)


def stochastic_round(keys: Tensor, x: Tensor) -> Tensor:
    """(B,) int64: `x` (B,) rounded down or up at random, so that the expectation is x (fairseq's rule for spans)."""
    return (x + draw.uniform(keys, 1)[:, 0]).floor().long()
