# SPDX-License-Identifier: Apache-2.0
"""GLUE's files: the official TSVs (no quoting, each with its own header) and parquet with the hub's columns.

Labels are always mapped by their names.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..finetune import MissingFiles
from .examples import Example, text_of
from .glue_tasks import File, GlueTask


class Reading(NamedTuple):
    """The examples of a file, and how many rows were left out since they are malformed."""

    examples: list[Example]
    dropped: int = 0


def read(task: GlueTask, path: Path, file: File) -> Reading:
    """The examples of an official TSV.

    Raises: ValueError, with file and line, for a missing header, another number of columns or an unknown label.
    """
    lines = text_of(path).removesuffix("\n").split("\n")
    start = 0
    if file.header:
        head = lines[0].rstrip("\r").split("\t")[0]
        if head != file.header:
            raise ValueError(f"{path}, line 1: the header must begin with {file.header}, not {head[:40]!r}")
        start = 1
    found, dropped = [], 0
    for number, line in enumerate(lines[start:], start=start + 1):
        row = line.rstrip("\r").split("\t")
        if len(row) != file.columns:
            if task.malformed and file.label >= 0:
                dropped += 1
                continue
            raise ValueError(f"{path}, line {number}: {len(row)} columns where {task.folder} has {file.columns}")
        label = None if file.label == -1 else _named(task, row[file.label if file.label >= 0 else -1], path, number)
        index = str(number - start - 1) if file.index < 0 else row[file.index]
        found.append(Example(index, row[file.first], row[file.second] if file.second >= 0 else None, label))
    if not found:
        raise ValueError(f"{path} has no examples")
    return Reading(found, dropped)


def _named(task: GlueTask, word: str, path: Path, number: int) -> str:
    """A label's name, from what the file has for it."""
    if not task.classes:
        if not re.fullmatch(r"\d+(\.\d+)?", word) or float(word) > 5.0:
            raise ValueError(f"{path}, line {number}: {word[:40]!r} is no score from 0 to 5")
        return word
    if task.numbered and word.isdecimal() and int(word) < len(task.classes):
        return task.classes[int(word)]
    if word not in task.classes:
        known = "0 or 1" if task.numbered else ", ".join(task.classes)
        raise ValueError(f"{path}, line {number}: {word[:40]!r} is no label of {task.folder}: {known}")
    return word


def find(task: GlueTask, root: Path) -> Path:
    """The task's folder, of TSVs (MNLI) or of parquet (mnli). Raises MissingFiles, with what was looked for."""
    if not root.is_dir():
        raise ValueError(f"set --data.path to GLUE's folder, which holds CoLA, MNLI and so on: {root} is none")
    for folder in (root / task.folder, root / task.name):
        if (folder / task.train.name).is_file() or list(folder.glob("train-*.parquet")):
            return folder
    raise MissingFiles(f"{root} has no {task.folder}/{task.train.name} and no {task.name}/train-*.parquet")


def read_parquet(task: GlueTask, paths: Sequence[Path]) -> Reading:
    """The examples of parquet files with the columns of nyu-mll/glue; labels below 0 are hidden.

    Raises: ValueError, with file and row, for missing columns or an unknown label; ImportError without pyarrow.
    """
    from pyarrow.parquet import read_table  # pyright: ignore[reportMissingImports]

    found = []
    for path in paths:
        table = read_table(path)
        if missing := {*task.columns, "label"} - set(table.column_names):
            raise ValueError(f"{path} has no column {', '.join(sorted(missing))}, only {', '.join(table.column_names)}")
        names = _names(table.schema.metadata or {}) or task.classes
        for number, row in enumerate(table.to_pylist()):
            first, *second = (row[name] for name in task.columns)
            label = None if row["label"] is None or row["label"] < 0 else row["label"]
            if label is not None and names:
                if label >= len(names) or names[label] not in task.classes:
                    raise ValueError(f"{path}, row {number}: {label} is no label of {task.folder}")
                label = names[label]
            index = str(row.get("idx", number))
            found.append(Example(index, first, second[0] if second else None, None if label is None else str(label)))
    if not found:
        raise ValueError(f"{paths[0].parent} has no examples")
    return Reading(found)


def _names(metadata: dict[bytes, bytes]) -> tuple[str, ...]:
    """The classes in the order of a parquet file's numbers, where the hub's metadata say it."""
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return tuple(features.get("label", {}).get("names", ()))


def read_part(task: GlueTask, folder: Path, file: File, split: str) -> Reading | None:
    """The examples of one file, as TSV or as parquet; None if it is there in neither form.

    Args:
        split: its name on the hub.
    """
    if (folder / file.name).is_file():
        return read(task, folder / file.name, file)
    parquet = sorted(folder.glob(f"{split}-*.parquet"))
    return read_parquet(task, parquet) if parquet else None
