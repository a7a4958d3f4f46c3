# SPDX-License-Identifier: Apache-2.0
"""Which stretches of a tokenised corpus make the items of an epoch: BERT's sentence pairs, or plain runs of sentences.

Pairs follow google-research/bert@eedf5716, create_pretraining_data.py: segments of whole sentences, every second one
followed by a stretch of another document; the sentences that it took the place of are put back and used next.
"""

from typing import NamedTuple

import numpy as np

from ..ssl import draw

COLUMNS = 6  # item, start and end of A, start and end of B (tokens of the shard), whether B is random


class Shard(NamedTuple):
    """A tokenised corpus: sentences and documents stored back to back."""

    tokens: np.ndarray  # (N,) uint16 or uint32
    sentences: np.ndarray  # (S + 1,) int64, where each sentence begins, in tokens
    documents: np.ndarray  # (D + 1,) int64, where each document begins, in sentences


def _generator(key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(key & (2**64 - 1)))


def plain_table(shard: Shard, chosen: np.ndarray, longest: int) -> np.ndarray:
    """Runs of whole sentences of one document, as long as fits into `longest` tokens with [CLS] and [SEP].

    A sentence that is longer by itself is cut up. (RoBERTa's DOC-SENTENCES, arXiv:1907.11692, section 4.2.)
    """
    budget = longest - 2
    rows = []
    for document in chosen.tolist():
        first, last = int(shard.documents[document]), int(shard.documents[document + 1])
        bounds = shard.sentences[first : last + 1].tolist()
        start = bounds[0]
        for end, following in zip(bounds[1:], [*bounds[2:], None], strict=True):
            while end - start > budget:
                rows.append((start, start + budget))
                start += budget
            if (following is None or following - start > budget) and end > start:
                rows.append((start, end))
                start = end
    table = np.zeros((len(rows), COLUMNS), dtype=np.int64)
    if rows:
        table[:, 1:3] = rows
        table[:, 3:5] = table[:, 2:3]
    table[:, 0] = np.arange(len(table))
    return table


def pair_table(shard: Shard, chosen: np.ndarray, longest: int, short: float, key: int) -> np.ndarray:
    """BERT's pairs for [CLS] A [SEP] B [SEP] of at most `longest` tokens.

    Args:
        chosen: the documents to use, in order. short: share of documents whose items are shorter, uniformly in length.
    Returns: (n, COLUMNS) int64.
    Raises: ValueError if there are fewer than two documents to take random segments from.
    """
    if len(chosen) < 2:
        raise ValueError(
            "next sentence prediction needs at least two documents: "
            "add --data.pairs False --objective.next-sentence False"
        )
    random = _generator(draw.key(key, "pairs"))
    builder = _PairBuilder(shard, chosen, longest - 3, random)
    targets = np.where(
        random.random(len(chosen)) < short, random.integers(2, longest - 2, len(chosen)), longest - 3
    ).tolist()
    for document, target in zip(chosen.tolist(), targets, strict=True):
        builder.add(document, target)
    table = np.array(builder.rows, dtype=np.int64).reshape(-1, COLUMNS)
    table[:, 0] = np.arange(len(table))
    return table


class _PairBuilder:
    """Walks through documents and collects pairs."""

    def __init__(self, shard: Shard, chosen: np.ndarray, budget: int, random: np.random.Generator) -> None:
        self.sentences, self.documents = shard.sentences, shard.documents
        self.chosen, self.budget, self.random = chosen, budget, random
        self.rows: list[tuple[int, int, int, int, int, int]] = []

    def add(self, document: int, target: int) -> None:
        """All pairs of one document."""
        first, last = int(self.documents[document]), int(self.documents[document + 1])
        bounds = self.sentences[first : last + 1].tolist()
        i, count = 0, last - first
        while i < count:
            j = i + 1  # the chunk: sentences i .. j - 1, until it is as long as wanted or the document ends
            while j < count and bounds[j] - bounds[i] < target:
                j += 1
            split = i + 1 if j - i == 1 else i + int(self.random.integers(1, j - i))
            a = bounds[i], bounds[split]
            if j - i == 1 or self.random.random() < 0.5:
                b = self._elsewhere(document, target - (a[1] - a[0]))
                i = split  # what follows A is put back
                is_random = 1
            else:
                b = bounds[split], bounds[j]
                i = j
                is_random = 0
            if a[1] > a[0] and b[1] > b[0]:
                self.rows.append((0, *self._truncate(a, b), is_random))

    def _elsewhere(self, document: int, wanted: int) -> tuple[int, int]:
        """A stretch of another document, from a random sentence on, until `wanted` tokens are reached."""
        # The published code tries ten times and may end up in the same document; here another one is certain.
        while (other := int(self.chosen[self.random.integers(len(self.chosen))])) == document:
            pass
        first, last = int(self.documents[other]), int(self.documents[other + 1])
        sentence = int(self.random.integers(first, last))
        start = int(self.sentences[sentence])
        end = int(np.searchsorted(self.sentences[sentence + 1 : last + 1], start + max(1, wanted)))
        return start, int(self.sentences[min(sentence + 1 + end, last)])

    def _truncate(self, a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int, int, int]:
        """Takes tokens from the longer side until both fit, each from its front or back with equal chance."""
        sizes = [a[1] - a[0], b[1] - b[0]]
        over = sum(sizes) - self.budget
        if over <= 0:
            return *a, *b
        longer = 0 if sizes[0] > sizes[1] else 1
        gap = min(over, sizes[longer] - sizes[1 - longer])
        cut = [0, 0]
        cut[longer] += gap
        # From equal lengths on the sides take turns; the published rule begins with B.
        cut[1] += (over - gap + 1) // 2
        cut[0] += (over - gap) // 2
        front = [int(self.random.binomial(one, 0.5)) if one else 0 for one in cut]
        return a[0] + front[0], a[1] - (cut[0] - front[0]), b[0] + front[1], b[1] - (cut[1] - front[1])
