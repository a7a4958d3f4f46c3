# SPDX-License-Identifier: Apache-2.0
"""Unpadded self-attention: each position sees its own row only, and as little padding as can be is computed on.

Shape letters: N real positions of all rows, H heads, d width of a head, G rows of a group, L the longest of them.
"""

import functools
import inspect
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from . import cpu_attention
from .packing import Rows

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # queries, keys, values (N, H, d) to (N, H, d)

# Pairs of positions that the padding of a group may cost: attention costs the square of the length, and one group more
# some forty calls forward and backward, which on a CPU take as long as this many pairs (of 12 heads of 32 or 64). On a
# GPU, by computation alone (5 us a call, 100 TFLOP/s; not measured), they take as long as a thousand times as many.
_PADDING, _PADDING_GPU = 2000, 2_000_000


def fused(rows: Rows, causal: bool, rate: float, dtype: torch.dtype, compiled: bool = False) -> Attend:
    """The fastest back-end for these rows; the choice depends on device, dtype, dropout and torch version alone.

    CUDA in half precision without attention dropout: torch's variable-length kernel, where torch has it. Otherwise
    groups of rows of like length through scaled_dot_product_attention.

    Args:
        compiled: whether it is called from a compiled block, which it is then no part of: its groups differ from batch
            to batch.
    """
    kernel = rows.device.type == "cuda" and rate == 0.0 and not rows.even and dtype != torch.float32
    run: Callable[..., Tensor] = varlen if kernel and _varlen() is not None else grouped
    options = {"rows": rows, "causal": causal} | ({"rate": rate} if run is grouped else {})
    return functools.partial(_uncompiled(run) if compiled else run, **options)


@functools.cache
def _uncompiled(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return cast(Callable[..., Tensor], torch.compiler.disable(run))


def grouped(query: Tensor, key: Tensor, value: Tensor, rows: Rows, causal: bool, rate: float = 0.0) -> Tensor:
    """Rows of like length padded to the longest of their group; rows of one length need no padding and no mask."""
    if rows.even:
        B, T = len(rows.lengths), rows.longest
        q, k, v = (x.unflatten(0, (B, T)).transpose(1, 2) for x in (query, key, value))  # (B, H, T, d)
        out = _attention(q, k, v, None, rate, causal)
        return out.transpose(1, 2).flatten(0, 1)  # (N, H, d)
    groups, index, restore = _groups(rows)
    sizes = [len(lengths) * max(lengths) for lengths, _ in groups]
    queries, keys, values = (x.index_select(0, index).split(sizes) for x in (query, key, value))
    pieces = []
    for number, (lengths, mask) in enumerate(groups):
        shape = len(lengths), max(lengths)  # G, L
        q, k, v = (x[number].unflatten(0, shape).transpose(1, 2) for x in (queries, keys, values))  # (G, H, L, d)
        if mask is not None and causal:
            # Keys beyond a row's end lie in the future of all its real queries, so the causal mask hides them as well.
            mask = None
        out = _attention(q, k, v, mask, rate, causal)
        pieces.append(out.transpose(1, 2).flatten(0, 1))  # (G * L, H, d)
    return torch.cat(pieces).index_select(0, restore)


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rate: float, causal: bool) -> Tensor:
    """scaled_dot_product_attention on (G, H, L, d), by matrix products on a CPU where that is faster.

    torch has no CPU kernel for dropout, and the one without it takes five times as long in bf16 as matrix products do
    (L 65; 1.6 times as long at L 800). But it does not keep the weights, so long rows are left to it in training; in
    float32 its forward pass alone is a tenth to a quarter faster, and from some 128 positions on both passes are a
    twentieth to a tenth. In bf16 scores are rounded before the softmax, as in eager mixed precision: 1.6 times the
    kernel's error.
    """
    L = query.shape[2]
    training, forward_only = (127, 0) if query.dtype == torch.float32 else (256, 2048)
    short = L <= (training if torch.is_grad_enabled() else forward_only)
    if query.device.type != "cpu" or not (rate or short):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate, is_causal=causal)
    if causal:
        mask = torch.ones(1, 1, L, L, dtype=torch.bool).tril()
    return cpu_attention.attend(query, key, value, mask, rate)


