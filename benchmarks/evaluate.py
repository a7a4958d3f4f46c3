# SPDX-License-Identifier: Apache-2.0
"""`pluri evaluate`: an encoder's score on a task, beside its random twin and raw features."""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from ..ssl.config import to_dict
from ..ssl.encoder import Backbone
from . import tasks
from .encoders import load, random_twin, raw_features
from .task import Score, TaskConfig


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the table: an encoder and the scores of its seeds."""

    encoder: str
    main: str
    scores: list[dict[str, float]]
    chosen: list[dict[str, Any]]
    seconds: float

    @classmethod
    def of(cls, encoder: str, found: list[tuple[Score, dict[str, Any]]], seconds: float) -> Self:
        """The line for what `evaluate` gave for each seed."""
        return cls(encoder, found[0][0].main, [s.figures for s, _ in found], [c for _, c in found], seconds)

    def values(self) -> list[float]:
        """The main figure of each seed."""
        return [figures[self.main] for figures in self.scores]


def evaluate(task: TaskConfig, encoder: str, seeds: int = 3, beside: bool = True) -> list[Line]:
    """The encoder's line and, if `beside`, its random twin's and raw features'.

    Args:
        seeds: of the random twin, and of tasks that train.
    Raises: ValueError for wrong names or data.
    """
    lines = []

    def line(name: str, backbones: Iterable[tuple[int, Backbone]]) -> None:
        start = time.perf_counter()
        found = [task.evaluate(backbone, seed) for seed, backbone in backbones]
        lines.append(Line.of(name, found, time.perf_counter() - start))

    backbone = load(encoder)
    line(encoder, ((seed, load(encoder)) for seed in range(seeds if task.trains else 1)))
    if beside and backbone.encoder.config.depth:
        line("random twin", ((seed, random_twin(backbone, seed)) for seed in range(seeds)))
        if not task.trains:
            name, raw = raw_features(backbone)
            line(name, [(0, raw)])
    return lines


def table(name: str, lines: list[Line]) -> str:
    """Lines as text: medians, with the range of the seeds."""
    rows = [f"{name}  ({lines[0].main})"]
    for line in lines:
        values = line.values()
        spread = f"  ({min(values):.4f} to {max(values):.4f}, {len(values)} seeds)" if len(values) > 1 else ""
        rows.append(f"  {statistics.median(values):.4f}  {line.encoder}{spread}")
    bad = max(chosen.get("bad", 0) for line in lines for chosen in line.chosen)
    if bad:
        rows.append(f"  {bad} items could not be read and were left out")
    return "\n".join(rows)


def main(words: list[str]) -> None:
    """`pluri evaluate SUITE/TASK ENCODER [--data.path P] [--any.field V] [--out DIR]`."""
    parser = argparse.ArgumentParser(prog="pluri evaluate", add_help=False, allow_abbrev=False)
    parser.add_argument("task", nargs="?")
    parser.add_argument("encoder", nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--beside", choices=("True", "False"), default="True")
    known, rest = parser.parse_known_args(words)
    asked = {"-h", "--help"} & set(rest)
    if known.task is None or (known.encoder is None and not asked):
        print("usage: pluri evaluate TASK ENCODER [--data.path P] [--seeds N] [--beside False] [--out DIR] [--field V]")
        print("\n" + "\n".join(f"  {name:<20}{text}" for name, text in tasks.names().items()))
        print("\nENCODER: a run directory, a Hugging Face folder or hub name, random:RECIPE, fbank, mfcc or pixels.")
        sys.exit(0 if asked else 2)
    from ..cli import override

    encoder = str(known.encoder)
    report = []
    for name, task in tasks.find(known.task).items():
        task = override(task, rest, f"pluri evaluate {name} ENCODER")
        lines = evaluate(task, encoder, known.seeds, known.beside == "True")
        print(table(name, lines), flush=True)
        report.append({"task": name, "settings": to_dict(task), "lines": [dataclasses.asdict(x) for x in lines]})
    if known.out is not None:
        known.out.mkdir(parents=True, exist_ok=True)
        (known.out / "scores.json").write_text(json.dumps(report, indent=1) + "\n")
