# SPDX-License-Identifier: Apache-2.0
"""A linear layer that in float32 on a CPU is oneDNN's, where torch calls MKL: 5 to 15 % faster, bias and GELU within.

Shape letters: N rows, I and O features before and after.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

_ROWS, _FEATURES = 512, 192  # fewer take MKL as long, or less

# oneDNN's layer, which is no public name, and MKL, which it is faster than.
_AVAILABLE = (
    torch.backends.mkl.is_available()
    and torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)

if _AVAILABLE:  # for torch's FlopCounterMode, which would count nothing

    @register_flop_formula(torch.ops.mkldnn._linear_pointwise)
    def _flops(x_shape: torch.Size, weight_shape: torch.Size, *rest: Any, **named: Any) -> int:
        return 2 * math.prod(x_shape) * weight_shape[0]


class Linear(nn.Linear):
    """nn.Linear, with the same parameters and names."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W' + b.

    Args:
        x: (..., I); weight (O, I); bias (O,).
    """
    if not _suits(x, weight):
        return F.linear(x, weight, bias)
    if not torch.is_grad_enabled():
        return _product(x, weight, bias)
    out = _Linear.apply(x, weight, bias)
    assert isinstance(out, Tensor)
    return out


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """GELU(x W' + b), the exact one (Hendrycks & Gimpel 2016); without gradients in one pass, where oneDNN has it."""
    if torch.is_grad_enabled() or not _suits(x, weight):
        return F.gelu(linear(x, weight, bias))
    return _product(x, weight, bias, "gelu")


def _suits(x: Tensor, weight: Tensor) -> bool:
    large = x.numel() >= _ROWS * x.shape[-1] and min(weight.shape) >= _FEATURES
    # For a weight that is a part of a larger one oneDNN takes its reference, a thousand times as slow.
    plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and weight.is_contiguous()
    own = _AVAILABLE and not torch.compiler.is_compiling() and not torch.is_autocast_enabled("cpu")
    return large and plain and own


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    how = "none" if then == "gelu" else ""  # of two GELUs the exact one
    return torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight, bias, then, [], how)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ANN001  torch's own
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx, gradient: Tensor):  # noqa: ANN001, ANN205  # pyright: ignore
        x, weight = ctx.saved_tensors
        to_x = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            # A gradient of this gradient, which oneDNN's layer does not have, is asked for where gradients are on.
            to_x = gradient @ weight if torch.is_grad_enabled() else _product(gradient, weight.T)
        rows, before = gradient.flatten(0, -2), x.flatten(0, -2)
        if ctx.needs_input_grad[1]:
            O, I = weight.shape  # noqa: E741
            to_weight = rows.T @ before if O >= I else (before.T @ rows).T  # the longer side in rows suits MKL better
        if ctx.needs_input_grad[2]:
            to_bias = rows.sum(0)
        return to_x, to_weight, to_bias
