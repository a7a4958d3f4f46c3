# SPDX-License-Identifier: Apache-2.0
# pyright: reportPrivateImportUsage=false
"""Optimisers with the papers' parameter groups, and learning rates as functions of the share of the run done."""

import dataclasses
import math
from collections.abc import Sequence
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
    fused AdamW it divides gradients by the tensor `grad_scale`, and leaves everything as it is when the tensor
    `found_inf` is not zero, without the host having to look.
    """

    found_inf: Tensor | None = None
    grad_scale: Tensor | None = None

    def __init__(self, groups: list[dict[str, object]], lr: float, momentum: float, trust: float) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "trust": trust, "weight_decay": 0.0, "adapt": True})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._update(parameters, group)

    def _update(self, parameters: list[Tensor], group: dict[str, float]) -> None:
        like = parameters[0]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.grad_scale is not None:
            gradients = torch._foreach_div(gradients, self.grad_scale.to(like))
        if group["adapt"]:
            gradients = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
            norms, sizes = (_norms(tensors) for tensors in (parameters, gradients))
            ratios = torch.where((norms > 0) & (sizes > 0), group["trust"] * norms / sizes, 1.0)
            gradients = torch._foreach_mul(_shards(gradients), list(ratios.unbind()))
        decay, rate = group["momentum"], group["lr"]
        if self.found_inf is not None:  # a step of nothing: no gradient, the momentum as it is, a rate of 0
            skip = self.found_inf.to(like.device) != 0
            gradients = [gradient.masked_fill(skip, 0.0) for gradient in gradients]
            decay, rate = torch.where(skip, 1.0, decay), torch.where(skip, 0.0, rate)
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = _shards([self.state[parameter]["momentum"] for parameter in parameters])
        torch._foreach_mul_(momenta, decay)
        torch._foreach_add_(momenta, _shards(gradients))
        torch._foreach_sub_(_shards(parameters), torch._foreach_mul(momenta, rate))


def _shards(tensors: Sequence[Tensor]) -> list[Tensor]:
    """This rank's parts of tensors that are sharded, and others as they are."""
    from torch.distributed.tensor import DTensor

    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]


def _norms(tensors: Sequence[Tensor]) -> Tensor:
    """(n,) the norms of whole tensors."""
    from torch.distributed.tensor import DTensor

    norms = torch._foreach_norm(list(tensors))
    return torch.stack([norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms])


def clipped_step(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], clip: float | None) -> Tensor:
    """One step of an optimiser of `OptimizerConfig`, its gradient cut down to the norm `clip`; none if not finite.

    The clip is a division in the optimiser's own pass over the gradients, and the host waits for nothing.

    Returns: () the gradient's norm, before.
    """
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    scale = None if clip is None else ((norm.float() + 1e-6) / clip).clamp(min=1.0)
    optimizer.grad_scale = scale  # pyright: ignore[reportAttributeAccessIssue]
    optimizer.found_inf = (~torch.isfinite(norm)).float()  # pyright: ignore[reportAttributeAccessIssue]
    optimizer.step()
    return norm


def clipped_step_sharded(
    optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], clip: float | None
) -> Tensor:
    """As `clipped_step` for sharded parameters, beside which the fused kernel takes neither a scale nor a flag."""
    from torch.distributed.tensor import DTensor

    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if clip is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    assert isinstance(norm, DTensor)
    norm = norm.full_tensor()
    if torch.isfinite(norm).item():
        optimizer.step()
    return norm
