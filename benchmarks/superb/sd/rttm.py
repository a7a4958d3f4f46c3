# SPDX-License-Identifier: Apache-2.0
"""Reads and writes who speaks when: RTTM files (NIST RT-09 plan, appendix A), and UEM files of what is scored."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..layouts.listings import numbered_lines, seconds

SLACK = 0.1  # seconds that a turn may end after its audio, as rounded times do


class Turn(NamedTuple):
    """Somebody speaks."""

    speaker: str
    start: float  # seconds
    end: float


def read_rttm(path: Path) -> dict[str, list[Turn]]:
    """The turns of each recording, in the file's order; turns of no length and rows other than SPEAKER are passed over.

    Raises: ValueError, with the line, for another form.
    """
    found: dict[str, list[Turn]] = {}
    for _, recording, turn in _spoken(path):
        turns = found.setdefault(recording, [])
        if turn.end > turn.start:
            turns.append(turn)
    return found


def place_of(path: Path, recording: str, turn: Turn) -> str:
    """The place of a turn's row, or "" if the file has none."""
    return next((place for place, name, one in _spoken(path) if (name, one) == (recording, turn)), "")


def _spoken(path: Path) -> Iterator[tuple[str, str, Turn]]:
    """The place, recording and turn of each SPEAKER row."""
    for number, line in numbered_lines(path, empty=True):
        fields = line.split()
        if fields[0] != "SPEAKER":
            continue
        place = f"{path}, line {number}"
        if len(fields) < 8:
            raise ValueError(f"{place}: a SPEAKER row has the recording, 1, start, seconds, <NA> <NA> and the speaker")
        start, length = seconds(fields[3], place), seconds(fields[4], place)
        yield place, fields[1], Turn(fields[7], start, start + length)


def write_rttm(path: Path, turns: Mapping[str, Sequence[Turn]]) -> None:
    """Writes the turns of each recording, in milliseconds' precision."""
    rows = [
        f"SPEAKER {recording} 1 {turn.start:.3f} {turn.end - turn.start:.3f} <NA> <NA> {turn.speaker} <NA> <NA>\n"
        for recording, spoken in turns.items()
        for turn in spoken
    ]
    path.write_text("".join(rows), encoding="utf-8")


def read_uem(path: Path) -> dict[str, list[tuple[float, float]]]:
    """The scored stretches of each recording, in seconds. Raises ValueError, with the line, for another form."""
    found: dict[str, list[tuple[float, float]]] = {}
    for number, line in numbered_lines(path, empty=True):
        fields = line.split()
        if line.lstrip().startswith(";;"):
            continue
        place = f"{path}, line {number}"
        if len(fields) != 4:
            raise ValueError(f"{place}: a row is recording, channel, start and end, not {line!r}")
        start, end = seconds(fields[2], place), seconds(fields[3], place)
        if end <= start:
            raise ValueError(f"{place}: the stretch ends before it starts")
        found.setdefault(fields[0], []).append((start, end))
    return found
