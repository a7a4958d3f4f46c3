# SPDX-License-Identifier: Apache-2.0
"""Trials of speaker verification: read from a file, drawn where a corpus has none, or all pairs."""

import itertools
import math
import random
from collections.abc import Mapping
from pathlib import Path

from ..layouts.listings import numbered_lines
from ..utterances import Parts, Trial, Utterance

ALL = Path("all")  # in place of a file: every pair of test utterances
_MOST_PAIRS = 1_000_000  # of some 1,400 utterances


def read_trials(path: Path) -> list[tuple[int, bool, str, str]]:
    """The line's number, whether the speaker is the same, and both paths, of VoxCeleb's form `1 a.wav b.wav`.

    Paths with spaces are between tabs.

    Raises: ValueError, with the line, for another form, or if all trials are of one kind.
    """
    trials = []
    for number, line in numbered_lines(path):
        fields = line.split("\t") if line.count("\t") == 2 else line.split()
        if len(fields) != 3 or fields[0] not in ("0", "1"):
            raise ValueError(f"{path}, line {number}: a trial is 1 (same speaker) or 0 and two paths, not {line!r}")
        trials.append((number, fields[0] == "1", fields[1], fields[2]))
    if len({same for _, same, _, _ in trials}) < 2:
        raise ValueError(f"{path} needs trials of both kinds, 1 and 0, and has {len(trials)} in all")
    return trials


def with_trials(parts: Parts, path: Path) -> Parts:
    """The parts with the trials of a file, whose paths end as those of test utterances do, or are their names.

    Args:
        path: the file, or ALL.
    Raises: ValueError, with the line, for a path that no test utterance has, and for a trial of one utterance with
        itself or that comes twice.
    """
    if path == ALL:
        every = all_trials(parts.test)
        return parts._replace(trials=every, protocol=f"{parts.protocol}; all {len(every)} pairs of test utterances")
    names: dict[str, set[str]] = {}
    for utterance in parts.test:
        pieces = utterance.path.parts
        for end in {utterance.name, *("/".join(pieces[-depth:]) for depth in range(1, len(pieces)))}:
            names.setdefault(end, set()).add(utterance.name)
    voices = {utterance.name: utterance.speaker for utterance in parts.test}
    trials: dict[Trial, int] = {}
    for number, same, *ends in read_trials(path):
        for end in ends:
            if len(names.get(end, ())) != 1:
                several = f"it could be {' or '.join(sorted(names[end])[:2])}" if end in names else "none is called so"
                raise ValueError(f"{path}, line {number}: {end} is not one test utterance: {several}")
        trial = known(Trial(same, *(min(names[end]) for end in ends)), voices, f"{path}, line {number}")
        need_new(trial, number, trials, path)
    protocol = f"{parts.protocol}; {len(trials)} trials of {path.name}"
    return parts._replace(trials=tuple(trials), protocol=protocol)


def need_new(trial: Trial, number: int, before: dict[Trial, int], path: Path) -> None:
    """Adds the trial of a line to those before. Raises ValueError for one of a clip with itself, or that was there."""
    if trial.first == trial.second:
        raise ValueError(f"{path}, line {number}: a trial of {trial.first} with itself: remove it")
    if before.setdefault(trial, number) != number:
        raise ValueError(f"{path}, line {number}: line {before[trial]} is the same trial: remove one")


def known(trial: Trial, voices: Mapping[str, str], place: str) -> Trial:
    """The trial. Raises ValueError if it says otherwise than its utterances' speakers, `voices` by name."""
    first, second = voices[trial.first], voices[trial.second]
    if first and second and trial.same != (first == second):
        raise ValueError(f"{place}: {int(trial.same)}, but the speakers are {first} and {second}")
    return trial


def all_trials(utterances: list[Utterance]) -> tuple[Trial, ...]:
    """Every pair of utterances once: the steadiest judgement of few.

    Raises: ValueError if they are of one kind only, or more than a million.
    """
    spoken = sorted((utterance.name, utterance.speaker) for utterance in utterances)
    if (count := math.comb(len(spoken), 2)) > _MOST_PAIRS:
        raise ValueError(f"{len(spoken)} test utterances make {count} pairs, over {_MOST_PAIRS}: name a list of trials")
    pairs = itertools.combinations(spoken, 2)
    trials = tuple(Trial(first[1] == second[1], first[0], second[0]) for first, second in pairs)
    if len({trial.same for trial in trials}) < 2:
        raise ValueError(f"the pairs of {len(spoken)} test utterances are not of both kinds, one speaker and two")
    return trials


def draw_trials(utterances: list[Utterance], most: int = 10_000) -> tuple[Trial, ...]:
    """As many trials of one speaker as of two, at most `most` of each, always the same ones.

    Raises: ValueError if there are not two speakers, one with two utterances.
    """
    rng = random.Random(0)
    voices: dict[str, list[str]] = {}
    for name, speaker in sorted((utterance.name, utterance.speaker) for utterance in utterances):
        voices.setdefault(speaker, []).append(name)
    names = sorted((name, speaker) for speaker, said in voices.items() for name in said)
    pairs = [math.comb(len(said), 2) for said in voices.values()]
    count = min(most, sum(pairs), math.comb(len(names), 2) - sum(pairs))
    if count < 1:
        raise ValueError(f"no trials can be drawn from {len(names)} utterances of {len(voices)} speaker(s): add some")
    same: dict[tuple[str, str], None] = {}
    while len(same) < count:
        (said,) = rng.choices(list(voices.values()), pairs)
        first, second = sorted(rng.sample(said, 2))
        same[first, second] = None
    different: dict[tuple[str, str], None] = {}
    while len(different) < count:
        first, second = sorted(rng.sample(names, 2))
        if first[1] != second[1]:
            different[first[0], second[0]] = None
    return tuple(Trial(kind, *pair) for kind, drawn in ((True, same), (False, different)) for pair in drawn)
