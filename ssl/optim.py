# SPDX-License-Identifier: Apache-2.0
"""Optimisers with the papers' parameter groups, and learning rates as functions of the share of the run done."""

import dataclasses
import math
from typing import Literal

import torch
from torch import Tensor, nn

from .config import Config


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig(Config):
    """How the learning rate moves: up during `warmup`, then as `kind` says, down to `end` of its peak."""

    kind: Literal["constant", "linear", "cosine", "tri_stage", "trapezoid"] = "linear"
    warmup: float = 0.01  # share of the run; linear from 0 (tri_stage: from 1 %)
    decay: float = 0.5  # share of the run at its end in which tri_stage and trapezoid fall
    end: float = 0.0  # share of the peak that is left at the end

    def __post_init__(self) -> None:
        if self.kind == "tri_stage" and self.end <= 0.0:
            raise ValueError("schedule tri_stage falls exponentially: set optimizer.schedule.end above 0 (paper: 0.05)")

    def factor(self, progress: float) -> float:
        """The learning rate as a share of its peak when `progress` of the run is done."""
        if progress < self.warmup:
            low = 0.01 if self.kind == "tri_stage" else 0.0
            return low + (1.0 - low) * progress / self.warmup
        done = (progress - self.warmup) / max(1e-12, 1.0 - self.warmup)
        if self.kind == "linear":
            return 1.0 - (1.0 - self.end) * done
        if self.kind == "cosine":
            return self.end + (1.0 - self.end) * (1.0 + math.cos(math.pi * done)) / 2.0
        falling = max(0.0, (progress - (1.0 - self.decay)) / self.decay)
        if self.kind == "tri_stage":  # fairseq: exponential
            return self.end**falling
        if self.kind == "trapezoid":  # ModernBERT: 1 - sqrt
            return 1.0 - (1.0 - self.end) * math.sqrt(falling)
        return 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Config):
    """The optimiser. Biases, norms and other one-dimensional parameters are never decayed (nor scaled, in LARS)."""

    kind: Literal["adamw", "lars"] = "adamw"
    lr: float = 1e-4  # peak
    betas: tuple[float, float] = (0.9, 0.999)  # AdamW
    eps: float = 1e-6  # AdamW
    momentum: float = 0.9  # LARS
    trust: float = 1e-3  # LARS: step as a share of a tensor's norm
    weight_decay: float = 0.01
    clip: float | None = 1.0  # greatest norm of the whole gradient
    schedule: ScheduleConfig = ScheduleConfig()

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of a model's trainable parameters."""
        trained = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.weight_decay, "adapt": True},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0, "adapt": False},
        ]
        groups = [group for group in groups if group["params"]]
        if self.kind == "lars":
            return Lars(groups, lr=self.lr, momentum=self.momentum, trust=self.trust)
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)


class Lars(torch.optim.Optimizer):
    """SGD whose step on each matrix is a share of the matrix's norm (You et al. 2017, arXiv:1708.03888).

    As BYOL, Barlow Twins and VICReg use it: groups with "adapt" False are neither decayed nor scaled. Like torch's
    fused AdamW it leaves everything as it is when the tensor `found_inf` is not zero, without the host having to look.
    """

    found_inf: Tensor | None = None

    def __init__(self, groups: list[dict[str, object]], lr: float, momentum: float, trust: float) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "trust": trust, "weight_decay": 0.0, "adapt": True})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, float]) -> None:
        if group["adapt"]:
            gradient = gradient + group["weight_decay"] * parameter
            norm, size = parameter.norm(), gradient.norm()
            ratio = torch.where((norm > 0) & (size > 0), group["trust"] * norm / size, 1.0)
            gradient = gradient * ratio
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = group["momentum"] * state["momentum"] + gradient
        if self.found_inf is None:
            keep = torch.ones((), dtype=torch.bool, device=parameter.device)
        else:
            keep = self.found_inf == 0
        state["momentum"].copy_(torch.where(keep, momentum, state["momentum"]))
        parameter.copy_(torch.where(keep, parameter - group["lr"] * momentum, parameter))
