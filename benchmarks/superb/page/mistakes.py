# SPDX-License-Identifier: Apache-2.0
"""Mistakes that the page shows, and their file: mistakes.json beside a sweep, so that no encoder is needed again.

Sounds in the sweep's folder are named from there, others by their whole paths.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...files import write_json
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

    def kept(example: Example) -> dict[str, Any]:
        sounds = [sound._replace(path=_named(folder, Path(sound.path).absolute())) for sound in example.sounds]
        return {**example._asdict(), "sounds": sounds}

    write_json(folder / FILE, [{"words": one.words, "examples": list(map(kept, one.examples))} for one in found])


def _named(folder: Path, path: Path) -> str:
    inside = folder.absolute()
    return str(path.relative_to(inside) if path.is_relative_to(inside) else path)


def read(folder: Path) -> list[Mistakes]:
    """What `write` has kept; nothing where it has not."""
    if not (folder / FILE).is_file():
        return []
    return [
        Mistakes(row["words"], [_example(one, folder) for one in row["examples"]])
        for row in json.loads((folder / FILE).read_text(encoding="utf-8"))
    ]


def _example(row: dict[str, list], folder: Path) -> Example:
    sounds = tuple(Sound(_found(folder, path), start, end) for path, start, end in row["sounds"])
    heard, spoken = (tuple(Turn(*one) for one in row[name]) for name in ("heard", "spoken"))
    return Example(
        str(row["words"]), sounds, tuple(row["said"]), tuple(row["right"]), heard, spoken, tuple(row.get("called", ()))
    )


def _found(folder: Path, path: str) -> str:
    """Where a sound is; earlier files name it from where the run was started."""
    inside = folder / path
    return path if Path(path).exists() and not inside.exists() else str(inside)
