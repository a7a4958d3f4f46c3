# SPDX-License-Identifier: Apache-2.0
"""GLUE's submission: eleven TSVs in one zip, checked before it is written (gluebenchmark.com/faq)."""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...files import write_bytes, write_text
from ..examples import Example
from .tasks import TASKS, GlueTask

# Examples of each official test file.
ROWS = {
    "CoLA": 1063,
    "SST-2": 1821,
    "MRPC": 1725,
    "STS-B": 1379,
    "QQP": 390965,
    "MNLI-m": 9796,
    "MNLI-mm": 9847,
    "QNLI": 5463,
    "RTE": 3000,
    "WNLI": 146,
    "AX": 1104,
}


class Part(NamedTuple):
    """What is said of one test file: an index and a class's name, or a number, for each row."""

    indices: Sequence[str]
    said: Sequence[Any]


def words(task: GlueTask, said: Sequence[Any]) -> list[str]:
    """Predictions as the leaderboard wants them: names, 0 and 1, or a number from 0 to 5 with three decimals."""
    if not task.classes:
        return [f"{min(5.0, max(0.0, float(one))):.3f}" for one in said]
    if task.numbered:
        return [str(task.classes.index(one)) for one in said]
    return list(said)


def task_of(name: str) -> GlueTask:
    """The task whose model answers the test file of this name."""
    return next(task for task in TASKS.values() if name in task.hidden)


def constant(name: str) -> Part:
    """What stands in the zip for a test file that was not predicted: the first class, or 0, for every row."""
    task = task_of(name)
    said = task.classes[0] if task.classes else 0.0
    return Part([str(i) for i in range(ROWS[name])], [said] * ROWS[name])


def file_text(name: str, part: Part) -> str:
    """One TSV of the zip."""
    said = words(task_of(name), part.said)
    return "index\tprediction\n" + "".join(f"{a}\t{b}\n" for a, b in zip(part.indices, said, strict=True))


def write_file(folder: Path, name: str, part: Part) -> None:
    """One TSV of the zip, as a file of its own."""
    write_text(folder / f"{name}.tsv", file_text(name, part))


def wrong_rows(name: str, indices: Sequence[str], place: Callable[[int], str]) -> list[str]:
    """The first row of a test file for which the leaderboard would refuse it, in words; nothing if there is none.

    Args:
        place: where the row of a number, from 0, stands; of one that is missing, where it should.
    """
    wanted = dict.fromkeys(str(i) for i in range(ROWS[name]))
    seen: set[str] = set()
    words = ""
    for number, index in enumerate(indices):
        if index in seen or index not in wanted:
            words = f"{place(number)}: the index {index[:40]} {'stands twice' if index in seen else 'is none'}"
            break
        seen.add(index)
    else:
        lacking = next((index for index in wanted if index not in seen), None)
        if lacking is not None:
            words = f"{place(int(lacking))}: the index {lacking} is missing"
    return [f"{words}; it has {len(indices)} rows, the leaderboard wants {len(wanted)}"] if words else []


def problems(name: str, part: Part) -> list[str]:
    """What the leaderboard would refuse in a file of the zip."""
    task = task_of(name)
    found = wrong_rows(name, part.indices, lambda number: f"{name}.tsv, line {number + 2}")
    if bad := [one for one in part.said if task.classes and one not in task.classes]:
        found.append(f"{name}: {bad[0]!r} is no class of {task.folder}")
    return found


def write(path: Path, predicted: Mapping[str, Part]) -> list[str]:
    """Writes the zip in the place of an older one; test files that are not in `predicted` get a constant.

    Returns: in words, which files hold a constant, and what the leaderboard would refuse; such a zip is not written,
        and none is left.
    """
    path.unlink(missing_ok=True)
    notes = [f"{name}: not predicted, a constant stands for it" for name in ROWS if name not in predicted]
    parts = {name: predicted.get(name) or constant(name) for name in ROWS}
    if wrong := [words for name, part in parts.items() for words in problems(name, part)]:
        return [*notes, *wrong, f"{path.name} was not written"]
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, part in parts.items():
            # A fixed date, so that equal predictions give equal bytes.
            entry = zipfile.ZipInfo(f"{name}.tsv", (1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, file_text(name, part), zipfile.ZIP_DEFLATED)
    write_bytes(path, data.getvalue())
    return notes


def part_of(examples: Sequence[Example], said: Sequence[Any]) -> Part:
    """The predictions of a test file's examples."""
    return Part([one.index for one in examples], said)
