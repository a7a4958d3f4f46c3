# SPDX-License-Identifier: Apache-2.0
"""`pluri evaluate`: an encoder's score on a task, beside its random twin and raw features."""

import argparse
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from ..ssl.config import to_dict
from ..ssl.encoder import Backbone
from ..ssl.train import Stopped
from . import scores, tasks, tuned
from .encoders import load, random_twin, raw_features
from .finetune import TunedConfig
from .scores import Row
from .task import TaskConfig


def evaluate(name: str, task: TaskConfig, encoder: str, seeds: int = 3, beside: bool = True) -> list[Row]:
    """The encoder's row and, if `beside`, its random twin's and raw features'.

    Args:
        name: suite/task. seeds: of the random twin, and of tasks that train.
    Raises: ValueError for wrong names or data.
    """
    rows = []

    def row(who: str, backbones: Iterable[tuple[int, Backbone]]) -> None:
        start = time.perf_counter()
        found = [task.evaluate(backbone, seed) for seed, backbone in backbones]
        each, chosen = [score.figures for score, _ in found], [chosen for _, chosen in found]
        seconds = time.perf_counter() - start
        rules = (task.rules(), "test")
        rows.append(Row.of((name, who), found[0][0].main, each, chosen, seconds, to_dict(task), rules, []))

    backbone = load(encoder)
    row(encoder, ((seed, load(encoder)) for seed in range(seeds if task.trains else 1)))
    if beside and backbone.encoder.config.depth:
        row(tuned.TWIN, ((seed, random_twin(backbone, seed)) for seed in range(seeds)))
        if not task.trains:
            who, raw = raw_features(backbone)
            row(who, [(0, raw)])
    return rows


def main(words: list[str]) -> None:
    """`pluri evaluate SUITE[/TASK] ENCODER [--data.path P] [--any.field V] [--out DIR]`."""
    parser = argparse.ArgumentParser(prog="pluri evaluate", add_help=False, allow_abbrev=False)
    parser.add_argument("task", nargs="?")
    parser.add_argument("encoder", nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--beside", choices=("True", "False"))
    known, rest = parser.parse_known_args(words)
    asked = {"-h", "--help"} & set(rest)
    if known.task is None or (known.encoder is None and not asked):
        print("usage: pluri evaluate TASK ENCODER [--data.path P] [--seeds N] [--beside False] [--out DIR] [--field V]")
        print("\n" + "\n".join(f"  {name:<20}{text}" for name, text in tasks.names().items()))
        print("\nENCODER: a run directory, a Hugging Face folder or hub name, random:RECIPE, fbank, mfcc or pixels.")
        sys.exit(0 if asked else 2)
    from ..cli import override

    encoder = str(known.encoder)
    configs = {
        name: override(task, rest, f"pluri evaluate {name} ENCODER") for name, task in tasks.find(known.task).items()
    }
    try:
        _carry_out(configs, encoder, known, Path("runs") / f"{known.task.replace('/', '-')}-{Path(encoder).name}")
    except Stopped as stopped:
        print(f"pluri: {stopped}", file=sys.stderr)
        sys.exit(1)


def _carry_out(
    configs: dict[str, TaskConfig | TunedConfig], encoder: str, known: argparse.Namespace, default: Path
) -> None:
    """Frozen tasks one by one; fine-tuned ones as their suite does it, in a folder where they can be gone on with."""
    frozen = {name: task for name, task in configs.items() if isinstance(task, TaskConfig)}
    for name, task in frozen.items():
        rows = evaluate(name, task, encoder, known.seeds or 3, known.beside != "False")
        print(scores.table(rows), flush=True)
        if known.out is not None:
            scores.write(known.out, rows)
    trained = {name: task for name, task in configs.items() if isinstance(task, TunedConfig)}
    if trained:
        out = known.out or default
        suite = tasks.SUITES[next(iter(trained)).split("/")[0]]
        suite(trained, encoder, known.seeds or 5, known.beside == "True", out, partial(print, flush=True))
        print(f"everything is in {out}")
