# SPDX-License-Identifier: Apache-2.0
"""The page of a fine-tuned suite: scores, averages, training loss from pre-trained and random weights, confusions."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..ssl.monitor import METRICS
from . import metrics
from .grid import BEST_OF, DEV, RUN, Run
from .report import Page, new_figure
from .report import metrics as rows_of
from .scores import Row
from .tuned import PRETRAINED, SCRATCH, TWIN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILE = "index.html"
MOST_CLASSES = 20  # of a confusion matrix that is drawn
FEW_CLASSES = 6  # of one that is drawn large, with its zeros
COLORS = {PRETRAINED: "#1f5a99", SCRATCH: "#c4591b"}


class Curve(NamedTuple):
    """The training loss of one setting's runs."""

    epochs: np.ndarray  # (steps,)
    losses: np.ndarray  # (seeds, steps)


def curve(folder: Path, row: Row) -> Curve | None:
    """The training loss of the setting that was chosen, of runs that took all their steps; None if there is none."""
    name = str(row.chosen[0].get("setting", ""))
    losses, epochs = [], 0.0
    for seed in row.seeds:
        place = folder / f"{name}_seed{seed}"
        if not name or not (place / RUN).is_file():
            continue
        run = Run.load(place / RUN)
        steps = rows_of(place) if (place / METRICS).is_file() and (place / METRICS).stat().st_size else []
        if len(steps) == run.steps:
            losses.append([float(step["loss"]) for step in steps])
            epochs = run.setting.epochs
    if not losses:
        return None
    return Curve(np.arange(1, len(losses[0]) + 1) * epochs / len(losses[0]), np.array(losses))


def smooth(losses: np.ndarray, window: int) -> np.ndarray:
    """(steps,) running mean over the last `window` steps of the mean over seeds (seeds, steps)."""
    mean = losses.mean(0)
    total = np.cumsum(np.concatenate([[0.0], mean]))
    end = np.arange(1, len(mean) + 1)
    begin = np.maximum(0, end - window)
    return (total[end] - total[begin]) / (end - begin)


def draw_curve(axes: "Axes", name: str, curves: Mapping[str, Curve]) -> None:
    """Training loss over epochs, each kind of start in its colour: the seeds' mean, and their range."""
    for kind, one in curves.items():
        window = max(1, len(one.epochs) // 25)
        each = np.stack([smooth(row[None], window) for row in one.losses])
        axes.fill_between(one.epochs, each.min(0), each.max(0), color=COLORS[kind], alpha=0.2, linewidth=0)
        axes.plot(one.epochs, smooth(one.losses, window), color=COLORS[kind], label=kind)
    axes.set_title(name, fontsize=10)
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)


def page(out: Path, title: str, rows: Sequence[Row], averages: Mapping[str, float]) -> Path:
    """Writes index.html into a suite's folder, from its rows and what its runs left there."""
    made = Page(title)
    _scores(made, rows)
    if averages:
        made.heading("Averages of the dev split's medians, x 100")
        made.table(("average", "value"), [(name, f"{100 * value:.1f}") for name, value in averages.items()])
    _curves(made, out, rows)
    _confusions(made, out, rows)
    _failed(made, rows)
    made.save(out / FILE)
    return out / FILE


def _scores(made: Page, rows: Sequence[Row]) -> None:
    made.heading("Scores: medians over seeds, and their range")
    lines = []
    for row in rows:
        values = row.values()
        others = ", ".join(f"{name} {value:.4f}" for name, value in row.besides().items())
        spread = f"{min(values):.4f} to {max(values):.4f}" if len(values) > 1 else ""
        failed = f"{len(row.failed)} failed" if row.failed else ""
        lines.append((row.task, row.encoder, row.main, f"{row.scores[row.main]:.4f}", spread, others, failed))
    made.table(("task", "start", "figure", "median", "range", "besides", ""), lines)
    protocols: dict[str, dict[str, None]] = {}
    for row in rows:
        protocols.setdefault(f"scored on {row.split}; {row.protocol}", {})[row.task] = None
    for words, tasks in protocols.items():
        made.text(f"{', '.join(tasks)}: {words}", note=True)


