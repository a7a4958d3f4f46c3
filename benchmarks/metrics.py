# SPDX-License-Identifier: Apache-2.0
"""Figures by their names, from scikit-learn and scipy, with an answer where those give none.

A correlation with a constant does not exist; here it is 0, since such predictions say nothing.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np


def accuracy(references: Sequence[Any], predictions: Sequence[Any]) -> float:
    """The share of predictions that are right."""
    return float(np.mean([a == b for a, b in zip(references, predictions, strict=True)]))


def f1(references: Sequence[Any], predictions: Sequence[Any], positive: Any) -> float:
    """F1 of one class; 0 if it is neither there nor predicted."""
    from sklearn.metrics import f1_score

    known = [one == positive for one in references]
    said = [one == positive for one in predictions]
    return float(f1_score(known, said, zero_division=0.0))  # pyright: ignore[reportArgumentType]


def matthews(references: Sequence[Any], predictions: Sequence[Any]) -> float:
    """Matthews correlation, of any number of classes (with three: R3); 0 if either side has one class only."""
    from sklearn.metrics import matthews_corrcoef

    if len(set(references)) < 2 or len(set(predictions)) < 2:
        return 0.0
    return float(matthews_corrcoef(references, predictions))


def pearson(references: Sequence[float], predictions: Sequence[float]) -> float:
    """Pearson correlation; 0 if either side is constant."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, references, predictions)


def spearman(references: Sequence[float], predictions: Sequence[float]) -> float:
    """Spearman rank correlation, ties at their mean rank; 0 if either side is constant."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, references, predictions)


def _correlation(function: Any, references: Sequence[float], predictions: Sequence[float]) -> float:
    a, b = np.asarray(references, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0 or not np.isfinite(b).all():
        return 0.0
    return float(function(a, b).statistic)


def confusion(references: Sequence[str], predictions: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """(C, C) int64: items of each class (row) by what was predicted (column)."""
    place = {name: i for i, name in enumerate(classes)}
    out = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for known, said in zip(references, predictions, strict=True):
        out[place[known], place[said]] += 1
    return out
