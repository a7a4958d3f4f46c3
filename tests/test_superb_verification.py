# SPDX-License-Identifier: Apache-2.0
"""The equal error rate against scikit-learn's ROC and scipy's root finder, and the detection cost against a loop."""

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from pluri.benchmarks.superb.asv.verification import equal_error_rate, least_cost, rates


def published(targets, scores):
    alarms, hits, _ = roc_curve(targets, scores)
    curve = interp1d(alarms, hits)
    return brentq(lambda x: 1 - x - curve(x), 0, 1)


def slow_cost(targets, scores, prior, miss, alarm):
    found = []
    for threshold in [*scores, np.inf]:
        missed = np.mean([score < threshold for target, score in zip(targets, scores, strict=True) if target])
        alarms = np.mean([score >= threshold for target, score in zip(targets, scores, strict=True) if not target])
        found.append(miss * prior * missed + alarm * (1 - prior) * alarms)
    return min(found) / min(miss * prior, alarm * (1 - prior))


def trials(seed):
    """Trials of any size from two, with ties in every other case, and any share of targets."""
    rng = np.random.default_rng(seed)
    number = int(rng.integers(2, 60))
    targets = rng.permutation([0, 1, *(rng.random(number - 2) < rng.random())]).astype(int)
    scores = rng.normal(size=number) + rng.random() * 2 * targets
    return targets, scores.round(1) if seed % 2 else scores


@pytest.mark.parametrize("seed", range(200))
def test_the_equal_error_rate_equals_roc_and_root_finder(seed):
    targets, scores = trials(seed)
    assert equal_error_rate(targets, scores) == pytest.approx(published(targets, scores), abs=1e-9)


@pytest.mark.parametrize(
    ("targets", "scores", "rate"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], 0.0),
        ([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9], 1.0),
        ([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], 0.5),
        ([0, 1], [-3.0, 7.0], 0.0),
        ([0, 0, 0, 1], [0.1, 0.2, 0.9, 0.5], 1 / 3),
    ],
)
def test_separated_reversed_and_tied_scores(targets, scores, rate):
    assert equal_error_rate(targets, scores) == pytest.approx(rate)


def test_only_the_order_of_scores_counts():
    targets, scores = trials(4)
    assert equal_error_rate(targets, np.exp(scores)) == equal_error_rate(targets, scores)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("costs", [(0.01, 1.0, 1.0), (0.5, 10.0, 1.0)])
def test_the_least_cost_equals_a_loop(seed, costs):
    targets, scores = trials(seed)
    assert least_cost(targets, scores, *costs) == pytest.approx(slow_cost(targets, scores, *costs))


def test_rates_run_from_accepting_nothing_to_accepting_all():
    alarms, misses = rates([1, 0, 1], [0.9, 0.5, 0.5])
    assert alarms.tolist() == [0, 0, 1] and misses.tolist() == [1, 0.5, 0]


def test_trials_that_cannot_be_scored_are_refused():
    with pytest.raises(ValueError, match="and of different ones"):
        equal_error_rate([1, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match="and of different ones"):
        equal_error_rate([1], [0.1])
    with pytest.raises(ValueError, match="and no others"):
        equal_error_rate([1, 0, 2], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="trial 1 .* has the score nan"):
        equal_error_rate([1, 0], [0.1, float("nan")])
    with pytest.raises(ValueError, match="do not pair"):
        equal_error_rate([1, 0], [0.1])
