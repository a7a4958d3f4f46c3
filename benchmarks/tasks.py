# SPDX-License-Identifier: Apache-2.0
"""A task's name is a suite and a function: `classify/knn` is `knn()` in `benchmarks/classify.py`."""

import difflib
import inspect
from collections.abc import Callable

from . import classify, tagging
from .task import TaskConfig

# One line a task: the listing is the table of contents.
TASKS: dict[str, Callable[[], TaskConfig]] = {
    "classify/knn": classify.knn,
    "classify/linear": classify.linear_probe,
    "classify/finetune": classify.finetune,
    "tagging/linear": tagging.linear_probe,
}


def names() -> dict[str, str]:
    """The name of each task, and the first line of its docstring."""
    return {name: (inspect.getdoc(task) or "").split("\n")[0] for name, task in TASKS.items()}


def find(name: str) -> dict[str, TaskConfig]:
    """The task of a name, or all tasks of a suite.

    Raises: ValueError, with the nearest names, if there is none.
    """
    found = {known: task() for known, task in TASKS.items() if name in (known, known.split("/")[0])}
    if not found:
        near = difflib.get_close_matches(name, TASKS, n=3, cutoff=0.3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(TASKS)}"
        raise ValueError(f"no task {name}: {hint}")
    return found
