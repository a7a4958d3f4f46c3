# SPDX-License-Identifier: Apache-2.0
"""Mistakes that the page shows, and their file: mistakes.json beside a sweep, so that no encoder is needed again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..sd.rttm import Turn
from .spectrogram import Sound

FILE = "mistakes.json"


class Example(NamedTuple):
    """One mistake."""

    words: str  # what went wrong
    sounds: tuple[Sound, ...]  # one, or those that are compared
    said: tuple[str, ...] = ()  # tokens of a transcript
    right: tuple[str, ...] = ()
    heard: tuple[Turn, ...] = ()  # who is said to speak, called as whom of the reference they stand for
    spoken: tuple[Turn, ...] = ()
    called: tuple[str, ...] = ()  # titles of the sounds; empty: their files' names


class Mistakes(NamedTuple):
    """Those of one fold's test part that are shown, and of what they are the worst."""

    words: str
    examples: list[Example]


def write(folder: Path, found: Sequence[Mistakes]) -> None:
    """Keeps the mistakes of each fold beside a sweep."""
    rows = [{"words": one.words, "examples": [example._asdict() for example in one.examples]} for one in found]
    (folder / FILE).write_text(json.dumps(rows, ensure_ascii=False) + "\n", encoding="utf-8")


def read(folder: Path) -> list[Mistakes]:
    """What `write` has kept; nothing where it has not."""
    if not (folder / FILE).is_file():
        return []
    return [
        Mistakes(row["words"], [_example(one) for one in row["examples"]])
        for row in json.loads((folder / FILE).read_text(encoding="utf-8"))
    ]


def _example(row: dict[str, list]) -> Example:
    sounds = tuple(Sound(*one) for one in row["sounds"])
    heard, spoken = (tuple(Turn(*one) for one in row[name]) for name in ("heard", "spoken"))
    return Example(
        str(row["words"]), sounds, tuple(row["said"]), tuple(row["right"]), heard, spoken, tuple(row.get("called", ()))
    )
