# SPDX-License-Identifier: Apache-2.0
"""GLUE's tasks for fine-tuning: data, protocol, and the averages of the suite (Wang et al. 2019, arXiv:1804.07461)."""

import dataclasses
import statistics
from collections import Counter
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, Literal

from ....ssl.config import Config
from ....ssl.data import Dataset
from ...encoders import Start
from ...finetune import MissingFiles, Setting, TunedConfig
from ...suite import Faults
from ...task import Score, Task
from ..examples import Example
from ..sentences import Parts, Sentences, SentenceTask
from . import protocols, submission
from .files import Reading, find, read, read_part
from .protocols import Protocol
from .tasks import DIAGNOSTIC, TASKS, File, GlueTask

AX_FOLDERS = ("diagnostic", "AX", "ax")  # names of the diagnostic set's folder
AFTER_MNLI = ("rte", "mrpc", "stsb")  # tasks that some start from the MNLI model (Phang et al. 2018, arXiv:1811.01088)
ORDER = ("mnli", "cola", "sst2", "mrpc", "stsb", "qqp", "qnli", "rte", "wnli")  # MNLI first: others may start from it


@dataclasses.dataclass(frozen=True, kw_only=True)
class GlueDataConfig(Config):
    """Where GLUE is."""

    path: str = ""  # folder with CoLA, MNLI, ... (official TSVs) or cola, mnli, ... (parquet)
    longest: int = 128  # tokens of an example


@dataclasses.dataclass(frozen=True, kw_only=True)
class GlueConfig(TunedConfig):
    """One task of GLUE."""

    name: str  # mnli, cola, ...
    data: GlueDataConfig = GlueDataConfig()
    protocol: Protocol = "hf"
    lr: tuple[float, ...] = ()  # in place of the protocol's; several make a grid
    batch: tuple[int, ...] = ()  # sentences or pairs, in place of the protocol's
    epochs: tuple[float, ...] = ()  # in place of the protocol's
    pool: Literal["first", "mean"] = "first"  # what the classifier reads
    intermediate: bool = False  # start RTE, MRPC and STS-B from the suite's own MNLI model
    wnli: Literal["majority", "trained"] = "majority"  # what is said of WNLI, whose dev set misleads who learns

    def meant(self) -> dict[str, Any]:
        settings = super().meant()
        own = {"intermediate": self.name in AFTER_MNLI, "wnli": self.name == "wnli"}
        return {name: value for name, value in settings.items() if own.get(name, True)}

    def settings(self) -> list[Setting]:
        published = protocols.settings(self.protocol, self.name)
        lrs, batches, epochs = (
            given or tuple(dict.fromkeys(known))
            for given, known in (
                (self.lr, (one.lr for one in published)),
                (self.batch, (one.batch for one in published)),
                (self.epochs, (one.epochs for one in published)),
            )
        )
        return [
            dataclasses.replace(published[0], lr=lr, batch=batch, epochs=many)
            for lr, batch, many in product(lrs, batches, epochs)
        ]

    def rules(self) -> str:
        changed = {"lr": self.lr, "batch": self.batch, "epochs": self.epochs}
        given = [f"{name} {' or '.join(f'{x:g}' for x in values)}" for name, values in changed.items() if values]
        words = [f"{protocols.SAID[self.protocol]}{', but with ' if given else ''}{', '.join(given)}"]
        if self.longest_differs():
            words.append(f"{self.data.longest} tokens")
        if self.pool == "mean":
            words.append("mean pooling")
        if self.intermediate and self.name in AFTER_MNLI:
            words.append("started from the MNLI model")
        if self.name == "wnli" and self.wnli == "majority":
            words = ["the majority class of the training set, nothing trained"]
        return "; ".join(words)

    def longest_differs(self) -> bool:
        """Whether texts are cut elsewhere than at the usual 128 tokens."""
        return self.data.longest != 128

    def parts(self) -> tuple[Parts, dict[str, int]]:
        """The task's examples, and how many rows of each file were left out as malformed."""
        return read_all(TASKS[self.name], Path(self.data.path) if self.data.path else None)

    def check(self) -> None:
        if self.name == "ax":
            self.diagnostic()
        else:
            self.parts()

    def refused(self) -> list[str]:
        """What the leaderboard would refuse in the rows of the task's test files, in words."""
        task, root, faults = TASKS[self.name], Path(self.data.path), Faults()
        readings = read_hidden(task, root, find(task, root), faults)
        faults.tell()
        return [
            words
            for name, reading in readings.items()
            for words in submission.wrong_rows(name, [one.index for one in reading.examples], reading.place)
        ]

    def diagnostic(self) -> list[Example]:
        """The diagnostic set with its labels.

        Raises: finetune.MissingFiles without it; ValueError for a file that cannot be used.
        """
        paths = [Path(self.data.path) / folder / DIAGNOSTIC.name for folder in AX_FOLDERS]
        found = next((path for path in paths if path.is_file()), None)
        if found is None:
            raise MissingFiles(f"there is no {paths[0]}, so its labels are not known; MNLI predicts it without them")
        return read(TASKS["mnli"], found, DIAGNOSTIC).examples

    def task(self, start: Start) -> SentenceTask:
        described = TASKS[self.name]
        parts, dropped = self.parts()
        task = SentenceTask(start, parts, described.classes, described.figures, self.pool, self.data.longest)
        task.notes = [f"{name}: {count} malformed rows were left out" for name, count in dropped.items()]
        return task

    def write(self, task: Task, part: str, data: Dataset, answers: list[Any], folder: Path) -> None:
        assert isinstance(data, Sentences)
        if part != "dev":  # the leaderboard knows no dev files
            submission.write_file(folder, part, submission.part_of(data.examples, answers))


