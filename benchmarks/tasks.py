# SPDX-License-Identifier: Apache-2.0
"""A task's name is a suite and a function: `classify/knn` is `knn()` in `benchmarks/classify.py`."""

import difflib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import classify, suite
from .finetune import TunedConfig
from .scores import Row
from .superb import suite as superb_suite
from .superb.asv import task as asv_task
from .superb.ctc import tasks as ctc_tasks
from .superb.qbe import task as qbe_task
from .superb.qbe.search import SearchConfig
from .superb.sd import task as sd_task
from .superb.swept import SweptConfig
from .superb.utterance import tasks as utterance_tasks
from .superb_sg import task as separation
from .task import TaskConfig, ZeroShotConfig
from .text import blimp, similarity
from .text.clue import suite as clue_suite
from .text.glue import config as glue
from .text.glue import suite as glue_suite
from .text.squad import suite as squad_suite
from .text.superglue import suite as superglue_suite
from .text.tagging import tasks as tagging

# One line a task: the listing is the table of contents.
TASKS: dict[str, Callable[[], TaskConfig | ZeroShotConfig | TunedConfig | SweptConfig | SearchConfig]] = {
    "classify/knn": classify.knn,
    "classify/linear": classify.linear_probe,
    "classify/finetune": classify.finetune,
    "tagging/linear": tagging.linear_probe,
    "tagging/pos": tagging.pos,
    "tagging/ner": tagging.ner,
    "similarity/cosine": similarity.cosine,
    "blimp/pairs": blimp.pairs,
    "glue/cola": glue.cola,
    "glue/sst2": glue.sst2,
    "glue/mrpc": glue.mrpc,
    "glue/stsb": glue.stsb,
    "glue/qqp": glue.qqp,
    "glue/mnli": glue.mnli,
    "glue/qnli": glue.qnli,
    "glue/rte": glue.rte,
    "glue/wnli": glue.wnli,
    "glue/ax": glue.ax,
    "superglue/boolq": superglue_suite.boolq,
    "superglue/cb": superglue_suite.cb,
    "superglue/copa": superglue_suite.copa,
    "superglue/multirc": superglue_suite.multirc,
    "superglue/record": superglue_suite.record,
    "superglue/rte": superglue_suite.rte,
    "superglue/wic": superglue_suite.wic,
    "superglue/wsc": superglue_suite.wsc,
    "superglue/axb": superglue_suite.axb,
    "superglue/axg": superglue_suite.axg,
    "clue/afqmc": clue_suite.afqmc,
    "clue/tnews": clue_suite.tnews,
    "clue/iflytek": clue_suite.iflytek,
    "clue/cmnli": clue_suite.cmnli,
    "clue/ocnli": clue_suite.ocnli,
    "clue/csl": clue_suite.csl,
    "clue/cluewsc": clue_suite.cluewsc,
    "clue/c3": clue_suite.c3,
    "clue/chid": clue_suite.chid,
    "fewclue/bustm": clue_suite.bustm,
    "fewclue/eprstmt": clue_suite.eprstmt,
    "fewclue/tnews": clue_suite.few_tnews,
    "squad/v1": squad_suite.v1,
    "squad/v2": squad_suite.v2,
    "squad/drcd": squad_suite.drcd,
    "squad/cmrc": squad_suite.cmrc,
    "superb/ks": utterance_tasks.ks,
    "superb/ic": utterance_tasks.ic,
    "superb/sid": utterance_tasks.sid,
    "superb/er": utterance_tasks.er,
    "superb/asv": asv_task.asv,
    "superb/sd": sd_task.sd,
    "superb/qbe": qbe_task.qbe,
    "superb/pr": ctc_tasks.pr,
    "superb/asr": ctc_tasks.asr,
    "superb/sf": ctc_tasks.sf,
    "superb/ss": separation.ss,
    "superb/se": separation.se,
}
ALONE = ("superb/ss", "superb/se")  # asked for by their own names only: SUPERB-SG's, which SUPERB's score leaves out

# How the tasks of a suite for which networks are trained are carried out: settings of each, encoder, seeds, whether the
# same network is trained from random weights as well, folder, and where lines for the user go.
Evaluate = Callable[[dict[str, Any], str, int, bool, Path, Callable[[str], None]], list[Row]]
SUITES: dict[str, Evaluate] = {
    "tagging": suite.evaluate,
    "glue": glue_suite.evaluate,
    "squad": squad_suite.evaluate,
    "superglue": superglue_suite.evaluate,
    "clue": clue_suite.evaluate,
    "fewclue": suite.evaluate,
    "superb": superb_suite.evaluate,
}


def names() -> dict[str, str]:
    """The name of each task, and the first line of its docstring."""
    return {name: (inspect.getdoc(task) or "").split("\n")[0] for name, task in TASKS.items()}


def find(name: str) -> dict[str, TaskConfig | ZeroShotConfig | TunedConfig | SweptConfig | SearchConfig]:
    """The task of a name, or all tasks of a suite except those that stand alone.

    Raises: ValueError, with the nearest names, if there is none.
    """
    whole = {known for known in TASKS if known.split("/")[0] == name and known not in ALONE}
    found = {known: task() for known, task in TASKS.items() if known == name or known in whole}
    if not found:
        near = difflib.get_close_matches(name, TASKS, n=3, cutoff=0.3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(TASKS)}"
        raise ValueError(f"no task {name}: {hint}")
    return found
