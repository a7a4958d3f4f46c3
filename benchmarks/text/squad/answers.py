# SPDX-License-Identifier: Apache-2.0
"""From the logits of each window to answers: the best spans of each question, whether there is none, and the files.

Follows google-research/bert@eedf5716, run_squad.py (Devlin et al. 2019, arXiv:1810.04805, section 4.2 and 4.3).
Differs: a span's text is the stretch of the paragraph from its first to its last token, by the tokenizer's offsets;
there the characters of the words are aligned with the tokens, and where that fails whole words are answered. What
padding says is not looked at; there it may be among the best, and is then thrown away.
Shape letters: T tokens of a window, N tokens of a paragraph, W windows of a question, C candidates.
"""

import dataclasses
import json
import re
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ....ssl.config import Config
from ...files import write_text
from .spans import BLANK, Window, Windows

NOTHING = "empty"  # what run_squad.py answers if no span is valid
BLANKS = re.compile(f"[{BLANK}]+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodeConfig(Config):
    """Which spans are looked at."""

    best: int = 20  # starts and ends of each window that are joined, and answers of each question that are kept
    longest: int = 30  # tokens of an answer


class Candidate(NamedTuple):
    """One answer to a question; "" for none."""

    text: str
    start: float  # logit
    end: float  # logit


class Answers(NamedTuple):
    """What was found for all questions of a file."""

    best: dict[str, list[Candidate]]  # for each question's id, best first
    null_odds: dict[str, float]  # logit of no answer less that of the best answer; empty where there always is one

    def texts(self, threshold: float = 0.0) -> dict[str, str]:
        """One answer for each id; "" where the null odds are above the threshold."""
        if not self.null_odds:
            return {one: found[0].text for one, found in self.best.items()}
        said = {one: next(candidate.text for candidate in found if candidate.text) for one, found in self.best.items()}
        return {one: "" if self.null_odds[one] > threshold else text for one, text in said.items()}


class Spans(NamedTuple):
    """Stretches of a paragraph that may be the answer."""

    tokens: np.ndarray  # (C, 2) int64, the first and the last token
    logits: np.ndarray  # (C, 2) float64, of the two


NO_TOKENS = np.array([[-1, -1]])  # stands for there being no answer


def decode(
    windows: Windows, starts: Sequence[np.ndarray], ends: Sequence[np.ndarray], config: DecodeConfig | None = None
) -> Answers:
    """The answers to all questions that have windows.

    Args:
        starts, ends: for each window, in order, (T,) float logits of the answer's first and last token.
    """
    config = config or DecodeConfig()
    assert len(starts) == len(ends) == len(windows.records), "logits for each window are needed"
    best: dict[str, list[Candidate]] = {}
    null_odds: dict[str, float] = {}
    for question, records in groupby(windows.records.tolist(), key=itemgetter(1)):
        numbers = [record[0] for record in records]
        item = windows.questions.items[question]
        logits = [np.stack([starts[number], ends[number]], axis=1).astype(np.float64) for number in numbers]
        found = spans([windows.window(number) for number in numbers], logits, config)
        null = min((both[:1] for both in logits), key=np.sum)  # (1, 2), of [CLS] where it is least likely
        if windows.questions.nullable:
            found = Spans(np.concatenate([found.tokens, NO_TOKENS]), np.concatenate([found.logits, null]))
        kept = _distinct(windows, question, found, config.best)
        if windows.questions.nullable:
            kept = _with_null(kept, Candidate("", *null[0].tolist()))
            answer = next(candidate for candidate in kept if candidate.text)
            null_odds[item.id] = float(null.sum()) - answer.start - answer.end
        best[item.id] = kept or [Candidate(NOTHING, 0.0, 0.0)]
    return Answers(best, null_odds)


def spans(windows: list[Window], logits: list[np.ndarray], config: DecodeConfig) -> Spans:
    """The spans of one question that may be its answer.

    They join one of the best starts with one of the best ends of a window, lie in the paragraph, are not too long, and
    start where the token has no more context in another window.

    Args:
        logits: for each window (T, 2), of start and end.
    """
    tokens, scores = [], []
    fresh = widest([(window.first, window.length) for window in windows])
    for window, both, widely in zip(windows, logits, fresh, strict=True):
        assert len(both) == len(window.ids)
        starts, ends = np.argsort(-both, axis=0, kind="stable")[: config.best].T - window.begin
        starts = starts[(starts >= 0) & (starts < window.length)]
        starts = starts[widely[starts]]
        ends = ends[(ends >= 0) & (ends < window.length)]
        length = ends - starts[:, None] + 1
        first, last = np.nonzero((length >= 1) & (length <= config.longest))
        pairs = np.stack([starts[first], ends[last]], axis=1)  # (C, 2) in the stretch
        tokens.append(pairs + window.first)
        scores.append(both[pairs + window.begin, [0, 1]])
    return Spans(np.concatenate(tokens), np.concatenate(scores))


def widest(parts: list[tuple[int, int]]) -> list[np.ndarray]:
    """For each stretch of a paragraph, (length,) bool: whether the token has nowhere more context than in it.

    Context is what stands on the poorer side, and a hundredth of the stretch's length; the first stretch wins a tie.
    """
    context = np.full((len(parts), max(first + length for first, length in parts)), -np.inf)  # (W, N)
    for row, (first, length) in zip(context, parts, strict=True):
        token = np.arange(length)
        row[first : first + length] = np.minimum(token, length - 1 - token) + 0.01 * length
    best = context.argmax(0)
    return [best[first : first + length] == number for number, (first, length) in enumerate(parts)]


def _distinct(windows: Windows, question: int, found: Spans, most: int) -> list[Candidate]:
    """The best spans as texts, each text once."""
    context = windows.questions.items[question].context
    text, places = windows.questions.contexts[context], windows.paragraphs[context].places
    kept: dict[str, Candidate] = {}
    for i in np.argsort(-found.logits.sum(1), kind="stable").tolist():
        if len(kept) == most:
            break
        first, last = found.tokens[i].tolist()
        said = "" if first < 0 else BLANKS.sub(" ", text[places[first, 0] : places[last, 1]])
        kept.setdefault(said, Candidate(said, *found.logits[i].tolist()))
    return list(kept.values())


def _with_null(kept: list[Candidate], null: Candidate) -> list[Candidate]:
    """The candidates with that of no answer among them, and never it alone."""
    if all(candidate.text for candidate in kept):
        kept = [*kept, null]
    # run_squad.py fails where no span is valid; transformers puts this in, and so do we.
    return kept if len(kept) > 1 else [Candidate(NOTHING, 0.0, 0.0), *kept]


def write_answers(answers: Answers, folder: Path, threshold: float = 0.0) -> None:
    """Writes predictions.json, nbest_predictions.json and, for SQuAD 2.0, null_odds.json, as run_squad.py does."""
    listed = {}
    for one, found in answers.best.items():
        logits = np.array([candidate.start + candidate.end for candidate in found])
        share = np.exp(logits - logits.max())
        listed[one] = [
            {"text": candidate.text, "probability": part, "start_logit": candidate.start, "end_logit": candidate.end}
            for candidate, part in zip(found, (share / share.sum()).tolist(), strict=True)
        ]
    files = {"predictions.json": answers.texts(threshold), "nbest_predictions.json": listed}
    if answers.null_odds:
        files["null_odds.json"] = answers.null_odds
    for name, content in files.items():
        write_text(folder / name, json.dumps(content, indent=4) + "\n")
