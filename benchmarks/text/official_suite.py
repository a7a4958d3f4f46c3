# SPDX-License-Identifier: Apache-2.0
"""What fine-tuning on SuperGLUE, CLUE and FewCLUE shares: one task's data and protocol, and the way through a suite."""

import dataclasses
import json
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from ...ssl.config import Config
from ...ssl.data import Dataset
from ..encoders import Start
from ..files import write_text
from ..finetune import MissingFiles, Setting, TunedConfig
from ..suite import Faults, Suite
from ..task import Score, Task
from .choices import ChoiceParts, ChoiceTask, Choose, Questions, best
from .examples import Choices, Example
from .glue import protocols
from .official import Official, Reading
from .sentences import Parts, Sentences, SentenceTask

PUBLIC = "test_public"  # FewCLUE's test split with labels
AVERAGES = "averages.json"
Examples = Sequence[Example | Choices]
Kind = TypeVar("Kind", Example, Choices)


class Published(NamedTuple):
    """How a task is fine-tuned by its benchmark's own baseline."""

    source: str  # a line of scores says it
    setting: Setting
    longest: int = 128  # tokens of an example

    def words(self) -> str:
        """The baseline in words."""
        one = self.setting
        decay = "" if one.schedule == "linear" else f", {one.schedule}"
        steps = f"lr {one.lr:g}, batch {one.batch}, {one.epochs:g} epochs{decay}, warm-up {100 * one.warmup:g} %"
        return f"{self.source}: {steps}, {self.longest} tokens"


