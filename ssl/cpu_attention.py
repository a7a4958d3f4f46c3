# SPDX-License-Identifier: Apache-2.0
"""Attention by matrix products, for a CPU: with dropout, for which torch has no kernel, and of short rows.

It is worked off in pieces that stay in the cache.

Weights of more than one piece are computed again in the backward pass instead of being kept, as Dao et al. 2022
(arXiv:2205.14135) do on a GPU; of the L x L numbers of a head only one byte each, the dropout's choice, outlives it.
Shape letters: P = G H heads of all rows, L positions of the longest row, d width of a head.
"""

import torch
from torch import Tensor

from .dropout import choose

_PIECE = 2 << 20  # weights that are worked on together


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rate: float) -> Tensor:
    """softmax(Q K' / sqrt(d)) V with a share of the weights left out.

    Args:
        query, key, value: (G, H, L, d).
        mask: bool, True where a key is seen; (1 or G, 1, 1 or L, L); None: all are.
        rate: share of the weights that dropout leaves out.
    """
    G, H, L, d = query.shape
    seen = None if mask is None else mask.expand(G, H, mask.shape[2], L).flatten(0, 1)  # (P, 1 or L, L)
    heads = [x.reshape(G * H, L, d) for x in (query, key, value)]
    out = _Attend.apply(*heads, seen, round(rate * 65536))
    assert isinstance(out, Tensor)
    return out.view(G, H, L, d)


def _scaled(a: Tensor, b: Tensor, d: int, out: Tensor | None = None) -> Tensor:
    return torch.baddbmm(a.new_empty(()), a, b, beta=0.0, alpha=d**-0.5, out=out)


def _weights(query: Tensor, key: Tensor, seen: Tensor | None) -> Tensor:
    scores = _scaled(query, key.transpose(1, 2), query.shape[-1])  # (piece, L, L)
    if seen is not None:
        scores = scores.masked_fill_(~seen, float("-inf"))
    return scores.softmax(-1)


def _thinned(weights: Tensor, left: Tensor | None, part: slice) -> Tensor:
    return weights if left is None else weights.masked_fill(left[part], 0.0)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: ANN205
        ctx,  # noqa: ANN001  torch's own
        query: Tensor,
        key: Tensor,
        value: Tensor,
        seen: Tensor | None,
        left_out: int,
    ):
        L = query.shape[1]
        piece = max(1, _PIECE // (L * L))
        out = torch.empty_like(value)
        left = torch.empty(len(query), L, L, dtype=torch.bool) if left_out else None
        kept = None
        for start in range(0, len(query), piece):
            part = slice(start, start + piece)
            weights = _weights(query[part], key[part], None if seen is None else seen[part])
            if left is not None:
                left[part] = choose(weights.shape, left_out)
            torch.bmm(_thinned(weights, left, part), value[part], out=out[part])
            kept = weights if piece >= len(query) else None
        ctx.scale = 65536 / (65536 - left_out)
        ctx.save_for_backward(query, key, value, seen, left, kept)
        return out.mul_(ctx.scale) if left_out else out

    @staticmethod
    def backward(ctx, gradient: Tensor):  # noqa: ANN001, ANN205  # pyright: ignore
        query, key, value, seen, left, kept = ctx.saved_tensors
        L, d = query.shape[1:]
        piece = max(1, _PIECE // (L * L))
        to_query, to_key, to_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        for start in range(0, len(query), piece):
            part = slice(start, start + piece)
            weights = (
                kept if kept is not None else _weights(query[part], key[part], None if seen is None else seen[part])
            )
            scaled = gradient[part] if left is None else gradient[part] * ctx.scale
            to_weights = scaled @ value[part].transpose(1, 2)
            if left is not None:
                to_weights.masked_fill_(left[part], 0.0)
            to_scores = torch.ops.aten._softmax_backward_data(to_weights, weights, -1, weights.dtype)
            torch.bmm(_thinned(weights, left, part).transpose(1, 2), scaled, out=to_value[part])
            _scaled(to_scores, key[part], d, to_query[part])
            _scaled(to_scores.transpose(1, 2), query[part], d, to_key[part])
        return to_query, to_key, to_value, None, None
