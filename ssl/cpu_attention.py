# SPDX-License-Identifier: Apache-2.0
"""Attention by matrix products, for a CPU: with dropout, for which torch has no kernel, and of short rows.

It is worked off in pieces that stay in the cache.

Weights that do not fit into one are computed again in the backward pass instead of being kept, as Dao et al. 2022
(arXiv:2205.14135) do on a GPU; of the L x L numbers of a head only one byte each, the dropout's choice, outlives it.
Shape letters: P = G H heads of all rows, L positions of the longest row, d width of a head.
"""

import torch
from torch import Tensor

from .dropout import choose, sixteen_bits

_KEPT = 2 << 20  # weights that are worked on together and kept for the backward pass; more of them go in pieces
_PIECE = 4 << 20  # bytes of the weights of a piece


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rate: float) -> Tensor:
    """softmax(Q K' / sqrt(d)) V with a share of the weights left out.

    Args:
        query, key, value: (G, H, L, d).
        mask: bool, True where a key is seen; (1 or G, 1, 1 or L, L); None: all are.
        rate: share of the weights that dropout leaves out.
    """
    G, H, L, d = query.shape
    hidden = None
    if mask is not None:
        hidden = torch.zeros(mask.shape, dtype=query.dtype).masked_fill_(~mask, float("-inf"))
        hidden = hidden[0] if len(mask) == 1 else hidden.expand(G, H, mask.shape[2], L).flatten(0, 1)
    heads = [x.reshape(G * H, L, d) for x in (query, key, value)]
    out = _Attend.apply(*heads, hidden, sixteen_bits(rate))
    assert isinstance(out, Tensor)
    return out.view(G, H, L, d)


def _scaled(a: Tensor, b: Tensor, d: int, out: Tensor | None = None) -> Tensor:
    return torch.baddbmm(a.new_empty(()), a, b, beta=0.0, alpha=d**-0.5, out=out)


def _weights(query: Tensor, key: Tensor, hidden: Tensor | None, part: slice) -> Tensor:
    scores = _scaled(query[part], key[part].transpose(1, 2), query.shape[-1])  # (piece, L, L)
    if hidden is not None:
        scores += hidden if len(hidden) == 1 else hidden[part]
    return scores.softmax(-1)


def _pieces(query: Tensor) -> list[slice]:
    P, L, _ = query.shape
    size = P if P * L * L <= _KEPT else max(1, _PIECE // query.element_size() // (L * L))
    return [slice(start, start + size) for start in range(0, P, size)]


def _thinned(weights: Tensor, choice: Tensor | None, part: slice) -> Tensor:
    return weights if choice is None else weights * choice[part]


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: ANN205
        ctx,  # noqa: ANN001  torch's own
        query: Tensor,
        key: Tensor,
        value: Tensor,
        hidden: Tensor | None,
        left_out: int,
    ):
        """hidden (1 or P, 1 or L, L): -inf where a key is not seen, else 0."""
        pieces, L = _pieces(query), query.shape[1]
        out = torch.empty_like(value)
        choice = torch.empty(len(query), L, L, dtype=torch.uint8) if left_out else None
        kept = None
        for part in pieces:
            weights = _weights(query, key, hidden, part)
            if choice is not None:
                choice[part] = choose(weights.shape, left_out)
            torch.bmm(_thinned(weights, choice, part), value[part], out=out[part])
            kept = weights if len(pieces) == 1 else None
        ctx.scale = 65536 / (65536 - left_out)
        ctx.save_for_backward(query, key, value, hidden, choice, kept)
        return out.mul_(ctx.scale) if left_out else out

    @staticmethod
    def backward(ctx, gradient: Tensor):  # noqa: ANN001, ANN205  # pyright: ignore
        query, key, value, hidden, choice, kept = ctx.saved_tensors
        d = query.shape[-1]
        to_query, to_key, to_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        for part in _pieces(query):
            weights = kept if kept is not None else _weights(query, key, hidden, part)
            scaled = gradient[part] if choice is None else gradient[part] * ctx.scale
            to_weights = scaled @ value[part].transpose(1, 2)
            if choice is not None:
                to_weights *= choice[part]
            to_scores = torch.ops.aten._softmax_backward_data(to_weights, weights, -1, weights.dtype)
            torch.bmm(_thinned(weights, choice, part).transpose(1, 2), scaled, out=to_value[part])
            _scaled(to_scores, key[part], d, to_query[part])
            _scaled(to_scores.transpose(1, 2), query[part], d, to_key[part])
        return to_query, to_key, to_value, None, None
