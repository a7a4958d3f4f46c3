# SPDX-License-Identifier: Apache-2.0
"""What a pre-training method is: a backbone, what one paper adds to it, and a `forward` that returns the loss.

Shape letters: B rows, T positions, D width.
"""

import copy
import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import parallel
from .config import Config
from .encoder import Backbone


@dataclasses.dataclass
class Batch:
    """One step's items, or one rank's share of them."""

    inputs: Tensor  # (B, T, ...) raw, padded with zeros: ids, samples, or (B, C, H, W) pixels
    lengths: Tensor | None  # (B,) int64 on the CPU: how much of each row is real; None where rows are equally long
    keys: Tensor  # (B,) int64: one random key for each item, from (seed, epoch, item)
    extras: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    counts: dict[str, Tensor] | None = None  # what `Objective.counts` gives, summed over ranks and accumulation steps

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on a device; lengths stay on the host, which is where they are read."""
        extras = {name: value.to(device, non_blocking=True) for name, value in self.extras.items()}
        keys = self.keys.to(device, non_blocking=True)
        return Batch(self.inputs.to(device, non_blocking=True), self.lengths, keys, extras, self.counts)

    def pin_memory(self) -> "Batch":
        """The batch in memory that a GPU can copy from without the host waiting."""
        extras = {name: value.pin_memory() for name, value in self.extras.items()}
        return Batch(self.inputs.pin_memory(), self.lengths, self.keys.pin_memory(), extras, self.counts)


class Objective(nn.Module, ABC):
    """A backbone and what one paper adds to train it.

    `forward` returns {"loss": scalar, ...}, other scalars being worth a curve. Means are taken over `counts`: the loop
    puts the counts of all ranks and accumulation steps, divided by the number of ranks, into `batch.counts`, so that
    the sum of the losses of a step's shares, averaged over ranks, is the mean over the whole batch.
    """

    alarms: ClassVar[Mapping[str, float]] = {}  # scalars that mean collapse when they stay below a value

    batch_statistics: bool = False  # whether the loss joins items of a batch, so that accumulation would change it

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    @abstractmethod
    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Over how many things each mean of the loss is taken in this batch: scalars, found without encoding."""

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of a batch, under "loss", and other scalars."""

    def after_step(self, progress: float) -> None:
        """Called after each optimiser step with the share of the run that is done, for teachers and temperatures."""

    def shared_counts(self, batch: Batch) -> dict[str, Tensor]:
        """The counts that means are to be divided by, never 0: those of the whole step, or of this batch alone."""
        counts = self.counts(batch) if batch.counts is None else batch.counts
        return {name: count.clamp(min=1e-3) for name, count in counts.items()}


class ObjectiveConfig(Config, ABC):
    """Settings of an objective."""

    @abstractmethod
    def build(self, backbone: Backbone) -> Objective:
        """The objective around a backbone. Raises ValueError if the backbone cannot be trained this way."""


class Views(ABC):
    """Random views of a batch, for objectives that compare two of them. All randomness comes from the items' keys."""

    @abstractmethod
    def __call__(self, inputs: Tensor, lengths: Tensor | None, keys: Tensor, view: int) -> tuple[Tensor, Tensor | None]:
        """View number `view` (0 or 1) of raw inputs, with its lengths (CPU), ready for the front end."""


def two_views(views: Views, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Views 0 and 1 of all rows, one below the other, for an encoder that takes both at once: (2B, ...), (2B,)."""
    (first, here), (second, there) = (views(batch.inputs, batch.lengths, batch.keys, view) for view in (0, 1))
    if here is None or there is None:
        return torch.cat([first, second]), None
    longest = max(first.shape[1], second.shape[1])
    both = first.new_zeros(2 * len(first), longest, *first.shape[2:])
    both[: len(first), : first.shape[1]] = first
    both[len(first) :, : second.shape[1]] = second
    return both, torch.cat([here, there])


class ViewsConfig(Config, ABC):
    """Settings of views."""

    @abstractmethod
    def build(self) -> Views:
        """The views."""


class Teacher(nn.Module):
    """A copy of a module that follows it slowly and is never trained (Tarvainen & Valpola 2017, arXiv:1703.01780)."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(student).requires_grad_(False)

    @torch.no_grad()
    def follow(self, student: nn.Module, decay: float) -> None:
        """teacher = decay * teacher + (1 - decay) * student, for parameters; buffers stay the teacher's own."""
        pairs = zip(self.model.parameters(), student.parameters(), strict=True)
        for mine, its in pairs:
            mine.lerp_(its.detach(), 1.0 - decay)


def cosine_decay(start: float, progress: float) -> float:
    """A teacher's decay from `start` to 1 along a cosine (Grill et al. 2020, arXiv:2006.07733, appendix J)."""
    return 1.0 - (1.0 - start) * (1.0 + math.cos(math.pi * min(1.0, progress))) / 2.0


class BatchNorm(nn.Module):
    """Batch normalisation over the rows of all ranks, in float32; on one rank, torch's own."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, affine: bool = True, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum = momentum
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width)) if affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if affine else None
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) to (B, D) float32. Raises ValueError in training with a single row in all ranks together."""
        x = x.float()
        if parallel.world() == 1 or not self.training:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
            )
        count = parallel.total(torch.full((), float(len(x)), dtype=x.dtype, device=x.device))
        mean = parallel.total_with_gradient(x.sum(0)) / count
        variance = parallel.total_with_gradient((x - mean).square().sum(0)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        out = (x - mean) * torch.rsqrt(variance + self.eps)
        return out if self.weight is None or self.bias is None else out * self.weight + self.bias


def mlp(widths: tuple[int, ...]) -> nn.Sequential:
    """A projector or predictor: linear layers with batch norm and ReLU between; the last has neither, and no bias.

    Both BYOL's (arXiv:2006.07733, section 3.3) and VICReg's (arXiv:2105.04906, section 4.2) have this form.
    """
    layers: list[nn.Module] = []
    *hidden, last = pairwise(widths)
    for before, after in hidden:
        layers += [nn.Linear(before, after), BatchNorm(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(*last, bias=False))
