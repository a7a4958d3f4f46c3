# SPDX-License-Identifier: Apache-2.0
"""A run in one value: what is trained on what, how, and for how long. A recipe function returns one."""

import dataclasses
import json
from pathlib import Path
from typing import Literal, Self

from .blocks import EncoderConfig
from .config import Config, from_dict, to_dict
from .data import DataConfig
from .encoder import Backbone, Encoder, FrontEndConfig
from .objective import Objective, ObjectiveConfig
from .optim import OptimizerConfig

FILE = "recipe.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopConfig(Config):
    """How a run is carried out; none of it changes what is computed, but for rounding."""

    accumulate: int = 1  # parts that each rank works its share of a batch off in
    precision: Literal["fp32", "bf16"] = "bf16"  # bf16: autocast; losses and statistics stay in float32
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = 2  # loader processes a rank
    buckets: int = 1  # batches whose items are sorted by length together; 1: none
    compile: bool = False  # torch.compile each block
    recompute: bool = False  # blocks a second time in the backward pass, instead of keeping what they need for it
    sharding: Literal["ddp", "fsdp"] = "ddp"  # with several ranks
    evaluate_every: int = 1000  # steps
    evaluate_batches: int = 20  # of the held-out split, at most
    save_every: int = 1000  # steps
    keep: int = 2  # checkpoints; 0: none once the run is done


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(Config):
    """The part of a run that any objective needs: fine-tuning and probing have it too."""

    steps: int
    batch: float  # a step's tokens, seconds or images, of all ranks
    seed: int = 0
    optimizer: OptimizerConfig = OptimizerConfig()
    loop: LoopConfig = LoopConfig()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(Config):
    """A pre-training run."""

    front_end: FrontEndConfig
    encoder: EncoderConfig
    objective: ObjectiveConfig
    data: DataConfig
    optimizer: OptimizerConfig
    steps: int
    batch: float  # a step's tokens, seconds or images, of all ranks
    seed: int = 0
    init: str = ""  # an ENCODER to go on from; empty: random weights
    loop: LoopConfig = LoopConfig()

    @property
    def training(self) -> Training:
        """What the loop needs."""
        return Training(steps=self.steps, batch=self.batch, seed=self.seed, optimizer=self.optimizer, loop=self.loop)

    def backbone(self, assets: Path | None = None) -> Backbone:
        """The backbone with random weights."""
        return Backbone(self.front_end.build(assets), Encoder(self.encoder))

    def build(self, assets: Path | None = None) -> Objective:
        """The objective with random weights."""
        return self.objective.build(self.backbone(assets))

    def save(self, run: Path) -> None:
        """Writes recipe.json into a run directory."""
        (run / FILE).write_text(json.dumps(to_dict(self), indent=1) + "\n")

    @classmethod
    def load(cls, run: Path) -> Self:
        """The recipe of a run directory. Raises ValueError if there is none, or it is none."""
        path = run / FILE
        if not path.is_file():
            raise ValueError(f"{run} is no run directory: it has no {FILE}")
        recipe = from_dict(json.loads(path.read_text()))
        if not isinstance(recipe, cls):
            raise ValueError(f"{path} holds no recipe")
        return recipe
