# SPDX-License-Identifier: Apache-2.0
"""`pluri evaluate`: an encoder's score on a task, beside its random twin and raw features."""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..ssl.config import Config, to_dict
from . import scores, tasks, tuned
from .encoders import RAW, load, random_twin, raw_features
from .finetune import MissingFiles, TunedConfig
from .scores import Row
from .superb.qbe.search import SearchConfig
from .superb.swept import SweptConfig
from .task import Score, TaskConfig, ZeroShotConfig


def evaluate(
    name: str, task: TaskConfig | ZeroShotConfig, encoder: str, seeds: int = 3, beside: bool = True
) -> list[Row]:
    """The encoder's row and, if `beside`, its random twin's and, of tasks that ask for vectors, raw features'.

    Args:
        name: suite/task. seeds: of the random twin, and of tasks that train.
    Raises: ValueError for wrong names or data.
    """
    rows = []
    split = task.split if isinstance(task, TaskConfig) else "test"
    told = _told(task)

    def row(who: str, score: Callable[[int], tuple[Score, dict[str, Any]]], seeds: int = 1) -> None:
        start = time.perf_counter()
        found = [score(seed) for seed in range(seeds)]
        each, chosen = [score.figures for score, _ in found], [chosen for _, chosen in found]
        chosen[0] = {**chosen[0], "data": told}
        seconds = time.perf_counter() - start
        rules = (task.rules(), split)
        rows.append(Row.of((name, who), found[0][0].main, each, chosen, seconds, to_dict(task), rules, []))

    if isinstance(task, ZeroShotConfig):
        row(encoder, lambda _: task.evaluate(encoder, None))
        if beside:
            row(tuned.TWIN, lambda seed: task.evaluate(encoder, seed), seeds)
        return rows
    backbone = load(encoder)
    row(encoder, lambda seed: task.evaluate(load(encoder), seed), seeds if task.trains else 1)
    if beside and backbone.encoder.config.depth:
        row(tuned.TWIN, lambda seed: task.evaluate(random_twin(backbone, seed), seed), seeds)
        if not task.trains:
            who, raw = raw_features(backbone)
            row(who, lambda seed: task.evaluate(raw, seed))
    return rows


def _told(task: TaskConfig | ZeroShotConfig) -> dict[str, Any]:
    """By what a task's data are told."""
    return scores.whereabouts({"path": to_dict(task)["data"]["path"]})


def _written(task: TaskConfig | ZeroShotConfig, encoder: str, beside: bool) -> set[tuple[str, str]]:
    """Encoder and variant of the rows that `evaluate` makes."""
    names = {encoder, tuned.TWIN} if beside else {encoder}
    if beside and isinstance(task, TaskConfig) and not task.trains:
        names.add(raw_features(load(encoder))[0])
    return {(name, "") for name in names}


def main(words: list[str]) -> None:
    """`pluri evaluate SUITE[/TASK] ENCODER [--data.path P] [--any.field V] [--out DIR]`."""
    parser = argparse.ArgumentParser(prog="pluri evaluate", add_help=False, allow_abbrev=False)
    parser.add_argument("task", nargs="?")
    parser.add_argument("encoder", nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=_positive)
    parser.add_argument("--beside", choices=("True", "False"))
    known, rest = parser.parse_known_args(words)
    asked = {"-h", "--help"} & set(rest)
    if known.task is None or (known.encoder is None and not asked):
        _usage("TASK", tasks.names())
        print(f"\nENCODER: a run directory, a Hugging Face folder or hub name, random:RECIPE, {', '.join(RAW)},")
        print("s3prl:NAME, s3prl:NAME@CHECKPOINT or s3prl:NAME@CHECKPOINT@SETTINGS.")
        sys.exit(0 if asked else 2)
    from ..cli import override

    encoder = str(known.encoder)
    found = tasks.find(known.task)
    if asked:
        several = {name: text for name, text in tasks.names().items() if name in found}
        _usage(known.task, several if len(found) > 1 else {})
    if asked and len(found) > 1:
        print("\nOne after the other; a setting goes to those that have it.")
        print(f"pluri evaluate {next(iter(found))} --help: settings of that task, and so on.")
        sys.exit(0)
    configs = {
        name: override(task, understood(task, rest, list(found.values())), f"pluri evaluate {name} ENCODER")
        for name, task in found.items()
    }
    for name, task in found.items():
        if vars(configs[name]).get("name") != vars(task).get("name"):
            raise ValueError(f"--name does not choose a task: put it before ENCODER, in the place of {name}")
    _carry_out(configs, encoder, known, Path("runs") / f"{known.task.replace('/', '-')}-{Path(encoder).name}")


def _usage(what: str, names: Mapping[str, str]) -> None:
    print(f"usage: pluri evaluate {what} ENCODER [--data.path P] [--seeds N] [--beside B] [--out DIR] [--field V]")
    print("N: runs of what is trained; 3, of fine-tuned suites 5")
    print("B: True or False, whether a network at random weights is scored as well; False in suites that train")
    print("DIR: for scores and what they came from; runs/TASK-ENCODER\n")
    if names:
        print("\n".join(f"  {name:<20}{text}" for name, text in names.items()))


def _positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise ValueError(word)
    return number


def understood(task: Config, words: list[str], suite: Sequence[Config]) -> list[str]:
    """The settings among `words` that this task of a suite has; what no task has stays, to be refused.

    Args:
        words: --a.field followed by its values, and so on.
    """
    kept: list[str] = []
    keep = True
    for word in words:
        if word.startswith("--"):
            field = word[2:].split("=")[0].replace("-", "_").split(".")
            keep = _has(task, field) or not any(_has(other, field) for other in suite)
        if keep:
            kept.append(word)
    return kept


def _has(config: object, field: list[str]) -> bool:
    """Whether settings have a field, named from the top."""
    if not isinstance(config, Config):
        return False
    inside = {one.name: config.__dict__[one.name] for one in dataclasses.fields(config)}
    return field[0] in inside and (len(field) == 1 or _has(inside[field[0]], field[1:]))


def _carry_out(
    configs: dict[str, TaskConfig | ZeroShotConfig | TunedConfig | SweptConfig | SearchConfig],
    encoder: str,
    known: argparse.Namespace,
    default: Path,
) -> None:
    """Frozen tasks one by one; those that train as their suite does it, in a folder where they can be gone on with."""
    out = known.out or default
    frozen = {name: task for name, task in configs.items() if isinstance(task, (TaskConfig, ZeroShotConfig))}
    for name, task in frozen.items():
        scores.need_same_data(out, name, _told(task), _written(task, encoder, known.beside != "False"))
    for name, task in frozen.items():
        try:
            rows = evaluate(name, task, encoder, known.seeds or 3, known.beside != "False")
        except MissingFiles as missing:
            if len(configs) == 1:
                raise
            print(f"{name}: left out: {missing}", flush=True)
            continue
        print(scores.table(rows), flush=True)
        for line in scores.write(out, rows):
            print(line, flush=True)
    trained = {
        name: task for name, task in configs.items() if isinstance(task, (TunedConfig, SweptConfig, SearchConfig))
    }
    if trained:
        seeds = known.seeds or (3 if isinstance(next(iter(trained.values())), (SweptConfig, SearchConfig)) else 5)
        suite = tasks.SUITES[next(iter(trained)).split("/")[0]]
        suite(trained, encoder, seeds, known.beside == "True", out, partial(print, flush=True))
    print(f"everything is in {out}")
