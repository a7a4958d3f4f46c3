# SPDX-License-Identifier: Apache-2.0
"""Figures against scikit-learn, scipy and slow loops, and the answers where those give none."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as theirs

from pluri.benchmarks import metrics


@pytest.mark.parametrize("seed", range(20))
def test_figures_of_classes_equal_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    n, classes = int(rng.integers(2, 60)), int(rng.integers(2, 4))
    known, said = (rng.integers(0, classes, n).tolist() for _ in range(2))
    assert metrics.accuracy(known, said) == pytest.approx(theirs.accuracy_score(known, said))
    if len(set(known)) > 1 and len(set(said)) > 1:
        assert metrics.matthews(known, said) == pytest.approx(theirs.matthews_corrcoef(known, said))
    right = sum(a == b == 1 for a, b in zip(known, said, strict=True))
    some = known.count(1) + said.count(1)
    assert metrics.f1(known, said, 1) == pytest.approx(2 * right / some if some else 0.0)
    table = metrics.confusion([str(x) for x in known], [str(x) for x in said], [str(x) for x in range(classes)])
    assert np.array_equal(table, theirs.confusion_matrix(known, said, labels=list(range(classes))))


@pytest.mark.parametrize("seed", range(20))
def test_correlations_equal_scipys_with_and_without_ties(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 30))
    if seed % 2:
        a, b = a.round(), b.round()
    assert metrics.pearson(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    ranks = np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1]
    assert metrics.spearman(a, b) == pytest.approx(ranks)


def test_what_cannot_be_computed_is_zero_and_warns_of_nothing():
    assert metrics.matthews([1, 1, 0], [1, 1, 1]) == metrics.matthews([1, 1], [1, 1]) == 0.0
    assert metrics.f1([0, 0], [0, 0], 1) == 0.0 and metrics.f1([1, 1], [0, 0], 1) == 0.0
    for figure in (metrics.pearson, metrics.spearman):
        assert figure([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]) == figure([1.0], [2.0]) == 0.0
        assert figure([1.0, 2.0, 3.0], [1.0, math.nan, 2.0]) == 0.0
        assert figure([1.0, 2.0], [2.0, 4.0]) == pytest.approx(1.0)
