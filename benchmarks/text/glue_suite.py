# SPDX-License-Identifier: Apache-2.0
"""GLUE as a whole: its order, WNLI's and the diagnostic set's conventions, the averages and the submission."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...ssl.config import to_dict
from ..encoders import Start, text_tokenizer
from ..finetune import MissingFiles, predict
from ..grid import BEST, BEST_OF, Grid, backbone_of
from ..scores import Row
from ..suite import PREDICTIONS, Suite, hidden_answers, present
from ..task import Score
from ..tuned import PRETRAINED
from . import submission
from .examples import Example
from .glue import AFTER_MNLI, ORDER, GlueConfig, averages, lacking, majority, majority_score
from .glue_files import read
from .glue_tasks import DIAGNOSTIC, TASKS, matthews
from .sentences import Sentences

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
    asked = {config.name: config for config in configs.values()}
    if "ax" in asked and "mnli" not in asked:
        asked["mnli"] = dataclasses.replace(asked["ax"], name="mnli")
    known = present({f"glue/{name}": config for name, config in asked.items() if name != "ax"}, say)
    wanted = {config.name: config for config in known.values()}
    for name in ORDER:
        if name not in wanted:
            continue
        try:
            glue.task(wanted[name], beside)
        except MissingFiles as missing:  # no MNLI model to start from
            if len(wanted) == 1:
                raise
            say(f"glue/{name}: left out: {missing}")
        if name == "mnli" and "ax" in asked:
            glue.diagnostic(asked["ax"])
    glue.suite.draw(glue.finish() if len(asked) > 2 else {})
    return glue.suite.rows


class _Glue:
    """The suite with GLUE's own conventions."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.said: dict[str, submission.Part] = {}
        self.mnli: Grid | None = None

    def task(self, config: GlueConfig, beside: bool) -> None:
        """One task's rows, and what its best model says of the test files."""
        if config.name == "wnli" and config.wnli == "majority":
            self._majority(config)
            return
        begin = self._after_mnli() if config.intermediate and config.name in AFTER_MNLI else None
        scratch = dataclasses.replace(config, intermediate=False) if beside else None
        grid = self.suite.task(f"glue/{config.name}", config, scratch, begin)
        if config.name == "mnli":
            self.mnli = grid
        parts = grid.task.data(grid.first.backbone).hidden
        for name, answers in hidden_answers(config, grid, parts).items():
            data = parts[name]
            assert isinstance(data, Sentences)
            self.said[name] = submission.part_of(data.examples, answers)

    def _after_mnli(self) -> Callable[[int], Start]:
        """The network of the best MNLI run, with its pooler."""
        from safetensors.torch import load_file

        folder = self.suite.folder("glue/mnli", PRETRAINED)
        if not (folder / BEST).is_file():
            raise MissingFiles(f"it starts from the MNLI model, and {self.suite.out} has none: run that task first")
        first = self.suite.starts(0)
        backbone = backbone_of(folder, first.backbone)
        weights = load_file(folder / BEST)
        pooler = {key: weights[f"head.pooler.{key}"] for key in ("weight", "bias") if f"head.pooler.{key}" in weights}
        known = Start(first.name, backbone, pooler or None)
        return lambda seed: known

    def _row(self, config: GlueConfig, score: Score, chosen: dict[str, Any], rules: tuple[str, str]) -> Row:
        names = (f"glue/{config.name}", self.suite.encoder)
        return Row.of(names, score.main, [score.figures], [chosen], 0.0, to_dict(config), rules, [])

    def _majority(self, config: GlueConfig) -> None:
        parts, _ = config.parts()
        self.suite.add([self._row(config, majority_score(TASKS["wnli"], parts), {}, (config.rules(), "dev"))])
        for name, examples in parts.hidden.items():
            self.said[name] = submission.part_of(examples, [majority(parts)] * len(examples))
            submission.write_file(self.suite.out / PREDICTIONS, name, self.said[name])

    def diagnostic(self, config: GlueConfig) -> None:
        """AX: what the best MNLI model says of the diagnostic set, scored where its labels are there."""
        folders = [Path(config.data.path) / folder for folder in ("diagnostic", "AX", "ax")]
        labelled = next((path for path in (f / DIAGNOSTIC.name for f in folders) if path.is_file()), None)
        if labelled is None:
            self.suite.say(f"glue/ax: not scored: there is no {DIAGNOSTIC.name}, so its labels are not known here")
            return
        grid = self.mnli
        assert grid is not None
        examples: list[Example] = read(TASKS["mnli"], labelled, DIAGNOSTIC).examples
        data = Sentences(examples, text_tokenizer(grid.first.backbone), TASKS["mnli"].classes, config.data.longest)
        said = grid.task.answers(data, list(predict(grid.best(), data, config.loop.precision).values()))
        best = json.loads((grid.folder / BEST_OF).read_text())
        rules = f"the MNLI model that did best on its dev split; {config.rules()}"
        self.suite.add([self._row(config, matthews(examples, said), best, (rules, "test"))])

    def finish(self) -> dict[str, float]:
        """The averages, and the submission."""
        suite = self.suite
        mine = {row.task.split("/")[1]: row.scores for row in suite.rows if row.encoder == suite.encoder}
        found = averages(mine)
        (suite.out / AVERAGES).write_text(json.dumps(found, indent=1) + "\n")
        for name, value in found.items():
            suite.say(f"average {name}, of medians on the dev split: {100 * value:.1f}")
        for name, figures in lacking(mine).items():
            suite.say(f"average {name} is left out: it needs {', '.join(figures)}")
        for words in submission.write(suite.out / SUBMISSION, self.said):
            suite.say(f"{SUBMISSION}: {words}")
        return found
