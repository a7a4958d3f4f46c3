# SPDX-License-Identifier: Apache-2.0
"""Cuts silence out of clips, as s3prl does for ASV by sox: `gain -3.0 silence 1 0.1 0.1% -1 0.1 0.1%`.

The rules are those of sox 14.4.2's effect. A sample is loud if the samples of the last 20 ms, itself included, have a
root mean square above 0.1 % of full scale. Sound begins with the first of 0.1 s of loud samples on end, and ends with
the last before 0.1 s of quiet ones; then those 0.1 s are forgotten, and the search begins anew. Fewer quiet samples
stay, also at the end of a clip.
Shape letters: S samples at 16 kHz, R runs of samples.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ....speech import audio
from ....ssl.data import BadItem
from ..utterances import Kept, Parts, Trial, Utterance, leave_out, need_all_of_test, need_most, of_part

_WINDOW = audio.RATE // 50  # samples whose root mean square is taken
_HOLD = audio.RATE // 10  # samples on end that begin sound, or end it
_FULL = 2**31  # sox computes in integers of 32 bits
_LOUD = _WINDOW * 2_147_484**2  # sum of squares; the root is cut to an integer, and this one is the first above 0.1 %


def sounding(wave: np.ndarray, gain: float = -3.0) -> Kept:
    """The samples that are left, as borders [first, last) of stretches; at least 0.1 s, or none.

    Args:
        wave: (S,) float32 at 16 kHz, full scale 1. gain: decibels by which it is changed first.
    """
    level = np.rint(wave.astype(np.float64) * (10.0 ** (gain / 20.0) * _FULL)).clip(-_FULL, _FULL - 1).astype(np.int64)
    # A sample that is loud by itself counts as just so loud: then the sums of windows are exact, though the one over
    # everything may run over, as differences of it do not.
    sums = np.concatenate([[0], np.cumsum(np.minimum(level * level, _LOUD))])  # (S + 1,)
    windows = sums[1:].copy()
    windows[_WINDOW:] -= sums[1:-_WINDOW]
    loud = _runs(windows >= _LOUD)
    quiet = _runs(windows < _LOUD)
    loud, quiet = (runs[runs[:, 1] - runs[:, 0] >= _HOLD] for runs in (loud, quiet))
    found, place = [], 0
    while True:
        # The window is empty where the search begins, so that a sample is loud no earlier than the sum says.
        fresh = sums[place + 1 : place + _WINDOW + 1] - sums[place] >= _LOUD
        first = place + int(fresh.argmax() if fresh.any() else len(fresh))
        at = int(np.searchsorted(loud[:, 1], first + _HOLD))
        if at == len(loud):
            return tuple(found)
        first = max(first, int(loud[at, 0]))
        end = int(np.searchsorted(quiet[:, 0], first + _HOLD))
        if end == len(quiet):
            return (*found, (first, len(wave)))
        found.append((first, int(quiet[end, 0])))
        place = found[-1][1] + _HOLD


def _runs(flags: np.ndarray) -> np.ndarray:
    """(R, 2) int64: the borders [first, last) of the runs of True in (S,)."""
    return np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)


def span(kept: Kept, start: float, length: float) -> Kept:
    """A piece of what is left, as borders within the whole clip; its start and length in seconds."""
    first, before, found = round(start * audio.RATE), 0, []
    last = first + round(length * audio.RATE)
    for begin, end in kept:
        one = begin + max(0, first - before), min(end, begin + last - before)
        if one[0] < one[1]:
            found.append(one)
        before += end - begin
    return tuple(found)


def without_silence(parts: Parts, gain: float, threads: int) -> Parts:
    """The same parts, with what is left of every clip of train and of the trials; all of them are decoded.

    Clips of train of which nothing is left are bad ones; those of trials have an empty entry.

    Raises: ValueError if a trial's clip cannot be decoded, or more than a twentieth of train is bad.
    """
    heard = [*_of(parts.trials, parts.test), *_of(parts.dev_trials, parts.dev)]
    every = [*parts.train, *heard]
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda one: _kept_or_why(one, gain), every))
    kept: dict[Utterance, Kept] = {}
    skipped, train = list(parts.skipped), []
    for number, (one, left) in enumerate(zip(every, found, strict=True)):
        part = "train" if number < len(parts.train) else "test"
        if isinstance(left, str):
            leave_out(skipped, part, str(one.path), left)
        elif part == "train" and not left:
            leave_out(skipped, part, str(one.path), "silence throughout; --silence keep would leave it as it is")
        else:
            kept[one] = left
            train += [one] if part == "train" else []
    need_all_of_test(of_part(skipped, "test"))
    need_most("train", len(train), of_part(skipped[len(parts.skipped) :], "train"))
    return parts._replace(train=train, skipped=skipped, kept=kept)


def _of(trials: Iterable[Trial], utterances: list[Utterance]) -> list[Utterance]:
    """The utterances that occur in trials."""
    names = {name for trial in trials for name in (trial.first, trial.second)}
    return [one for one in utterances if one.name in names]


def _kept_or_why(utterance: Utterance, gain: float) -> Kept | str:
    """What is left of an utterance, which is measured, or in one line why it cannot be decoded."""
    assert utterance.end is not None
    try:
        wave = audio.read(utterance.path, utterance.start, utterance.end - utterance.start)
    except BadItem as error:
        return str(error)
    return sounding(wave.numpy(), gain)
