# SPDX-License-Identifier: Apache-2.0
"""Texts and pairs of texts as BERT reads them, with a class or a number for each (Devlin et al. 2019, section 4.1).

Shape letters: B rows, T tokens, D width, C classes (1: a number is predicted).
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from ...ssl.data import Dataset, Epoch, Item
from ...ssl.encoder import Backbone, Encoded
from ...ssl.objective import Batch
from ...ssl.positions import LearnedPositionsConfig, SinusoidalPositionsConfig
from ...text import tokenizer as wordpiece
from ..encoders import Start, modality, text_tokenizer
from ..task import Score, Splits, Task
from .examples import Example

SHORTEST = 8  # tokens: three are not the texts' own
AT_ONCE = 4096  # examples whose tokenizer's own encodings, which are large, are held together


class Sentences(Dataset):
    """A text, or two, between the tokenizer's markers, cut at `longest` tokens from the longer text's end.

    Inputs are (T, 2): ids and segments; extras: "label" (), a class's number or a float, where labels are known.

    Args:
        labels: classes' names in the order of their numbers; empty: labels are numbers' texts.
        count: what the loader counts: "items" for training with a fixed batch, "tokens" for reading all.
    """

    ragged = True

    def __init__(
        self,
        examples: Sequence[Example],
        tokenizer: Tokenizer,
        labels: tuple[str, ...],
        longest: int = 128,
        count: Literal["items", "tokens"] = "tokens",
    ) -> None:
        self.examples, self.classes, self.unit = examples, labels, count
        self.ids, self.bounds, self.firsts = self._encode(tokenizer, longest)
        self.labels = [self._label(one) for one in examples]
        self.records = np.arange(len(examples), dtype=np.int64)[:, None]
        sizes = np.diff(self.bounds)
        self.sizes = np.ones(len(examples)) if count == "items" else sizes.astype(np.float64)

    def _encode(self, tokenizer: Tokenizer, longest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All ids back to back, where each example begins and ends, and how many of its ids are segment 0."""
        flat, bounds, firsts, frame = array("i"), array("q", [0]), array("q"), wordpiece.frame(tokenizer)
        for begin in range(0, len(self.examples), AT_ONCE):
            examples = self.examples[begin : begin + AT_ONCE]
            first = tokenizer.encode_batch_fast([one.first for one in examples], add_special_tokens=False)
            second = tokenizer.encode_batch_fast([one.second or "" for one in examples], add_special_tokens=False)
            for one, a, b in zip(examples, first, second, strict=True):
                pair = one.second is not None
                keep_a, keep_b = cut(len(a), len(b), longest - frame.markers) if pair else (min(len(a), longest - 2), 0)
                flat.extend(frame.two(a.ids[:keep_a], b.ids[:keep_b]) if pair else frame.one(a.ids[:keep_a]))
                bounds.append(len(flat))
                firsts.append(frame.begin(keep_a) if pair and frame.segments else bounds[-1] - bounds[-2])
        return np.array(flat, dtype=np.int32), np.array(bounds, dtype=np.int64), np.array(firsts, dtype=np.int64)

    def _label(self, one: Example) -> int | float | None:
        if one.label is None:
            return None
        return self.classes.index(one.label) if self.classes else float(one.label)

    def source(self) -> Iterable[object]:
        return self.examples

    def epoch(self, key: int) -> Epoch:
        return Epoch(self.records, self.sizes)

    def load(self, record: np.ndarray, key: int) -> Item:
        number = int(record[0])
        ids = torch.from_numpy(self.ids[self.bounds[number] : self.bounds[number + 1]].astype(np.int64))
        segments = (torch.arange(len(ids)) >= int(self.firsts[number])).long()
        label = self.labels[number]
        extras = {} if label is None else {"label": torch.tensor(label)}
        return Item(torch.stack([ids, segments], dim=1), extras)

    def name(self, record: np.ndarray) -> str:
        return f"example {self.examples[int(record[0])].index}"

    def save_assets(self, folder: Path) -> None:
        pass


def check_longest(backbone: Backbone, longest: int, shortest: int = SHORTEST) -> None:
    """Raises ValueError if examples of so many tokens have no room for texts, or the encoder none for them."""
    positions = backbone.encoder.config.positions
    if isinstance(positions, LearnedPositionsConfig | SinusoidalPositionsConfig) and longest > positions.length:
        raise ValueError(
            f"examples have up to {longest} tokens, but the encoder has {positions.length} positions: "
            f"set --data.longest to {positions.length} or less"
        )
    if longest < shortest:
        raise ValueError(f"--data.longest {longest} leaves no room for texts: set {shortest} or more")


