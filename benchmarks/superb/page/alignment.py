# SPDX-License-Identifier: Apache-2.0
"""Which tokens of a transcript are right: the alignment with the fewest edits (Levenshtein 1966), and its marks."""

import html
from collections.abc import Sequence

import numpy as np

STYLE = """
.pair { display: inline-block; text-align: center; margin: 0 .12rem .5rem; vertical-align: top; font-size: .85rem }
.pairs { margin-left: 2.5rem }
.pair > * { display: block; min-width: 1em } .pair mark.wrong { outline: 1px solid #c4591b }
"""
NOTHING = "∅"


def align(said: Sequence[str], right: Sequence[str]) -> list[tuple[str | None, str | None]]:
    """Pairs of a said and a right token in order; None: nothing stands there on that side.

    Of equally good alignments, the one that replaces as late as it can.
    """
    cost = np.zeros((len(said) + 1, len(right) + 1), dtype=np.int64)
    cost[:, 0], cost[0] = np.arange(len(said) + 1), np.arange(len(right) + 1)
    for i, token in enumerate(said, start=1):
        for k, other in enumerate(right, start=1):
            cost[i, k] = min(cost[i - 1, k - 1] + (token != other), cost[i - 1, k] + 1, cost[i, k - 1] + 1)
    i, k = len(said), len(right)
    pairs: list[tuple[str | None, str | None]] = []
    while i or k:
        if i and k and cost[i, k] == cost[i - 1, k - 1] + (said[i - 1] != right[k - 1]):
            i, k = i - 1, k - 1
            pairs.append((said[i], right[k]))
        elif k and cost[i, k] == cost[i, k - 1] + 1:
            k -= 1
            pairs.append((None, right[k]))
        else:
            i -= 1
            pairs.append((said[i], None))
    return pairs[::-1]


def marked(said: Sequence[str], right: Sequence[str]) -> str:
    """HTML: what is right above what is said, token by token, with what differs marked."""
    cells = []
    for one, other in align(said, right):
        below = html.escape(NOTHING if one is None else one)
        above = html.escape(NOTHING if other is None else other)
        if one != other:
            below = f"<mark class=wrong>{below}</mark>"
        cells.append(f"<span class=pair><span>{above}</span><span>{below}</span></span>")
    names = "<span class=pair><b>right:</b><b>said:</b></span>"
    return f"<p class=pairs>{names} {' '.join(cells)}</p>"