class Release(NamedTuple):
    """A task with the functions of its benchmark."""

    described: Official
    published: Published
    read: Callable[[Official, Path, str], Reading]
    score: Callable[[Official, Examples, Sequence[Any]], dict[str, float]]
    write: Callable[[Official, Path, Examples, Sequence[Any]], Path]
    choose: Choose = best

    def figures(self, examples: Examples, said: Sequence[Any]) -> Score:
        """The official metrics; the task is known by their mean, as its benchmark's average counts it."""
        found = self.score(self.described, examples, said)
        if len(found) == 1:
            return Score(next(iter(found)), found)
        main = "_and_".join(found)
        return Score(main, {main: statistics.fmean(found.values()), **found})


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfficialDataConfig(Config):
    """Where a benchmark is, and which of its files are used."""

    path: str = ""  # folder that holds the folders of the tasks
    train: str = "train"  # OCNLI also has train.30k, train.10k, train.3k, train.1k; FewCLUE train_0 to train_4
    dev: str = "dev"  # FewCLUE also has dev_0 to dev_4
    longest: int | None = None  # tokens of an example, in place of the protocol's


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfficialConfig(TunedConfig, ABC):
    """One task of a benchmark."""

    name: str  # the benchmark's own
    data: OfficialDataConfig = OfficialDataConfig()
    lr: tuple[float, ...] = ()  # in place of the protocol's; several make a grid
    batch: tuple[int, ...] = ()  # texts, pairs or questions, in place of the protocol's
    epochs: tuple[float, ...] = ()  # in place of the protocol's
    pool: Literal["first", "mean"] = "first"  # what the classifier reads

    @abstractmethod
    def release(self) -> Release:
        """The task as it was released, and how its benchmark's baseline is fine-tuned."""

    def settings(self) -> list[Setting]:
        one = self.release().published.setting
        return protocols.grid(one, self.lr or (one.lr,), self.batch or (one.batch,), self.epochs or (one.epochs,))

    def longest(self) -> int:
        """Tokens of an example."""
        return self.release().published.longest if self.data.longest is None else self.data.longest

    def rules(self) -> str:
        changed = {"lr": self.lr, "batch": self.batch, "epochs": self.epochs}
        words = [f"{name} {', '.join(f'{x:g}' for x in values)}" for name, values in changed.items() if values]
        if self.data.longest is not None:
            words.append(f"{self.data.longest} tokens")
        if (self.data.train, self.data.dev) != ("train", "dev"):
            words.append(f"trained on {self.data.train}, chosen on {self.data.dev}")
        if self.pool == "mean":
            words.append("mean pooling")
        published = self.release().published.words()
        return f"{published}; changed: {'; '.join(words)}" if words else published

    def reading(self, split: str) -> Reading:
        """The examples of a split. Raises MissingFiles, or ValueError for files that cannot be used."""
        if not self.data.path:
            raise ValueError("no folder named: set --data.path to what holds the tasks' folders")
        release = self.release()
        return release.read(release.described, Path(self.data.path), split)

    def parts(self) -> dict[str, Reading]:
        """The examples of all splits that are there. Raises as `reading`, with all files that cannot be used."""
        if not (self.data.train.startswith("train") and self.data.dev.startswith("dev")):
            raise ValueError("--data.train and --data.dev take splits for training and choosing, as train_0 and dev_0")
        files = self.release().described.files
        if list(files) == ["test"]:
            return {"test": self.reading("test")}  # a diagnostic set
        read: dict[str, Reading] = {}
        faults = Faults()
        for name, split in {"train": self.data.train, "dev": self.data.dev, PUBLIC: PUBLIC}.items():
            if name != PUBLIC or PUBLIC in files:
                with faults.kept():
                    read[name] = self.reading(split)
        with faults.kept(), suppress(MissingFiles):  # without it there is nothing to predict for the leaderboard
            read["test"] = self.reading("test")
        faults.tell()
        return read

    def check(self) -> None:
        self.parts()

    def task(self, start: Start) -> Task:
        release, longest, read = self.release(), self.longest(), self.parts()
        examples = {name: one.examples for name, one in read.items()}
        if release.described.kind == "pair":
            train, dev, test, hidden = _split({name: _only(Example, many) for name, many in examples.items()})
            parts = Parts(train, {"": dev}, test, hidden)
            task = SentenceTask(start, parts, release.described.labels, release.figures, self.pool, longest)
        else:
            train, dev, test, hidden = _split({name: _only(Choices, many) for name, many in examples.items()})
            questions = ChoiceParts(train, {"": dev}, test, hidden)
            task = ChoiceTask(start, questions, release.figures, release.choose, self.pool, longest)
        dropped = {name: one.dropped for name, one in read.items() if one.dropped}
        left_out = [
            f"{name}: {count} examples without an agreed label were left out" for name, count in dropped.items()
        ]
        task.notes = [*left_out, *task.notes]
        return task

    def write(self, task: Task, part: str, data: Dataset, answers: list[Any], folder: Path) -> None:
        assert isinstance(data, Sentences | Questions)
        if part != "dev":  # the leaderboards know no dev files
            release = self.release()
            release.write(release.described, folder, data.examples, answers)


def _only(kind: type[Kind], examples: Examples) -> list[Kind]:
    found = [one for one in examples if isinstance(one, kind)]
    assert len(found) == len(examples)
    return found


def _split(
    read: Mapping[str, list[Kind]],
) -> tuple[list[Kind], list[Kind], dict[str, list[Kind]], dict[str, list[Kind]]]:
    """What is for training, for choices, for testing, and for the leaderboard alone."""
    test = {"": read[PUBLIC]} if PUBLIC in read else {}
    hidden = {"test": [blind(one) for one in read["test"]]} if "test" in read else {}
    return read["train"], read["dev"], test, hidden


def blind(one: Kind) -> Kind:
    """The same without what is right."""
    if isinstance(one, Choices):
        return dataclasses.replace(one, label=None, answers=())
    return dataclasses.replace(one, label=None)


def finish(suite: Suite, found: Mapping[str, float]) -> None:
    """Writes and prints a suite's averages, and the page with them."""
    write_text(suite.out / AVERAGES, json.dumps(found, indent=1) + "\n")
    for name, value in found.items():
        suite.say(f"average {name}, of medians on the dev split: {100 * value:.1f}")
    suite.draw(found)
