# SPDX-License-Identifier: Apache-2.0
"""What the speech tasks are made of: utterances with what is known of them, and the parts that a corpus is split into.

Readers of corpora return `Parts`. What is missing in train or dev is left out and named; what is missing in test is an
error, because a score over fewer clips is another score. Above a twentieth of a part, what is no audio is an error too,
and so is what a manifest names and is not there; published lists may name more than a slice of their corpus holds.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ...speech import audio
from ...ssl.data import BadItem
from .sd.rttm import Turn

MOST_BAD = 0.05  # share of train or of dev

Kept = tuple[tuple[int, int], ...]  # stretches of a piece of audio that are heard, [first, last) in samples at 16 kHz


def heard_seconds(kept: Kept) -> float:
    """How long stretches are in all."""
    return sum(last - first for first, last in kept) / audio.RATE


class Utterance(NamedTuple):
    """A clip, or a piece of one, and what is to be said of it; tasks read the fields that they need."""

    name: str  # what prediction files call it; of its part only one may have it
    path: Path
    start: float = 0.0  # seconds
    end: float | None = None  # seconds; None: the end of the file
    text: str | None = None  # the transcript as the corpus spells it
    tags: tuple[str, ...] = ()  # a slot, or O, for each word of the text between single spaces
    labels: tuple[str, ...] = ()  # the value of each of `Parts.slots`
    speaker: str = ""
    turns: tuple[Turn, ...] = ()  # who speaks when, from the file's start
    scored: tuple[tuple[float, float], ...] = ()  # seconds that diarisation is scored on; empty: all
    crop: float | None = None  # seconds of a piece that is drawn anew each time it is used


class Slot(NamedTuple):
    """Something that an utterance has one value of; tasks of one class have one slot."""

    name: str
    values: tuple[str, ...]  # in the order of the classes


class Trial(NamedTuple):
    """Two utterances, by their names, and whether one speaker says both."""

    same: bool
    first: str
    second: str


class Parts(NamedTuple):
    """A corpus for one task."""

    train: list[Utterance]
    dev: list[Utterance]  # empty where the published protocol has none
    test: list[Utterance]
    protocol: str  # how it was split, in one line
    skipped: list[tuple[str, str]]  # names and reasons of what train and dev lack
    slots: tuple[Slot, ...] = ()
    trials: tuple[Trial, ...] = ()  # of test utterances
    dev_trials: tuple[Trial, ...] = ()  # of dev utterances
    own: bool = False  # no published list, but a manifest or mixtures: what is missing counts as what is no audio
    kept: Mapping[Utterance, Kept] = MappingProxyType({})  # what is heard of utterances, where it is not all


class LeftOut(tuple[str, str]):
    """One of `Parts.skipped`, a name and a reason, that knows its part."""

    part: str

    @classmethod
    def of(cls, part: str, place: str, why: str) -> "LeftOut":
        """What a part lacks."""
        one = cls((place, why))
        one.part = part
        return one


def leave_out(skipped: list[tuple[str, str]], part: str, place: str, why: str) -> None:
    """Notes what a part lacks; `checked` refuses what test lacks, all of it at once."""
    skipped.append(LeftOut.of(part, place, why))


def need_all_of_test(lacking: Sequence[tuple[str, str]]) -> None:
    """Raises ValueError, with the first of them and their number, if there are places and reasons of bad test clips."""
    if lacking:
        place, why = lacking[0]
        count, what = (f" (the first of {len(lacking)})", "them") if len(lacking) > 1 else ("", "it")
        raise ValueError(f"{place}: {why}{count}; a score over fewer test clips is another score, so restore {what}")


def of_part(skipped: Sequence[tuple[str, str]], part: str) -> list[LeftOut]:
    """What was left out of a part."""
    return [one for one in skipped if isinstance(one, LeftOut) and one.part == part]


def checked(parts: Parts, source: Path) -> Parts:
    """The same parts. Raises ValueError if test lacks clips, if train or test is empty, or if a name is that of two.

    Args:
        source: the corpus's folder, or the manifest.
    """
    need_all_of_test(of_part(parts.skipped, "test"))
    for part, utterances in (("train", parts.train), ("dev", parts.dev), ("test", parts.test)):
        if not utterances and part != "dev":
            first = f"; first of {len(parts.skipped)} left out: {': '.join(parts.skipped[0])}" if parts.skipped else ""
            raise ValueError(f"{source} leaves nothing for {part}{first}")
        seen: dict[str, Path] = {}
        for utterance in utterances:
            if utterance.name in seen:
                if utterance.path == seen[utterance.name]:
                    raise ValueError(f"{source}: the lists of {part} name {utterance.path} twice: remove one row")
                raise ValueError(
                    f"{source}: two {part} utterances are named {utterance.name}: {seen[utterance.name]} "
                    f"and {utterance.path}; remove one"
                )
            seen[utterance.name] = utterance.path
    return parts._replace(own=parts.own or source.is_file())


def measured(parts: Parts) -> Parts:
    """The same parts with `end` of every utterance set, read from the files' headers, and without what is no audio.

    Raises: ValueError if a test clip cannot be read, or more than a twentieth of train or dev.
    """
    everything = [utterance for part in (parts.train, parts.dev, parts.test) for utterance in part]
    lengths = file_lengths(utterance.path for utterance in everything)
    skipped = list(parts.skipped)

    def part(name: str, utterances: list[Utterance]) -> list[Utterance]:
        kept = []
        for utterance in utterances:
            length = lengths[utterance.path]
            if isinstance(length, str):
                leave_out(skipped, name, str(utterance.path), length)
            elif (end := min(utterance.end or length, length)) - utterance.start < (utterance.crop or 1e-9):
                why = f"lasts {length:.3f} seconds, too few for a piece from {utterance.start:g}"
                place = f"{utterance.path} from {utterance.start:g} s" if utterance.start else str(utterance.path)
                leave_out(skipped, name, place, why)
            else:
                kept.append(utterance._replace(end=end))
        before = 0 if parts.own else len(parts.skipped)
        if name != "test":
            need_most(name, len(kept), of_part(skipped[before:], name))
        return kept

    train, dev, test = part("train", parts.train), part("dev", parts.dev), part("test", parts.test)
    names = {utterance.name for utterance in dev}
    trials = tuple(trial for trial in parts.dev_trials if {trial.first, trial.second} <= names)
    parts = parts._replace(train=train, dev=dev, test=test, skipped=skipped, dev_trials=trials)
    return checked(parts, Path("the audio"))


def need_most(part: str, kept: int, bad: list[LeftOut]) -> None:
    """Raises ValueError if more than a twentieth of a part is bad."""
    count = kept + len(bad)
    if len(bad) > MOST_BAD * count:
        place, why = bad[0]
        gone = f"{len(bad)} of {count} clips of {part} cannot be used"
        raise ValueError(f"{gone}, more than 5 %, so mend them or take them out: {place}: {why}")


def file_lengths(paths: Iterable[Path]) -> dict[Path, float | str]:
    """Seconds of each file, from its header, or in one line why it is no audio."""

    def look(path: Path) -> float | str:
        try:
            frames, rate = audio.probe(path)
        except BadItem as error:
            return str(error)
        return frames / rate

    unique = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(unique, pool.map(look, unique), strict=True))


def fixed_crops(utterance: Utterance, count: int) -> list[Utterance]:
    """`count` pieces at even distances instead of random ones, for features that are computed once.

    Args:
        utterance: measured, with `crop` set.
    """
    assert utterance.crop is not None and utterance.end is not None
    room = utterance.end - utterance.start - utterance.crop
    starts = [utterance.start + room * i / max(1, count - 1) for i in range(count)]
    return [
        utterance._replace(name=f"{utterance.name}-{i}", start=start, end=start + utterance.crop, crop=None)
        for i, start in enumerate(starts)
    ]
