# SPDX-License-Identifier: Apache-2.0
"""The nine tasks of GLUE and its diagnostic set: where their columns stand, their classes and their metrics.

Wang et al. 2019, arXiv:1804.07461; gluebenchmark.com. Columns of parquet files: nyu-mll/glue on the Hugging Face hub.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from ... import metrics
from ...task import Score
from ..examples import Example


@dataclasses.dataclass(frozen=True)
class File:
    """One official TSV: the columns, counted from 0, that hold what is needed."""

    name: str  # in the task's folder
    columns: int  # in each row; 0: not checked
    first: int
    second: int = -1  # none
    label: int = -1  # none: hidden; -2: the row's last
    header: str = ""  # the first column's name; empty: no header
    index: int = -1  # none: rows are counted


@dataclasses.dataclass(frozen=True)
class GlueTask:
    """One task."""

    name: str
    folder: str  # of the official download
    train: File
    dev: dict[str, File]
    hidden: dict[str, File]  # the leaderboard's files by the names of the submission's
    classes: tuple[str, ...]  # in the order of the Hugging Face hub's numbers; none: a number from 0 to 5
    columns: tuple[str, ...]  # of the texts, in parquet
    figures: Callable[[Sequence[Example], Sequence[Any]], Score]
    numbered: bool = False  # whether the TSVs have numbers for the classes, and so has the submission
    malformed: bool = False  # whether rows with too few columns are left out (QQP)


def _labels(examples: Sequence[Example]) -> list[str]:
    found = [one.label for one in examples]
    return [label for label in found if label is not None]


def _accuracy(examples: Sequence[Example], said: Sequence[Any]) -> Score:
    return Score("accuracy", {"accuracy": metrics.accuracy(_labels(examples), said)})


def _accuracy_and_f1(positive: str) -> Callable[[Sequence[Example], Sequence[Any]], Score]:
    def figures(examples: Sequence[Example], said: Sequence[Any]) -> Score:
        known = _labels(examples)
        right, f1 = metrics.accuracy(known, said), metrics.f1(known, said, positive)
        return Score("accuracy_and_f1", {"accuracy_and_f1": (right + f1) / 2, "accuracy": right, "f1": f1})

    return figures


def matthews(examples: Sequence[Example], said: Sequence[Any]) -> Score:
    """Matthews correlation."""
    return Score("matthews", {"matthews": metrics.matthews(_labels(examples), said)})


def _correlations(examples: Sequence[Example], said: Sequence[Any]) -> Score:
    known = [float(label) for label in _labels(examples)]
    one, two = metrics.pearson(known, said), metrics.spearman(known, said)
    return Score("pearson_and_spearman", {"pearson_and_spearman": (one + two) / 2, "pearson": one, "spearman": two})


def _pairs(name: str, folder: str, classes: tuple[str, ...], columns: tuple[str, ...], numbered: bool) -> GlueTask:
    """QNLI, RTE and WNLI: index, two sentences, label."""
    labelled = [File(f"{part}.tsv", 4, 1, 2, 3, "index", 0) for part in ("train", "dev")]
    hidden = {folder: File("test.tsv", 3, 1, 2, -1, "index", 0)}
    return GlueTask(
        name, folder, labelled[0], {"": labelled[1]}, hidden, classes, columns, _accuracy, numbered=numbered
    )


_SENTENCES = ("sentence1", "sentence2")
_ENTAILMENT = ("entailment", "not_entailment")
NLI = ("entailment", "neutral", "contradiction")

TASKS = {
    one.name: one
    for one in (
        GlueTask(
            "mnli",
            "MNLI",
            File("train.tsv", 12, 8, 9, -2, "index", 0),
            {
                "": File("dev_matched.tsv", 16, 8, 9, -2, "index", 0),
                "mismatched": File("dev_mismatched.tsv", 16, 8, 9, -2, "index", 0),
            },
            {
                "MNLI-m": File("test_matched.tsv", 10, 8, 9, -1, "index", 0),
                "MNLI-mm": File("test_mismatched.tsv", 10, 8, 9, -1, "index", 0),
                "AX": File("diagnostic.tsv", 3, 1, 2, -1, "index", 0),
            },
            NLI,
            ("premise", "hypothesis"),
            _accuracy,
        ),
        GlueTask(
            "cola",
            "CoLA",
            File("train.tsv", 4, 3, label=1),
            {"": File("dev.tsv", 4, 3, label=1)},
            {"CoLA": File("test.tsv", 2, 1, header="index", index=0)},
            ("unacceptable", "acceptable"),
            ("sentence",),
            matthews,
            numbered=True,
        ),
        GlueTask(
            "sst2",
            "SST-2",
            File("train.tsv", 2, 0, label=1, header="sentence"),
            {"": File("dev.tsv", 2, 0, label=1, header="sentence")},
            {"SST-2": File("test.tsv", 2, 1, header="index", index=0)},
            ("negative", "positive"),
            ("sentence",),
            _accuracy,
            numbered=True,
        ),
        GlueTask(
            "mrpc",
            "MRPC",
            File("train.tsv", 5, 3, 4, 0, "Quality"),
            {"": File("dev.tsv", 5, 3, 4, 0, "Quality")},
            {"MRPC": File("test.tsv", 5, 3, 4, -1, "index", 0)},
            ("not_equivalent", "equivalent"),
            _SENTENCES,
            _accuracy_and_f1("equivalent"),
            numbered=True,
        ),
        GlueTask(
            "qqp",
            "QQP",
            File("train.tsv", 6, 3, 4, 5, "id"),
            {"": File("dev.tsv", 6, 3, 4, 5, "id")},
            {"QQP": File("test.tsv", 3, 1, 2, -1, "id", 0)},
            ("not_duplicate", "duplicate"),
            ("question1", "question2"),
            _accuracy_and_f1("duplicate"),
            numbered=True,
            malformed=True,
        ),
        GlueTask(
            "stsb",
            "STS-B",
            File("train.tsv", 10, 7, 8, 9, "index", 0),
            {"": File("dev.tsv", 10, 7, 8, 9, "index", 0)},
            {"STS-B": File("test.tsv", 9, 7, 8, -1, "index", 0)},
            (),
            _SENTENCES,
            _correlations,
        ),
        _pairs("qnli", "QNLI", _ENTAILMENT, ("question", "sentence"), False),
        _pairs("rte", "RTE", _ENTAILMENT, _SENTENCES, False),
        _pairs("wnli", "WNLI", ("not_entailment", "entailment"), _SENTENCES, True),
    )
}
# The diagnostic set with its labels, which GLUE's own site has beside the download.
DIAGNOSTIC = File("diagnostic-full.tsv", 8, 5, 6, 7, "Lexical Semantics")
