# SPDX-License-Identifier: Apache-2.0
"""Reads the lists that corpora come with, and says in one line which file and row is wrong."""

import csv
import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from ...text.examples import json_rows, text_of

WORDS = ("text", "tags")  # columns that may be lists in JSON


def numbered_lines(path: Path, empty: bool = False) -> Iterator[tuple[int, str]]:
    """The lines of a text file that hold anything, each with its number from 1.

    Args:
        empty: whether a file without such lines says something, as turns of a recording in which nobody speaks do.
    Raises: ValueError if the file is missing, not UTF-8, or empty where that says nothing.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: is --data.path the folder that the corpus was unpacked to?")
    lines = False
    for number, line in enumerate(text_of(path).split("\n"), start=1):
        if line.strip():
            lines = True
            yield number, line.rstrip("\r")
    if not lines and not empty:
        raise ValueError(f"{path} is empty: it should have a line for each clip, name or pair")


def need_folder(path: Path) -> Path:
    """The same path. Raises ValueError if it is no folder."""
    if path.is_file():
        raise ValueError(
            f"{path} is a file: name the corpus's folder, or a manifest, which ends in .tsv, .csv or .jsonl"
        )
    if not path.is_dir():
        raise ValueError(f"{path} is missing: is --data.path the folder that the corpus was unpacked to?")
    return path


def seconds(text: str, place: str) -> float:
    """A time that is 0 or later. Raises ValueError, with the place, for anything else."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise ValueError(f"{place}: {text!r} is no time in seconds")
    return value


def table(path: Path, read: Collection[str] | None = None) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a .csv, .tsv (where quotes are characters like any other) or .jsonl, each with its line's number.

    Values of JSON become text, a list of words with spaces between them; null is as good as no value.

    Args:
        read: the columns that are read, which no other list or object may stand in; None: all.
    Raises: ValueError, with the line, for such a list, rows that do not fit the header, a column that stands there
        twice, or another kind of file.
    """
    kind = path.suffix.lower()
    if kind not in (".csv", ".tsv", ".jsonl"):
        raise ValueError(f"{path} is no table: a manifest ends in .tsv, .csv or .jsonl")
    if not path.is_file():
        raise ValueError(f"{path} is missing: set --data.path to a manifest")
    if kind == ".jsonl":
        for number, row in json_rows(path):
            place, known = f"{path}, line {number}", {name: value for name, value in row.items() if value is not None}
            yield number, {name: _plain(name.strip(), value, place, read) for name, value in known.items()}
        return
    lines = [f"{line}\n" for line in text_of(path).replace("\r\n", "\n").split("\n")]
    quoting, delimiter = (csv.QUOTE_NONE, "\t") if kind == ".tsv" else (csv.QUOTE_MINIMAL, ",")
    rows = csv.reader(lines, delimiter=delimiter, quoting=quoting)
    header = next((row for row in rows if row), [])
    names = [name.strip() for name in header if name.strip()]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{path}: the column {twice[0]!r} stands there twice: remove one")
    for row in rows:
        if any(value.strip() for value in row):  # spreadsheets leave rows of empty cells behind
            if len(row) != len(header):
                raise ValueError(f"{path}, line {rows.line_num}: {len(row)} values for {len(header)} columns")
            yield rows.line_num, dict(zip(header, row, strict=True))


def _plain(name: str, value: Any, place: str, read: Collection[str] | None) -> str:
    """A value of JSON as text."""
    if isinstance(value, list) and name in WORDS and all(isinstance(word, str) for word in value):
        return " ".join(value)
    if isinstance(value, (list, dict)) and (read is None or name in read):
        raise ValueError(f"{place}: {name} is no text but {str(value)[:40]}: write it as text")
    return str(value)
