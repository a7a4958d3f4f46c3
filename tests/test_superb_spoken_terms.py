# SPDX-License-Identifier: Apache-2.0
"""Query by example: subsequence DTW against a triple loop and librosa, and MTWV against a loop over thresholds."""

import librosa
import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch.nn import functional as F

from pluri.benchmarks.superb.qbe import spoken_terms
from pluri.benchmarks.superb.qbe.spoken_terms import distances, least_path, normalise, search, standardise
from pluri.benchmarks.superb.qbe.term_value import BETA, DEFAULT, greatest_term_value, read_stdlist, write_stdlist


def slow_distances(query, recording):
    apart = np.exp(cdist(query, recording, "cosine")) - 1
    low, high = apart.min(1, keepdims=True), apart.max(1, keepdims=True)
    return (apart - low) / np.maximum(high - low, 1e-9)


def slow_path(apart):
    """The recursion, cell by cell; the path may begin and end in any frame of the recording."""
    rows, columns = apart.shape
    cost = np.full((rows, columns), np.inf)
    for row in range(rows):
        for column in range(columns):
            reached = (
                0.0 if row == 0 else min(cost[row - 1, max(column - step, 0)] for step in range(min(column, 2) + 1))
            )
            cost[row, column] = apart[row, column] + reached
    return cost[-1].min() / rows


def features(seed, lengths, width=7, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, width, generator=generator, dtype=dtype) for length in lengths]


