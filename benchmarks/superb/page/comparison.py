# SPDX-License-Identifier: Apache-2.0
"""The part of the page that sets scores beside the leaderboard's rows, and says when they may be compared."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from ...report import Page
from ...scores import FILE, Row
from .. import overall
from ..layouts.published import INCOMPLETE
from .data_card import Card

_SITE = "https://github.com/superbbenchmark/website-react/blob/cacb90e506388db6421714d184497c11056188ca"
SOURCE, POINTS = f"{_SITE}/backend/utils.py#L99", f"{_SITE}/frontend/src/Data.js"
OFFICIAL = {
    "pr": "LibriSpeech train-clean-100, dev-clean and test-clean with SUPERB's lexicons",
    "asr": "LibriSpeech train-clean-100, dev-clean and test-clean",
    "ks": "Speech Commands v0.01 with its test archive",
    "qbe": "QUESST 2014, English",
    "sf": "Audio SNIPS",
    "ic": "Fluent Speech Commands",
    "sid": "VoxCeleb1's identification split",
    "asv": "VoxCeleb1's verification trials",
    "sd": "Libri2Mix, two speakers with noise",
    "er": "IEMOCAP, four classes in five folds",
    "ss": "Libri2Mix at 16 kHz, min, two speakers without noise",
    "se": "Voicebank-DEMAND at 16 kHz",
}
NAMES = {
    "per": "PER, %",
    "wer": "WER, %",
    "wer_lm": "WER with language model, %",
    "accuracy": "accuracy, %",
    "mtwv": "MTWV, %",
    "slot_type_f1": "F1 of slot types, %",
    "slot_value_cer": "CER of slot values, %",
    "eer": "EER, %",
    "der": "DER, %",
    "si_sdri": "SI-SDRi, dB",
    "pesq": "PESQ",
    "stoi": "STOI, %",
}


def figures(row: Row) -> dict[str, float]:
    """A row's figures by the leaderboard's names, such as pr/per, and in its units: percent, dB and PESQ's own."""
    task = row.task.split("/")[1]
    found = {}
    for name, value in row.scores.items():
        known = "wer_lm" if name == "wer_beam" else name.removesuffix("_greedy")
        if f"{task}/{known}" in overall.COLUMNS and known in NAMES:
            found[f"{task}/{known}"] = 100.0 * value if NAMES[known].endswith("%") else value
    return found


def show(made: Page, rows: Sequence[Row], cards: Sequence[Card | None]) -> None:
    """One task's rows above the leaderboard's.

    Args:
        cards: what each row was scored on.
    """
    task = rows[0].task.split("/")[1]
    columns = [name for name in overall.COLUMNS if name.split("/")[0] == task and name.split("/")[1] in NAMES]
    if not columns:
        return
    pairs = list(zip(rows, cards, strict=True))
    row, card = next((pair for pair in pairs if bar(*pair)), pairs[0])
    made.text(f"Beside the SUPERB leaderboard. {verdict(row, card)}")
    lines = []
    for row, card in zip(rows, cards, strict=True):
        own = figures(row)
        told = {column: linked(row, f"<b>{own[column]:.2f}</b>") for column in columns if column in own}
        cells = [told.get(column, "–") for column in columns]
        used = [card.name, bar(row, card) if card.official else _lacking(card)] if card else ["not kept"]
        lines.append((f"<b>{html.escape(row.called)}</b>", "", *cells, html.escape("; ".join(filter(None, used)))))
    for one in overall.ROWS:
        lines.append((one.model, one.data or "–", *(_cell(one, name) for name in columns), "official"))
    table(made, ("model", "pre-trained on", *map(_heading, columns), "data"), lines)
    made.markup(
        f"<p class=note>Source of each linked figure: <a href='{SOURCE}'>superbbenchmark/website-react@cacb90e, "
        "backend/utils.py</a>, get_leaderboard_default (April 2024), the public set; those models were trained and "
        "scored by s3prl (Yang et al. 2021, arXiv:2105.01051). LS: LibriSpeech, LL: Libri-Light. Figures in bold are "
        f"ours, and each leads to its sweep; their rows are in <a href='{FILE}'>{FILE}</a>.</p>"
    )


def linked(row: Row, cell: str) -> str:
    """A cell, which is HTML, as a link to the sweep that its figure came from; the title says the row, and all sweeps.

    Sweeps lie in OUT/superb-TASK, and OUT holds the page.
    """
    sweeps = ["/".join(Path(place).parts[-2:]) for chosen in row.chosen for place in chosen["sweeps"]]
    title = f"{FILE}, {row.task}, {row.called}: {', '.join(sweeps)}"
    return f'<a href="{quote(sweeps[0])}/" title="{html.escape(title)}">{cell}</a>'


