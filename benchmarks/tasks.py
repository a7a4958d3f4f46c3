# SPDX-License-Identifier: Apache-2.0
"""A task's name is a suite and a function: `classify/knn` is `knn()` in `benchmarks/classify.py`."""

import difflib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import classify, tagging
from .finetune import TunedConfig
from .scores import Row
from .task import TaskConfig
from .text import glue, glue_suite

# One line a task: the listing is the table of contents.
TASKS: dict[str, Callable[[], TaskConfig | TunedConfig]] = {
    "classify/knn": classify.knn,
    "classify/linear": classify.linear_probe,
    "classify/finetune": classify.finetune,
    "tagging/linear": tagging.linear_probe,
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
}

# How the tasks of a suite for which networks are trained are carried out: settings of each, encoder, seeds, whether the
# same network is trained from random weights as well, folder, and where lines for the user go.
Evaluate = Callable[[dict[str, Any], str, int, bool, Path, Callable[[str], None]], list[Row]]
SUITES: dict[str, Evaluate] = {"glue": glue_suite.evaluate}


def names() -> dict[str, str]:
    """The name of each task, and the first line of its docstring."""
    return {name: (inspect.getdoc(task) or "").split("\n")[0] for name, task in TASKS.items()}


def find(name: str) -> dict[str, TaskConfig | TunedConfig]:
    """The task of a name, or all tasks of a suite.

    Raises: ValueError, with the nearest names, if there is none.
    """
    found = {known: task() for known, task in TASKS.items() if name in (known, known.split("/")[0])}
    if not found:
        near = difflib.get_close_matches(name, TASKS, n=3, cutoff=0.3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(TASKS)}"
        raise ValueError(f"no task {name}: {hint}")
    return found
