# SPDX-License-Identifier: Apache-2.0
"""SQuAD 1.1 and 2.0, DRCD and CMRC 2018: published settings, files, and a trained network on other files or languages.

Networks are trained on one file and chosen on another (dev); each file of --data.test has a row of its own, with the
median over the seeds. OUT/predictions/squad-NAME/dev and on-FILE hold predictions.json, nbest_predictions.json and,
where questions may be impossible, null_odds.json, by the network that did best on dev.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from ....ssl.config import Config, to_dict
from ....ssl.data import Dataset
from ...encoders import Start
from ...finetune import MissingFiles, Setting, TunedConfig
from ...grid import RUN, Grid, Run, choose, failures
from ...scores import Row
from ...suite import PREDICTIONS, Suite, failure, hidden_answers, run
from ...task import Task
from ...tuned import PRETRAINED, SCRATCH, TWIN
from ..glue import protocols
from .answers import DecodeConfig, write_answers
from .files import Questions, read_squad
from .score import Protocol
from .spans import WindowConfig
from .task import SCORED, TUNED, Parts, SpanTask, answers_of

ON = "on-"  # stands before the names of test files, so that they are no others'
FILES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "v1": (("train-v1.1.json",), ("dev-v1.1.json",), ()),
    "v2": (("train-v2.0.json",), ("dev-v2.0.json",), ()),
    "drcd": (("DRCD_training.json",), ("DRCD_dev.json",), ("DRCD_test.json",)),
    # Of the four, the two in the middle are for CLUE's cmrc2018_public.zip. Its test.json has no true answers.
    "cmrc": (
        (
            "squad-style-data/cmrc2018_train.json",
            "cmrc2018_public/train.json",
            "cmrc2018/train.json",
            "cmrc2018_train.json",
        ),
        (
            "squad-style-data/cmrc2018_dev.json",
            "cmrc2018_public/dev.json",
            "cmrc2018/dev.json",
            "cmrc2018_dev.json",
        ),
        (),
    ),
}  # train, dev and test

# google-research/bert@eedf5716, README.md (of 2.0: that of BERT large), run_squad.py and optimization.py; there epochs
# count questions, here windows, of which SQuAD has 1 % more.
_BERT = Setting(lr=3e-5, batch=12, epochs=2.0, warmup=0.1, weight_decay=0.01, eps=1e-6)
# Devlin et al. 2019, arXiv:1810.04805, sections 4.2 and 4.3.
_PAPER = dataclasses.replace(_BERT, lr=5e-5, batch=32, epochs=3.0)
# huggingface/transformers, examples/pytorch/question-answering/README.md
_HF = Setting(lr=3e-5, batch=12, epochs=2.0)
SETTINGS = {"bert": _BERT, "bert_paper": _PAPER, "hf": _HF}
SETTINGS_2 = {
    "bert": dataclasses.replace(_BERT, batch=24),
    "bert_paper": dataclasses.replace(_PAPER, batch=48, epochs=2.0),
    "hf": _HF,
}  # of SQuAD 2.0
SAID = {"bert": "BERT's run_squad.py", "bert_paper": "BERT's paper", "hf": "transformers' run_qa.py"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SquadDataConfig(Config):
    """Where the questions are."""

    path: str = ""  # folder with the official files, in it or in a folder of it
    train: str = ""  # file, in place of the official one
    dev: str = ""  # file, in place of the official one
    test: tuple[str, ...] = ()  # files of any language that trained networks are tested on


@dataclasses.dataclass(frozen=True, kw_only=True)
class SquadConfig(TunedConfig):
    """One collection of questions."""

    tests_later: ClassVar[bool] = True

    name: str  # v1, v2, ...
    data: SquadDataConfig = SquadDataConfig()
    windows: WindowConfig = WindowConfig()
    decode: DecodeConfig = DecodeConfig()
    protocol: Literal["bert", "bert_paper", "hf"] = "bert"
    lr: tuple[float, ...] = ()  # in place of the protocol's; several make a grid
    batch: tuple[int, ...] = ()  # windows, in place of the protocol's
    epochs: tuple[float, ...] = ()  # in place of the protocol's
    chinese: Protocol = "mlqa_zh"  # how files in Chinese are scored, whatever was trained on

    def meant(self) -> dict[str, Any]:
        return {**super().meant(), "data": {}}

    def settings(self) -> list[Setting]:
        base = (SETTINGS_2 if self.name == "v2" else SETTINGS)[self.protocol]
        return protocols.grid(base, self.lr or (base.lr,), self.batch or (base.batch,), self.epochs or (base.epochs,))

    def rules(self) -> str:
        words = f"{self.training()}; {SCORED['squad']}; files in Chinese {SCORED[self.chinese]}"
        return f"{words}; {TUNED}" if self.name == "v2" else words

    def training(self) -> str:
        """The part of the rules that holds for files of any language."""
        base, changed = self.settings()[0], {"lr": self.lr, "batch": self.batch, "epochs": self.epochs}
        words = [SAID[self.protocol]]
        words += [f"{name} {', '.join(f'{x:g}' for x in given)}" for name, given in changed.items() if given]
        if not any(changed.values()):
            words[0] += f": lr {base.lr:g}, batch {base.batch}, {base.epochs:g} epochs, warm-up {base.warmup:.0%}"
        shape = self.windows
        words.append(f"windows of {shape.longest} tokens, stride {shape.stride}, questions of up to {shape.question}")
        if self.decode != DecodeConfig():
            words.append(f"answers of up to {self.decode.longest} tokens from {self.decode.best} starts and ends")
        return "; ".join(words)

    def check(self) -> None:
        self.parts()

    def task(self, start: Start) -> SpanTask:
        return SpanTask(start, self.parts(), self.windows, self.decode, self.chinese)

    def parts(self) -> Parts:
        """The questions of all files. Raises MissingFiles without one to train on or to choose on, or ValueError."""
        names, root = FILES[self.name], Path(self.data.path) if self.data.path else None
        if root is None and not (self.data.train and self.data.dev):
            raise ValueError("no questions named: set --data.path to their folder, or --data.train and --data.dev")
        train = read_squad(Path(self.data.train) if self.data.train else _official(root, names[0], "train"))
        dev = read_squad(Path(self.data.dev) if self.data.dev else _official(root, names[1], "dev"))
        if not _answered(dev):
            raise ValueError(f"{dev.path} has no answers: give --data.dev a file that has them")
        official = _find(root, names[2])
        found = [Path(name) for name in self.data.test] or ([official] if official else [])
        test = {ON + path.stem: read_squad(path) for path in found}
        if len(test) < len(found):
            raise ValueError("two files of --data.test have the same name: rename one")
        labelled = {name: questions for name, questions in test.items() if _answered(questions)}
        # A hidden test file does not say which questions are impossible; whether some are is as in training.
        hidden = {name: one._replace(nullable=train.nullable) for name, one in test.items() if name not in labelled}
        return Parts(train, dev, labelled, hidden)

    def write(self, task: Task, part: str, data: Dataset, answers: list[Any], folder: Path) -> None:
        assert isinstance(task, SpanTask)
        if part == "dev":
            task.tune(answers)
        write_answers(answers_of(answers), folder / f"squad-{self.name}" / part, task.threshold)


def _official(root: Path | None, names: Sequence[str], part: str) -> Path:
    path = _find(root, names)
    if path is None:
        raise MissingFiles(f"{root} has no {names[-1]}: set --data.path, or --data.{part} to a file of SQuAD's form")
    return path


def _find(root: Path | None, names: Sequence[str]) -> Path | None:
    """The first of these files in a folder, or in one of its folders."""
    if root is None:
        return None
    if not root.is_dir():
        raise ValueError(f"{root} is no folder: set --data.path to the one with the questions")
    places = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    return next((place / name for name in names for place in places if (place / name).is_file()), None)


def _answered(questions: Questions) -> bool:
    """Whether a file has answers. Raises ValueError if only some questions of a file without impossible ones have."""
    lacking = [item.id for item in questions.items if not item.answers]
    if questions.nullable or not lacking:
        return True
    if len(lacking) < len(questions.items):
        place = f"{questions.path}, question {lacking[0]}"
        raise ValueError(f"{place}: no answer, though others have one: give one, or mark it is_impossible")
    return False


def evaluate(
    configs: Mapping[str, SquadConfig], encoder: str, seeds: int, beside: bool, out: Path, say: Callable[[str], None]
) -> list[Row]:
    """Runs the tasks whose files are there, tests them on further files, and writes everything into `out`.

    Args:
        configs: settings by names such as squad/v1.
        beside: also trains the same architecture from random weights.
    Raises: ValueError if no task's files are there; ssl.stopped.Interrupted.
    """
    if len(configs) > 1 and any(config.data.train or config.data.dev for config in configs.values()):
        raise ValueError("--data.train and --data.dev are for one task: name it, as in squad/v1")
    suite = Suite(encoder, seeds, out, say)
    starts = {PRETRAINED: encoder, SCRATCH: TWIN} if beside else {PRETRAINED: encoder}
    for name, grid in run(suite, configs, beside):
        _test(suite, name, configs[name], grid, starts)
    suite.draw({})
    return suite.rows


def _test(suite: Suite, name: str, config: SquadConfig, grid: Grid, starts: Mapping[str, str]) -> None:
    """Rows and prediction files of the test files; of one that came after the training by the kept network alone."""
    task = grid.task
    assert isinstance(task, SpanTask)
    runs = {
        who: [
            Run.load(suite.folder(name, kind) / grid.place(setting, seed).name / RUN)
            for setting in config.settings()
            for seed in range(suite.seeds)
        ]
        for kind, who in starts.items()
    }
    for part, answers in hidden_answers(config, grid, task.splits.test).items():
        data = task.splits.test[part]
        if part in grid.later:
            suite.add([_row_alone((f"{name}/{part}", suite.encoder), data, answers, config, grid)])
            if TWIN in runs:
                suite.say(f"{name}/{part}: the file came after the training, so the {TWIN} is not tested on it")
        else:
            rules = f"{config.training()}; {task.scored(data)}"
            suite.add([_row((f"{name}/{part}", who), part, mine, config, rules) for who, mine in runs.items()])
        config.write(task, part, data, answers, suite.out / PREDICTIONS)


def _row_alone(names: tuple[str, str], data: Dataset, answers: list[Any], config: SquadConfig, grid: Grid) -> Row:
    """The row of the kept network, all that is left to test on a file that came after the training."""
    task = grid.task
    assert isinstance(task, SpanTask)
    found = task.score(data, answers)
    best = {"run": grid.kept(), "by": "the dev split; the file came after the training"}
    rules = f"{config.training()}; the network that did best on dev, alone; {task.scored(data)}", "test"
    return Row.of(names, found.main, [found.figures], [best], 0.0, to_dict(config), rules, failure(grid))


def _row(names: tuple[str, str], part: str, runs: list[Run], config: SquadConfig, rules: str) -> Row:
    chosen, _ = choose(runs)
    each = [{figure: x for (figure, _, where), x in _parted(run.test) if ON + where == part} for run in chosen]
    best = {"setting": chosen[0].setting.name(), "by": f"median {chosen[0].main} on the dev split"}
    return Row.of(names, chosen[0].main, each, [best], 0.0, to_dict(config), (rules, "test"), failures(chosen))


def _parted(figures: Mapping[str, float]) -> Iterator[tuple[tuple[str, str, str], float]]:
    """The figures of test files with their names cut in two around "_on-"."""
    return ((name.partition(f"_{ON}"), x) for name, x in figures.items())


def v1() -> SquadConfig:
    """SQuAD 1.1: which words of the paragraph answer the question? Exact match and F1 of words."""
    return SquadConfig(name="v1")


def v2() -> SquadConfig:
    """SQuAD 2.0: the same, with questions that have no answer. Exact match and F1 of words."""
    return SquadConfig(name="v2")


def drcd() -> SquadConfig:
    """DRCD: the same in traditional Chinese. Exact match and F1 of characters."""
    return SquadConfig(name="drcd")


def cmrc() -> SquadConfig:
    """CMRC 2018: the same in simplified Chinese. Exact match and F1 of characters in a row."""
    return SquadConfig(name="cmrc", chinese="cmrc2018")
