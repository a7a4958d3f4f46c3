# SPDX-License-Identifier: Apache-2.0
"""CLUE's tasks with candidates: C3 (Sun et al. 2020, arXiv:1904.09679) and ChID (Zheng et al. 2019, arXiv:1906.01265).

Follows CLUEbenchmark/CLUE@9d23293, baselines/models_pytorch/mrc_pytorch: run_c3.py, preprocess/CHID_preprocess.py.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ..examples import Choices
from ..official import Row, rows, whole

AROUND = 56  # characters beside ChID's blank: what the baseline's 64 tokens leave
BLANK = re.compile(r"#idiom\d+#")
ASKED, OTHER = "#idiom#", "____"  # the blank in question, as FewCLUE writes it, and others, of an idiom's length


def read_c3(paths: Sequence[Path], hidden: bool) -> list[Choices]:
    """Each question of some C3 files: the text, and question and answer together as a candidate.

    The baseline parts question and answer by a separator token, which no text can hold, and fills up rows with fewer
    than four answers; here there are as many candidates as answers.

    Raises: ValueError, with file and entry, for anything of another form.
    """
    found: list[Choices] = []
    for path in paths:
        entries = whole(path)
        if not isinstance(entries, list):
            raise ValueError(f"{path} is not a list of texts with their questions")
        for number, entry in enumerate(entries, start=1):
            place = f"{path}, entry {number}"
            if not isinstance(entry, list) or len(entry) < 2:
                raise ValueError(f"{place}: not a list of a text and its questions")
            row = Row(place, {"text": entry[0], "questions": entry[1]})
            text = "\n".join(row.texts("text"))
            for question in row.rows("questions"):
                found.append(_question(question, text, str(len(found)), hidden))
    return found


def _question(row: Row, text: str, index: str, hidden: bool) -> Choices:
    asked, choices = row.text("question"), row.texts("choice")
    if len(choices) < 2:
        raise row.wrong(f"{len(choices)} answers to choose from")
    label = None
    if not hidden or row.values.get("answer"):
        answer = row.text("answer").lower()
        label = next((place for place, choice in enumerate(choices) if choice.lower() == answer), None)
        if label is None:
            raise row.wrong(f"the answer {answer[:40]!r} is none of {', '.join(choices)[:200]}")
    return Choices(index, text, tuple(f"{asked} {choice}" for choice in choices), label)


def read_chid(path: Path, answers: Path | None = None) -> list[Choices]:
    """Each blank of a ChID file: the text around it, and the row's idioms. Blanks of one row are a group.

    The baseline has the idiom before the text, marks the blank by [unused1] and others by [MASK] four times, and counts
    tokens where characters are counted here.

    Args:
        answers: the file with the right idiom's place for each blank; None where they are hidden.
    Raises: ValueError, with file and line, for anything of another form.
    """
    known = Row(str(answers), {})
    if answers is not None:
        values = whole(answers)
        if not isinstance(values, dict):
            raise ValueError(f"{answers} is not an object with a number for each blank")
        known = Row(str(answers), values)
    found = []
    for number, row in enumerate(rows(path)):
        idioms = tuple(row.texts("candidates"))
        for text in row.texts("content"):
            for blank in BLANK.finditer(text):
                label = None if answers is None else known.number(blank.group())
                if label is not None and not 0 <= label < len(idioms):
                    raise row.wrong(f"{blank.group()} is idiom {label} of {len(idioms)}, says {answers}")
                found.append(Choices(blank.group(), around(text, blank), idioms, label, str(number)))
    return found


def around(text: str, blank: re.Match[str]) -> str:
    """What stands beside a blank, as much on both sides as there is room and text for."""
    left, right = (BLANK.sub(OTHER, part) for part in (text[: blank.start()], text[blank.end() :]))
    before, after = max(AROUND // 2, AROUND - len(right)), max(AROUND - AROUND // 2, AROUND - len(left))
    return left[-before:] + ASKED + right[:after]


def distinct(examples: Sequence[Choices], scores: Sequence[Sequence[float]]) -> list[int]:
    """The place of each blank's idiom if no idiom may stand twice in a row of ChID, the surest pairs first.

    As the baseline's logits_matrix_to_array does it, with its order of ties; blanks beyond the idioms take their best.

    Args:
        scores: for each example one for each candidate; higher is better.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for number, example in enumerate(examples):
        groups[example.group].append(number)
    chosen: dict[int, int] = {}
    for blanks in groups.values():
        pairs = [(-scores[blank][place], place, blank) for blank in blanks for place in range(len(scores[blank]))]
        taken: set[int] = set()
        for _, place, blank in sorted(pairs):
            if blank not in chosen and place not in taken:
                chosen[blank] = place
                taken.add(place)
        for blank in blanks:
            chosen.setdefault(blank, max(range(len(scores[blank])), key=lambda place: scores[blank][place]))
    return [chosen[number] for number in range(len(examples))]
