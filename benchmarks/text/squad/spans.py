# SPDX-License-Identifier: Apache-2.0
"""Questions on paragraphs as windows of tokens, and where in them an answer begins and ends.

Devlin et al. 2019 (arXiv:1810.04805, section 4.2); follows google-research/bert@eedf5716, run_squad.py. Differs: the
tokenizer's character offsets, not an alignment of stripped words, say which tokens an answer is, so
- an answer that ends within a token is that token; there the words between spaces that it touches, signs and all;
- of several like it between two spaces it is the one at answer_start; there the first, which in Chinese may be far off;
- an answer that stands at answer_start to the letter is used; there not if it has an unusual space in it.
Shape letters: T tokens of a window, N tokens of a paragraph, W windows of a file.
"""

import dataclasses
import itertools
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer

from ....ssl.config import Config
from ....ssl.data import Dataset, Epoch, Item
from ....text import tokenizer as wordpiece
from .files import Answer, Questions

BLANK = " \\t\\r\\n\u202f"  # what stands between words, as run_squad.py has it; in brackets of a pattern
WORD = re.compile(f"[^{BLANK}]+")
NO_ANSWER = (-1, -1)  # tokens that no window has
AT_ONCE = 1024  # texts that are encoded together


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowConfig(Config):
    """How a paragraph that is too long is cut up. In tokens."""

    longest: int = 384  # of a window: question and stretch of the paragraph, framed as a pair
    stride: int = 128  # from one window's stretch to the next
    question: int = 64  # its first tokens that are kept


class Window(NamedTuple):
    """One question with a stretch of its paragraph."""

    ids: list[int]  # T
    segments: list[int]  # T; BERT's: 0 up to the first [SEP], then 1
    question: int  # its place in `Questions.items`
    begin: int  # where the stretch begins in `ids`
    first: int  # its first token in the paragraph
    length: int  # its tokens
    start: int  # first token of the answer in `ids`; 0, [CLS], if the answer is not, or not wholly, in this window
    end: int  # last token of the answer, likewise


class Tokens(NamedTuple):
    """A paragraph in tokens."""

    ids: np.ndarray  # (N,) int32
    places: np.ndarray  # (N, 2) int32, where each begins and ends, in characters


class Windows(Dataset):
    """All windows of a file's questions, those of a question side by side.

    Inputs are (T, 2): ids and segments; extras, () int64: "start" and "end" of the answer within the window, and
    "window", its number. `bad` has the questions that training skips, as their answer is not in the paragraph; as with
    any corpus the loop names them, and stops if they are more than 5 %.

    Args:
        training: whether starts and ends are filled in; else they are 0, and no question is skipped.
        count: what the loader counts: "items" for training with a fixed batch, "tokens" for reading all.
    Raises: ValueError for settings that leave no room, a question that cannot be trained on as it has no answer and is
        not impossible, a paragraph without a token, or if nothing is left.
    """

    ragged = True

    def __init__(
        self,
        questions: Questions,
        tokenizer: Tokenizer,
        config: WindowConfig | None = None,
        training: bool = False,
        count: Literal["items", "tokens"] = "items",
    ) -> None:
        self.questions, self.config, self.unit = questions, config or WindowConfig(), count
        self.frame = wordpiece.frame(tokenizer)
        markers = self.frame.markers
        if min(self.config.stride, self.config.question, self.config.longest - self.config.question - markers) < 1:
            raise ValueError(
                f"{self.config} leaves no room: set stride and question above 0, longest above question + {markers}"
            )
        self.paragraphs = list(_tokens(questions.contexts, tokenizer))
        self.asked = _ids([item.text for item in questions.items], tokenizer, self.config.question)
        rows: list[tuple[int, int, int, int, int]] = []
        bad: list[tuple[str, str]] = []
        for number, item in enumerate(questions.items):
            answer = self._answer(number) if training and not item.impossible else NO_ANSWER
            if answer is None:
                bad.append((f"question {item.id}", "its answer is not in the paragraph at answer_start"))
            else:
                rows += self._rows(number, answer)
        self.bad = bad
        if not rows:
            raise ValueError(f"{questions.path}: of no question the answer is in its paragraph: check answer_start")
        table = np.array(rows, dtype=np.int64)
        self.records = np.column_stack([np.arange(len(table)), table])  # (W, 6): number, then as `_rows` has it
        lengths = markers + table[:, 2] + np.array([len(self.asked[number]) for number in table[:, 0]])
        self.sizes = np.ones(len(table)) if count == "items" else lengths.astype(np.float64)

    def _answer(self, number: int) -> tuple[int, int] | None:
        """The first and last token of a question's answer in its paragraph; None if it is not there."""
        question = self.questions.items[number]
        if not question.answers:
            place = f"{self.questions.path}, question {question.id}"
            raise ValueError(f"{place}: no answer to train on: give one, or mark it is_impossible")
        span = located(self.questions.contexts[question.context], question.answers[0])
        return span and touched(self.paragraphs[question.context].places, *span)

    def _rows(self, number: int, answer: tuple[int, int]) -> Iterator[tuple[int, int, int, int, int]]:
        """For each window of a question: question, first token, length, start and end (as in `Window`)."""
        question = self.questions.items[number]
        tokens = len(self.paragraphs[question.context].ids)
        if not tokens:
            place = f"{self.questions.path}, question {question.id}"
            raise ValueError(f"{place}: the tokenizer finds nothing in its context: remove the question")
        begin = self.frame.begin(len(self.asked[number]))
        for first, length in stretches(tokens, self.config.longest - begin - 1, self.config.stride):
            start = end = 0
            if first <= answer[0] and answer[1] < first + length:
                start, end = (begin + token - first for token in answer)
            yield number, first, length, start, end

    def window(self, number: int) -> Window:
        """One of the windows, by its number."""
        _, question, first, length, start, end = self.records[number].tolist()
        asked, paragraph = self.asked[question], self.paragraphs[self.questions.items[question].context]
        ids = self.frame.two(asked, paragraph.ids[first : first + length].tolist())
        segments = self.frame.two_segments(len(asked), length)
        return Window(ids, segments, question, self.frame.begin(len(asked)), first, length, start, end)

    def source(self) -> Iterable[object]:
        return itertools.chain(self.questions.contexts, self.questions.items)

    def epoch(self, key: int) -> Epoch:
        return Epoch(self.records, self.sizes)

    def load(self, record: np.ndarray, key: int) -> Item:
        window = self.window(int(record[0]))
        extras = {"start": window.start, "end": window.end, "window": int(record[0])}
        inputs = torch.tensor([window.ids, window.segments]).T.contiguous()  # (T, 2)
        return Item(inputs, {name: torch.tensor(value) for name, value in extras.items()})

    def name(self, record: np.ndarray) -> str:
        return f"question {self.questions.items[int(record[1])].id}, from token {int(record[2])} on"

    def save_assets(self, folder: Path) -> None:
        pass


