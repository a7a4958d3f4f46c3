# SPDX-License-Identifier: Apache-2.0
"""The part of the page that shows mistakes: a spectrogram of each, and what was said of it beside what is right."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...report import Page, new_figure
from ..sd.rttm import Turn
from . import alignment
from .mistakes import Example, Mistakes
from .spectrogram import DEPTH, LONGEST, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 3  # short clips side by side
SPOKEN, HEARD = "#1f5a99", "#c4591b"


def show(made: Page, encoder: str, found: Sequence[Mistakes]) -> None:
    """Draws an encoder's mistakes; of several folds the first one's, as the others would fill the page."""
    if not found:
        return
    for one in found:
        made.text(f"{encoder}: {one.words}{'' if one is found[0] else ' (not drawn)'}.")
    examples = found[0].examples
    if any(example.said or example.right for example in examples):
        made.text(f"Below each: what is right, and what was said; {alignment.NOTHING} is nothing.", note=True)
    short = [example for example in examples if not _alone(example)]
    if short:
        shades = f"brightest: each clip's loudest hundredth; black: {DEPTH:g} dB below"
        made.figure(clips(short), f"log mel spectrograms; {shades}")
    for example in examples:
        if _alone(example):
            made.figure(_figure(example), f"{example.words}{_cut(example)}")
        if example.said or example.right:
            made.markup(alignment.marked(example.said, example.right))


def _alone(example: Example) -> bool:
    """Whether it has a figure of its own."""
    return bool(len(example.sounds) > 1 or example.said or example.right or example.heard or example.spoken)


def _cut(example: Example) -> str:
    return f" (the first {LONGEST:g} s)" if any(sound.drawn < sound.end for sound in example.sounds) else ""


def clips(examples: Sequence[Example]) -> "Figure":
    """Short clips in rows of three."""
    across = min(ACROSS, len(examples))
    down = -(-len(examples) // across)
    figure = new_figure(3.1 * across, 2.4 * down)
    places = figure.subplots(down, across, squeeze=False).flat
    for axes, example in zip(places, examples, strict=False):
        draw(axes, example.sounds[0])
        axes.set_title(f"{example.words}{_cut(example)}", fontsize=8, parse_math=False)
    for axes in list(figure.axes)[len(examples) :]:
        axes.set_axis_off()
    return figure


def _figure(example: Example) -> "Figure":
    if example.heard or example.spoken:
        return turns(example)
    figure = new_figure(max(9.0, 3.0 * len(example.sounds)), 2.4)
    lengths = [sound.drawn - sound.start for sound in example.sounds]
    shares = [max(length, 0.25 * max(lengths)) for length in lengths]
    titles = example.called or [Path(sound.path).name for sound in example.sounds]
    places = figure.subplots(1, len(lengths), width_ratios=shares, squeeze=False)[0]
    for axes, sound, title in zip(places, example.sounds, titles, strict=True):
        draw(axes, sound)
        axes.set_title(title, fontsize=8, parse_math=False)
    return figure


def turns(example: Example) -> "Figure":
    """A recording's chunk, and below it who speaks and who is said to."""
    (sound,) = example.sounds
    names = sorted({turn.speaker for turn in example.spoken})
    names += sorted({turn.speaker for turn in example.heard} - set(names))
    figure = new_figure(9.0, 2.6 + 0.35 * len(names))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.0, 0.35 * len(names)))
    draw(above, sound, below=False)
    for row, name in enumerate(names):
        _bars(below, row - 0.2, name, example.spoken, SPOKEN)
        _bars(below, row + 0.2, name, example.heard, HEARD)
    below.set_ylim(len(names) - 0.5, -0.5)
    below.set_yticks(range(len(names)), names, fontsize=7, parse_math=False)
    below.set_xlim(sound.start, sound.drawn)
    below.tick_params(axis="x", labelsize=7)
    below.set_xlabel("seconds in the file", fontsize=8)
    handles = [below.plot([], [], color=color, linewidth=5)[0] for color in (SPOKEN, HEARD)]
    figure.legend(
        handles,
        ["speaks (reference)", "is said to speak"],
        loc="outside lower right",
        ncols=2,
        fontsize=7,
        frameon=False,
    )
    return figure


def _bars(axes: "Axes", place: float, name: str, spoken: Sequence[Turn], color: str) -> None:
    spans = [(turn.start, turn.end - turn.start) for turn in spoken if turn.speaker == name]
    axes.broken_barh(spans, (place - 0.17, 0.34), color=color)
