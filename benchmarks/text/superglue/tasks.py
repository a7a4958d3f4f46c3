# SPDX-License-Identifier: Apache-2.0
"""SuperGLUE's ten tasks: the official JSON lines, and how each task becomes texts.

Wang et al. 2019, arXiv:1905.00537; super.gluebenchmark.com. Files and fields as in Hugging Face's `super_glue` script.
Texts follow the toolkit of the paper, nyu-mll/jiant@v1.3.2 (tasks/tasks.py, tasks/qa.py). It pools the vectors of
marked words in WiC and WSC, which two texts cannot say: there, the word stands before the sentences as in
jiant@daa5a258 (tasks/lib/wic.py), and the spans are marked as by google-research/text-to-text-transfer-transformer
@e081111 (data/preprocessors.py, wsc).
"""

import dataclasses
import re
from pathlib import Path

from ..examples import Choices, Example
from ..official import Official, Reading, Row, label_of, marked, need_examples, paths, plain, rows

SPLITS = {"train": ("train.jsonl",), "dev": ("val.jsonl",), "test": ("test.jsonl",)}
ENTAILMENT = ("entailment", "not_entailment")
PLACEHOLDER = "@placeholder"  # what ReCoRD's queries have for the entity
QUESTIONS = {"cause": "What was the cause of this?", "effect": "What happened as a result?"}  # COPA's, as jiant asks

ACCURACY = ("accuracy",)


def _task(
    folder: str, labels: tuple[str, ...], metrics: tuple[str, ...] = ACCURACY, texts: tuple[str, ...] = ()
) -> Official:
    diagnostic = folder.startswith("AX")
    return Official(
        name=folder.lower().replace("-", ""),
        folders=(folder, "RTE/diagnostics") if diagnostic else (folder,),  # where jiant puts the diagnostic sets
        files={"test": (f"{folder}.jsonl",)} if diagnostic else SPLITS,
        kind="pair" if labels else "choices",
        labels=labels,
        metrics=metrics,
        texts=texts,
        predictions=f"{folder}.jsonl",
    )


TASKS = {
    task.name: task
    for task in (
        _task("BoolQ", ("false", "true"), texts=("passage", "question")),
        _task("CB", ("entailment", "contradiction", "neutral"), ("accuracy", "macro_f1"), ("premise", "hypothesis")),
        _task("COPA", ()),
        _task("MultiRC", ("0", "1"), ("f1a", "em")),
        _task("ReCoRD", (), ("f1", "em")),
        _task("RTE", ENTAILMENT, texts=("premise", "hypothesis")),
        _task("WiC", ("false", "true")),
        _task("WSC", ("False", "True")),
        _task("AX-b", ENTAILMENT, ("matthews",), ("sentence1", "sentence2")),
        _task("AX-g", ENTAILMENT, ("accuracy", "gender_parity"), ("premise", "hypothesis")),
    )
}


def read(task: Official, folder: Path, split: str) -> Reading:
    """The examples of a split.

    Args:
        folder: holds BoolQ, CB and so on.
        split: "train", "dev" (the official val.jsonl) or "test", where labels may be hidden.
    Raises: ValueError, with file and line, for rows of another form or none; MissingFiles (a ValueError).
    """
    (path,) = paths(task, folder, split)
    if task.kind == "choices":
        choices = [one for row in rows(path) for one in _choices(task, row, split == "test")]
        need_examples(path, choices)
        return Reading(choices)
    found: list[Example] = []
    for row in rows(path):
        found += _pairs(task, row, split == "test")
        if task.name == "axg":
            found[-1] = _twin(found, row)
    need_examples(path, found)
    if task.name == "axg" and len(found) % 2:
        raise ValueError(f"{path} holds {len(found)} sentences: AX-g is made of pairs of neighbours")
    return Reading(found)


def _choices(task: Official, row: Row, hidden: bool) -> list[Choices]:
    return [_copa(row, hidden)] if task.name == "copa" else _record(row, hidden)


def _pairs(task: Official, row: Row, hidden: bool) -> list[Example]:
    if task.name == "multirc":
        return _multirc(task, row, hidden)
    index = str(row.number("idx"))
    if task.name == "wic":
        # jiant parts the word from the sentences by a separator token, which no text can hold
        first = f"{row.text('word')}: {row.text('sentence1')}"
        return [Example(index, first, row.text("sentence2"), label_of(task, row, hidden))]
    if task.name == "wsc":
        return [Example(index, _wsc(row), None, label_of(task, row, hidden))]
    return [plain(task, row, index, hidden)]