def cut(a: int, b: int, most: int) -> tuple[int, int]:
    """How many tokens of two texts are kept so that together they are at most `most`.

    As google-research/bert@eedf5716, run_classifier.py: while they are too many, the longer one loses one, the second
    one where they are equal.
    """
    if a + b <= most:
        return a, b
    half = most // 2
    if a <= half:
        return a, most - a
    if b <= half:
        return most - b, b
    return most - half, half


def exactly(layer: nn.Linear, x: Tensor) -> Tensor:
    """A linear layer in float32: in bf16 the answers of a weak network to different texts are often the same number."""
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.float())


class FirstVector(nn.Module):
    """BERT's classifier: the first vector through the pooler (linear, tanh), dropout, and a linear layer.

    Args:
        pooler: the pre-trained pooler's weight (D, D) and bias (D,); None: random, as RoBERTa has it.
    """

    def __init__(self, width: int, outputs: int, pooler: dict[str, Tensor] | None = None, dropout: float = 0.1) -> None:
        super().__init__()
        self.pooler = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, outputs)
        for layer in (self.pooler, self.classifier):
            nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04)
            nn.init.zeros_(layer.bias)
        if pooler is not None:
            self.pooler.load_state_dict(pooler)

    def forward(self, encoded: Encoded) -> Tensor:
        """(B, C)."""
        return exactly(self.classifier, self.dropout(torch.tanh(self.pooler(encoded.pooled("first")))))


class MeanVector(nn.Module):
    """The mean of all vectors, dropout, and a linear layer, for encoders whose first vector was never trained."""

    def __init__(self, width: int, outputs: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, outputs)
        nn.init.trunc_normal_(self.classifier.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, encoded: Encoded) -> Tensor:
        """(B, C)."""
        return exactly(self.classifier, self.dropout(encoded.pooled("mean")))


class Parts(NamedTuple):
    """The examples of a task."""

    train: list[Example]
    dev: dict[str, list[Example]]
    test: dict[str, list[Example]] = {}  # with labels
    hidden: dict[str, list[Example]] = {}  # without


class SentenceTask(Task):
    """A class, or a number, for each text or pair of texts.

    Args:
        classes: their names; empty: a number is predicted, with the squared error as loss.
        longest: tokens of an example.
        figures: the official metrics of a part, from its examples and a class's name or a number for each.
    Raises: ValueError if the encoder takes no text, or has no tokenizer.
    """

    def __init__(
        self,
        start: Start,
        parts: Parts,
        classes: tuple[str, ...],
        figures: Callable[[Sequence[Example], Sequence[Any]], Score],
        pool: Literal["first", "mean"] = "first",
        longest: int = 128,
    ) -> None:
        if modality(start.backbone) != "text":
            raise ValueError("this task is for text encoders")
        check_longest(start.backbone, longest)
        tokenizer = text_tokenizer(start.backbone)
        self.pooler, self.pool, self.classes, self.figures = start.pooler, pool, classes, figures
        self.reads = "first" if pool == "first" else "all"

        def encoded(many: dict[str, list[Example]]) -> dict[str, Dataset]:
            return {name: Sentences(examples, tokenizer, classes, longest) for name, examples in many.items()}

        train = Sentences(parts.train, tokenizer, classes, longest, count="items")
        self.splits = Splits(train, encoded(parts.dev), encoded(parts.test), encoded(parts.hidden))

    def data(self, backbone: Backbone) -> Splits:
        return self.splits

    def head(self, width: int) -> nn.Module:
        outputs = len(self.classes) or 1
        return FirstVector(width, outputs, self.pooler) if self.pool == "first" else MeanVector(width, outputs)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        label = batch.extras["label"]
        if not self.classes:
            return (outputs[:, 0].float() - label.float()).square().sum()
        return F.cross_entropy(outputs.float(), label, reduction="sum")

    def count(self, batch: Batch) -> int:
        return len(batch.inputs)

    def predict(self, outputs: Tensor, batch: Batch) -> list[Any]:
        return outputs.argmax(-1).tolist() if self.classes else outputs[:, 0].float().tolist()

    def answers(self, data: Dataset, predictions: Sequence[Any]) -> list[Any]:
        return [self.classes[number] for number in predictions] if self.classes else list(predictions)

    def idle(self, data: Dataset) -> list[Any]:
        assert isinstance(data, Sentences)
        many = len(data.examples)
        if not self.classes:
            return [0.0] * many
        # By the figure itself: F1 likes a rare class better than the commonest.
        said = [[name] * many for name in self.classes]
        return max(said, key=lambda answers: (score := self.score(data, answers)).figures[score.main])

    def references(self, data: Dataset) -> list[Any]:
        assert isinstance(data, Sentences)
        return [one.label if self.classes else float(one.label or 0.0) for one in data.examples]

    def score(self, data: Dataset, answers: Sequence[Any]) -> Score:
        assert isinstance(data, Sentences)
        return self.figures(data.examples, answers)
