# SPDX-License-Identifier: Apache-2.0
"""Telling the true target from false ones: negatives from the same row's masked units, and InfoNCE over them.

Shape letters: B rows, M masked units of all rows, K negatives, C width, P masked units of a row at most.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from . import draw
from .masking import Chosen


def place_in_row(chosen: Chosen, rows: int) -> tuple[Tensor, Tensor]:
    """Each masked unit's place among its row's masked units (M,), and how many each row has (B,)."""
    count = torch.zeros(rows, dtype=torch.int64, device=chosen.row.device)
    count = count.index_add(0, chosen.row, chosen.real.long())
    first = count.cumsum(0) - count
    return torch.arange(len(chosen.row), device=chosen.row.device) - first[chosen.row], count


def draw_negatives(keys: Tensor, place: Tensor, count: Tensor, n: int) -> Tensor:
    """(M, n) int64: places of masked units of the same row, uniform over all but the unit itself, with replacement.

    A row with a single masked unit has no other: its negatives are the unit itself, which `row_contrast` takes out.

    Args:
        keys: (M,) int64. place: (M,) of `place_in_row`. count: (M,) masked units in the unit's row.
    """
    other = draw.integers(keys, n, (count - 1).clamp(min=1)[:, None])
    other = other + (other >= place[:, None])
    return torch.where(count[:, None] > 1, other, place[:, None])


def row_contrast(
    query: Tensor, key: Tensor, chosen: Chosen, negatives: Tensor, codes: Tensor, shape: tuple[int, int], scale: float
) -> tuple[Tensor, Tensor]:
    """InfoNCE of each masked unit against negatives of its own row (Baevski et al. 2020, arXiv:2006.11477, eq. 3).

    Similarities of all pairs of a row are one small matrix product, from which the drawn negatives are read; that takes
    a hundredth of the memory of gathering a hundred vectors for each unit. A negative that has the target's own code is
    taken out, as published.

    Args:
        query: (M, C), what the encoder says. key: (M, C), the targets.
        negatives: (M, K), places in the row. codes: (M,) int64, equal where targets are equal.
        shape: B and P, the host's bound on masked units of a row. scale: 1 / temperature.
    Returns: (M,) float32 loss in nats, and (M,) bool whether the true target came first.
    """
    B, P = shape
    place, _ = place_in_row(chosen, B)
    slot = torch.where(chosen.real, chosen.row * P + place, B * P)  # (M,)
    with torch.autocast(query.device.type, enabled=False):
        q = _table(F.normalize(query.float(), dim=-1, eps=1e-8), slot, B * P).unflatten(0, (B, P))
        k = _table(F.normalize(key.float(), dim=-1, eps=1e-8), slot, B * P).unflatten(0, (B, P))
        similar = (q @ k.transpose(1, 2)).flatten(0, 1)[slot.clamp(max=B * P - 1)] * scale  # (M, P)
    own = similar.gather(1, place.clamp(0, P - 1)[:, None])  # (M, 1)
    other = similar.gather(1, negatives.clamp(max=P - 1))  # (M, K)
    by_place = _table(codes[:, None], slot, B * P)[:, 0].unflatten(0, (B, P))
    same = by_place[chosen.row[:, None], negatives.clamp(max=P - 1)] == codes[:, None]
    other = other.masked_fill(same, float("-inf"))
    loss = torch.logsumexp(torch.cat([own, other], dim=1), dim=1) - own[:, 0]
    return loss, own[:, 0] > other.amax(1)


def _table(x: Tensor, slot: Tensor, size: int) -> Tensor:
    """Rows of `x` (M, C) put at `slot` (M,) of a table (size, C); slot `size` is thrown away."""
    return x.new_zeros(size + 1, x.shape[1]).index_copy(0, slot, x)[:size]