@pytest.mark.parametrize("seed", range(6))
def test_the_least_path_equals_a_triple_loop_and_librosa(seed):
    recordings = [F.normalize(each, dim=-1) for each in features(seed, (30, 1, 2, 17, 55))]
    query = F.normalize(features(seed + 100, (6 + seed,))[0], dim=-1)
    lengths = torch.tensor([len(each) for each in recordings])
    padded = torch.nn.utils.rnn.pad_sequence(recordings, batch_first=True)
    apart = distances(query, padded, lengths)
    found = least_path(apart, lengths)
    for row, recording in enumerate(recordings):
        expected = slow_distances(query.numpy(), recording.numpy())
        assert apart[row, :, : len(recording)].numpy() == pytest.approx(expected, abs=1e-12)
        assert found[row].item() == pytest.approx(slow_path(expected), abs=1e-12)
        steps, weights = np.array([[1, 0], [1, 1], [1, 2]]), np.ones(3)
        accumulated = librosa.sequence.dtw(
            C=expected,
            subseq=True,
            step_sizes_sigma=steps,
            weights_mul=weights,
            weights_add=0 * weights,
            backtrack=False,
        )
        assert found[row].item() == pytest.approx(accumulated[-1].min() / len(query), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_least_path_equals_dtw_python(seed):
    dtw = pytest.importorskip("dtw")
    (query,), recordings = features(seed, (9,)), features(seed + 1, (25, 12))
    for recording in recordings:
        length = torch.tensor([len(recording)])
        apart = distances(F.normalize(query, dim=-1), F.normalize(recording, dim=-1)[None], length)
        aligned = dtw.dtw(apart[0].numpy(), step_pattern="asymmetric", open_begin=True, open_end=True)
        assert least_path(apart, length).item() == pytest.approx(aligned.normalizedDistance, abs=1e-12)


def test_a_query_is_found_where_it_was_cut_from():
    recordings = features(0, (80, 90, 100), dtype=torch.float32)
    queries = [recordings[1][20:40], recordings[2][50:58]]
    found = search(queries, recordings)
    assert found.argmax(1).tolist() == [1, 2]
    assert found.mean(1) == pytest.approx(np.zeros(2), abs=1e-6)
    assert found.std(1, correction=0) == pytest.approx(np.ones(2), abs=1e-6)


def test_scores_are_the_same_alone_and_in_groups(monkeypatch):
    queries, recordings = features(1, (8, 5, 20)), features(2, (40, 3, 3, 60, 7))
    together = search(queries, recordings)
    monkeypatch.setattr(spoken_terms, "CELLS", 1)  # a group for each recording
    assert torch.allclose(search(queries, recordings), together, atol=1e-12, rtol=0)
    raw = torch.tensor(
        [[-slow_path(slow_distances(query.numpy(), each.numpy())) for each in recordings] for query in queries]
    )
    assert torch.allclose(together, normalise(raw), atol=1e-10, rtol=0)


def test_short_queries_and_scores_without_spread_are_nought():
    recordings = features(3, (20, 30))
    assert search(features(4, (4, 0)), recordings).tolist() == [[0, 0], [0, 0]]
    assert search(features(4, (6,)), recordings[:1]).tolist() == [[0]]


def test_features_are_standardised_over_all_frames():
    found = torch.cat(standardise([each * 3 + 5 for each in features(5, (10, 20, 1))]))
    assert torch.allclose(found.mean(0), torch.zeros(7, dtype=found.dtype), atol=1e-12)
    assert torch.allclose(found.std(0), torch.ones(7, dtype=found.dtype))
    assert (torch.cat(standardise([torch.ones(3, 2), torch.ones(1, 2)])) == 0).all()


def test_a_search_in_nothing_is_refused():
    with pytest.raises(ValueError, match="1 queries, 0 recordings"):
        search(features(0, (6,)), [])
    with pytest.raises(ValueError, match="recording 1 .* has no frames"):
        search(features(0, (6,)), features(0, (6, 0)))


def slow_value(scores, truth, recordings, threshold):
    value = 0.0
    queries = [query for query in truth if truth[query]]
    for query in queries:
        heard = {name for name in recordings if scores.get(query, {}).get(name, DEFAULT) >= threshold}
        misses = len(truth[query] - heard) / len(truth[query])
        others = len(recordings) - len(truth[query])
        alarms = len(heard - truth[query]) / others if others else 0.0
        value += (1 - misses - BETA * alarms) / len(queries)
    return value


@pytest.mark.parametrize("seed", range(30))
def test_the_greatest_term_value_equals_a_loop_over_thresholds(seed):
    rng = np.random.default_rng(seed)
    recordings = [f"d{number}" for number in range(rng.integers(1, 25))]
    truth = {f"q{n}": {name for name in recordings if rng.random() < 0.2} for n in range(rng.integers(2, 8))}
    truth["q0"] = {recordings[0]}
    scores = {
        query: {name: round(rng.normal() + 3 * (name in held), seed % 3) for name in recordings if rng.random() < 0.8}
        for query, held in truth.items()
        if rng.random() < 0.9
    }
    found = greatest_term_value(scores, truth, recordings)
    thresholds = {float("inf"), DEFAULT, *(score for heard in scores.values() for score in heard.values())}
    best = max(slow_value(scores, truth, recordings, threshold) for threshold in thresholds)
    assert found.value == pytest.approx(best, abs=1e-12)
    assert slow_value(scores, truth, recordings, found.threshold) == pytest.approx(best, abs=1e-12)


def test_costs_are_those_of_quesst():
    assert pytest.approx(12.49) == BETA
    assert 1 / (1 + BETA) == pytest.approx(0.0741289, abs=1e-7)  # the effective prior that the tool is called with


def test_term_values_at_the_edges():
    documents = ["a", "b", "c"]
    assert greatest_term_value({"q": {"a": 3.0, "b": 1.0}}, {"q": ["a"]}, documents) == (1.0, 3.0)
    assert greatest_term_value({"q": {"a": 1.0, "b": 3.0}}, {"q": ["a"]}, documents) == (0.0, float("inf"))
    assert greatest_term_value({"q": {"a": 1.0, "b": 1.0}}, {"q": ["a"]}, documents).value == 0.0  # ties
    assert greatest_term_value({}, {"q": documents}, documents) == (1.0, DEFAULT)
    assert greatest_term_value({"q": {"a": 3.0}}, {"q": ["a"], "left out": ["b"]}, documents).value == 0.5
    assert greatest_term_value({"q": {"a": 3.0}}, {"q": ["a"], "nowhere": []}, documents).value == 1.0
    assert greatest_term_value({"q": {"a": 3.0}, "unasked": {"b": 9.0}}, {"q": ["a"]}, documents).value == 1.0


def test_term_values_that_cannot_be_counted_are_refused():
    with pytest.raises(ValueError, match="no query occurs"):
        greatest_term_value({}, {"q": []}, ["a"])
    with pytest.raises(ValueError, match="query q: z is not among the 1 recordings"):
        greatest_term_value({"q": {"z": 1.0}}, {"q": ["a"]}, ["a"])
    with pytest.raises(ValueError, match="query q has a score that is no number"):
        greatest_term_value({"q": {"a": float("nan")}}, {"q": ["a"]}, ["a"])


def test_the_list_of_scores_is_read_back(tmp_path):
    path = tmp_path / "benchmark.stdlist.xml"
    scores = {"q & a": {"d<1>": 2.00004, "é": -0.5}, "none": {}, "two": {"d<1>": 2.00006}}
    write_stdlist(path, scores)
    assert read_stdlist(path) == {"q & a": {"d<1>": 2.0, "é": -0.5}, "none": {}, "two": {"d<1>": 2.0001}}
    lines = path.read_text(encoding="utf-8")
    assert lines.count('decision="YES"') == 2  # decided before rounding
    assert '<term file="é" channel="1" tbeg="0.000" dur="0.00" score="-0.5000" decision="NO" />' in lines


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<stdlist>", "is not XML"),
        ("<stdlist><detected_termlist/></stdlist>", "has no 'termid'"),
        ("<s><detected_termlist termid='q'><term file='a' score='x'/></detected_termlist></s>", "a score is no number"),
    ],
)
def test_a_broken_list_of_scores_is_named(tmp_path, text, message):
    path = tmp_path / "broken.xml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_stdlist(path)
    assert str(path) in str(caught.value)
