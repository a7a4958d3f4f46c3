# SPDX-License-Identifier: Apache-2.0
"""The page of SUPERB's tasks: scores beside the leaderboard's, the data, learning curves, layers' shares, mistakes.

All of it is drawn from what the folder holds; spectrograms from the corpus's audio.
"""

import html
import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from ... import scores
from ...report import Page, new_figure
from ...scores import Row
from ..sweep import RESULT, Run, read_runs
from . import alignment, comparison, data_card, error_pictures, mistakes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILE = "index.html"


def page(out: Path) -> None:
    """Writes the page of all rows in a folder, and of the sweeps that they name."""
    rows = [row for row in scores.read(out) if row.task.startswith("superb/")]
    made = Page(f"SUPERB: {', '.join(dict.fromkeys(row.called for row in rows))}")
    made.markup(f"<style>{alignment.STYLE}</style>")
    cards = [data_card.read(sweeps(out, row)[0]) for row in rows]
    for task in dict.fromkeys(row.task for row in rows):
        mine = [row for row in rows if row.task == task]
        known = [card for row, card in zip(rows, cards, strict=True) if row.task == task]
        made.heading(task)
        _scores(made, mine)
        comparison.show(made, mine, known)
        _data(made, mine, known)
        _rates(made, mine)
        for row in mine:
            runs, fold = _runs(sweeps(out, row))
            if runs:
                words = (
                    f"{row.called}: what every learning rate is judged by, over the steps; a line for each seed{fold}"
                )
                made.figure(curves(runs, _judged(row)), words)
        if any(row.chosen[0]["layers"] and len(row.chosen[0]["layers"][0]) > 1 for row in mine):
            made.figure(layers(mine), "the share of each layer (0: the encoder's input) of the chosen rate, each seed")
        _mistakes(made, mine, out)
    comparison.summary(made, rows, cards)
    made.save(out / FILE)


def sweeps(out: Path, row: Row) -> list[Path]:
    """Where the sweeps of the first of a row's networks lie; earlier rows name them from where the run was started."""
    told = [Path(place) for place in row.chosen[0]["sweeps"]]
    below = [out.joinpath(*place.parts[-2:]) for place in told]  # OUT/superb-TASK/ENCODER-HASH
    return [inside if inside.is_dir() else place for inside, place in zip(below, told, strict=True)]


def _data(made: Page, rows: Sequence[Row], cards: Sequence[data_card.Card | None]) -> None:
    """What the rows of a task were scored on, once where it is the same, and else by whose row."""
    known = [(row.called, card) for row, card in zip(rows, cards, strict=True) if card is not None]
    different = [card for place, (_, card) in enumerate(known) if all(card != other for _, other in known[:place])]
    if different:
        made.markup("<h3>What the data was</h3>")
    for card in different:
        if len(different) > 1:
            made.text(f"Of {', '.join(called for called, other in known if other == card)}:")
        data_card.show(made, card)


def _mistakes(made: Page, rows: Sequence[Row], out: Path) -> None:
    found = [(row.called, mistakes.read(sweeps(out, row)[0])) for row in rows]
    if any(each for _, each in found):
        made.markup("<h3>Mistakes on test, of the best seed</h3>")
    for encoder, each in found:
        error_pictures.show(made, encoder, each)


def _scores(made: Page, rows: Sequence[Row]) -> None:
    lines = []
    for row in rows:
        values = row.values()
        others = ", ".join(f"{name} {value:.4f}" for name, value in row.scores.items() if name != row.main)
        spread = f"{min(values):.4f} to {max(values):.4f}" if len(values) > 1 else ""
        own = comparison.linked(row, f"{row.scores[row.main]:.4f}")
        lines.append((html.escape(row.called), own, spread, _chosen(row), html.escape(others)))
    comparison.table(made, ("encoder", f"{rows[0].main}, {rows[0].split}", "range", _kind(rows[0]), "besides"), lines)
    for told in (lambda row: [row.protocol], lambda row: row.chosen[0]["notes"]):
        for words in scores.attributed(rows, told):
            made.text(words, note=True)


def _kind(row: Row) -> str:
    """What a task chooses on dev."""
    return "learning rate" if "lr" in row.chosen[0] else "layer"


def _chosen(row: Row) -> str:
    chosen = row.chosen[0]
    return f"{chosen['lr']:g}" if "lr" in chosen else str(chosen["layer"])


