# SPDX-License-Identifier: Apache-2.0
"""A linear layer that in float32 on a CPU is oneDNN's, where torch calls MKL: 5 to 15 % faster, bias and GELU within.

Shape letters: N rows, I and O features before and after.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import flop_registry, register_flop_formula

_ROWS, _FEATURES = 512, 192  # fewer take MKL as long, or less

# oneDNN's layer, which is no public name, and MKL, which it is faster than.
_AVAILABLE = (
    torch.backends.mkl.is_available()
    and torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)

# For torch's FlopCounterMode, which would count nothing.
if _AVAILABLE and torch.ops.mkldnn._linear_pointwise not in flop_registry:

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
    if not _suits(x, weight, bias):
        return F.linear(x, weight, bias)
    if not torch.is_grad_enabled():
        return _product(x, weight, bias)
    out = _Linear.apply(x, weight, bias)
    assert isinstance(out, Tensor)
    return out


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """GELU(x W' + b), the exact one (Hendrycks & Gimpel 2016); without gradients in one pass, where oneDNN has it."""
    if torch.is_grad_enabled() or not _suits(x, weight, bias):
        return F.gelu(linear(x, weight, bias))
    return _product(x, weight, bias, "gelu")


def _suits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    if not _AVAILABLE or _watched():
        return False
    large = x.numel() >= _ROWS * x.shape[-1] and min(weight.shape) >= _FEATURES
    return large and _plain(x, weight, bias)


def _plain(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether these are what oneDNN's layer reads without looking: float32 on the CPU, of shapes that fit.

    A bias that is a part or an expansion it reads past; for such a weight it takes its reference, a thousand times as
    slow.
    """
    given = (x, weight) if bias is None else (x, weight, bias)
    usual = all(type(t) in (Tensor, nn.Parameter) and t.layout == torch.strided for t in given)
    here = all(t.device.type == "cpu" and t.dtype == torch.float32 for t in given)
    fits = x.shape[-1] == weight.shape[1] and (bias is None or bias.shape == weight.shape[:1])
    return usual and here and fits and all(t.is_contiguous() for t in given[1:])


def _watched() -> bool:
    """Whether something has to see torch's own layer: a compiler, a tracer, a transform, autocast; or oneDNN is off."""
    seen = torch.compiler.is_compiling() or torch._C._is_tracing() or torch._C._are_functorch_transforms_active()
    return seen or torch.is_autocast_enabled("cpu") or not torch.backends.mkldnn.enabled


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
