# SPDX-License-Identifier: Apache-2.0
"""CLUE's accuracies, its averages, and the files of its leaderboard.

The files are as CLUE's guide to submissions of 2021-09-04 has them: a JSON object a line, in the order of the test
file, of which only the label is read; ChID is one object. See CLUEbenchmark/CLUE@9d23293, baselines/paddlenlp.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean

from ... import metrics
from ...files import write_text
from ..examples import Choices, Example
from ..official import Official, Row, answered, checked, place_of, rows, whole

CLASSIFICATION = ("afqmc", "tnews", "iflytek", "cmnli", "cluewsc2020", "csl")
READING = ("cmrc2018", "chid", "c3")  # CMRC 2018 by its exact match
# Means of tables in the README of CLUE ("classification", "reading") and of its baselines/paddlenlp ("all"); "1.1" are
# the tasks of the present leaderboard, where OCNLI is in the place of CMNLI
AVERAGES = {
    "classification": CLASSIFICATION,
    "reading": READING,
    "all": (*CLASSIFICATION, "ocnli", *READING),
    "1.1": ("afqmc", "tnews", "iflytek", "ocnli", "cluewsc2020", "csl", *READING),
}


def score(task: Official, examples: Sequence[Example | Choices], predictions: Sequence[str | int]) -> dict[str, float]:
    """The task's accuracy, from 0 to 1.

    Args:
        predictions: for each example the name of a class, or the place of a candidate.
    Raises: ValueError for hidden labels, or predictions that do not fit.
    """
    checked(task, examples, predictions)
    known = [example.label for example in examples]
    if None in known:
        raise ValueError(f"{task.name}, example {examples[known.index(None)].index}: its label is hidden")
    return {"accuracy": metrics.accuracy(known, predictions)}


def average(scores: Mapping[str, float], name: str) -> float:
    """One of CLUE's averages, of the tasks' main figures. Raises ValueError if a task is missing."""
    if name not in AVERAGES:
        raise ValueError(f"CLUE has no average {name}, only {', '.join(AVERAGES)}")
    if missing := [task for task in AVERAGES[name] if task not in scores]:
        raise ValueError(f"CLUE's average {name} needs {', '.join(missing)} too")
    return mean(scores[task] for task in AVERAGES[name])


def write(
    task: Official, folder: Path, examples: Sequence[Example | Choices], predictions: Sequence[str | int]
) -> Path:
    """Writes the task's file into a folder, and says where.

    Args:
        predictions: for each example the name of a class, or the place of a candidate.
    Raises: ValueError, before anything is written, for predictions that do not fit or examples that are not all rows.
    """
    checked(task, examples, predictions)
    pairs = list(zip(examples, predictions, strict=True))
    if task.name == "chid":
        text = json.dumps({example.index: int(place) for example, place in pairs}, indent=2)
    else:
        if odd := [example.index for number, example in enumerate(examples) if example.index != str(number)]:
            raise ValueError(f"{task.name}: example {odd[0]} is out of its place: the leaderboard counts all rows")
        lines = [{"id": int(a.index), "label": b if isinstance(a, Example) else int(b)} for a, b in pairs]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path = folder / task.predictions
    write_text(path, text)
    return path


def read_predictions(task: Official, path: Path, examples: Sequence[Example | Choices]) -> list[str | int]:
    """What a file of the leaderboard's form says of each of these examples, as `score` takes it.

    Raises: ValueError, with file and line, for unknown labels, and for examples that are missing, unknown or twice.
    """
    found = answered(task, path, examples, _blanks(path) if task.name == "chid" else _lines(path))
    return [_said(task, example, row) for example, row in zip(examples, found, strict=True)]


def _lines(path: Path) -> Iterator[tuple[str, Row]]:
    for row in rows(path):
        yield str(row.value("id")), row


def _blanks(path: Path) -> Iterator[tuple[str, Row]]:
    values = whole(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path} is not an object with a number for each blank")
    for blank, place in values.items():
        yield blank, Row(f"{path}, {blank}", {"label": place})


def _said(task: Official, example: Example | Choices, row: Row) -> str | int:
    if isinstance(example, Choices):
        return place_of(task, row, range(len(example.candidates)), row.number("label"))
    return task.labels[place_of(task, row, task.labels, row.text("label"))]
