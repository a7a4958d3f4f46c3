# SPDX-License-Identifier: Apache-2.0
"""What the readers of SuperGLUE and of CLUE share: a release's description, its rows, and checks of predictions."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ...ssl.tables import json_rows, text_of
from ..finetune import MissingFiles
from .examples import Choices, Example


@dataclasses.dataclass(frozen=True, kw_only=True)
class Official:
    """One task as it was released, and by what it is scored."""

    name: str
    folders: tuple[str, ...]  # what the release's folder is called; the first one that has the files is read
    files: Mapping[str, tuple[str, ...]]  # of each split
    kind: Literal["pair", "choices"]  # whether its examples are `Example` or `Choices`
    labels: tuple[str, ...] = ()  # in order, as prediction files write them; none: each row has its own candidates
    metrics: tuple[str, ...] = ("accuracy",)
    texts: tuple[str, ...] = ()  # the fields that are a pair's texts, where these are taken as they are
    skipped: tuple[str, ...] = ()  # labels of rows that the protocol leaves out
    predictions: str = ""  # the prediction file's name


class Reading(NamedTuple):
    """The examples of a split, and how many rows the protocol left out."""

    examples: list[Example] | list[Choices]
    dropped: int = 0


@dataclasses.dataclass(frozen=True)
class Row:
    """A JSON object of a file, whose values are asked for by name and kind. All raise ValueError with its place."""

    place: str
    values: Mapping[str, Any]

    def wrong(self, what: str) -> ValueError:
        """The error to raise if something else is wrong with this row."""
        return ValueError(f"{self.place}: {what}")

    def value(self, name: str) -> Any:
        """What is there, of any kind."""
        if name not in self.values:
            raise self.wrong(f"no {name}, only {', '.join(self.values) or 'nothing'}")
        return self.values[name]

    def text(self, name: str) -> str:
        """A string."""
        return self._of(name, str, "a text")

    def number(self, name: str) -> int:
        """A whole number."""
        value = self._of(name, int, "a whole number")
        if isinstance(value, bool):
            raise self.wrong(f"{name} is {value}, not a whole number")
        return value

    def within(self, name: str) -> "Row":
        """An object."""
        return Row(self.place, self._of(name, dict, "an object"))

    def rows(self, name: str) -> list["Row"]:
        """A list of objects."""
        return [Row(self.place, one) for one in self._list(name, dict, "objects")]

    def texts(self, name: str) -> list[str]:
        """A list of strings."""
        return self._list(name, str, "texts")

    def _of(self, name: str, kind: type, said: str) -> Any:
        value = self.value(name)
        if not isinstance(value, kind):
            raise self.wrong(f"{name} is {str(value)[:40]!r}, not {said}")
        return value

    def _list(self, name: str, kind: type, said: str) -> list[Any]:
        values = self._of(name, list, f"a list of {said}")
        if odd := [one for one in values if not isinstance(one, kind)]:
            raise self.wrong(f"{name} has {str(odd[0])[:40]!r} among its {said}")
        return values


def rows(path: Path) -> Iterator[Row]:
    """The rows of a file with one JSON object a line. Raises ValueError, with the line, for anything else."""
    for number, values in json_rows(path):
        yield Row(f"{path}, line {number}", values)


def whole(path: Path) -> Any:
    """What a file that is one JSON text holds. Raises ValueError, with the line, for anything else."""
    try:
        return json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error


def paths(task: Official, folder: Path, split: str) -> list[Path]:
    """A split's files below the folder that holds the benchmark's tasks.

    Raises: ValueError for a split that the task has not; MissingFiles if there are no such files.
    """
    if split not in task.files:
        raise ValueError(f"{task.name} has no split {split}, only {', '.join(task.files)}")
    for name in task.folders:
        found = [folder / name / file for file in task.files[split]]
        if all(path.is_file() for path in found):
            return found
    wanted = " and ".join(task.files[split])
    raise MissingFiles(f"{folder} has no {' or '.join(task.folders)} with {wanted}: {task.name} needs it for {split}")


def need_examples(path: Path, found: Sequence[Example | Choices]) -> None:
    """Raises ValueError if a file has given nothing."""
    if not found:
        raise ValueError(f"{path} holds no examples")


def label_of(task: Official, row: Row, hidden: bool) -> str | None:
    """The name of a row's class; None if it has none and that may be.

    Raises: ValueError for another one than the task's.
    """
    if hidden and row.values.get("label") is None:
        return None
    value = row.value("label")
    names = {name.lower() if isinstance(value, bool) else name: name for name in task.labels}
    word = str(value).lower() if isinstance(value, bool) else str(value)
    if word not in names:
        raise row.wrong(f"label {word[:40]!r} is none of {_listed(task.labels)}")
    return names[word]


def _listed(names: Sequence[str | int]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(str(name) for name in names[:8]) + more


def plain(task: Official, row: Row, index: str, hidden: bool) -> Example:
    """A row whose texts are taken as they are."""
    first, *second = (row.text(name) for name in task.texts)
    return Example(index, first, second[0] if second else None, label_of(task, row, hidden))


def marked(text: str, spans: Sequence[tuple[int, int, str, str]]) -> str:
    """A text with marks before and after some spans of it, each given as begin, end, mark before, mark after."""
    marks = [(at, mark) for begin, end, before, after in sorted(spans) for at, mark in ((begin, before), (end, after))]
    for at, mark in reversed(sorted(marks, key=lambda one: one[0])):
        text = text[:at] + mark + text[at:]
    return text


def checked(task: Official, examples: Sequence[Example | Choices], predictions: Sequence[str | int]) -> None:
    """Raises ValueError unless there is one possible prediction for each example."""
    if not examples:
        raise ValueError(f"{task.name}: there are no examples")
    if len(examples) != len(predictions):
        raise ValueError(f"{task.name}: {len(predictions)} predictions for {len(examples)} examples")
    for example, one in zip(examples, predictions, strict=True):
        if isinstance(example, Example) and one not in task.labels:
            raise ValueError(f"{task.name}, example {example.index}: {one!r} is none of {_listed(task.labels)}")
        if isinstance(example, Choices) and one not in range(len(example.candidates)):
            raise ValueError(f"{task.name}, example {example.index}: {one!r} is no place of a candidate")


def answered(
    task: Official, path: Path, examples: Sequence[Example | Choices], answers: Iterable[tuple[str, Row]]
) -> list[Row]:
    """The row that a prediction file has for each example.

    Args:
        answers: the file's rows, each with the index of its example.
    Raises: ValueError for examples that are missing, unknown or there twice.
    """
    known = {example.index for example in examples}
    found: dict[str, Row] = {}
    for index, row in answers:
        if index not in known or index in found:
            raise row.wrong(f"{index} is {'there twice' if index in found else 'no example'} of {task.name}")
        found[index] = row
    if missing := [example.index for example in examples if example.index not in found]:
        raise ValueError(f"{path} lacks {len(missing)} of {task.name}'s examples, the first is {missing[0]}")
    return [found[example.index] for example in examples]


def place_of(task: Official, row: Row, names: Sequence[str | int], label: str | int) -> int:
    """The place of a prediction file's label among these. Raises ValueError if it is none of them."""
    if label not in names:
        raise row.wrong(f"label {str(label)[:40]!r} is none of {task.name}'s {_listed(names)}")
    return names.index(label)