def read_all(task: GlueTask, root: Path | None) -> tuple[Parts, dict[str, int]]:
    """The examples of a task's files, and the malformed rows of each.

    Raises: finetune.MissingFiles without the training or a dev file; ValueError that names all files that cannot be
        used.
    """
    if root is None:
        raise ValueError("no GLUE named: set --data.path to its folder, which holds CoLA, MNLI and so on")
    folder, faults = find(task, root), Faults()
    labelled: dict[str, Reading] = {}
    for name, file, split in (("train", task.train, "train"), *_dev(task)):
        with faults.kept():
            reading = read_part(task, folder, file, split)
            if reading is not None:
                labelled[name] = reading
    hidden = read_hidden(task, root, folder, faults)
    faults.tell()
    for name, file in (("train", task.train), ("dev ", task.dev[""])):
        if name not in labelled:
            raise MissingFiles(f"{folder} has no {file.name}")
    dev = {name.removeprefix("dev "): one.examples for name, one in labelled.items() if name != "train"}
    blind = {
        name: [dataclasses.replace(one, label=None) for one in reading.examples] for name, reading in hidden.items()
    }
    dropped = {name: one.dropped for name, one in labelled.items() if one.dropped}
    return Parts(labelled["train"].examples, dev, {}, blind), dropped


def _dev(task: GlueTask) -> list[tuple[str, File, str]]:
    """The dev files: what their notes call them, and their names on the hub."""
    if len(task.dev) == 1:
        return [("dev ", task.dev[""], "validation")]
    return [(f"dev {name}", file, f"validation_{name or 'matched'}") for name, file in task.dev.items()]


def read_hidden(task: GlueTask, root: Path, folder: Path, faults: Faults) -> dict[str, Reading]:
    """The leaderboard's files that are there, by the submission's names.

    Args:
        folder: the task's own. faults: takes the files that cannot be used.
    """
    found: dict[str, Reading] = {}
    for name, file in task.hidden.items():
        split = {"MNLI-m": "test_matched", "MNLI-mm": "test_mismatched"}.get(name, "test")
        places, files = [folder], [file]
        if name == "AX":  # by itself it is downloaded as AX.tsv
            places, files = [root / other for other in AX_FOLDERS], [file, dataclasses.replace(file, name="AX.tsv")]
        with faults.kept():
            for place, one in product(places, files):
                reading = read_part(task, place, one, split)
                if reading is not None:
                    found[name] = reading
                    break
    return found


def majority(parts: Parts) -> str:
    """The commonest label of the training set."""
    return Counter(one.label for one in parts.train if one.label is not None).most_common(1)[0][0]


