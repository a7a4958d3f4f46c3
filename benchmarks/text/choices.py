# SPDX-License-Identifier: Apache-2.0
"""Questions with candidates: each candidate is read beside the question's text, and they compete in one softmax.

As BERT does it for SWAG (Devlin et al. 2019, arXiv:1810.04805, section 4.4). Where several candidates are right, as in
ReCoRD, their probabilities are summed (Clark & Gardner 2018, arXiv:1710.10723, section 2.2, after Kadlec et al. 2016,
arXiv:1603.01547), so that none of them is called wrong.
Shape letters: B questions, C candidates of the question that has most, R candidates of all questions, T tokens.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from ...ssl.data import Dataset, Epoch, Item
from ...ssl.encoder import Backbone
from ...ssl.objective import Batch
from ...text import tokenizer as wordpiece
from ..encoders import Start, modality, text_tokenizer
from ..task import Score, Splits, Task, commonest
from .examples import Choices
from .sentences import FirstVector, MeanVector, check_longest, cut

AT_ONCE = 10000  # texts that are tokenised together: what the tokenizer says of a text is larger than its ids
Choose = Callable[[Sequence[Choices], Sequence[Sequence[float]]], list[int]]


class Pieces:
    """The ids of many texts, back to back; those that stand there often, as idioms and passages do, are kept once."""

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        self.places = [places[text] for text in texts]
        once = list(places)
        ids, lengths = [np.empty(0, dtype=np.int32)], [0]
        for begin in range(0, len(once), AT_ONCE):
            encoded = tokenizer.encode_batch_fast(once[begin : begin + AT_ONCE], add_special_tokens=False)
            ids.append(np.fromiter((number for one in encoded for number in one.ids), dtype=np.int32))
            lengths += [len(one) for one in encoded]
        self.ids = np.concatenate(ids)
        self.bounds = np.cumsum(lengths)

    def length(self, number: int) -> int:
        """How many ids a text has."""
        place = self.places[number]
        return int(self.bounds[place + 1] - self.bounds[place])

    def of(self, number: int, most: int) -> list[int]:
        """The first ids of a text."""
        begin, end = self.bounds[self.places[number] : self.places[number] + 2]
        return self.ids[begin : min(begin + most, end)].tolist()


class Questions(Dataset):
    """An item is a question: for each candidate a row of the text and it, framed and cut as pairs are.

    Inputs are (T, 2), ids and segments of all rows back to back, which the loader parts again (`Item.rows`); extras:
    "candidates" (), how many there are, and "right" (candidates,) bool, nowhere true where that is not known.

    Args:
        longest: tokens of a row.
        count: what the loader counts: "items" for training with a fixed batch, "tokens" for reading all.
    """

    ragged = True

    def __init__(
        self,
        examples: Sequence[Choices],
        tokenizer: Tokenizer,
        longest: int = 128,
        count: Literal["items", "tokens"] = "tokens",
    ) -> None:
        self.examples, self.longest, self.unit = examples, longest, count
        self.frame = wordpiece.frame(tokenizer)
        self.texts = Pieces(tokenizer, [one.first for one in examples])
        self.candidates = Pieces(tokenizer, [text for one in examples for text in one.candidates])
        self.begins = np.cumsum([0, *(len(one.candidates) for one in examples)])  # the first candidate of each question
        self.records = np.arange(len(examples), dtype=np.int64)[:, None]
        self.sizes = np.ones(len(examples))
        if count == "tokens":
            tokens = (sum(self.frame.markers + a + b for a, b in self._kept(number)) for number in range(len(examples)))
            self.sizes = np.fromiter(tokens, dtype=np.float64)

    def _kept(self, number: int) -> list[tuple[int, int]]:
        """How many tokens of the text and of each candidate a question's rows have."""
        text = self.texts.length(number)
        places = range(self.begins[number], self.begins[number + 1])
        return [cut(text, self.candidates.length(place), self.longest - self.frame.markers) for place in places]

    def source(self) -> Iterable[object]:
        return self.examples

    def epoch(self, key: int) -> Epoch:
        return Epoch(self.records, self.sizes)

    def load(self, record: np.ndarray, key: int) -> Item:
        number = int(record[0])
        ids: list[int] = []
        segments: list[int] = []
        rows = []
        for place, (a, b) in enumerate(self._kept(number), start=int(self.begins[number])):
            ids += self.frame.two(self.texts.of(number, a), self.candidates.of(place, b))
            segments += self.frame.two_segments(a, b)
            rows.append(a + b + self.frame.markers)
        extras = {"candidates": torch.tensor(len(rows)), "right": torch.tensor(right(self.examples[number]))}
        return Item(torch.tensor([ids, segments]).T.contiguous(), extras, tuple(rows))

    def name(self, record: np.ndarray) -> str:
        return f"question {self.examples[int(record[0])].index}"

    def save_assets(self, folder: Path) -> None:
        pass


