# SPDX-License-Identifier: Apache-2.0
"""Telling classes apart, in any modality: nearest neighbours, a linear probe, and fine-tuning."""

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ssl.data import Dataset
from ..ssl.encoder import Backbone, Encoded
from ..ssl.objective import Batch
from ..ssl.optim import OptimizerConfig, ScheduleConfig
from ..ssl.recipe import LoopConfig, Training
from ..ssl.train import fit
from .features import COST, Vectors, vectors
from .finetune import predict
from .labelled import Labelled, LabelledConfig, Parts, read
from .task import Score, Splits, Supervised, Task, TaskConfig, commonest

DECAYS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # strengths of the probe's L2 penalty that are tried


class Classes(Task):
    """One class for each item, by accuracy and macro F1."""

    def __init__(self, config: LabelledConfig, pool: Literal["mean", "first"], backbone: Backbone) -> None:
        self.pool: Literal["mean", "first"] = pool
        self.reads = "first" if pool == "first" else "all"
        self.parts: Parts = read(config, backbone)

    def data(self, backbone: Backbone) -> Splits:
        return Splits(self.parts.train, {}, {"": self.parts.test})

    def head(self, width: int) -> nn.Module:
        return PooledLinear(width, len(self.parts.classes), self.pool)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs.float(), batch.extras["label"], reduction="sum")

    def count(self, batch: Batch) -> int:
        return len(batch.inputs)

    def predict(self, outputs: Tensor, batch: Batch) -> list[Any]:
        return outputs.argmax(-1).tolist()

    def answers(self, data: Dataset, predictions: Sequence[Any]) -> list[Any]:
        return [self.parts.classes[number] for number in predictions]

    def idle(self, data: Dataset) -> list[Any]:
        return commonest(self.references(data))

    def references(self, data: Dataset) -> list[str]:
        assert isinstance(data, Labelled)
        return [self.parts.classes[data.labels[number]] for number in data.records[:, 0].tolist()]

    def score(self, data: Dataset, answers: Sequence[Any]) -> Score:
        known, said = ([self.parts.classes.index(one) for one in many] for many in (self.references(data), answers))
        return self.figures(known, said)

    def figures(self, references: Sequence[int], predictions: Sequence[int]) -> Score:
        """Accuracy and macro F1 of classes' numbers."""
        from sklearn.metrics import accuracy_score, f1_score

        f1 = f1_score(references, predictions, average="macro")
        return Score("accuracy", {"accuracy": float(accuracy_score(references, predictions)), "macro_f1": float(f1)})


class PooledLinear(nn.Module):
    """A linear layer on the pooled states."""

    def __init__(self, width: int, classes: int, pool: Literal["mean", "first"]) -> None:
        super().__init__()
        self.pool: Literal["mean", "first"] = pool
        self.linear = nn.Linear(width, classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, encoded: Encoded) -> Tensor:
        """(B, classes)."""
        return self.linear(encoded.pooled(self.pool))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeConfig(TaskConfig):
    """Frozen vectors, one for each item, and a classifier on them."""

    trains: ClassVar[bool] = False

    data: LabelledConfig = LabelledConfig()
    classifier: Literal["knn", "linear"]
    pool: Literal["mean", "first"] = "mean"
    layer: int = -1  # -1: the normalised output; 0: the encoder's input; k: the output of block k
    neighbours: int = 20  # knn
    temperature: float = 0.07  # knn: a neighbour's vote is exp(cosine / temperature)

    def rules(self) -> str:
        how = f"{self.neighbours} nearest neighbours" if self.classifier == "knn" else "logistic regression"
        return f"{how} on frozen vectors; {self.data.rules()}"

    def evaluate(self, backbone: Backbone, seed: int) -> tuple[Score, dict[str, Any]]:
        """The score of a frozen backbone, and what was chosen on the way. `seed` changes nothing here."""
        task = Classes(self.data, self.pool, backbone)
        layer = self.layer if backbone.encoder.config.depth else -1
        train = vectors(backbone, task.parts.train, self.pool, layer)
        test = vectors(backbone, task.parts.test, self.pool, layer)
        chosen: dict[str, Any] = {"train": len(train.x), "test": len(test.x), "bad": len(train.bad) + len(test.bad)}
        if self.classifier == "knn":
            predicted = nearest(train, test.x, len(task.parts.classes), self.neighbours, self.temperature)
        else:
            predicted, chosen["decay"] = linear(train, test.x)
        return task.figures(test.labels.tolist(), predicted.tolist()), chosen


