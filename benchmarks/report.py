# SPDX-License-Identifier: Apache-2.0
"""One static HTML page: curves of runs, tables of scores, pictures. Everything is inside the page."""

import argparse
import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..ssl.monitor import METRICS
from ..ssl.recipe import FILE
from . import scores
from .files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c }
h1 { font-weight: 600 } h2 { margin-top: 2.5rem; font-weight: 600; border-bottom: 1px solid #ddd }
table { border-collapse: collapse } td, th { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #eee }
td:first-child, th:first-child { text-align: left } img { max-width: 100% } .note { color: #555 }
mark { background: #d7f0d0; padding: 0 .15rem } mark.wrong { background: #f6d8d0 } code { background: #f3f3f3 }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd } img { background: #fff }
td, th, h2 { border-color: #333 } mark { color: #111 } code { background: #2a2a2a } .note { color: #aaa } }
"""

# Fonts with Chinese, Japanese and Korean characters.
FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Source Han Sans SC", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "Droid Sans Fallback", "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Arial Unicode MS",
)  # fmt: skip


class Page:
    """A page in the making."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.parts: list[str] = [f"<h1>{html.escape(title)}</h1>"]

    def heading(self, text: str) -> None:
        """A section begins."""
        self.parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, words: str, note: bool = False) -> None:
        """A paragraph."""
        self.parts.append(f"<p{' class=note' if note else ''}>{html.escape(words)}</p>")

    def markup(self, fragment: str) -> None:
        """A piece of HTML, which the caller has escaped."""
        self.parts.append(fragment)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table of text."""
        lines = ["<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>"]
        lines += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
        self.parts.append("<table>" + "".join(lines) + "</table>")

    def figure(self, figure: "Figure", words: str) -> None:
        """A matplotlib figure with a line below it that is also its description."""
        _lend_fonts(figure)
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=110, bbox_inches="tight")
        data = base64.b64encode(out.getvalue()).decode()
        text = html.escape(words)
        self.parts.append(
            f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
        )

    def save(self, path: Path) -> None:
        """Writes the page."""
        head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(self.title)}</title>'
        view = '<meta name="viewport" content="width=device-width">'
        write_text(path, f"{head}{view}<style>{_STYLE}</style><body>" + "\n".join(self.parts) + "</body></html>\n")


def new_figure(width: float = 8.0, height: float = 3.0) -> "Figure":
    """A figure without a window or a global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _lend_fonts(figure: "Figure") -> None:
    """Lets characters that matplotlib's own font has not be drawn by fonts that are installed."""
    from matplotlib.font_manager import fontManager
    from matplotlib.text import Text

    installed = {font.name for font in fontManager.ttflist}
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_fontfamily([*text.get_fontfamily(), *(name for name in FONTS if name in installed)])


def metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of a run. Raises ValueError if it has none."""
    path = run / METRICS
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    if not rows:
        raise ValueError(f"{run} has no {METRICS} with rows")
    return rows


def curve(run: Path) -> "Figure":
    """A run's loss over its steps: each step, their running mean, and the held-out loss."""
    rows = metrics(run)
    figure = new_figure()
    axes = figure.add_subplot()
    steps = [row["step"] for row in rows]
    losses = [float(row["loss"]) for row in rows]
    window = max(1, len(losses) // 20)
    padded = losses[:1] * window + losses
    means = [sum(padded[i + 1 : i + 1 + window]) / window for i in range(len(losses))]
    axes.plot(steps, losses, color="#b9cde0", linewidth=0.8)
    axes.plot(steps, means, color="#1f5a99", label="loss, running mean")
    held = [(row["step"], float(row["held_out_loss"])) for row in rows if "held_out_loss" in row]
    if held:
        axes.plot(*zip(*held, strict=True), "o-", color="#c4591b", markersize=4, label="held-out loss")
    axes.set_xlabel("step")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _spread(row: scores.Row) -> str:
    return ", ".join(f"{value:.4f}" for value in row.values())


def main(words: list[str]) -> None:
    """`pluri report DIR... [--out FILE]`: the curves and scores of all runs and score files in these folders."""
    parser = argparse.ArgumentParser(prog="pluri report", description="one static HTML page of runs and scores")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path("report.html"))
    known = parser.parse_args(words)
    for folder in known.folders:
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder")
    page = Page("pluri: " + ", ".join(str(folder) for folder in known.folders))
    found = 0
    for folder in known.folders:
        for path in sorted(folder.rglob(scores.FILE)):
            found += 1
            page.heading(f"scores: {path.parent}")
            rows = scores.read(path.parent)
            for task in dict.fromkeys(row.task for row in rows):
                mine = [row for row in rows if row.task == task]
                page.text(f"{task} on {mine[0].settings.get('data', {}).get('path', '')}")
                for line in scores.attributed(mine, lambda row: (row.protocol,)):
                    page.text(line, note=True)
                lines = [(row.called, f"{row.scores[row.main]:.4f}", _spread(row)) for row in mine]
                page.table(("encoder", mine[0].main, "seeds"), lines)
        for run in sorted(path.parent for path in folder.rglob(FILE)):
            found += 1
            last = metrics(run)[-1]
            page.heading(f"run: {run}")
            page.figure(curve(run), f"loss of {run.name} over {last['step']} steps")
            numbers = [(name, f"{value:.5g}") for name, value in last.items() if isinstance(value, (int, float))]
            page.table(("last step", "value"), [row for row in numbers if row[0] != "time"])
    if not found:
        raise ValueError(f"there is no run and no {scores.FILE} in {', '.join(map(str, known.folders))}")
    page.save(known.out)
    print(f"{known.out}: {found} runs and score files")
