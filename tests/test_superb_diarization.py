# SPDX-License-Identifier: Apache-2.0
"""The diarization error rate against pyannote.metrics and a loop over all mappings; the protocol's ten settings."""

import os
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.signal import medfilt

from pluri.benchmarks.superb.sd.diarization import (
    SETTINGS,
    Setting,
    Tally,
    decide,
    lowest,
    score,
    sweep,
    tally_frames,
    tally_turns,
    total,
    turns_of,
)
from pluri.benchmarks.superb.sd.rttm import Turn, read_rttm, read_uem

TICK = 0.125  # seconds, exact in binary


def drawn(rng, speakers, turns):
    """Turns on a grid, which overlap, touch and repeat."""
    found = []
    for _ in range(turns):
        start, long = rng.integers(0, 60), rng.integers(1, 16)
        found.append(Turn(f"s{rng.integers(speakers)}", float(start * TICK), float((start + long) * TICK)))
    return found


def slow(reference, hypothesis, regions=None):
    """Missed, false alarm and confused seconds by ticks, for each way of mapping speakers, of which the best counts."""
    ticks = range(int(max((turn.end for turn in [*reference, *hypothesis]), default=0) / TICK))
    if regions is not None:
        ticks = [tick for tick in ticks if any(a <= tick * TICK < b for a, b in regions)]

    def at(turns, tick):
        return {turn.speaker for turn in turns if turn.start <= tick * TICK < turn.end}

    frames = [(at(reference, tick), at(hypothesis, tick)) for tick in ticks]
    spoken, heard = (sorted({turn.speaker for turn in turns}) for turns in (reference, hypothesis))
    targets = [*spoken, *[f"nobody {number}" for number in heard]]
    confused = float("inf")
    for chosen in permutations(targets, len(heard)):
        name = dict(zip(heard, chosen, strict=True))
        wrong = sum(min(len(meant), len(said)) - len(meant & {name[s] for s in said}) for meant, said in frames)
        confused = min(confused, wrong)
    missed = sum(max(len(meant) - len(said), 0) for meant, said in frames)
    alarm = sum(max(len(said) - len(meant), 0) for meant, said in frames)
    return Tally(*(TICK * count for count in (sum(len(meant) for meant, _ in frames), missed, alarm, confused)))


def cases(seed):
    rng = np.random.default_rng(seed)
    reference = drawn(rng, rng.integers(1, 4), rng.integers(1, 7))
    hypothesis = drawn(rng, rng.integers(1, 4), rng.integers(0, 7))
    return reference, hypothesis


@pytest.mark.parametrize("seed", range(40))
def test_the_tally_equals_a_loop_over_all_mappings(seed):
    reference, hypothesis = cases(seed)
    assert tally_turns(reference, hypothesis) == pytest.approx(slow(reference, hypothesis))
    regions = [(1.0, 3.5), (3.5, 5.0)]
    assert tally_turns(reference, hypothesis, regions) == pytest.approx(slow(reference, hypothesis, regions))


@pytest.mark.parametrize(
    ("reference", "hypothesis", "tally"),
    [
        ([Turn("a", 0, 2)], [], Tally(2, 2, 0, 0)),
        ([], [Turn("x", 0, 2)], Tally(0, 0, 2, 0)),
        ([], [], Tally(0, 0, 0, 0)),
        ([Turn("a", 0, 2)], [Turn("x", 3, 5)], Tally(2, 2, 2, 0)),  # no overlap at all
        ([Turn("a", 0, 4)], [Turn("x", 0, 3), Turn("y", 3, 4)], Tally(4, 0, 0, 1)),  # more speakers than there are
        ([Turn("a", 0, 2), Turn("b", 0, 2)], [Turn("x", 0, 2)], Tally(4, 2, 0, 0)),  # overlapped speech is scored
        ([Turn("a", 0, 2), Turn("a", 1, 3)], [Turn("x", 0, 3)], Tally(3, 0, 0, 0)),  # one speaker counts once
        ([Turn("a", 0, 2), Turn("b", 2, 4)], [Turn("b", 0, 2), Turn("a", 2, 4)], Tally(4, 0, 0, 0)),  # names are free
        ([Turn("a", 1, 1)], [Turn("x", 0, 1)], Tally(0, 0, 1, 0)),
    ],
)
def test_tallies_at_the_edges(reference, hypothesis, tally):
    assert tally_turns(reference, hypothesis) == pytest.approx(tally)


def test_a_rate_without_speech_is_refused_and_that_of_a_split_is_of_its_sum():
    with pytest.raises(ValueError, match="nobody speaks"):
        total([]).rate  # noqa: B018
    reference = {"one": [Turn("a", 0, 9)], "two": [Turn("a", 0, 1)]}
    hypothesis = {"one": [Turn("x", 0, 9)], "three": [Turn("x", 0, 1)]}
    assert score(reference, hypothesis) == Tally(10, 1, 1, 0)
    assert score(reference, hypothesis).rate == 0.2
    assert score(reference, hypothesis, {"one": [(0, 5)]}) == Tally(5, 0, 0, 0)


