# SPDX-License-Identifier: Apache-2.0
"""Pages draw characters that matplotlib's own font has not, where a font for them is installed."""

import warnings

import pytest

from pluri.benchmarks import report


def draw() -> None:
    figure = report.new_figure()
    axes = figure.subplots()
    axes.set_xticks([0, 1], ["one", "\U0001d608"])  # which of matplotlib's fonts STIXGeneral alone has
    axes.plot([0, 1], label="\U0001d609")
    axes.legend()
    report.Page("fonts").figure(figure, "words")


def test_what_the_usual_font_lacks_is_drawn_by_another(monkeypatch):
    monkeypatch.setattr(report, "FONTS", ("no such font",))
    with pytest.warns(UserWarning, match="missing from font"):
        draw()
    monkeypatch.setattr(report, "FONTS", ("no such font", "STIXGeneral"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw()
