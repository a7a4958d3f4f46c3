# SPDX-License-Identifier: Apache-2.0
"""Scores speaker verification (ASV): the equal error rate, and the least detection cost beside it.

SUPERB reports the EER (Yang et al. 2021, arXiv:2105.01051). The detection cost is that of NIST SRE 2016, section 3.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Rates(NamedTuple):
    """Shares of wrong decisions at each threshold, from the one that accepts nothing to the one that accepts all."""

    false_alarms: np.ndarray  # (K,), of trials with different speakers; never falls
    misses: np.ndarray  # (K,), of trials with the same speaker; never rises


def rates(targets: Sequence[int] | np.ndarray, scores: ArrayLike) -> Rates:
    """The error rates of all thresholds; trials of equal score are accepted together.

    Args:
        targets: (N,) 1 for the same speaker, 0 for different ones.
        scores: (N,) float, high for the same speaker.
    Raises: ValueError for scores that are not finite, other targets, or only one kind of trial.
    """
    wanted, given = np.asarray(targets), np.asarray(scores, dtype=np.float64)
    if wanted.shape != given.shape or wanted.ndim != 1:
        raise ValueError(f"{wanted.shape} targets do not pair with {given.shape} scores")
    if len(strange := np.flatnonzero(~np.isfinite(given))):
        raise ValueError(f"trial {strange[0]} (from 0) has the score {given[strange[0]]}: it must be finite")
    if not np.isin(wanted, (0, 1)).all() or len(np.unique(wanted)) != 2:
        raise ValueError("an error rate needs trials of the same speaker (1) and of different ones (0), and no others")
    order = np.argsort(-given, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(given[order])), len(given) - 1)  # the last trial of each distinct score
    accepted = np.concatenate([[0], np.cumsum(wanted[order] == 1)[ends]])
    alarms = np.concatenate([[0], np.cumsum(wanted[order] == 0)[ends]])
    return Rates(alarms / alarms[-1], 1 - accepted / accepted[-1])


def equal_error_rate(targets: Sequence[int] | np.ndarray, scores: ArrayLike) -> float:
    """Where the linearly interpolated ROC has as many false alarms as misses, as a fraction.

    That point of a polyline has a closed form, so no root finder is needed. Raises as `rates` does.
    """
    alarms, misses = rates(targets, scores)
    gap = misses - alarms  # from 1 down to -1, strictly
    after = int(np.argmax(gap <= 0))
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(alarms[after - 1] + share * (alarms[after] - alarms[after - 1]))


def least_cost(
    targets: Sequence[int] | np.ndarray, scores: ArrayLike, prior: float = 0.01, miss: float = 1.0, alarm: float = 1.0
) -> float:
    """The least detection cost (minDCF), where 1 is that of the better blind decision. Not part of SUPERB.

    Args:
        prior: of a trial with the same speaker.
        miss, alarm: what one error costs.
    Raises: as `rates` does.
    """
    alarms, misses = rates(targets, scores)
    costs = miss * prior * misses + alarm * (1 - prior) * alarms
    return float(costs.min() / min(miss * prior, alarm * (1 - prior)))
