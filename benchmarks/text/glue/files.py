# SPDX-License-Identifier: Apache-2.0
"""GLUE's files: the official TSVs (no quoting, each with its own header) and parquet with the hub's columns.

Labels are always mapped by their names.
"""

import json
import math
import re
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from ....ssl.tables import text_of
from ...finetune import MissingFiles
from ..examples import Example
from .tasks import File, GlueTask

SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})\.parquet")
_PAIR = ("index", "sentence1", "sentence2", "label")
_MRPC = ("#1 ID", "#2 ID", "#1 String", "#2 String")
_STSB = ("index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2")
_MNLI = (
    *("index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse"),
    *("sentence1_parse", "sentence2_parse", "sentence1", "sentence2"),
)
# The headers of a folder's official files; MNLI's model also reads the diagnostic set's, without and with labels.
_HEADERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "CoLA": (("index", "sentence"),),
    "SST-2": (("sentence", "label"), ("index", "sentence")),
    "MRPC": (("Quality", *_MRPC), ("index", *_MRPC)),
    "QQP": (("id", "qid1", "qid2", "question1", "question2", "is_duplicate"), ("id", "question1", "question2")),
    "STS-B": ((*_STSB, "score"), _STSB),
    "MNLI": (
        (*_MNLI, "label1", "gold_label"),
        (*_MNLI, *(f"label{number}" for number in range(1, 6)), "gold_label"),
        _MNLI,
        _PAIR[:3],
        (
            *("Lexical Semantics", "Predicate-Argument Structure", "Logic", "Knowledge", "Domain"),
            *("Premise", "Hypothesis", "Label"),
        ),
    ),
    "QNLI": (("index", "question", "sentence", "label"), ("index", "question", "sentence")),
    "RTE": (_PAIR, _PAIR[:3]),
    "WNLI": (_PAIR, _PAIR[:3]),
}


class Reading(NamedTuple):
    """The examples of a file, and how many rows were left out since they are malformed."""

    examples: list[Example]
    dropped: int = 0
    source: str = ""  # the file, and what its rows are called: "RTE/test.tsv, line"
    start: int = 0  # the first example's number there

    def place(self, number: int) -> str:
        """Where an example stands, counted from 0, if no row before it was left out."""
        return f"{self.source} {self.start + number}"


def read(task: GlueTask, path: Path, file: File) -> Reading:
    """The examples of an official TSV; blank lines at its end are no rows.

    Raises: ValueError, with file and line, for another header, another number of columns or an unknown label.
    """
    lines = text_of(path).rstrip("\r\n").split("\n")
    start = 0
    if file.header:
        _check_header(task, path, file, lines[0].rstrip("\r"))
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
    return Reading(found, dropped, f"{path}, line", start + 1)


def _check_header(task: GlueTask, path: Path, file: File, line: str) -> None:
    """Raises ValueError, with the column, for another header than the official file's."""
    wanted = next(one for one in _HEADERS[task.folder] if (one[0], len(one)) == (file.header, file.columns))
    for number, (name, found) in enumerate(zip_longest(wanted, line.split("\t")), start=1):
        if name != found:
            said = "missing" if found is None else f"{found[:40]!r}"
            must = f"must be {name}" if name else f"is one more than {task.folder} has"
            raise ValueError(f"{path}, line 1: column {number} of the header {must}, it is {said}")


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


def read_parquet(task: GlueTask, paths: Sequence[Path], labelled: bool) -> Reading:
    """The examples of parquet files with the columns of nyu-mll/glue; labels are numbers, -1 if hidden, or names.

    Args:
        labelled: whether every row needs a label; if not, there need not be such a column.
    Raises: ValueError without pyarrow, for a broken file or missing columns, and, with file and row (from 0), for a
        text, index or label of another type, an unknown label and a hidden one.
    """
    found: list[Example] = []
    for path in paths:
        table = _table(path)
        if missing := {*task.columns, *(["label"] if labelled else [])} - set(table.column_names):
            raise ValueError(f"{path} has no column {', '.join(sorted(missing))}, only {', '.join(table.column_names)}")
        names = _names(table.schema.metadata or {}) or task.classes
        kept = [name for name in table.column_names if name in (*task.columns, "label", "idx")]
        for number, row in enumerate(table.select(kept).to_pylist()):
            place = f"{path}, row {number}"
            for name in task.columns:
                if not isinstance(row[name], str):
                    raise ValueError(f"{place}: {name} is {_short(row[name])}, not a text")
            label = _label(task, row.get("label"), names, place)
            if label is None and labelled:
                raise ValueError(f"{place}: the label is hidden ({row['label']}), training and dev rows need one")
            index = row.get("idx", len(found))
            if type(index) is not int:
                raise ValueError(f"{place}: idx is {_short(index)}, not a whole number")
            first, *second = (row[name] for name in task.columns)
            found.append(Example(str(index), first, second[0] if second else None, label))
    if not found:
        raise ValueError(f"{paths[0]} has no examples")
    source = paths[0] if len(paths) == 1 else paths[0].parent / f"{paths[0].name.split('-')[0]}-*.parquet"
    return Reading(found, 0, f"{source}, row")


def _table(path: Path) -> Any:
    """A parquet file's pyarrow.Table. Raises ValueError without pyarrow, or for a broken file."""
    try:
        from pyarrow import ArrowException  # pyright: ignore[reportMissingImports]
        from pyarrow.parquet import ParquetFile  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(f"{path} is parquet: pip install pyarrow to read it") from error
    try:
        with ParquetFile(path) as file:
            table = file.read()
        table.validate(full=True)  # texts that are not UTF-8
        return table
    except (ArrowException, OSError) as error:
        said = " ".join(str(error).split())[:120]
        raise ValueError(f"{path} cannot be read as parquet, download it again ({said})") from error


def _label(task: GlueTask, value: Any, names: Sequence[str], place: str) -> str | None:
    """A label's name, or its number's text, from what parquet has for it; None where it is hidden.

    Args:
        names: the classes in the order of the file's numbers.
    """
    if value is None or value == -1:
        return None
    if not task.classes:
        if type(value) not in (int, float) or not (math.isfinite(value) and 0.0 <= value <= 5.0):
            raise ValueError(f"{place}: label {_short(value)} is no score from 0 to 5")
        return str(value)
    if value in task.classes:
        return value
    if type(value) is not int or not 0 <= value < len(names) or names[value] not in task.classes:
        known = ", ".join(f"{number} {name}" for number, name in enumerate(names))
        raise ValueError(f"{place}: {_short(value)} is no label of {task.folder}: {known}")
    return names[value]


def _short(value: Any) -> str:
    return repr(value)[:40]


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
    _check_shards(parquet)
    return read_parquet(task, parquet, file.label != -1) if parquet else None


def _check_shards(paths: Sequence[Path]) -> None:
    """Raises ValueError if the names, such as train-00000-of-00002.parquet, tell of files that are not there."""
    for path in paths:
        if match := SHARD.fullmatch(path.name):
            split, count = match[1], int(match[2])
            wanted = [f"{split}-{number:05}-of-{count:05}.parquet" for number in range(count)]
            if missing := [name for name in wanted if not (path.parent / name).is_file()]:
                raise ValueError(f"{path} is one of {count} files, of which {', '.join(missing)} is not there")