def located(context: str, answer: Answer) -> tuple[int, int] | None:
    """Where an answer begins and ends, in characters; None if the words at its answer_start do not contain it.

    Of an answer that is elsewhere within these words (those between spaces that it would touch), the nearest counts.
    """
    start, end = answer.start, answer.start + len(answer.text)
    if start < 0 or not answer.text.strip():
        return None
    if context[start:end] == answer.text:
        return start, end
    words = [match.span() for match in WORD.finditer(context)]
    begins = [begin for begin, _ in words]
    if not words or end <= begins[0]:
        return None
    left = begins[max(0, bisect_right(begins, start) - 1)]
    right = words[bisect_right(begins, end - 1) - 1][1]
    pattern = re.compile(f"[{BLANK}]+".join(re.escape(word) for word in answer.text.split()))
    found = [match.span() for match in pattern.finditer(context, left, right)]
    return min(found, key=lambda span: abs(span[0] - start)) if found else None


def stretches(tokens: int, room: int, stride: int) -> list[tuple[int, int]]:
    """The first token and the length of each window's part of a paragraph, for windows with room for so many tokens."""
    found = [(0, min(tokens, room))]
    while sum(found[-1]) < tokens:
        first = found[-1][0] + min(found[-1][1], stride)
        found.append((first, min(tokens - first, room)))
    return found


def touched(places: np.ndarray, start: int, end: int) -> tuple[int, int] | None:
    """The first and last token, of those at `places` (N, 2), that has any of these characters; None if none has."""
    first = int(np.searchsorted(places[:, 1], start, side="right"))
    last = int(np.searchsorted(places[:, 0], end, side="left")) - 1
    return (first, last) if first <= last else None


def _tokens(contexts: list[str], tokenizer: Tokenizer) -> Iterator[Tokens]:
    spaced = bool(wordpiece.frame(tokenizer).space)
    for at in range(0, len(contexts), AT_ONCE):
        some = contexts[at : at + AT_ONCE]
        for text, encoding in zip(some, tokenizer.encode_batch(some, add_special_tokens=False), strict=True):
            offsets = [unspaced(text, *place) for place in encoding.offsets] if spaced else encoding.offsets
            places = np.array(offsets, dtype=np.int32).reshape(-1, 2)
            yield Tokens(np.array(encoding.ids, dtype=np.int32), places)


def unspaced(text: str, begin: int, end: int) -> tuple[int, int]:
    """Where a token of byte-level BPE begins and ends without the space that it may have before it.

    What is nothing but space keeps its last character, also where the tokenizer's own trimming left it none: as an
    answer it is not to be taken for there being none.
    """
    return max(0, end - (len(text[begin:end].lstrip()) or 1)), end


def _ids(texts: list[str], tokenizer: Tokenizer, most: int) -> list[list[int]]:
    """The first ids of each text."""
    encodings = (
        encoding
        for at in range(0, len(texts), AT_ONCE)
        for encoding in tokenizer.encode_batch_fast(texts[at : at + AT_ONCE], add_special_tokens=False)
    )
    return [encoding.ids[:most] for encoding in encodings]