Group = tuple[list[int], Tensor | None]  # lengths, valid keys (G, 1, 1, L)


def _groups(rows: Rows) -> tuple[list[Group], Tensor, Tensor]:
    """Rows by like length; the packed positions of the groups laid end to end, padding included, and where among them
    each packed position stands. Made once a batch."""
    if "groups" not in rows.__dict__:
        rows.__dict__["groups"] = _make_groups(rows)
    return rows.__dict__["groups"]


def _make_groups(rows: Rows) -> tuple[list[Group], Tensor, Tensor]:
    order = sorted(range(len(rows.lengths)), key=lambda r: -rows.lengths[r])
    most = _PADDING if rows.device.type == "cpu" else _PADDING_GPU
    members: list[list[int]] = []
    padding = 0
    for r in order:
        padding += rows.lengths[members[-1][0]] ** 2 - rows.lengths[r] ** 2 if members else 0
        if members and padding <= most:
            members[-1].append(r)
        else:
            members.append([r])
            padding = 0
    groups: list[Group] = []
    laid: list[Tensor] = []
    restore = torch.empty(rows.total, dtype=torch.int64)
    done = 0
    for group in members:
        lengths = [rows.lengths[r] for r in group]
        L = lengths[0]
        place, limit = torch.arange(L), torch.tensor(lengths)[:, None]
        starts = torch.tensor([rows.starts[r] for r in group])[:, None]
        index = starts + torch.minimum(place, limit - 1)  # padding repeats the row's last position
        real = place < limit  # (G, L)
        slot = done + torch.arange(len(group) * L).view(len(group), L)
        restore[index[real]] = slot[real]
        done += len(group) * L
        mask = None if min(lengths) == L else rows._send(real[:, None, None, :])
        laid.append(index.flatten())
        groups.append((lengths, mask))
    return groups, rows._send(torch.cat(laid)), rows._send(restore)


@functools.cache
def _varlen() -> Callable[..., Tensor] | None:
    try:
        from torch.nn.attention.varlen import varlen_attn  # pyright: ignore[reportMissingImports]  torch 2.10 on
    except ImportError:
        return None
    return varlen_attn


@functools.cache
def _varlen_says_causal() -> bool:
    # torch 2.10 has is_causal; later releases have window_size=(left, right) in its place.
    kernel = _varlen()
    return kernel is not None and "is_causal" in inspect.signature(kernel).parameters


def varlen(query: Tensor, key: Tensor, value: Tensor, rows: Rows, causal: bool) -> Tensor:
    """torch.nn.attention.varlen (flash kernels): CUDA, half precision, no dropout."""
    kernel = _varlen()
    assert kernel is not None
    offsets = rows.offsets.to(torch.int32)
    longest = max(rows.lengths)
    if _varlen_says_causal():
        return kernel(query, key, value, offsets, offsets, longest, longest, is_causal=causal)
    window = (-1, 0) if causal else (-1, -1)
    return kernel(query, key, value, offsets, offsets, longest, longest, window_size=window)


def explicit(query: Tensor, key: Tensor, value: Tensor, rows: Rows, causal: bool) -> tuple[Tensor, Tensor]:
    """Attention with its weights, for analysis: slow, and without dropout.

    Returns: (N, H, d), and the weights (B, H, T, T), zero wherever query or key is padding.
    """
    q, k, v = (rows.pad(x).transpose(1, 2) for x in (query, key, value))  # (B, H, T, d)
    length = torch.tensor(rows.lengths, device=rows.device)[:, None]
    place = torch.arange(rows.longest, device=rows.device)
    real = place < length  # (B, T)
    seen = real[:, None, None, :]
    if causal:
        seen = seen & (place[:, None] >= place)
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    weights = scores.masked_fill(~seen, float("-inf")).softmax(-1) * real[:, None, :, None]
    out = (weights.to(v.dtype) @ v).transpose(1, 2)  # (B, T, H, d)
    return rows.pack(out), weights
