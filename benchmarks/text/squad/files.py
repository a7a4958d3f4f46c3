# SPDX-License-Identifier: Apache-2.0
"""The files of SQuAD 1.1 and 2.0, and of DRCD, CMRC 2018 and XQuAD in the same form, as questions on paragraphs.

Rajpurkar et al. 2016 (arXiv:1606.05250) and 2018 (1806.03822); Shao et al. 2018 (1806.00920); Cui et al. 2019
(1810.07366), in the files of its folder squad-style-data; Artetxe et al. 2020 (1910.11856).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ....ssl.tables import text_of


class Answer(NamedTuple):
    """What a person marked."""

    text: str
    start: int  # characters into the context; -1: not in the context, as CMRC 2018 has it for 193 answers of its dev


class Question(NamedTuple):
    """One question on a paragraph."""

    id: str
    text: str
    context: int  # the paragraph's place in `Questions.contexts`
    answers: tuple[Answer, ...]  # in training files one, which is trained on; none where hidden or impossible
    impossible: bool = False


class Questions(NamedTuple):
    """A file of them."""

    path: Path
    contexts: list[str]
    items: list[Question]
    nullable: bool  # as in SQuAD 2.0: some question is impossible, and "" is an answer


def read_squad(path: Path) -> Questions:
    """All questions of a file, in its order; plausible answers and titles are left out.

    Raises: ValueError, with the question's id or place, for a file of another form, an id that comes twice, or an
        answer_start beyond the context. An answer that does not stand at its answer_start is no error (see spans.py).
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}: give one of SQuAD's form (JSON)")
    contexts: list[str] = []
    items: list[Question] = []
    seen: set[str] = set()
    for place, paragraph in _paragraphs(path):
        context = _text(paragraph, "context", place)
        for number, entry in enumerate(_part(paragraph, "qas", list, place), start=1):
            question = _question(path, f"{place}, question {number}", entry, context, len(contexts))
            if question.id in seen:
                raise ValueError(f"{path}, question {question.id}: the id comes twice: remove one of the two")
            seen.add(question.id)
            items.append(question)
        contexts.append(context)
    if not items:
        raise ValueError(f"{path} holds no question")
    return Questions(path, contexts, items, nullable=any(item.impossible for item in items))


def _paragraphs(path: Path) -> Iterator[tuple[str, Any]]:
    """Each paragraph and its place in the file, for messages."""
    text = text_of(path)
    if not text.strip():
        raise ValueError(f"{path} is empty: download it again")
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg}): download the file again") from error
    for number, article in enumerate(_part(tree, "data", list, str(path)), start=1):
        place = f"{path}, article {number}"
        for count, paragraph in enumerate(_part(article, "paragraphs", list, place), start=1):
            yield f"{place}, paragraph {count}", paragraph


def _question(path: Path, place: str, entry: Any, context: str, number: int) -> Question:
    name = _part(entry, "id", str, place)
    place = f"{path}, question {name}"
    text = _text(entry, "question", place)
    impossible = "is_impossible" in entry and _part(entry, "is_impossible", bool, place)
    answers = []
    for answer in _part(entry, "answers", list, place) if "answers" in entry else []:
        marked, start = _text(answer, "text", place), _part(answer, "answer_start", int, place)
        if start != -1 and not 0 <= start <= len(context) - len(marked):
            raise ValueError(
                f"{place}: answer_start {start} leads out of the context of {len(context)} characters: "
                "count characters, not bytes"
            )
        answers.append(Answer(marked, start))
    return Question(name, text, number, tuple(answers), impossible)


def _text(holder: Any, name: str, place: str) -> str:
    text = _part(holder, name, str, place)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{place}: {name} has half a character at {error.start}: write it whole") from error
    return text


def _part(holder: Any, name: str, kind: type, place: str) -> Any:
    """What stands under a name in an object of the file. Raises ValueError if it is not there or of another kind."""
    words = {list: "a list", str: "a text", int: "a whole number", bool: "true or false"}
    if not isinstance(holder, dict):
        raise ValueError(f'{place}: not an object with "{name}": give a file of SQuAD\'s form')
    if name not in holder:
        raise ValueError(f'{place}: no "{name}", only {", ".join(holder) or "nothing"}: give a file of SQuAD\'s form')
    value = holder[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f'{place}: "{name}" must be {words[kind]}, not {json.dumps(value)[:40]}')
    return value