def right(one: Choices) -> list[bool]:
    """Which candidates are right: the labelled one, and those whose names are among the answers."""
    if one.names:
        return [name in one.answers for name in one.names]
    return [place == one.label for place in range(len(one.candidates))]


def best(examples: Sequence[Choices], scores: Sequence[Sequence[float]]) -> list[int]:
    """The place of each question's best candidate, the first of equals."""
    return [max(range(len(each)), key=each.__getitem__) for each in scores]


def competing(outputs: Tensor, batch: Batch) -> Tensor:
    """(B, C) float32, the scores of each question's candidates, -inf where it has fewer, from (R, 1)."""
    most = batch.extras["right"].shape[1]
    there = torch.arange(most, device=outputs.device) < batch.extras["candidates"][:, None]  # (B, C)
    empty = torch.full(there.shape, -torch.inf, device=outputs.device)
    return empty.masked_scatter(there, outputs[:, 0].float())


class ChoiceParts(NamedTuple):
    """The questions of a task."""

    train: list[Choices]
    dev: dict[str, list[Choices]]
    test: dict[str, list[Choices]] = {}  # with answers
    hidden: dict[str, list[Choices]] = {}  # without


class ChoiceTask(Task):
    """One of several candidates for each question.

    A question without a right candidate teaches nothing: it is left out of training, which `notes` says, but scored.

    Args:
        figures: the official metrics of a part, from its questions and the place of a candidate for each.
        choose: the places, from the scores of all candidates of a part.
        longest: tokens of a text and a candidate.
    Raises: ValueError if the encoder takes no text or has no tokenizer, or if no question can be trained on.
    """

    def __init__(
        self,
        start: Start,
        parts: ChoiceParts,
        figures: Callable[[Sequence[Choices], Sequence[Any]], Score],
        choose: Choose = best,
        pool: Literal["first", "mean"] = "first",
        longest: int = 128,
    ) -> None:
        if modality(start.backbone) != "text":
            raise ValueError("this task is for text encoders")
        check_longest(start.backbone, longest)
        tokenizer = text_tokenizer(start.backbone)
        self.pooler, self.pool, self.figures, self.choose = start.pooler, pool, figures, choose
        self.reads = "first" if pool == "first" else "all"
        known = [one for one in parts.train if any(right(one))]
        if not known:
            raise ValueError("no question of the training set has a right candidate")
        if left_out := len(parts.train) - len(known):
            self.notes = [f"train: {left_out} questions without a right candidate were not trained on"]

        def encoded(many: dict[str, list[Choices]]) -> dict[str, Dataset]:
            return {name: Questions(examples, tokenizer, longest) for name, examples in many.items()}

        train = Questions(known, tokenizer, longest, count="items")
        self.splits = Splits(train, encoded(parts.dev), encoded(parts.test), encoded(parts.hidden))

    def data(self, backbone: Backbone) -> Splits:
        return self.splits

    def head(self, width: int) -> nn.Module:
        return FirstVector(width, 1, self.pooler) if self.pool == "first" else MeanVector(width, 1)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        scores = competing(outputs, batch)
        correct = scores.masked_fill(~batch.extras["right"], -torch.inf)
        return (scores.logsumexp(1) - correct.logsumexp(1)).sum()

    def count(self, batch: Batch) -> int:
        return len(batch.keys)

    def predict(self, outputs: Tensor, batch: Batch) -> list[Any]:
        candidates = batch.extras["candidates"].tolist()
        return [row[:many] for row, many in zip(competing(outputs, batch).tolist(), candidates, strict=True)]

    def answers(self, data: Dataset, predictions: Sequence[Any]) -> list[Any]:
        assert isinstance(data, Questions)
        return self.choose(data.examples, predictions)

    def idle(self, data: Dataset) -> list[Any]:
        assert isinstance(data, Questions)
        fewest = min(len(one.candidates) for one in data.examples)
        places = [place for place in self.references(data) if place is not None and place < fewest] or [0]
        return commonest(places)[:1] * len(data.examples)

    def references(self, data: Dataset) -> list[Any]:
        assert isinstance(data, Questions)
        return [one.label for one in data.examples]

    def score(self, data: Dataset, answers: Sequence[Any]) -> Score:
        assert isinstance(data, Questions)
        return self.figures(data.examples, answers)
