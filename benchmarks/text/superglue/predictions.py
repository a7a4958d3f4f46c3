# SPDX-License-Identifier: Apache-2.0
"""The files of SuperGLUE's leaderboard: one JSON object a line, with `idx` and `label` as each task has them.

As written by jiant@daa5a258 (the tasks' super_glue_format_preds, scripts/benchmarks/benchmarks.py): "true" and "false"
for BoolQ and WiC, "True" and "False" for WSC, classes' names for CB, RTE, AX-b and AX-g, 0 or 1 for COPA, the entity
for ReCoRD, and for MultiRC a line a paragraph with its questions and answers.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...files import write_text
from ..examples import Choices, Example
from ..official import Official, Row, answered, checked, place_of, rows


def write(
    task: Official, folder: Path, examples: Sequence[Example | Choices], predictions: Sequence[str | int]
) -> Path:
    """Writes the task's file into a folder, and says where.

    Args:
        predictions: for each example the name of a class, or the place of a candidate.
    Raises: ValueError, before anything is written, for predictions that do not fit.
    """
    checked(task, examples, predictions)
    pairs = list(zip(examples, predictions, strict=True))
    lines = (
        _paragraphs(pairs)
        if task.name == "multirc"
        else [{"idx": int(a.index), "label": _word(a, b)} for a, b in pairs]
    )
    path = folder / task.predictions
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return path


def read_predictions(task: Official, path: Path, examples: Sequence[Example | Choices]) -> list[str | int]:
    """What a file of the leaderboard's form says of each of these examples, as `score` takes it.

    Raises: ValueError, with file and line, for unknown labels, and for examples that are missing, unknown or twice.
    """
    answers = (
        pair
        for row in rows(path)
        for pair in (_answers(row) if task.name == "multirc" else [(str(row.number("idx")), row)])
    )
    found = answered(task, path, examples, answers)
    return [_said(task, example, row) for example, row in zip(examples, found, strict=True)]


def _word(example: Example | Choices, prediction: str | int) -> str | int:
    if isinstance(example, Example):
        return prediction
    return example.names[int(prediction)] if example.names else int(prediction)


def _paragraphs(pairs: Sequence[tuple[Example | Choices, str | int]]) -> list[dict[str, Any]]:
    """MultiRC's answers below their questions, below their paragraphs."""
    nested: dict[int, dict[int, list[dict[str, int]]]] = {}
    for example, prediction in pairs:
        paragraph, question, answer = (int(part) for part in example.index.split("-"))
        answers = nested.setdefault(paragraph, {}).setdefault(question, [])
        answers.append({"idx": answer, "label": int(prediction)})
    return [
        {"idx": paragraph, "passage": {"questions": [{"idx": q, "answers": a} for q, a in questions.items()]}}
        for paragraph, questions in nested.items()
    ]


def _answers(row: Row) -> Iterator[tuple[str, Row]]:
    for question in row.within("passage").rows("questions"):
        for answer in question.rows("answers"):
            yield f"{row.number('idx')}-{question.number('idx')}-{answer.number('idx')}", answer


def _said(task: Official, example: Example | Choices, row: Row) -> str | int:
    """A row's label as `score` takes it."""
    if isinstance(example, Example):
        label = str(row.number("label")) if task.name == "multirc" else row.text("label")
        return task.labels[place_of(task, row, task.labels, label)]
    if example.names:
        return place_of(task, row, example.names, row.text("label"))
    return place_of(task, row, range(len(example.candidates)), row.number("label"))
