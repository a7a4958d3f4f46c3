# SPDX-License-Identifier: Apache-2.0
"""A network trained for a task by one setting and one seed, and what it then says of a data set.

Several settings and seeds, and the choice among them, stand in `grid.py`.
"""

import dataclasses
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from ..ssl.config import Config, to_dict
from ..ssl.data import Dataset, Loader
from ..ssl.optim import OptimizerConfig, ScheduleConfig
from ..ssl.recipe import LoopConfig, Training
from ..ssl.train import fit
from .encoders import Start
from .features import COST
from .task import Supervised, Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting(Config):
    """How a network is fine-tuned. Defaults: transformers' run_glue.py."""

    lr: float = 2e-5
    batch: int = 32  # items
    epochs: float = 3.0
    warmup: float = 0.0  # share of the steps
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip: float | None = 1.0

    def __post_init__(self) -> None:
        if self.batch < 1 or not self.epochs > 0 or not self.lr > 0:
            raise ValueError(f"batch {self.batch}, epochs {self.epochs:g}, lr {self.lr:g}: all must be above 0")

    def name(self) -> str:
        """What tells the settings of a grid apart, fit for a file's name."""
        return f"lr{self.lr:g}_batch{self.batch}_epochs{self.epochs:g}"

    def training(self, items: int, seed: int, loop: LoopConfig) -> Training:
        """What the loop needs for a training set of so many items."""
        schedule = ScheduleConfig(kind=self.schedule, warmup=self.warmup)
        optimizer = OptimizerConfig(
            lr=self.lr,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            clip=self.clip,
            schedule=schedule,
        )
        steps = max(1, round(items * self.epochs / self.batch))
        return Training(steps=steps, batch=float(self.batch), seed=seed, optimizer=optimizer, loop=loop)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TunedConfig(Config, ABC):
    """Settings of a task for which the whole network is trained, and of its protocol."""

    tests_later: ClassVar[bool] = False  # whether finished runs may be tested on files that were not there then

    # Fine-tuning runs are short: a checkpoint now and then, none when the run is done.
    loop: LoopConfig = LoopConfig(workers=0, keep=0)

    def meant(self) -> dict[str, Any]:
        """The settings that a run's outcome depends on. Where the data are is none of them: what they are counts."""
        settings = to_dict(self)
        settings["loop"] = {name: settings["loop"][name] for name in ("precision", "buckets")}
        settings.get("data", {}).pop("path", None)
        return settings

    @abstractmethod
    def settings(self) -> list[Setting]:
        """The grid, of which the best on the dev split is taken; often only one."""

    @abstractmethod
    def check(self) -> None:
        """Reads the task's files. Raises MissingFiles if they are not there, ValueError if they cannot be used."""

    @abstractmethod
    def task(self, start: Start) -> Task:
        """The task and its data. Raises MissingFiles if they are not there, ValueError if they cannot be used."""

    @abstractmethod
    def rules(self) -> str:
        """One line on the protocol, to be printed beside every score."""

    @abstractmethod
    def write(self, task: Task, part: str, data: Dataset, answers: list[Any], folder: Path) -> None:
        """Writes what is said of a part ("dev", or a hidden one's name) in the leaderboard's form, if it has one."""


class MissingFiles(ValueError):
    """A task's files are not there; a suite then leaves the task out and says so."""


def fine_tune(model: Supervised, setting: Setting, seed: int, loop: LoopConfig, folder: Path | None) -> None:
    """Trains a backbone and a task's head, in place.

    Args:
        seed: of the order of the items and of dropout.
        folder: for metrics.jsonl; a run that was cut off goes on from its last checkpoint there.
    Raises: ssl.stopped.Stopped if the training cannot go on.
    """
    data = model.task.data(model.backbone).train
    fit(model, data, None, setting.training(len(data.epoch(0).records), seed, loop), folder)


@torch.inference_mode()
def predict(model: Supervised, data: Dataset, precision: Literal["fp32", "bf16"] = "fp32") -> dict[int, Any]:
    """A prediction for each item that can be read, under its number (column 0 of its record), in the data's order."""
    model.eval()
    device = next(model.parameters()).device
    found: dict[int, Any] = {}
    for loaded in Loader(dataset=data, batch=COST[data.unit], seed=0).all():
        if loaded.batch is None:
            continue
        batch = loaded.batch.to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            said = model.task.predict(model.outputs(batch), batch)
        bad = {name for name, _ in loaded.bad}
        records = loaded.source.records
        good = [int(record[0]) for record in records if not bad or data.name(record) not in bad]
        found.update(zip(good, said, strict=True))
    return {number: found[number] for number in data.epoch(0).records[:, 0].tolist() if number in found}