def majority_score(task: GlueTask, parts: Parts) -> Score:
    """What the commonest label alone reaches on the dev split."""
    examples = parts.dev[""]
    return task.figures(examples, [majority(parts)] * len(examples))


Figure = tuple[str, str]  # a task, and one of its figures
_WITHIN: dict[str, tuple[str, ...]] = {
    "cola": ("matthews",),
    "sst2": ("accuracy",),
    "mrpc": ("accuracy", "f1"),
    "stsb": ("pearson", "spearman"),
    "qqp": ("accuracy", "f1"),
    "mnli": ("accuracy", "accuracy_mismatched"),
    "qnli": ("accuracy",),
    "rte": ("accuracy",),
    "wnli": ("accuracy",),
}
_PAPER: tuple[Figure, ...] = (
    ("mnli", "accuracy"),
    ("mnli", "accuracy_mismatched"),
    ("qqp", "f1"),
    ("qnli", "accuracy"),
    ("sst2", "accuracy"),
    ("cola", "matthews"),
    ("stsb", "spearman"),
    ("mrpc", "f1"),
    ("rte", "accuracy"),
)
# The averages in use, each the mean of the means of groups of figures.
# official_nine_tasks: gluebenchmark.com: a task's figures are averaged first, and WNLI counts.
# bert_paper: Devlin et al. 2019, table 1: MNLI counts twice, WNLI does not.
# eight_tasks: Portes et al. 2023, arXiv:2312.17482: as the official one, without WNLI.
AVERAGES: dict[str, tuple[tuple[Figure, ...], ...]] = {
    "official_nine_tasks": tuple(tuple((task, one) for one in many) for task, many in _WITHIN.items()),
    "bert_paper": tuple((one,) for one in _PAPER),
    "eight_tasks": tuple(tuple((task, one) for one in many) for task, many in _WITHIN.items() if task != "wnli"),
}


def averages(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """GLUE's averages, each under its own name; those that lack a figure are left out.

    Args:
        scores: figures of each task, under the names of `GlueTask.figures`.
    """
    without = lacking(scores)
    return {
        name: statistics.fmean(statistics.fmean(scores[task][one] for task, one in group) for group in groups)
        for name, groups in AVERAGES.items()
        if name not in without
    }


def lacking(scores: Mapping[str, Mapping[str, float]]) -> dict[str, list[str]]:
    """The figures that averages lack, such as "mnli accuracy_mismatched"; an average that has all is left out."""
    found = {
        name: [f"{task} {one}" for group in groups for task, one in group if one not in scores.get(task, {})]
        for name, groups in AVERAGES.items()
    }
    return {name: figures for name, figures in found.items() if figures}


def cola() -> GlueConfig:
    """CoLA: is the sentence grammatical? Matthews correlation."""
    return GlueConfig(name="cola")


def sst2() -> GlueConfig:
    """SST-2: is the review positive? Accuracy."""
    return GlueConfig(name="sst2")


def mrpc() -> GlueConfig:
    """MRPC: do the sentences mean the same? Accuracy and F1."""
    return GlueConfig(name="mrpc")


def stsb() -> GlueConfig:
    """STS-B: how alike are the sentences, from 0 to 5? Pearson and Spearman correlation."""
    return GlueConfig(name="stsb")


def qqp() -> GlueConfig:
    """QQP: is it the same question? Accuracy and F1."""
    return GlueConfig(name="qqp")


def mnli() -> GlueConfig:
    """MNLI: does the first sentence entail or contradict the second? Accuracy, matched and mismatched genres."""
    return GlueConfig(name="mnli")


def qnli() -> GlueConfig:
    """QNLI: does the sentence answer the question? Accuracy."""
    return GlueConfig(name="qnli")


def rte() -> GlueConfig:
    """RTE: does the first text entail the second? Accuracy."""
    return GlueConfig(name="rte")


def wnli() -> GlueConfig:
    """WNLI: whom does the pronoun mean? Accuracy, of the majority class unless --wnli trained."""
    return GlueConfig(name="wnli")


def ax() -> GlueConfig:
    """AX: the diagnostic set, by the MNLI model. Matthews correlation, where its labels are there."""
    return GlueConfig(name="ax")
