# SPDX-License-Identifier: Apache-2.0
"""Counts edits between token sequences, for phone, word and character error rates, and decodes CTC greedily.

A rate is all edits of a split over all its reference tokens, as the SUPERB leaderboard counts them
(superbbenchmark/website-react@cacb90e, backend/inference/metric.py). Texts are not normalised. Differs there: a text is
cut at every single space, so that an empty one is a token; here words are what stands between spaces of any number.
Shape letters: B rows, T frames, V vocabulary.
"""

from collections.abc import Collection, Hashable, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from torch import Tensor


class Errors(NamedTuple):
    """Edits, and the reference tokens that they are counted against."""

    edits: int
    tokens: int

    @property
    def rate(self) -> float:
        """Edits for each reference token, 0 to above 1. Raises ValueError where the references hold no token."""
        if not self.tokens:
            raise ValueError("no error rate: the references hold no token: check that the transcripts are not empty")
        return self.edits / self.tokens


def edits(hypothesis: Sequence[Hashable], reference: Sequence[Hashable]) -> int:
    """The fewest substitutions, insertions and deletions between two sequences (Levenshtein 1966)."""
    numbers: dict[Hashable, int] = {}
    said, meant = (
        np.array([numbers.setdefault(token, len(numbers)) for token in tokens], dtype=np.int64)
        for tokens in (hypothesis, reference)
    )
    places = np.arange(len(meant) + 1)
    cost = places.copy()  # (R + 1,), of the hypothesis so far against each beginning of the reference
    for token in said:
        replaced = np.concatenate([[cost[0] + 1], cost[:-1] + (meant != token)])
        best = np.minimum(replaced, cost + 1)
        # A deletion moves along the row at 1 a place: the least of best[k] + (j - k) over k <= j.
        cost = np.minimum.accumulate(best - places) + places
    return int(cost[-1])


def count_errors(hypotheses: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Hashable]]) -> Errors:
    """The errors of a whole split, whose utterances stand in the same order. Raises ValueError for unlike lengths."""
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses do not pair with {len(references)} references")
    pairs = zip(hypotheses, references, strict=True)
    return Errors(sum(edits(said, meant) for said, meant in pairs), sum(len(meant) for meant in references))


def word_error_rate(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """WER of texts, or PER of phones with spaces between them, as a fraction. Raises as `count_errors` does."""
    return count_errors([text.split() for text in hypotheses], [text.split() for text in references]).rate


def character_error_rate(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """CER of texts, spaces included, as a fraction. Raises as `count_errors` does."""
    return count_errors(hypotheses, references).rate


def collapse(frames: Sequence[int], blank: int, dropped: Collection[int] = ()) -> list[int]:
    """The tokens that a CTC path spells: repeats become one, then blanks go (Graves et al. 2006, section 3.1).

    Args:
        dropped: further tokens to leave out, such as the end of the sentence.
    """
    left_out = {blank, *dropped}
    return [token for token, _ in groupby(frames) if token not in left_out]


def greedy(logits: Tensor, lengths: Sequence[int], blank: int, dropped: Collection[int] = ()) -> list[list[int]]:
    """The tokens of each row's likeliest CTC path.

    Differs from s3prl's `ctc` expert, which also reads the frames of padding: a row is cut at its length first.

    Args:
        logits: (B, T, V) float.
        lengths: (B,) frames.
    """
    paths = logits.argmax(-1).tolist()  # (B, T)
    return [collapse(path[:length], blank, dropped) for path, length in zip(paths, lengths, strict=True)]