def table(made: Page, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """As `Page.table`, of cells that are HTML below a head that is text."""
    lines = ["".join(f"<th>{html.escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    made.markup("<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>")


def bar(row: Row, card: Card | None) -> str:
    """Why a row is no score of SUPERB's, in a few words; "" if it is one."""
    if card is None:
        return "unknown data"
    if not card.official:
        return _lacking(card) or "other data"
    if "changed" not in row.chosen[0]:
        return "unknown settings"
    changed = [f"{name} {words}" for name, words in row.chosen[0]["changed"].items()]
    return f"other settings, {', '.join(changed)}" if changed else ""


def verdict(row: Row, card: Card | None) -> str:
    """Whether rows may be compared, in one or two plain sentences."""
    wanted = OFFICIAL[row.task.split("/")[1]]
    if card is None:
        return f"Rows are comparable only on the official data set ({wanted}); what this run used was not kept."
    if card.official and (why := bar(row, card)):
        return (
            f"{row.called} used the official data set ({wanted}), but {why}, so its figure is no leaderboard score; in "
            "brackets stands what is published."
        )
    if card.official:
        return f"This run used the official data set ({wanted}) and the published settings, so rows are comparable."
    if why := _lacking(card):
        whole = f"Rows are comparable only on the whole official data set ({wanted})"
        return f"{whole}. This run used {why}, so its figure is no leaderboard score."
    return (
        f"Rows are comparable only on the official data set ({wanted}). This run used other data, {card.name}, so its "
        "figure is no leaderboard score and may be far above or below what the same encoder would reach there."
    )


def _lacking(card: Card) -> str:
    """What incomplete data lack, in a few words; "" for other data."""
    return card.protocol.split(";")[0] if card.protocol.startswith(INCOMPLETE) else ""


def _heading(name: str) -> str:
    return f"{NAMES[name.split('/')[1]]} {'↓' if _less(name) else '↑'}"


def _less(name: str) -> bool:
    """Whether less is better."""
    return name.split("/")[1] in ("per", "wer", "wer_lm", "slot_value_cer", "eer", "der")


def _cell(one: overall.Row, name: str) -> str:
    value = f"{one.figures[overall.COLUMNS.index(name)]:.2f}"
    where = f"{one.model}, {name}: superbbenchmark/website-react@cacb90e, backend/utils.py"
    return f'<a href="{SOURCE}" title="{html.escape(where)}">{value}</a>'


def summary(made: Page, rows: Sequence[Row], cards: Sequence[Card | None]) -> None:
    """The overall score of each encoder, and what its points stand for.

    Args:
        cards: what each row was scored on.
    """
    encoders = list(dict.fromkeys(row.called for row in rows))
    known: dict[str, dict[str, float]] = {encoder: {} for encoder in encoders}
    barred: dict[str, dict[str, str]] = {encoder: {} for encoder in encoders}
    told = {(row.called, name): row for row in rows for name in figures(row)}
    for row, card in zip(rows, cards, strict=True):
        known[row.called].update(figures(row))
        if why := bar(row, card):
            barred[row.called][row.task.split("/")[1]] = why
    made.heading("The overall SUPERB score")
    made.markup(
        "<p>A task's points lie on the line from FBANK's figure (0) to the best of 2021 (1000); the overall score is "
        f"the mean over the ten tasks (<a href='{POINTS}'>superbbenchmark/website-react@cacb90e, frontend/src/Data.js"
        "</a>, reference_points; the rule: frontend/src/overall_metrics.js). Points are given for official data and "
        "the published settings only.</p>"
    )
    lines = []
    for task, metric, base, top in overall.REFERENCES:
        name = f"{task}/{metric}"
        if task in overall.CORE:
            cells = [
                linked(told[one, name], _gained(known[one][name], base, top, barred[one].get(task, "")))
                if (one, name) in told
                else "–"
                for one in encoders
            ]
            lines.append((task, _heading(name), f"{base:.2f}", f"{top:.2f}", *cells))
    table(made, ("task", "figure", "0 points", "1000 points", *encoders), lines)
    for encoder in encoders:
        made.text(total(encoder, known[encoder], barred[encoder]))


def _gained(value: float, base: float, top: float, why: str) -> str:
    points = f"{1000 * (value - base) / (top - base):.0f} points"
    return html.escape(f"{value:.2f} ({why or points})")


def total(encoder: str, found: Mapping[str, float], barred: Mapping[str, str]) -> str:
    """An encoder's overall score in a line, or why there is none.

    Args:
        found: its figures by the leaderboard's names. barred: tasks whose figures are no scores of SUPERB's, and why.
    """
    done = {name.split("/")[0] for name in found}
    missing = [task for task in overall.CORE if task not in done]
    other = {task: barred[task] for task in overall.CORE if task in done and task in barred}
    if not missing and not other:
        return f"{encoder}: {overall.overall(found):.0f} points, the mean over the ten tasks."
    reasons = {why: [task for task in other if other[task] == why] for why in dict.fromkeys(other.values())}
    if missing:
        reasons["not evaluated"] = missing
    words = "; ".join(f"{', '.join(tasks)}: {why}" for why, tasks in reasons.items())
    return f"{encoder}: no overall score, as it needs all ten tasks on official data, as published: {words}."
