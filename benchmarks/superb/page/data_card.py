# SPDX-License-Identifier: Apache-2.0
"""What the data of a score was: clips, seconds, speakers and labels of each part, and which files were changed to fit.

It is written beside the sweep as data.json, so that a page can be drawn again where the corpus is not.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from ....speech.audio import RATE
from ...files import write_json
from ...report import Page
from ..layouts.quesst14 import Search
from ..swept import Fold
from ..utterances import Utterance, file_lengths

FILE = "data.json"
MOST = 24  # labels that are listed one by one
# What a corpus is called, by a file or folder that the readers know it by.
_KNOWN = {
    "etc/an4_train.fileids": "CMU AN4",
    "recordings": "FSDD (Free Spoken Digit Dataset)",
    "*.train.lst": "AMI excerpts",
    "validation_list.txt": "Speech Commands",
    "*-clean*/*/*/*.trans.txt": "LibriSpeech",
    "LibriSpeech": "LibriSpeech",
    "wav/*[WLEAFTN][a-z].wav": "EMO-DB",
}


class Part(NamedTuple):
    """One split; what does not apply is 0 or empty."""

    name: str
    clips: int
    seconds: float
    shortest: float  # seconds
    longest: float
    speakers: int
    words: int  # or phones
    files: int
    rates: dict[str, int]  # files of each sampling rate
    resampled: int  # files that are not at 16 kHz
    mixed: int  # files of more than one channel
    labels: dict[str, dict[str, int]]  # of each slot the clips of each value


class Card(NamedTuple):
    """The data of one task; of several folds, the first's."""

    name: str
    path: str
    official: bool  # whether it is the corpus that the leaderboard scores
    protocol: str
    folds: int
    skipped: int  # clips of train and dev that could not be used
    unit: str  # of what is transcribed: words or phones
    parts: list[Part]


def card(path: str, folds: Sequence[Fold], unit: str) -> Card:
    """What there is of each part, after a look at every file's header.

    Args:
        unit: what transcripts consist of.
    """
    read = folds[0].parts
    slots = [slot.name for slot in read.slots] if any(one.labels for one in read.train) else []
    parts = [
        _part(name, utterances, slots)
        for name, utterances in (("train", read.train), ("dev", read.dev), ("test", read.test))
        if utterances
    ]
    official = folds[0].official
    return Card(corpus(path, official), path, official, read.protocol, len(folds), len(read.skipped), unit, parts)


def search_card(path: str, wanted: Search, official: bool) -> Card:
    """As `card`, of QbE's queries and documents."""
    lengths = file_lengths(one.path for one in (*wanted.dev, *wanted.test, *wanted.documents))
    parts = []
    for name, utterances in (
        ("dev queries", wanted.dev),
        ("test queries", wanted.test),
        ("documents", wanted.documents),
    ):
        ends = [one._replace(end=one.end or float(lengths[one.path])) for one in utterances]
        parts.append(_part(name, ends, []))
    return Card(corpus(path, official), path, official, wanted.protocol, 1, 0, "words", parts)


def corpus(path: str, official: bool) -> str:
    """What the data are called: a manifest by its file, a known corpus by its name, others by their folder."""
    root = Path(path)
    if root.is_file():
        return f"own manifest {root.name}"
    if official:
        return "the official data set"
    known = next((name for pattern, name in _KNOWN.items() if any(root.glob(pattern))), None)
    return f"{known}, in {root.name}" if known else root.name


def _part(name: str, utterances: Sequence[Utterance], slots: Sequence[str]) -> Part:
    lasting = [(one.end or one.start) - one.start for one in utterances]
    heads = _headers(one.path for one in utterances)
    rates = Counter(rate for rate, _ in heads)
    speakers = {one.speaker for one in utterances} | {turn.speaker for one in utterances for turn in one.turns}
    return Part(
        name=name,
        clips=len(utterances),
        seconds=sum(lasting),
        shortest=min(lasting),
        longest=max(lasting),
        speakers=len(speakers - {""}),
        words=sum(len((one.text or "").split()) for one in utterances),
        files=len(heads),
        rates={str(rate): count for rate, count in sorted(rates.items())},
        resampled=sum(count for rate, count in rates.items() if rate != RATE),
        mixed=sum(channels > 1 for _, channels in heads),
        labels={
            slot: dict(sorted(Counter(one.labels[place] for one in utterances).items()))
            for place, slot in enumerate(slots)
            if all(len(one.labels) > place for one in utterances)
        },
    )


def _headers(paths: Iterable[Path]) -> list[tuple[int, int]]:
    """The rate and the channels of each file, which the readers have looked at before."""
    import soundfile

    def look(path: Path) -> tuple[int, int]:
        info = soundfile.info(str(path))
        return info.samplerate, info.channels

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(look, dict.fromkeys(paths)))


def write(folder: Path, one: Card) -> None:
    """Keeps a card beside a sweep."""
    row = {**one._asdict(), "parts": [part._asdict() for part in one.parts]}
    write_json(folder / FILE, row)


def read(folder: Path) -> Card | None:
    """What `write` has kept; None where it has not."""
    if not (folder / FILE).is_file():
        return None
    row: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return Card(**{**row, "parts": [Part(**part) for part in row["parts"]]})


def show(made: Page, one: Card) -> None:
    """The part of the page that says what the data was."""
    several = f"; {one.folds} folds, of which the table shows the first" if one.folds > 1 else ""
    made.text(f"The data: {one.name} ({one.path}); {one.protocol}{several}.")
    rates = ("sampling rates (files)", "resampled", "mixed down")
    lines = [
        (
            part.name,
            f"{part.clips}",
            f"{part.seconds:.1f}",
            f"{part.shortest:.2f} to {part.longest:.2f}",
            f"{part.speakers or '–'}",
            f"{part.words or '–'}",
            f"{part.files}",
            ", ".join(f"{rate} Hz: {count}" for rate, count in part.rates.items()),
            f"{part.resampled}",
            f"{part.mixed}",
        )
        for part in one.parts
    ]
    made.table(("part", "clips", "seconds", "a clip's seconds", "speakers", one.unit, "files", *rates), lines)
    made.text(
        f"Files of another rate are resampled to {RATE} Hz, those of several channels mixed down to their mean; "
        f"{one.skipped} clips of train and dev are missing or no audio and were left out.",
        note=True,
    )
    for slot in one.parts[0].labels:
        _labels(made, slot, one.parts)


def _labels(made: Page, slot: str, parts: Sequence[Part]) -> None:
    told = [part for part in parts if slot in part.labels]
    values = sorted({value for part in told for value in part.labels[slot]})
    if len(values) > MOST:
        counts = [
            f"{part.name} has {len(part.labels[slot])} of them, "
            f"{min(part.labels[slot].values())} to {max(part.labels[slot].values())} clips each"
            for part in told
        ]
        made.text(f"{len(values)} values of {slot}: {'; '.join(counts)}.")
        return
    lines = [(value, *(str(part.labels[slot].get(value, 0)) for part in told)) for value in values]
    made.table((slot, *(f"{part.name}, clips" for part in told)), lines)
