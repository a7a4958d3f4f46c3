# SPDX-License-Identifier: Apache-2.0
"""Reads the lists that corpora come with, and says in one line which file and row is wrong."""

import math
from collections.abc import Iterator
from pathlib import Path

from ....ssl.tables import text_of


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