def _rates(made: Page, rows: Sequence[Row]) -> None:
    key = "lr" if "lr" in rows[0].chosen[0] else "layer"
    known = sorted({cell[key] for row in rows for cell in row.chosen[0]["grid"]}, reverse=key == "lr")
    lines = []
    for row in rows:
        cells = {cell[key]: cell for cell in row.chosen[0]["grid"]}
        lines.append((row.called, *(_reached(cells[one]["dev"]) if one in cells else "" for one in known)))
    given = all(row.chosen[0]["by"] == "given" for row in rows)
    what = (
        f"The {_kind(rows[0])} was given; what it reached on"
        if given
        else f"What the {_kind(rows[0])} is chosen by, on"
    )
    judged = " or ".join(dict.fromkeys(map(_judged, rows)))
    made.text(f"{what} {judged} (medians over seeds; more is better):")
    made.table(("encoder", *(f"{one:g}" for one in known)), lines)


def _judged(row: Row) -> str:
    """The part that states and rates are chosen on; earlier rows tell it by what their rate was chosen by, or not."""
    chosen = row.chosen[0]
    return chosen.get("judged") or next((part for part in ("dev", "test") if part in chosen["by"]), "dev or test")


def _reached(value: float | None) -> str:
    return "no number" if value is None else f"{value:.4f}"


def _runs(sweeps: Sequence[Path]) -> tuple[list[Run], str]:
    """All runs of a row's sweeps, of several folds the first's, and which that is in words."""
    found: list[Run] = []
    words = ""
    for folder in sweeps:
        folds = [folder] if (folder / RESULT).is_file() else [one.parent for one in sorted(folder.glob(f"*/{RESULT}"))]
        if folds:
            found += read_runs(folds[0])
            words = f"; {folds[0].name}, the first of {len(folds)} folds" if len(folds) > 1 else ""
    return found, words


def curves(runs: Sequence[Run], judged: str = "dev") -> "Figure":
    """Training loss and the figure on what judges, over the steps: a colour for each rate, a line for each seed."""
    figure = new_figure(9.0, 3.2)
    dev, loss = figure.subplots(1, 2)
    rates = sorted({run.rate for run in runs}, reverse=True)
    for run in runs:
        color = f"C{rates.index(run.rate)}"
        steps = [point[0] for point in run.curve]
        for axes, place in ((loss, 1), (dev, 2)):
            name = f"{run.rate:g}" if run.seed == runs[0].seed else None
            kind = "-" if len(steps) > 1 else "o"  # a line of one point is none
            axes.plot(steps, [point[place] for point in run.curve], kind, color=color, label=name, linewidth=1.0)
    dev.set_title(judged, fontsize=10)
    loss.set_title("training loss", fontsize=10)
    if any(point[1] > 0 for run in runs for point in run.curve):  # one class only has no loss
        loss.set_yscale("log")
    for axes in (dev, loss):
        axes.set_xlabel("step")
        axes.spines[["top", "right"]].set_visible(False)
    names = dev.get_legend_handles_labels()
    figure.legend(*names, loc="outside right upper", frameon=False, fontsize=8, title="learning rate", title_fontsize=8)
    return figure


def layers(rows: Sequence[Row]) -> "Figure":
    """Bars of the layers' shares, encoder by encoder."""
    drawn = [row for row in rows if row.chosen[0]["layers"] and len(row.chosen[0]["layers"][0]) > 1]
    figure = new_figure(max(4.0, 3.0 * len(drawn)), 2.6)
    for axes, row in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        shares = [[math.nan if share is None else share for share in one] for one in row.chosen[0]["layers"]]
        _bars(axes, row.called, shares, row.chosen[0].get("numbers", range(len(shares[0]))))
    return figure


def _bars(axes: "Axes", name: str, shares: list[list[float]], layers: Sequence[int]) -> None:
    width = 0.8 / len(shares)
    for number, one in enumerate(shares):
        places = [place + (number - (len(shares) - 1) / 2) * width for place in range(len(one))]
        axes.bar(places, one, width, color="#1f5a99", alpha=0.5 + 0.5 * number / len(shares))
    axes.axhline(1 / len(shares[0]), color="#999", linewidth=0.8, linestyle=":")
    axes.set_title(fill(name, 30), fontsize=9, parse_math=False)
    axes.set_xticks(range(len(shares[0])), [str(layer) for layer in layers])
    axes.set_xlabel("layer")
    axes.spines[["top", "right"]].set_visible(False)
