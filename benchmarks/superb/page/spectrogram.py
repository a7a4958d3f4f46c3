# SPDX-License-Identifier: Apache-2.0
"""Draws the log mel spectrogram of a piece of a file: seconds in the file across, hertz upwards.

Filters are those of `speech.features` (Slaney's mel scale: even below 1 kHz, logarithmic above), frames 25 ms every 10.
Shape letters: T frames, U filters.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ....speech import audio
from ....speech.features import HOP, RATE, FeaturesConfig
from ....ssl.data import BadItem

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 64  # with more, the lowest filters are narrower than the spectrum's 40 Hz, and stripes appear
DEPTH = 65.0  # decibels that are told apart, below what the loudest hundredth of the cells passes
LONGEST = 40.0  # seconds that are drawn
_HERTZ = (0, 500, 1000, 2000, 4000, 8000)


class Sound(NamedTuple):
    """A piece of a file."""

    path: str
    start: float  # seconds
    end: float

    @property
    def drawn(self) -> float:
        """Where the picture of it ends, in seconds."""
        return min(self.end, self.start + LONGEST)


def decibels(sound: Sound) -> np.ndarray:
    """(T, U): the power in each filter; the loudest hundredth is above 0. Raises BadItem if there is no audio."""
    wave = audio.read(Path(sound.path), sound.start, sound.drawn - sound.start)
    features = FeaturesConfig(kind="log_mel", bins=BINS, deltas=0, normalize=False).build()
    x, _ = features(wave[None])
    level = 10.0 / math.log(10.0) * x[0].numpy()
    return level - np.percentile(level, 99.0)


def height(hertz: float) -> float:
    """Where a frequency stands among the filters: that of the centre of filter i is i."""
    step = math.log(6.4) / 27.0

    def mel(frequency: float) -> float:
        return frequency * 3.0 / 200.0 if frequency < 1000.0 else 15.0 + math.log(frequency / 1000.0) / step

    return mel(hertz) / mel(RATE / 2) * (BINS + 1) - 1.0


def draw(axes: "Axes", sound: Sound, below: bool = True) -> None:
    """Draws it, or says in the picture's place why it cannot be read.

    A line marks half the file's own rate, above which a file of less than 16 kHz holds nothing.

    Args:
        below: whether the axis of time is labelled.
    """
    import soundfile

    axes.set_xlim(sound.start, sound.drawn)
    axes.set_ylim(height(0.0), height(RATE / 2))
    axes.set_yticks([height(hertz) for hertz in _HERTZ], [f"{hertz}" for hertz in _HERTZ], fontsize=7)
    axes.set_ylabel("Hz", fontsize=8)
    axes.locator_params(axis="x", nbins=6)
    axes.tick_params(axis="x", labelsize=7, labelbottom=below)
    if below:
        axes.set_xlabel("seconds in the file", fontsize=8)
    try:
        level = decibels(sound)
        rate = soundfile.info(sound.path).samplerate
    except (BadItem, soundfile.LibsndfileError) as error:
        axes.text(
            0.5,
            0.5,
            f"{Path(sound.path).name}: {error}",
            transform=axes.transAxes,
            ha="center",
            fontsize=7,
            parse_math=False,
        )
        return
    half = HOP / RATE / 2  # frames stand at multiples of the hop
    sides = (sound.start - half, sound.start + len(level) * HOP / RATE - half, -0.5, BINS - 0.5)
    axes.imshow(level.T, origin="lower", aspect="auto", extent=sides, cmap="magma", vmin=-DEPTH, vmax=0.0)
    axes.set_facecolor("black")
    axes.set_xlim(sound.start, sound.drawn)
    axes.set_ylim(height(0.0), height(RATE / 2))
    if rate < RATE:
        axes.axhline(height(rate / 2), color="w", linewidth=0.7, linestyle=":")
        axes.text(sound.drawn, height(rate / 2), f"file: {rate} Hz ", color="w", fontsize=6, ha="right", va="bottom")
