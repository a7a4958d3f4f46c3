# SPDX-License-Identifier: Apache-2.0
"""What text tasks are made of: examples, and the lines of their files, each with its place for messages."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """One text or a pair of texts, and what is to be said of it."""

    index: str  # the file's own, or the row's number from 0; predictions are written beside it
    first: str
    second: str | None = None
    label: str | None = None  # a class's name, or a number's text; None where it is hidden
    group: str = ""  # examples that are scored together, such as the answers to one question


@dataclasses.dataclass(frozen=True, slots=True)
class Choices:
    """A text with several candidates, of which one is right."""

    index: str
    first: str
    candidates: tuple[str, ...]
    label: int | None = None  # the right one's place; None where it is hidden
    group: str = ""
    names: tuple[str, ...] = ()  # what a prediction file calls the candidates, where it is not by their places
    answers: tuple[str, ...] = ()  # the right names, where there are several


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
