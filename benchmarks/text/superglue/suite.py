# SPDX-License-Identifier: Apache-2.0
"""SuperGLUE for fine-tuning: its baseline's settings, the diagnostic sets by the RTE model, and the SuperGLUE score.

Wang et al. 2019, arXiv:1905.00537. Settings: nyu-mll/jiant@588aa288 (v1.3.2), scripts/superglue-baselines.sh and
jiant/config/superglue_bert.conf. Differs: jiant checks the dev split during training, stops early and takes the best
network; here training takes all ten epochs and the last network is taken, as in GLUE. Its Adam for WSC is AMSGrad and
slows down when the dev score stands; here it is plain Adam at a constant rate. In ReCoRD jiant asks of each entity by
itself whether it is right; here a query's entities compete (`text/choices.py`), and a batch counts queries.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from ....ssl.config import to_dict
from ...encoders import text_tokenizer
from ...finetune import Setting, predict
from ...grid import BEST_OF, Grid
from ...scores import Row
from ...suite import PREDICTIONS, Suite, failure, present_with
from ..examples import Example
from ..official_suite import OfficialConfig, Published, Release, blind, finish
from ..sentences import Sentences, SentenceTask
from . import tasks as superglue
from .metrics import SCORED, score, superglue_score
from .predictions import write

DIAGNOSTIC = ("axb", "axg")
# The optimiser is pytorch-pretrained-bert's BertAdam, with its defaults; the clip is of jiant/config/defaults.conf.
_BERT = Setting(lr=1e-5, batch=4, epochs=10.0, warmup=0.1, weight_decay=0.01, eps=1e-6, clip=5.0)
_OTHERS = {
    "record": dataclasses.replace(_BERT, batch=8),
    "wsc": Setting(lr=1e-5, batch=4, epochs=10.0, schedule="constant", clip=5.0),  # BertAdam's runs came to nothing
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuperglueConfig(OfficialConfig):
    """One task of SuperGLUE."""

    def release(self) -> Release:
        published = Published("jiant's baseline for SuperGLUE", _OTHERS.get(self.name, _BERT), 256)
        return Release(superglue.TASKS[self.name], published, superglue.read, score, write)


def evaluate(
    configs: Mapping[str, SuperglueConfig],
    encoder: str,
    seeds: int,
    beside: bool,
    out: Path,
    say: Callable[[str], None],
) -> list[Row]:
    """Runs the tasks that are asked for and whose files are there, and writes everything into `out`.

    Args:
        configs: settings by names such as superglue/rte. The diagnostic sets need RTE, which is run for them.
        beside: also trains the same architecture from random weights, for the page's figure.
        say: takes lines for the user.
    Raises: ValueError if no task's files are there; ssl.stopped.Interrupted.
    """
    suite = Suite(encoder, seeds, out, say)
    trained = {name: config for name, config in configs.items() if config.name not in DIAGNOSTIC}
    asked = {name: config for name, config in configs.items() if config.name in DIAGNOSTIC}
    rte = ("superglue/rte", dataclasses.replace(next(iter((asked or configs).values())), name="rte"))
    known = present_with(configs, asked, rte, say)
    diagnostic = {name: known.pop(name) for name in asked if name in known}
    for name, config in known.items():
        grid = suite.task(name, config, config if beside else None)
        if config.name == "rte":
            for other, settings in diagnostic.items():
                _diagnose(suite, other, settings, grid)
    if len(trained) > 1:
        finish(suite, _average(suite, trained))
    else:
        suite.draw({})
    return suite.rows


def _average(suite: Suite, configs: Mapping[str, SuperglueConfig]) -> dict[str, float]:
    """The SuperGLUE score of the medians on dev, if all eight tasks are there."""
    mine = {row.task: row.scores for row in suite.rows if row.encoder == suite.encoder}
    figures = {
        config.name: {metric: mine[name][metric] for metric in config.release().described.metrics}
        for name, config in configs.items()
        if name in mine
    }
    if lacking := [name for name in SCORED if name not in figures]:
        suite.say(f"the SuperGLUE score needs {', '.join(lacking)} too: it is left out")
        return {}
    return {"superglue_score": superglue_score(figures)}


def _diagnose(suite: Suite, name: str, config: SuperglueConfig, rte: Grid) -> None:
    """AX-b or AX-g: what the best RTE network says of it, scored where its labels are there."""
    release = config.release()
    examples = [one for one in config.reading("test").examples if isinstance(one, Example)]
    assert isinstance(rte.task, SentenceTask)
    tokenizer = text_tokenizer(rte.first.backbone)
    data = Sentences([blind(one) for one in examples], tokenizer, rte.task.classes, config.longest())
    said = rte.task.answers(data, list(predict(rte.best(), data, config.loop.precision).values()))
    release.write(release.described, suite.out / PREDICTIONS, examples, said)
    for words in failure(rte):
        suite.say(f"{name}: what {PREDICTIONS}/ has of it is by a failed run: {words}")
    if any(one.label is None for one in examples):
        suite.say(f"{name}: predicted, not scored: its labels are not known here")
        return
    best = json.loads((rte.folder / BEST_OF).read_text())
    rules = (f"the RTE network that did best on its dev split; {config.rules()}; {config.loop.precision}", "test")
    found = release.score(release.described, examples, said)
    main = release.described.metrics[0]
    row = Row.of((name, suite.encoder), main, [found], [best], 0.0, to_dict(config), rules, failure(rte))
    suite.add([row])


def boolq() -> SuperglueConfig:
    """BoolQ: does the passage say yes to the question? Accuracy."""
    return SuperglueConfig(name="boolq")


def cb() -> SuperglueConfig:
    """CB: is the speaker committed to the clause? Accuracy and macro F1."""
    return SuperglueConfig(name="cb")


def copa() -> SuperglueConfig:
    """COPA: which of two is the premise's cause or effect? Accuracy."""
    return SuperglueConfig(name="copa")


def multirc() -> SuperglueConfig:
    """MultiRC: which answers to a question on a paragraph are right? F1 over answers, and whole questions right."""
    return SuperglueConfig(name="multirc")


def record() -> SuperglueConfig:
    """ReCoRD: which entity of the passage fills the gap? F1 and exact match."""
    return SuperglueConfig(name="record")


def rte() -> SuperglueConfig:
    """RTE: does the first text entail the second? Accuracy."""
    return SuperglueConfig(name="rte")


def wic() -> SuperglueConfig:
    """WiC: does the word mean the same in both sentences? Accuracy."""
    return SuperglueConfig(name="wic")


def wsc() -> SuperglueConfig:
    """WSC: does the pronoun mean the noun phrase? Accuracy."""
    return SuperglueConfig(name="wsc")


def axb() -> SuperglueConfig:
    """AX-b: the broad diagnostic set, by the RTE model. Matthews correlation, where its labels are there."""
    return SuperglueConfig(name="axb")


def axg() -> SuperglueConfig:
    """AX-g: entailment with he and she, by the RTE model. Accuracy, and the share of pairs answered alike."""
    return SuperglueConfig(name="axg")
