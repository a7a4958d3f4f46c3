# SPDX-License-Identifier: Apache-2.0
"""Reads the text, JSON lines and tables that people bring, and says in one line which file and line is wrong."""

import csv
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

TABLES = (".tsv", ".csv", ".jsonl")
WORDS = ("text", "tags")  # columns that may be lists in JSON


def text_of(path: Path) -> str:
    """A UTF-8 file, without a byte order mark. Raises ValueError, with the line, for another encoding."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: not UTF-8 ({error.reason}): save it as UTF-8") from error


def json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file with one JSON object a line, each with its line's number from 1; empty lines are skipped.

    Raises: ValueError, with the line, for anything else.
    """
    for number, line in enumerate(text_of(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error.msg})") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: not a JSON object")
        yield number, row


def field(path: Path, number: int, row: dict[str, Any], name: str) -> Any:
    """A row's value of this name. Raises ValueError, with the line, if it has none."""
    if name not in row:
        raise ValueError(f"{path}, line {number}: no {name}, only {', '.join(row) or 'nothing'}")
    return row[name]


def table(path: Path, read: Collection[str] | None = None) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a .csv, .tsv (where quotes are characters like any other) or .jsonl, each with its line's number.

    Names and values are without spaces at their ends. Values of JSON become text, a list of words with spaces between
    them; null is as good as no value.

    Args:
        read: the columns that are read, which no other list or object may stand in; None: all.
    Raises: ValueError, with the line, for such a list, rows that do not fit the header, a column that stands there
        twice, or another kind of file.
    """
    kind = path.suffix.lower()
    if kind not in TABLES:
        raise ValueError(f"{path} is no table: a manifest ends in .tsv, .csv or .jsonl")
    if not path.is_file():
        raise ValueError(f"{path} is missing: set --data.path to a manifest")
    if kind == ".jsonl":
        for number, row in json_rows(path):
            place, known = f"{path}, line {number}", {name: value for name, value in row.items() if value is not None}
            yield number, {name.strip(): _plain(name.strip(), value, place, read) for name, value in known.items()}
        return
    rows = _cells(path, "\t" if kind == ".tsv" else ",")
    _, names = next(rows, (0, []))
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise ValueError(f"{path}: the column {twice[0]!r} stands there twice: remove one")
    for number, row in rows:
        if any(row):  # spreadsheets leave rows of empty cells behind
            if len(row) != len(names):
                raise ValueError(f"{path}, line {number}: {len(row)} values for {len(names)} columns")
            yield number, dict(zip(names, row, strict=True))


def _cells(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The lines of a .csv or .tsv that are not empty, cell by cell."""
    lines = (f"{line}\n" for line in text_of(path).replace("\r\n", "\n").split("\n"))
    rows = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL)
    try:
        for row in rows:
            if row:
                yield rows.line_num, [value.strip() for value in row]
    except csv.Error as error:
        why = "a carriage return within the line" if "new-line" in str(error) else str(error)
        raise ValueError(f"{path}, line {rows.line_num}: {why}") from None


def _plain(name: str, value: Any, place: str, read: Collection[str] | None) -> str:
    """A value of JSON as text."""
    if isinstance(value, list) and name in WORDS and all(isinstance(word, str) for word in value):
        return " ".join(value).strip()
    if isinstance(value, (list, dict)) and (read is None or name in read):
        raise ValueError(f"{place}: {name} is no text but {str(value)[:40]}: write it as text")
    return str(value).strip()