def _copa(row: Row, hidden: bool) -> Choices:
    """The premise; the question, in words, before each alternative."""
    asked = row.text("question")
    if asked not in QUESTIONS:
        raise row.wrong(f"question {asked[:40]!r} is none of {', '.join(QUESTIONS)}")
    candidates = tuple(f"{QUESTIONS[asked]} {row.text(name)}" for name in ("choice1", "choice2"))
    label = None if hidden and row.values.get("label") is None else row.number("label")
    if label not in (None, 0, 1):
        raise row.wrong(f"label {label} is neither 0 nor 1")
    return Choices(str(row.number("idx")), row.text("premise"), candidates, label)


def _multirc(task: Official, row: Row, hidden: bool) -> list[Example]:
    """The paragraph; question and answer. Answers to one question are a group."""
    passage = row.within("passage")
    paragraph, text = row.number("idx"), passage.text("text")
    found = []
    for question in passage.rows("questions"):
        group = f"{paragraph}-{question.number('idx')}"
        for answer in question.rows("answers"):
            second = f"{question.text('question')} {answer.text('text')}"
            label = label_of(task, answer, hidden)
            found.append(Example(f"{group}-{answer.number('idx')}", text, second, label, group))
    return found


def _record(row: Row, hidden: bool) -> list[Choices]:
    """The passage; the query with each of its entities in the placeholder. Entities that read alike are one."""
    passage = row.within("passage")
    text = passage.text("text")
    spans = [(entity.number("start"), entity.number("end")) for entity in passage.rows("entities")]  # end is in it
    if wrong := [span for span in spans if not 0 <= span[0] <= span[1] < len(text)]:
        raise row.wrong(f"the entity from {wrong[0][0]} to {wrong[0][1]} is not in the passage of {len(text)}")
    names = tuple(dict.fromkeys(text[start : end + 1] for start, end in spans))
    found = []
    for query in row.rows("qas"):
        asked, index = query.text("query"), str(query.number("idx"))
        unknown = hidden and "answers" not in query.values
        answers = () if unknown else tuple(dict.fromkeys(answer.text("text") for answer in query.rows("answers")))
        if PLACEHOLDER not in asked:
            raise row.wrong(f"query {index} has no {PLACEHOLDER}")
        if not (answers or unknown) or not names:
            raise row.wrong(f"query {index} has no answers" if names else "the passage has no entities")
        filled = tuple(asked.replace(PLACEHOLDER, name) for name in names)
        right = next((place for place, name in enumerate(names) if name in answers), None)
        found.append(Choices(index, text, filled, right, names=names, answers=answers))
    return found


def _wsc(row: Row) -> str:
    """The text with * around the noun phrase and # around the pronoun. Their indices count words.

    Some of the release's spans are not what stands there; then whole words are marked, as jiant pools them.
    """
    text, target = row.text("text"), row.within("target")
    words = [match.span() for match in re.finditer(r"\S+", text)]
    spans = []
    for name, mark in (("span1", "*"), ("span2", "#")):
        said, first = target.text(f"{name}_text"), target.number(f"{name}_index")
        last = first + max(len(said.split()), 1) - 1
        if not 0 <= first <= last < len(words):
            raise row.wrong(f"{name} is words {first} to {last} of a text of {len(words)}")
        begin = words[first][0]
        end = begin + len(said) if said and text.startswith(said, begin) else words[last][1]
        spans.append((begin, end, f"{mark} ", f" {mark}"))
    return marked(text, spans)


def _twin(found: list[Example], row: Row) -> Example:
    """The last of AX-g's sentences with its pair as its group; neighbours differ by the pronoun only.

    `pair_id` is another one for each of the two (jiant's tests/test_winogender_metric.py), so it names no pair.
    """
    if len(found) % 2 == 0 and found[-1].second != found[-2].second:
        raise row.wrong("the hypothesis is not that of the sentence before: AX-g is made of pairs of neighbours")
    return dataclasses.replace(found[-1], group=str((len(found) - 1) // 2))
