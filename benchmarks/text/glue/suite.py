# SPDX-License-Identifier: Apache-2.0
"""GLUE as a whole: its order, WNLI's and the diagnostic set's conventions, the averages and the submission."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ....ssl.config import to_dict
from ... import scores
from ...encoders import Start, fingerprint, text_tokenizer
from ...files import write_text
from ...finetune import MissingFiles, predict
from ...grid import BEST, BEST_OF, GUARD, Grid, backbone_of
from ...scores import Row
from ...suite import PREDICTIONS, Suite, failure, hidden_answers, present_with
from ...task import Score
from ...tuned import PRETRAINED
from ..sentences import Sentences
from . import submission
from .config import AFTER_MNLI, ORDER, GlueConfig, averages, lacking, majority, majority_score
from .tasks import TASKS, matthews

SUBMISSION, AVERAGES = "submission.zip", "averages.json"


def evaluate(
    configs: Mapping[str, GlueConfig], encoder: str, seeds: int, beside: bool, out: Path, say: Callable[[str], None]
) -> list[Row]:
    """Runs the tasks that are asked for and whose files are there, and writes everything into `out`.

    Args:
        configs: settings by names such as glue/rte.
        beside: also trains the same architecture from random weights, for the page's figure.
        say: takes lines for the user.
    Raises: ValueError if no task's files are there; ssl.stopped.Interrupted.
    """
    glue = _Glue(Suite(encoder, seeds, out, say))
    mnli = ("glue/mnli", dataclasses.replace(next(iter(configs.values())), name="mnli"))
    known = present_with(configs, ("glue/ax",), mnli, say)
    wanted = {config.name: config for config in known.values()}
    glue.before(wanted)
    for name in ORDER:
        if name not in wanted:
            continue
        try:
            glue.task(wanted[name], beside)
        except MissingFiles as missing:  # no MNLI model to start from
            if len(wanted) == 1:
                raise
            say(f"glue/{name}: left out: {missing}")
        if name == "mnli" and "ax" in wanted:
            glue.diagnostic(wanted["ax"])
    whole = len(configs) > 2
    found = glue.averages() if whole or (out / AVERAGES).is_file() else {}
    if whole:
        glue.submit()
    else:
        glue.withdraw()
    glue.suite.draw(found)
    return glue.suite.rows


class _Glue:
    """The suite with GLUE's own conventions."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.said: dict[str, submission.Part] = {}
        self.failed: dict[str, list[str]] = {}  # the runs behind `said` that came to nothing
        self.mnli: Grid | None = None

    def before(self, wanted: Mapping[str, GlueConfig]) -> None:
        """What can be known before anything is trained: what the leaderboard would refuse, another encoder's MNLI.

        Args:
            wanted: the tasks that are run, by their own names.
        Raises: ValueError if tasks would start from the MNLI model of another encoder.
        """
        for name, config in wanted.items():
            for words in config.refused() if name != "ax" else ():
                self.suite.say(f"glue/{name}: the leaderboard would refuse its test file: {words}")
        if any(config.intermediate and name in AFTER_MNLI for name, config in wanted.items()):
            self._check_mnli()

    def _check_mnli(self) -> None:
        folder = self.suite.folder("glue/mnli", PRETRAINED)
        if (folder / BEST).is_file():
            known = json.loads((folder / GUARD).read_text())["encoder"]
            if known != fingerprint(self.suite.starts(0)):
                raise ValueError(f"{folder} holds the MNLI model of another encoder: choose another --out")

    def task(self, config: GlueConfig, beside: bool) -> None:
        """One task's rows, and what its best model says of the test files."""
        if config.name == "wnli" and config.wnli == "majority":
            self._majority(config)
            return
        begin = self._after_mnli(config.name) if config.intermediate and config.name in AFTER_MNLI else None
        scratch = dataclasses.replace(config, intermediate=False) if beside else None
        grid = self.suite.task(f"glue/{config.name}", config, scratch, begin)
        if config.name == "mnli":
            self.mnli = grid
        parts = grid.task.data(grid.first.backbone).hidden
        for name, answers in hidden_answers(config, grid, parts).items():
            data = parts[name]
            assert isinstance(data, Sentences)
            self.said[name], self.failed[name] = submission.part_of(data.examples, answers), failure(grid)

    def _after_mnli(self, name: str) -> Callable[[int], Start]:
        """The network of the best MNLI run, with its pooler, for the task of this name.

        Raises: ValueError if the task has runs from an MNLI model that was the best before.
        """
        from safetensors.torch import load_file

        folder = self.suite.folder("glue/mnli", PRETRAINED)
        if not (folder / BEST).is_file():
            raise MissingFiles(f"it starts from the MNLI model, and {self.suite.out} has none: run that task first")
        best = json.loads((folder / BEST_OF).read_text())
        if not best["sound"]:
            self.suite.say(f"the MNLI model that the next task starts from is by a failed run, {best['run']}")
        first = self.suite.starts(0)
        backbone = backbone_of(folder, first.backbone)
        weights = load_file(folder / BEST)
        pooler = {key: weights[f"head.pooler.{key}"] for key in ("weight", "bias") if f"head.pooler.{key}" in weights}
        known = Start(first.name, backbone, pooler or None)
        mine = self.suite.folder(f"glue/{name}", PRETRAINED)
        if (mine / GUARD).is_file() and json.loads((mine / GUARD).read_text())["encoder"] != fingerprint(known):
            raise ValueError(
                f"{mine} holds runs from another start than the MNLI model that is the best by now, {best['run']}: "
                "delete that folder to train them anew, or choose another --out"
            )
        return lambda seed: known

    def _row(
        self, config: GlueConfig, score: Score, chosen: dict[str, Any], rules: tuple[str, str], failed: list[str]
    ) -> Row:
        names = (f"glue/{config.name}", self.suite.encoder)
        return Row.of(names, score.main, [score.figures], [chosen], 0.0, to_dict(config), rules, failed)

    def _majority(self, config: GlueConfig) -> None:
        parts, _ = config.parts()
        self.suite.add([self._row(config, majority_score(TASKS["wnli"], parts), {}, (config.rules(), "dev"), [])])
        for name, examples in parts.hidden.items():
            self.said[name] = submission.part_of(examples, [majority(parts)] * len(examples))
            submission.write_file(self.suite.out / PREDICTIONS, name, self.said[name])

    def diagnostic(self, config: GlueConfig) -> None:
        """AX: the score of what the best MNLI model says of the diagnostic set."""
        grid = self.mnli
        assert grid is not None
        examples = config.diagnostic()
        data = Sentences(examples, text_tokenizer(grid.first.backbone), TASKS["mnli"].classes, config.data.longest)
        said = grid.task.answers(data, list(predict(grid.best(), data, config.loop.precision).values()))
        best = json.loads((grid.folder / BEST_OF).read_text())
        rules = f"the MNLI model that did best on its dev split; {config.rules()}; {config.loop.precision}"
        self.suite.add([self._row(config, matthews(examples, said), best, (rules, "test"), failure(grid))])

    def averages(self) -> dict[str, float]:
        """The averages of all tasks that the folder has rows of."""
        suite = self.suite
        mine = {row.task.split("/")[1]: row.scores for row in scores.read(suite.out) if row.encoder == suite.encoder}
        found = averages(mine)
        write_text(suite.out / AVERAGES, json.dumps(found, indent=1) + "\n")
        for name, value in found.items():
            suite.say(f"average {name}, of medians on the dev split: {100 * value:.1f}")
        for name, figures in lacking(mine).items():
            suite.say(f"average {name} is left out: it needs {', '.join(figures)}")
        return found

    def submit(self) -> None:
        """The submission."""
        suite = self.suite
        for name, words in self.failed.items():
            for one in words:
                suite.say(f"{SUBMISSION}: {name} is by a failed run: {one}")
        for words in submission.write(suite.out / SUBMISSION, self.said):
            suite.say(f"{SUBMISSION}: {words}")

    def withdraw(self) -> None:
        """Takes an older submission away, which may say something else than the task's run anew."""
        path = self.suite.out / SUBMISSION
        if path.is_file():
            path.unlink()
            self.suite.say(
                f"{SUBMISSION} is removed, since it was older: the whole suite writes it again, from its runs"
            )
