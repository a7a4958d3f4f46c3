# SPDX-License-Identifier: Apache-2.0
"""What text tasks are made of: examples of one text, of a pair, or with candidates."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """One text or a pair of texts, and what is to be said of it."""

    index: str  # the file's own, or the row's number from 0; predictions are written beside it
    first: str
    second: str | None = None
    label: str | None = None  # a class's name, or a number's text; None where it is hidden
    group: str = ""  # examples that are scored together, such as the answers to one question


@dataclasses.dataclass(frozen=True, slots=True)
class Choices:
    """A text with several candidates, of which one is right."""

    index: str
    first: str
    candidates: tuple[str, ...]
    label: int | None = None  # the right one's place; None where it is hidden
    group: str = ""
    names: tuple[str, ...] = ()  # what a prediction file calls the candidates, where it is not by their places
    answers: tuple[str, ...] = ()  # the right names, where there are several
