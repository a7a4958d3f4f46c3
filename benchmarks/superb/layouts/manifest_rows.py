# SPDX-License-Identifier: Apache-2.0
"""The rows of a manifest, and how they are split into train, dev and test.

Paths start from the manifest's folder. A column split says train, dev or test. Where no row has one, names decide: a
fifth is for test, a tenth for dev; where speakers must be kept apart, their names, else the files'. Where there is a
split without dev, a tenth of train becomes dev.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ....ssl.data import held_out
from ....ssl.tables import table
from ..apart import digest, set_apart
from ..utterances import Utterance, leave_out
from .listings import seconds

TEST, DEV = 0.2, 0.1  # shares
SPLITS = {"train": "train", **dict.fromkeys(("dev", "valid", "val", "validation"), "dev"), "test": "test"}


class Row(NamedTuple):
    """One row: where it stands, its values, and what was read of them."""

    place: str
    values: dict[str, str]
    path: Path
    start: float
    end: float | None
    split: str  # as written, "" where nothing is
    speaker: str

    def utterance(self) -> Utterance:
        """The piece of audio, named by its path (and times, if it is a piece)."""
        name = self.values["path"]
        if self.start or self.end is not None:
            name += f":{self.start:.10g}-{'' if self.end is None else f'{self.end:.10g}'}"
        return Utterance("_".join(name.split()), self.path, self.start, self.end, speaker=self.speaker)


def read_rows(path: Path, needed: tuple[str, ...], wanted: tuple[str, ...] = ()) -> list[Row]:
    """The rows.

    Args:
        needed: columns, besides the path, of which every row has a value. wanted: others that are read.
    Raises: ValueError, with the line, for what cannot be used.
    """
    rows = []
    for number, values in table(path, ("path", "start", "end", "split", "speaker", *needed, *wanted)):
        place = f"{path}, line {number}"
        if missing := [name for name in ("path", *needed) if not values.get(name)]:
            raise ValueError(f"{place}: no {' and no '.join(missing)}; the row has {', '.join(values)}{_hint(values)}")
        start = seconds(values["start"], place) if values.get("start") else 0.0
        end = seconds(values["end"], place) if values.get("end") else None
        if end is not None and end <= start:
            raise ValueError(f"{place}: the piece ends at {end:g} seconds, before it starts at {start:g}")
        audio = path.parent / values["path"]
        rows.append(Row(place, values, audio, start, end, values.get("split", ""), values.get("speaker", "")))
    if not rows:
        raise ValueError(f"{path} has no rows below its header")
    return rows


def _hint(values: Mapping[str, str]) -> str:
    """How names of columns went wrong, if that can be seen."""
    if len(values) == 1 and any(mark in name for name in values for mark in ";,|\t"):
        return ": columns are separated by commas in a .csv and by tabs in a .tsv"
    return ": columns have names in lower case" if any(name != name.lower() for name in values) else ""


def split_rows(
    path: Path, rows: list[Row], apart: bool, least: int = 1, dev: bool = True, taught: tuple[str, ...] = ()
) -> tuple[dict[str, list[Row]], list[tuple[str, str]], str]:
    """The rows of each part, what was left out, and how they were split.

    Args:
        apart: no speaker is in two parts, if rows have one. least: speakers that test and dev get.
        dev: whether there has to be a part for dev; a named one is read all the same.
        taught: columns of which train gets a row of each value, where parts are taken file by file.
    Raises: ValueError, with the line: unknown split, clip in two rows, speaker in two parts, missing audio of test.
    """
    apart = apart and any(row.speaker for row in rows)
    chosen, protocol = _choose(path, rows, apart, least, dev, taught)
    parts, skipped = _place(rows, chosen)
    if apart:
        _need_apart(rows, chosen)
    if dev and not parts["dev"]:
        if lost := [row for row, part in zip(rows, chosen, strict=True) if part == "dev"]:
            raise ValueError(f"{lost[0].place}: there is no audio {lost[0].path}, nor of another row of dev")
        raise ValueError(f"{path} leaves nothing for dev: name it in a column split")
    return parts, skipped, protocol


def _choose(
    path: Path, rows: list[Row], apart: bool, least: int, dev: bool, taught: tuple[str, ...]
) -> tuple[list[str], str]:
    """The part of each row, and how they were split."""
    how = "no speaker in two parts" if apart else "by file"
    named = any(row.split for row in rows)
    if named:
        if strange := [row for row in rows if row.split not in SPLITS]:
            raise ValueError(f"{strange[0].place}: split is one of {', '.join(SPLITS)}, not {strange[0].split!r}")
        chosen = [SPLITS[row.split] for row in rows]
        protocol = f"the splits of {path.name}"
    else:
        chosen = _take(path, "test", TEST, rows, ["train"] * len(rows), least * apart)
        protocol = f"a fifth of {path.name} is test, by name, {how}"
    if dev and "dev" not in chosen:
        chosen = _take(path, "dev", DEV if named else DEV / (1 - TEST), rows, chosen, least * apart)
        protocol += f"; a tenth is dev, by name, {how}"
    if not named and not apart and (back := _untaught(rows, chosen, taught)):
        chosen = ["train" if number in back else part for number, part in enumerate(chosen)]
        protocol += f"; {len(back)} went back to train, which had no other of their {' or '.join(taught)}"
    return chosen, protocol


def _place(rows: list[Row], chosen: list[str]) -> tuple[dict[str, list[Row]], list[tuple[str, str]]]:
    """The rows of each part, and those that have no audio. Raises ValueError for a clip in two rows."""
    parts: dict[str, list[Row]] = {"train": [], "dev": [], "test": []}
    skipped: list[tuple[str, str]] = []
    first: dict[tuple[str, float, float | None], tuple[str, str]] = {}
    for row, part in zip(rows, chosen, strict=True):
        here = (part, row.place)
        other, place = first.setdefault((os.path.normpath(row.path), row.start, row.end), here)
        if (other, place) != here:
            raise ValueError(f"{row.place}: this clip is in {part}, and in {other} by {place}: remove one row")
        if row.path.is_file():
            parts[part].append(row)
        else:
            leave_out(skipped, part, row.place, f"there is no audio {row.path}")
    return parts, skipped


def _untaught(rows: list[Row], chosen: list[str], columns: tuple[str, ...]) -> set[int]:
    """The numbers of rows that train needs besides, to have each value of the columns: the first by their digests."""
    order = sorted(range(len(rows)), key=lambda number: digest(rows[number].values["path"]))
    back: set[int] = set()
    for column in columns:
        there = {row.values[column] for row, part in zip(rows, chosen, strict=True) if part == "train"}
        there |= {rows[number].values[column] for number in back}
        for number in order:
            if rows[number].values[column] not in there:
                there.add(rows[number].values[column])
                back.add(number)
    return back


def _need_apart(rows: list[Row], chosen: list[str]) -> None:
    """Raises ValueError for a row without a speaker and, with both rows, for a speaker in two parts."""
    if without := [row.place for row in rows if not row.speaker]:
        raise ValueError(f"{without[0]}: no speaker, which other rows have: fill the column in, or leave it away")
    first: dict[str, tuple[str, str]] = {}
    for row, part in zip(rows, chosen, strict=True):
        other, place = first.setdefault(row.speaker, (part, row.place))
        if other != part:
            both = f"{row.speaker} is in {part}, and in {other} by {place}; this task needs other speakers there"
            without = ", or leave the column speaker away" if row.values.get("speaker") else ""
            raise ValueError(f"{row.place}: {both}: mend the column split{without}")


def _take(path: Path, part: str, share: float, rows: list[Row], chosen: list[str], least: int) -> list[str]:
    """The parts, with a share of train given to `part`: `least` speakers or more, or, if 0, files."""
    if least:
        voices = {row.speaker for row, now in zip(rows, chosen, strict=True) if now == "train"}
        if len(voices) <= least:
            raise ValueError(
                f"{path}: of {len(voices)} speaker(s) {least} cannot be set apart for {part}, and one be left for "
                f"train: add speakers, or name train, dev and test in a column split"
            )
        taken = set_apart(voices, share, least)
        wanted = [row.speaker in taken for row in rows]
    else:
        wanted = [held_out(f"{part} {row.values['path']}", share) for row in rows]
    return [part if now == "train" and yes else now for now, yes in zip(chosen, wanted, strict=True)]
