# SPDX-License-Identifier: Apache-2.0
"""An encoder fine-tuned for a task: its grid of runs, the choice on the dev split, and the row of scores."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..ssl.config import to_dict
from .encoders import Start, random_twin
from .finetune import TunedConfig
from .grid import Grid, choose, failures
from .scores import Row

PRETRAINED, SCRATCH = "pretrained", "scratch"
TWIN = "random twin"  # its name in rows


def starts(known: Start) -> Callable[[int], Start]:
    """The same pre-trained network for every seed."""
    return lambda seed: known


def scratch(known: Start) -> Callable[[int], Start]:
    """The same architecture with random weights, others for each seed."""
    return lambda seed: Start(TWIN, random_twin(known.backbone, seed))


def evaluate(
    name: str, config: TunedConfig, begin: Callable[[int], Start], encoder: str, seeds: int, folder: Path
) -> tuple[Row, Grid]:
    """The row of a task's grid, whose finished runs are read from `folder`, and the grid itself.

    Args:
        name: suite/task. encoder: its name in the row.
    Raises: finetune.MissingFiles; ValueError; ssl.stopped.Interrupted.
    """
    grid = Grid(config, begin, folder)
    runs = grid.run(seeds)
    chosen, medians = choose(runs)
    tested = chosen[0].main in chosen[0].test  # else test parts have names, and rows that the suite makes of them
    split = "test" if tested else "dev"
    each = [{**run.test, **{f"dev_{key}": x for key, x in run.dev.items()}} if tested else run.dev for run in chosen]
    best: dict[str, Any] = {"setting": chosen[0].setting.name(), "by": f"median {chosen[0].main} on the dev split"}
    if len(medians) > 1:
        best["grid"] = medians
    best["kept"] = grid.kept()  # what is predicted for a leaderboard is its word
    notes = list(grid.task.notes)
    if best["kept"] not in {grid.place(run.setting, run.seed).name for run in runs}:
        notes.append(f"predictions are by {best['kept']}, which this row has not: it was run before, with more seeds")
    if notes:
        best["notes"] = notes
    seconds = sum(run.seconds for run in runs)
    rules = (f"{config.rules()}; {config.loop.precision}", split)
    row = Row.of((name, encoder), chosen[0].main, each, [best], seconds, to_dict(config), rules, failures(runs))
    return row, grid