def _failed(made: Page, rows: Sequence[Row]) -> None:
    if not any(row.failed for row in rows):
        return
    made.heading("Runs that came to nothing")
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        for words in row.failed:
            run, _, reason = words.partition(": ")
            reasons.setdefault((row.task, row.encoder, reason), []).append(run)
    made.table(
        ("task", "start", "runs", "what happened"),
        [(task, encoder, "; ".join(runs), reason) for (task, encoder, reason), runs in reasons.items()],
    )


def _panels(count: int, height: float) -> "tuple[Figure, np.ndarray]":
    """A figure with so many axes, three in a line; (lines, columns) axes, those too many invisible."""
    columns = min(3, count)
    lines = -(-count // columns)
    figure = new_figure(3.2 * columns, height * lines)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return figure, grid


def _curves(made: Page, out: Path, rows: Sequence[Row]) -> None:
    found: dict[str, dict[str, Curve]] = {}
    for row in rows:
        kind = SCRATCH if row.encoder == TWIN else PRETRAINED
        one = curve(out / row.task.replace("/", "-") / kind, row) if row.chosen[0] else None
        if one is not None:
            found.setdefault(row.task.split("/")[-1], {})[kind] = one
    if not found:
        return
    made.heading("Training loss over epochs")
    figure, grid = _panels(len(found), 2.3)
    for axes, (name, curves) in zip(grid.flat, found.items(), strict=False):
        draw_curve(axes, name, curves)
    grid.flat[0].legend(frameon=False, fontsize=8)
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    both = any(len(curves) == 2 for curves in found.values())
    words = "from pre-trained weights and from random ones" if both else "of the chosen setting"
    made.figure(figure, f"training loss {words}: the mean over seeds (a running mean), and their range")


def _confusions(made: Page, out: Path, rows: Sequence[Row]) -> None:
    drawn = []
    for row in rows:
        folder = out / row.task.replace("/", "-") / PRETRAINED
        if row.encoder == TWIN or not (folder / BEST_OF).is_file():
            continue
        best = json.loads((folder / BEST_OF).read_text())["run"]
        dev = json.loads((folder / best / DEV).read_text())
        classes = dev["references"]
        if all(isinstance(one, str) for one in classes) and len(set(classes)) <= MOST_CLASSES:
            drawn.append((row.task.split("/")[-1], dev["references"], dev["predictions"]))
    if not drawn:
        return
    made.heading("What was taken for what: dev split, best run")
    figure, grid = _panels(len(drawn), 2.8)
    for axes, (name, references, predictions) in zip(grid.flat, drawn, strict=False):
        _draw_confusion(axes, name, references, predictions)
    made.figure(figure, "rows: what it is; columns: what was said; items of the dev split")


def _draw_confusion(axes: "Axes", name: str, references: list[str], predictions: list[str]) -> None:
    classes = sorted({*references, *predictions})
    counts = metrics.confusion(references, predictions, classes)
    share = counts / np.maximum(1, counts.sum(1, keepdims=True))
    many = len(classes) > FEW_CLASSES
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto" if many else "equal")
    size = 4 if many else 8
    for i, line in enumerate(counts):
        for k, count in enumerate(line):
            if count or not many:
                color = "w" if share[i, k] > 0.5 else "k"
                axes.text(k, i, str(count), ha="center", va="center", fontsize=size, color=color)
    size = size if many else 7
    axes.set_xticks(range(len(classes)), classes, rotation=90 if many else 20, fontsize=size, parse_math=False)
    axes.set_yticks(range(len(classes)), classes, fontsize=size, parse_math=False)
    axes.set_title(name, fontsize=10, parse_math=False)
