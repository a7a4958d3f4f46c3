# SPDX-License-Identifier: Apache-2.0
"""CLUE and FewCLUE for fine-tuning: their baselines' settings, and CLUE's averages.

Xu et al. 2020, arXiv:2004.05986; Xu et al. 2021 (FewCLUE), arXiv:2107.07498. Settings: CLUEbenchmark/CLUE@9d23293,
baselines/models_pytorch/classifier_pytorch/run_classifier_*.sh and mrc_pytorch/run_mrc_*.sh; CLUEbenchmark/FewCLUE
@62a02c6f, baselines/models_tf/fine_tuning/bert/run_classifier_multi_dataset.sh. Texts of C3 and ChID differ from the
baselines' as `choices.py` says, and C3's questions have only the candidates that are there.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from ... import scores
from ...finetune import Setting
from ...scores import Row
from ...suite import Suite, run
from ..choices import best
from ..official_suite import OfficialConfig, Published, Release, finish
from . import tasks as clue
from .choices import distinct
from .predictions import AVERAGES, average, score, write

# run_classifier.py: AdamW with these defaults.
_BERT = Setting(lr=2e-5, batch=16, epochs=3.0, warmup=0.1, weight_decay=0.01)
_CLASSIFIER = {
    "cmnli": dataclasses.replace(_BERT, lr=3e-5),
    "ocnli": dataclasses.replace(_BERT, lr=3e-5, epochs=2.0),
    "csl": dataclasses.replace(_BERT, lr=1e-5, batch=8, epochs=5.0),
    "cluewsc2020": dataclasses.replace(_BERT, lr=1e-5, epochs=50.0),
}
# run_c3.py and run_multichoice_mrc.py: BERT's Adam; a batch counts questions.
_C3 = Setting(lr=2e-5, batch=24, epochs=8.0, warmup=0.05, weight_decay=0.01, eps=1e-6)
_CHID = dataclasses.replace(_C3, epochs=3.0, warmup=0.06)
_FEW = Setting(lr=2e-5, batch=32, epochs=3.0, warmup=0.1, weight_decay=0.01, eps=1e-6)
_LONGEST = {"csl": 256, "c3": 512, "chid": 64}  # tokens; others 128
CMRC = "squad/cmrc"  # CMRC 2018 is in SQuAD's form; --out of that task and of CLUE have to be the same
FEW = ("bustm", "eprstmt", "fewclue_tnews")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClueConfig(OfficialConfig):
    """One task of CLUE or FewCLUE."""

    def release(self) -> Release:
        if self.name in FEW:
            published = Published("FewCLUE's baseline", _FEW)
        else:
            setting = {"c3": _C3, "chid": _CHID, **_CLASSIFIER}.get(self.name, _BERT)
            published = Published("CLUE's baseline", setting, _LONGEST.get(self.name, 128))
        choose = distinct if self.name == "chid" else best
        return Release(clue.TASKS[self.name], published, clue.read, score, write, choose)


def evaluate(
    configs: Mapping[str, ClueConfig],
    encoder: str,
    seeds: int,
    beside: bool,
    out: Path,
    say: Callable[[str], None],
) -> list[Row]:
    """Runs the tasks that are asked for and whose files are there, and writes everything into `out`.

    Args:
        configs: settings by names such as clue/c3.
        beside: also trains the same architecture from random weights, for the page's figure.
        say: takes lines for the user.
    Raises: ValueError if no task's files are there; ssl.stopped.Interrupted.
    """
    suite = Suite(encoder, seeds, out, say)
    for _ in run(suite, configs, beside):
        pass
    if len(configs) > 1:
        finish(suite, _averages(suite, configs))
    return suite.rows


def _averages(suite: Suite, configs: Mapping[str, ClueConfig]) -> dict[str, float]:
    """Those of CLUE's averages for which all tasks are there; CMRC 2018 is, if it was run into the same folder."""
    rows = {row.task: row for row in scores.read(suite.out) if row.encoder == suite.encoder}
    mine = {config.name: rows[name].scores["accuracy"] for name, config in configs.items() if name in rows}
    if CMRC in rows:
        mine["cmrc2018"] = rows[CMRC].scores["exact"] / 100
    found = {}
    for name, tasks in AVERAGES.items():
        if lacking := [CMRC if task == "cmrc2018" else task for task in tasks if task not in mine]:
            suite.say(f"CLUE's average {name} needs {', '.join(lacking)} too: it is left out")
        else:
            found[name] = average(mine, name)
    return found


def afqmc() -> ClueConfig:
    """AFQMC (Chinese): do the questions to a bank mean the same? Accuracy."""
    return ClueConfig(name="afqmc")


def tnews() -> ClueConfig:
    """TNEWS (Chinese): which of 15 topics has the headline? Accuracy."""
    return ClueConfig(name="tnews")


def iflytek() -> ClueConfig:
    """IFLYTEK (Chinese): which of 119 kinds is the described app of? Accuracy."""
    return ClueConfig(name="iflytek")


def cmnli() -> ClueConfig:
    """CMNLI (Chinese, translated): does the first text entail or contradict the second? Accuracy."""
    return ClueConfig(name="cmnli")


def ocnli() -> ClueConfig:
    """OCNLI (Chinese): does the first text entail or contradict the second? Accuracy."""
    return ClueConfig(name="ocnli")


def csl() -> ClueConfig:
    """CSL (Chinese): are all these keywords the abstract's own? Accuracy."""
    return ClueConfig(name="csl")


def cluewsc() -> ClueConfig:
    """CLUEWSC 2020 (Chinese): does the pronoun mean the noun? Accuracy."""
    return ClueConfig(name="cluewsc2020")


def c3() -> ClueConfig:
    """C3 (Chinese): which answer to a question on a text or talk is right? Accuracy."""
    return ClueConfig(name="c3")


def chid() -> ClueConfig:
    """ChID (Chinese): which idiom fills the gap, each at most once in a passage? Accuracy."""
    return ClueConfig(name="chid")


def bustm() -> ClueConfig:
    """BUSTM (FewCLUE, Chinese): do the requests mean the same? Accuracy on the public test split."""
    return ClueConfig(name="bustm")


def eprstmt() -> ClueConfig:
    """EPRSTMT (FewCLUE, Chinese): is the review positive? Accuracy on the public test split."""
    return ClueConfig(name="eprstmt")


def few_tnews() -> ClueConfig:
    """TNEWS (FewCLUE, Chinese): which of 15 topics has the headline? Accuracy on the public test split."""
    return ClueConfig(name="fewclue_tnews")