@pytest.mark.parametrize("seed", range(6))
def test_frames_and_their_turns_are_scored_alike(seed):
    rng = np.random.default_rng(seed)
    reference, hypothesis = rng.random((50, 2)) > 0.5, rng.random((50, 3)) > 0.6
    by_frames = tally_frames(reference, hypothesis, 0.02)
    assert tally_turns(turns_of(reference, 0.02), turns_of(hypothesis, 0.02)) == pytest.approx(by_frames)


def test_turns_begin_and_end_with_their_frames():
    active = np.array([[1, 0], [1, 0], [0, 0], [1, 1]], dtype=bool)
    assert turns_of(active, 0.5, "r") == [Turn("r_0", 0.0, 1.0), Turn("r_0", 1.5, 2.0), Turn("r_1", 1.5, 2.0)]
    assert turns_of(np.zeros((0, 2), dtype=bool), 0.5) == turns_of(np.zeros((3, 2), dtype=bool), 0.5) == []


@pytest.mark.parametrize("frames", [11, 40, 301])
@pytest.mark.parametrize("setting", SETTINGS)
def test_decisions_equal_the_median_filter_of_scipy_signal(frames, setting):
    probabilities = np.random.default_rng(frames).random((frames, 2)).astype(np.float32)
    filtered = medfilt((probabilities > setting.threshold).astype(float), (setting.median, 1))
    assert (decide(probabilities, setting) == (filtered > 0)).all()


def test_recordings_shorter_than_the_filter_are_decided_as_if_silence_surrounded_them():
    assert decide(np.ones((4, 1)), Setting(0.5, 11)).tolist() == [[False]] * 4
    assert decide(np.ones((6, 1)), Setting(0.5, 11)).tolist() == [[True]] * 6
    assert decide(np.zeros((0, 2)), Setting(0.5, 11)).shape == (0, 2)
    assert not decide(np.full((3, 1), 0.5), Setting(0.5, 1)).any()  # above, not at


def test_the_published_choice_is_the_lowest_on_test_and_the_clean_one_that_of_dev():
    assert len(set(SETTINGS)) == 10
    rng = np.random.default_rng(0)
    speech = {name: np.repeat(rng.random((20, 2)) > 0.5, 15, axis=0) for name in ("a", "b")}
    reference = {name: turns_of(active, 0.01, name) for name, active in speech.items()}
    noise = {name: rng.random(active.shape) * 0.6 for name, active in speech.items()}
    dev, test = ({name: speech[name] * 0.3 + noise[name] - low for name in speech} for low in (0.2, 0.0))
    tallies, chosen = sweep(test, reference, 0.01), lowest(sweep(dev, reference, 0.01))
    assert tallies.keys() == set(SETTINGS)
    for setting, tally in tallies.items():
        alone = [tally_frames(speech[name], decide(test[name], setting), 0.01) for name in speech]
        assert tally == pytest.approx(total(alone))
    assert tallies[lowest(tallies)].rate == min(tally.rate for tally in tallies.values())
    assert tallies[chosen].rate > tallies[lowest(tallies)].rate  # here the choice on test flatters
    with pytest.raises(ValueError, match="no probabilities for 1 recordings of the reference, such as b"):
        sweep({"a": test["a"]}, reference, 0.01)


def published(reference, hypothesis, regions):
    """The components as pyannote.metrics counts them."""
    core = pytest.importorskip("pyannote.core")
    from pyannote.metrics.diarization import DiarizationErrorRate  # pyright: ignore[reportMissingImports]

    def annotation(turns):
        found = core.Annotation()
        for number, (speaker, start, end) in enumerate(turns):
            found[core.Segment(start, end), number] = speaker
        return found.support()  # overlapping turns of one speaker are one

    uem = core.Timeline([core.Segment(*region) for region in regions])
    rate = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    found: Any = rate(annotation(reference), annotation(hypothesis), uem=uem, detailed=True)
    return Tally(found["total"], found["missed detection"], found["false alarm"], found["confusion"])


@pytest.mark.parametrize("seed", range(40))
def test_the_tally_equals_pyannote(seed):
    reference, hypothesis = cases(seed)
    for regions in ([(0.0, 20.0)], [(1.0, 3.5), (4.0, 7.25)]):
        assert tally_turns(reference, hypothesis, regions) == pytest.approx(published(reference, hypothesis, regions))


@pytest.mark.skipif("PLURI_TRIAL_DATA" not in os.environ, reason="needs the trial data")
@pytest.mark.parametrize("part", ["development", "test"])
def test_moved_and_renamed_turns_of_ami_are_scored_as_pyannote_does(part):
    folder = Path(os.environ["PLURI_TRIAL_DATA"]) / "speech" / "ami_debug"
    reference, regions = read_rttm(folder / f"debug.{part}.rttm"), read_uem(folder / f"debug.{part}.uem")
    assert score(reference, reference, regions).rate == 0
    rng = np.random.default_rng(0)
    for name, turns in reference.items():
        speakers = sorted({turn.speaker for turn in turns})
        said = [Turn(rng.choice(speakers), max(turn.start + rng.normal(), 0), turn.end + 2) for turn in turns]
        assert tally_turns(turns, said, regions[name]) == pytest.approx(published(turns, said, regions[name]))
