# SPDX-License-Identifier: Apache-2.0
"""Scores speaker diarization (SD): turns from frame probabilities, and the diarization error rate.

The rate is that of NIST RT-09 (section 3) as SUPERB takes it: no collar, overlapped speech is scored, speakers are
mapped one to one so that they agree for the longest time. Settings follow s3prl@ec8064b (downstream/diarization,
score.sh and make_rttm.py).
Shape letters: T frames, R speakers of the reference, H of the hypothesis, I stretches of time.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import median_filter
from scipy.optimize import linear_sum_assignment

from .rttm import Turn


class Tally(NamedTuple):
    """Speaker-seconds: two who speak at once for a second count as two."""

    scored: float  # spoken in the reference
    missed: float
    false_alarm: float
    confused: float

    @property
    def rate(self) -> float:
        """The diarization error rate, 0 to above 1. Raises ValueError where nobody speaks in the reference."""
        if not self.scored:
            raise ValueError("no diarization error rate: nobody speaks in the reference")
        return (self.missed + self.false_alarm + self.confused) / self.scored


class Setting(NamedTuple):
    """How probabilities become decisions."""

    threshold: float  # a speaker speaks where the probability is above
    median: int  # frames of the median filter, odd


SETTINGS = tuple(Setting(threshold, median) for median in (1, 11) for threshold in (0.3, 0.4, 0.5, 0.6, 0.7))


def decide(probabilities: np.ndarray, setting: Setting) -> np.ndarray:
    """Who speaks in each frame; beyond both ends nobody does.

    Args:
        probabilities: (T, H) float.
    Returns: (T, H) bool.
    """
    active = probabilities > setting.threshold
    if setting.median == 1 or not len(active):
        return active
    return median_filter(active.astype(np.uint8), size=(setting.median, 1), mode="constant") > 0


def turns_of(active: np.ndarray, seconds: float, recording: str = "") -> list[Turn]:
    """The turns of each speaker, who are called by the recording and a number.

    Args:
        active: (T, H) bool.
        seconds: from one frame to the next.
    """
    found = []
    for number, frames in enumerate(np.asarray(active, dtype=bool).T):
        changes = np.flatnonzero(np.diff(np.concatenate([[False], frames, [False]])))
        pairs = changes.reshape(-1, 2) * seconds
        found += [Turn(f"{recording}_{number}", float(start), float(end)) for start, end in pairs]
    return found


def tally_frames(reference: np.ndarray, hypothesis: np.ndarray, seconds: float | np.ndarray) -> Tally:
    """The errors of one recording, whose stretches of time both sides share.

    Args:
        reference: (I, R) bool.
        hypothesis: (I, H) bool.
        seconds: of each stretch, () or (I,).
    """
    spoken, said = reference.astype(np.float64), hypothesis.astype(np.float64)
    long = np.broadcast_to(np.asarray(seconds, dtype=np.float64), len(spoken))
    together = spoken.T @ (said * long[:, None])  # (R, H)
    agreed = together[linear_sum_assignment(together, maximize=True)].sum()
    meant, heard = spoken.sum(1), said.sum(1)  # (I,)
    missed, alarm, both = np.maximum(meant - heard, 0), np.maximum(heard - meant, 0), np.minimum(meant, heard)
    confused = max(float(both @ long - agreed), 0.0)  # rounding may leave less than nothing
    return Tally(float(meant @ long), float(missed @ long), float(alarm @ long), confused)


def tally_turns(
    reference: Sequence[Turn], hypothesis: Sequence[Turn], regions: Sequence[tuple[float, float]] | None = None
) -> Tally:
    """The errors of one recording; overlapping turns of one speaker are one turn.

    Args:
        regions: the stretches that count; None for all. None may overlap another.
    """
    inside = [Turn("", *region) for region in regions or ()]
    bounds = np.unique([time for turn in (*reference, *hypothesis, *inside) for time in turn[1:]])
    long = np.diff(bounds)
    if regions is not None:
        long = long * _activity(inside, bounds).any(1)
    return tally_frames(_activity(reference, bounds), _activity(hypothesis, bounds), long)


def _activity(turns: Sequence[Turn], bounds: np.ndarray) -> np.ndarray:
    """(I, speakers) who speaks between each two bounds."""
    numbers = {speaker: number for number, speaker in enumerate(dict.fromkeys(turn.speaker for turn in turns))}
    active = np.zeros((max(len(bounds) - 1, 0), len(numbers)), dtype=bool)
    for speaker, start, end in turns:
        first, last = np.searchsorted(bounds, (start, end))
        active[first:last, numbers[speaker]] = True
    return active


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum over recordings; the rate of a split is that of its sum."""
    scored, missed, alarm, confused = np.sum([(0.0,) * 4, *tallies], axis=0).tolist()
    return Tally(scored, missed, alarm, confused)


def score(
    reference: Mapping[str, Sequence[Turn]],
    hypothesis: Mapping[str, Sequence[Turn]],
    regions: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> Tally:
    """The errors of all recordings; one without turns may be left out on either side, as RTTM leaves it out.

    Args:
        regions: as UEM gives them; recordings that it does not name are not scored. None scores everything.
    """
    names = dict.fromkeys([*reference, *hypothesis]) if regions is None else regions
    return total(
        tally_turns(reference.get(name, ()), hypothesis.get(name, ()), None if regions is None else regions[name])
        for name in names
    )


def sweep(
    probabilities: Mapping[str, np.ndarray],
    reference: Mapping[str, Sequence[Turn]],
    seconds: float,
    regions: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> dict[Setting, Tally]:
    """The errors of a split at each of the protocol's ten settings.

    Args:
        probabilities: (T, H) for each recording.
        seconds: from one frame to the next.
        regions: as `score` takes them.
    Raises: ValueError for a recording of the reference without probabilities.
    """
    if missing := reference.keys() - probabilities.keys():
        raise ValueError(f"no probabilities for {len(missing)} recordings of the reference, such as {min(missing)}")
    found = {}
    for setting in SETTINGS:
        turns = {name: turns_of(decide(frames, setting), seconds, name) for name, frames in probabilities.items()}
        found[setting] = score(reference, turns, regions)
    return found


def lowest(tallies: Mapping[Setting, Tally]) -> Setting:
    """The setting with the lowest rate, the first of equals.

    SUPERB publishes the lowest rate on test: `tallies[lowest(tallies)]`. The clean way chooses on dev:
    `test[lowest(dev)]`.
    """
    return min(tallies, key=lambda setting: tallies[setting].rate)
