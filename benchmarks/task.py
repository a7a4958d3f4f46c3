# SPDX-License-Identifier: Apache-2.0
"""What a downstream task is, and `Supervised`: a backbone and a task's head as an objective like any other.

Since `Supervised` is an `Objective`, fine-tuning and probing run through the same loop as pre-training.
Shape letters: B rows, T positions, N real positions of all rows, D width.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..ssl.config import Config
from ..ssl.data import Dataset
from ..ssl.encoder import Backbone, Encoded
from ..ssl.objective import Batch, Objective
from ..ssl.packing import Rows


class Splits(NamedTuple):
    """A task's data. Items carry what is to be predicted in their extras.

    Parts have names where there are several ("mismatched"); the one without a name, "", is what the task is known by.
    """

    train: Dataset
    dev: Mapping[str, Dataset]  # for choices (settings, seeds); never the test split
    test: Mapping[str, Dataset]  # scored; empty where the score is that of the dev split
    hidden: Mapping[str, Dataset] = {}  # without labels: predicted for a leaderboard


class Score(NamedTuple):
    """What came of one evaluation."""

    main: str  # the name of the figure that the task is known by
    figures: dict[str, float]


class Task(ABC):
    """One downstream task in one protocol."""

    notes: Sequence[str] = ()  # what a user should know of the data, such as rows that were left out
    reads: Literal["all", "first"] = "all"  # which of the encoder's outputs the head takes; no others are computed

    @abstractmethod
    def data(self, backbone: Backbone) -> Splits:
        """The splits, in the form that the backbone's front end takes. Raises ValueError if they cannot be read."""

    @abstractmethod
    def head(self, width: int) -> nn.Module:
        """What turns an `Encoded` of this width into outputs."""

    @abstractmethod
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """(), the sum of the batch's losses over `count(batch)` things."""

    @abstractmethod
    def count(self, batch: Batch) -> int | Tensor:
        """How many things the batch's loss sums over; a tensor () where a GPU would have to be asked."""

    @abstractmethod
    def predict(self, outputs: Tensor, batch: Batch) -> list[Any]:
        """One prediction for each item of a batch."""

    @abstractmethod
    def answers(self, data: Dataset, predictions: Sequence[Any]) -> list[Any]:
        """What is said of a whole part, in JSON's types, from the predictions of all its items in order."""

    @abstractmethod
    def references(self, data: Dataset) -> list[Any]:
        """What would be right, in the form and order of `answers`."""

    @abstractmethod
    def idle(self, data: Dataset) -> list[Any]:
        """What one who has learnt nothing would say of a part: of every item the same, and the best by `score`."""

    @abstractmethod
    def score(self, data: Dataset, answers: Sequence[Any]) -> Score:
        """The figures of a whole part, as the protocol computes them."""


def commonest(references: Sequence[Any]) -> list[Any]:
    """The answer that is right most often, the first of equals, for every item."""
    return [Counter(references).most_common(1)[0][0]] * len(references)


class TaskConfig(Config, ABC):
    """Settings of a task and of its protocol."""

    trains: ClassVar[bool]  # whether the backbone or a head is trained by steps, so that seeds matter
    split: ClassVar[str] = "test"  # what is scored

    @abstractmethod
    def rules(self) -> str:
        """One line on the protocol, to be printed beside every score."""

    @abstractmethod
    def evaluate(self, backbone: Backbone, seed: int) -> tuple[Score, dict[str, Any]]:
        """The score of a backbone, which training may change, and what was chosen on the way.

        Raises: ValueError for data that cannot be used.
        """


class ZeroShotConfig(Config, ABC):
    """Settings of a task that a model does by the head that it was pre-trained with; so it is loaded by its name."""

    @abstractmethod
    def rules(self) -> str:
        """One line on the protocol, to be printed beside every score."""

    @abstractmethod
    def evaluate(self, encoder: str, twin: int | None) -> tuple[Score, dict[str, Any]]:
        """The score of the model of this name, and what was chosen on the way.

        Args:
            twin: a seed: the same network with random weights is scored in its place.
        Raises: ValueError for data that cannot be used, or a model without the head.
        """


class Mixture(nn.Module):
    """A learned mean of all layers, as SUPERB's frozen probes use (Yang et al. 2021, arXiv:2105.01051, section 3)."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(layers))

    def forward(self, encoded: Encoded) -> Encoded:
        """An `Encoded` whose output is the mean; it keeps no layers."""
        weight = self.weight.softmax(0)
        mean = sum(share * layer for share, layer in zip(weight, encoded.packed_layers, strict=True))
        return Encoded(encoded.rows, torch.as_tensor(mean), [])


class Supervised(Objective):
    """A backbone trained, or only read, for a task.

    Args:
        frozen: the backbone stays as it is, in eval mode; the head reads a learned mean of all its layers.
    """

    def __init__(self, task: Task, backbone: Backbone, frozen: bool = False) -> None:
        super().__init__(backbone)
        self.task = task
        self.frozen = frozen
        self.mixture = Mixture(backbone.encoder.config.depth + 1) if frozen else None
        self.head = task.head(backbone.encoder.config.width)
        backbone.requires_grad_(not frozen)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        count = self.task.count(batch)
        if not isinstance(count, Tensor):
            count = torch.full((), float(count), device=batch.inputs.device)
        return {"targets": count.float()}

    def outputs(self, batch: Batch) -> Tensor:
        """What the head says of a batch."""
        if self.mixture is None:
            return self.head(self._encoded(batch))
        self.backbone.eval()
        with torch.no_grad():
            encoded = self.backbone(batch.inputs, batch.lengths)
        return self.head(self.mixture(encoded))

    def _encoded(self, batch: Batch) -> Encoded:
        if self.task.reads == "all":
            return self.backbone(batch.inputs, batch.lengths, layers=False)
        first = self.backbone.pooled(batch.inputs, batch.lengths, "first")  # (B, D)
        return Encoded(Rows.of(first[:, None], None), first, [])

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self.task.loss(self.outputs(batch), batch) / self.shared_counts(batch)["targets"]}
