# SPDX-License-Identifier: Apache-2.0
"""SuperGLUE's metrics and its score (Wang et al. 2019, arXiv:1905.00537, sections 3 and 4).

CB: macro F1 over its three classes, be they there or not. MultiRC: F1 over all answers, and the share of questions
whose every answer is right (jiant@daa5a258, tasks/evaluate/core.py). ReCoRD: exact match and F1 of normalised words,
the best over the right names (Zhang et al. 2018, arXiv:1810.12885, and its evaluation script). AX-g: accuracy, and
the share of pairs that are answered alike.
"""

import re
import string
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean

from ... import metrics
from ..examples import Choices, Example
from ..official import Official, checked

SCORED = ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc")  # the diagnostic sets do not count


def score(task: Official, examples: Sequence[Example | Choices], predictions: Sequence[str | int]) -> dict[str, float]:
    """The task's official metrics, from 0 to 1 (Matthews: from -1).

    Args:
        predictions: for each example the name of a class, or the place of a candidate.
    Raises: ValueError for hidden labels, or predictions that do not fit.
    """
    checked(task, examples, predictions)
    if task.name == "record":
        return _record(examples, predictions)
    known = [example.label for example in examples]
    if None in known:
        raise ValueError(f"{task.name}, example {examples[known.index(None)].index}: its label is hidden")
    groups: dict[str, list[tuple[str | int | None, str | int]]] = defaultdict(list)
    for example, said in zip(examples, predictions, strict=True):
        groups[example.group].append((example.label, said))
    figures = {}
    for name in task.metrics:
        match name:
            case "accuracy":
                figures[name] = metrics.accuracy(known, predictions)
            case "macro_f1":
                figures[name] = mean(metrics.f1(known, predictions, label) for label in task.labels)
            case "f1a":
                figures[name] = metrics.f1(known, predictions, "1")
            case "em":
                figures[name] = mean(float(all(a == b for a, b in group)) for group in groups.values())
            case "matthews":
                figures[name] = metrics.matthews(known, predictions)
            case "gender_parity":
                figures[name] = mean(float(len({said for _, said in pair}) == 1) for pair in groups.values())
    return figures


def _record(examples: Sequence[Example | Choices], predictions: Sequence[str | int]) -> dict[str, float]:
    f1, em = [], []
    for example, said in zip(examples, predictions, strict=True):
        assert isinstance(example, Choices)
        if not example.answers:
            raise ValueError(f"record, example {example.index}: its answers are hidden")
        words = normalised(example.names[int(said)])
        right = [normalised(answer) for answer in example.answers]
        f1.append(max(overlap(words, answer) for answer in right))
        em.append(float(words in right))
    return {"f1": mean(f1), "em": mean(em)}


def normalised(answer: str) -> list[str]:
    """ReCoRD's words of an answer: lower-case, without ASCII punctuation, then without articles."""
    kept = answer.lower().translate(str.maketrans("", "", string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def overlap(said: Sequence[str], right: Sequence[str]) -> float:
    """F1 of two bags of words; 0 if they share none, even if both are empty."""
    shared = (Counter(said) & Counter(right)).total()
    return 2 * shared / (len(said) + len(right)) if shared else 0.0


def superglue_score(scores: Mapping[str, Mapping[str, float]]) -> float:
    """The leaderboard's figure: the mean over the eight tasks, of two metrics of a task their mean.

    Raises: ValueError if a task is missing.
    """
    if missing := [name for name in SCORED if name not in scores]:
        raise ValueError(f"the SuperGLUE score needs all eight tasks: {', '.join(missing)} missing")
    return mean(mean(scores[name].values()) for name in SCORED)