def nearest(train: Vectors, x: np.ndarray, classes: int, neighbours: int, temperature: float) -> np.ndarray:
    """(n,) classes of `x` (n, D) by a vote of the nearest vectors (Wu et al. 2018, arXiv:1805.01978, section 3.4)."""
    known, asked = (F.normalize(torch.from_numpy(rows), dim=1) for rows in (train.x, x))
    labels = torch.from_numpy(train.labels)
    out = []
    for part in asked.split(1024):
        similar, index = (part @ known.T).topk(min(neighbours, len(known)), dim=1)  # (n, k)
        votes = torch.zeros(len(part), classes).scatter_add_(1, labels[index], (similar / temperature).exp())
        out.append(votes.argmax(1))
    return torch.cat(out).numpy()


def linear(train: Vectors, x: np.ndarray) -> tuple[np.ndarray, float]:
    """(n,) classes of `x` (n, D) by logistic regression on standardised vectors, and the strength of its penalty.

    The strength is chosen on a fifth of the training items, every fifth of each class; then all are used.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, std = train.x.mean(0), train.x.std(0) + 1e-6
    known, asked = (train.x - mean) / std, (x - mean) / std
    aside = _every_fifth(train.labels)

    def fitted(decay: float, rows: np.ndarray) -> LogisticRegression:
        model = LogisticRegression(C=1.0 / (decay * len(rows)), max_iter=300, tol=1e-3)
        with warnings.catch_warnings():
            # Where the penalty is weakest the optimum is far away; stopping before it is a choice like any other.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return model.fit(known[rows], train.labels[rows])

    rest, held = np.flatnonzero(~aside), np.flatnonzero(aside)
    accuracy = [float(fitted(decay, rest).score(known[held], train.labels[held])) for decay in DECAYS]
    best = DECAYS[int(np.argmax(accuracy))]
    return np.asarray(fitted(best, np.arange(len(known))).predict(asked)), best


def _every_fifth(labels: np.ndarray) -> np.ndarray:
    """(n,) bool: the fifth, tenth, ... item of each class; of a small class at least none."""
    out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        out[np.flatnonzero(labels == label)[4::5]] = True
    if not out.any():
        out[-1] = True
    return out


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTuneConfig(TaskConfig):
    """The whole network trained for the task; or, with `frozen`, only a head on a learned mean of its layers."""

    trains: ClassVar[bool] = True

    data: LabelledConfig = LabelledConfig()
    pool: Literal["mean", "first"] = "mean"
    frozen: bool = False
    epochs: float = 5.0  # of the training items
    batch: float = 0.0  # items' cost in a step; 0: 2048 tokens, 30 seconds or 64 images
    optimizer: OptimizerConfig = OptimizerConfig(
        lr=3e-4, weight_decay=0.01, clip=1.0, schedule=ScheduleConfig(kind="linear", warmup=0.1)
    )
    loop: LoopConfig = LoopConfig(workers=0, buckets=8)

    def rules(self) -> str:
        what = "a head on a learned mean of the frozen layers" if self.frozen else "the whole network"
        return f"{what}, {self.epochs:g} epochs, lr {self.optimizer.lr:g}; {self.data.rules()}"

    def evaluate(self, backbone: Backbone, seed: int) -> tuple[Score, dict[str, Any]]:
        """The score after training on the task from `seed`."""
        task = Classes(self.data, self.pool, backbone)
        train, test = task.parts.train, task.parts.test
        batch = self.batch or COST[train.unit] / 4
        steps = max(1, round(self.epochs * float(train.epoch(0).sizes.sum()) / batch))
        torch.manual_seed(seed)
        model = Supervised(task, backbone, self.frozen)
        training = Training(steps=steps, batch=batch, seed=seed, optimizer=self.optimizer, loop=self.loop)
        fit(model, train, None, training)
        found = predict(model, test)
        numbers = test.records[:, 0].tolist()
        references = [test.labels[number] for number in numbers if number in found]
        predictions = [found[number] for number in numbers if number in found]
        return task.figures(references, predictions), {"steps": steps, "batch": batch, "seed": seed}


def knn() -> ProbeConfig:
    """k nearest neighbours on frozen vectors, for any folder of classes or table (Wu et al. 2018, arXiv:1805.01978)."""
    return ProbeConfig(classifier="knn")


def linear_probe() -> ProbeConfig:
    """Logistic regression on frozen vectors, for any folder of classes or table."""
    return ProbeConfig(classifier="linear")


def finetune() -> FineTuneConfig:
    """The whole network trained, for any folder of classes or table; --frozen True: a head on all layers."""
    return FineTuneConfig()
