# SPDX-License-Identifier: Apache-2.0
"""Rows of uneven length stored back to back, so that no padding ever reaches a matrix product.

Shape letters: B rows, T longest row, N real positions of all rows together, D width.
"""

from functools import cached_property

import torch
from torch import Tensor


def row_lengths(x: Tensor, lengths: Tensor | None) -> list[int]:
    """How much of each row of a padded batch (B, T, ...) is real: what `lengths` (B,) says, or all of it.

    Lengths should be on the CPU: a GPU would be waited for.
    Raises: ValueError for a batch without rows, or lengths that are not B whole numbers from 1 to T.
    """
    if not isinstance(x, Tensor) or x.ndim < 2:
        found = f"a tensor of shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise ValueError(f"a batch is a tensor (B, T, ...), a row for each input, not {found}; one input is x[None]")
    B, T = x.shape[:2]
    if lengths is None:
        return [T] * B
    if not isinstance(lengths, Tensor) or lengths.is_floating_point() or lengths.shape != (B,):
        kind = f"{lengths.dtype} of {tuple(lengths.shape)}" if isinstance(lengths, Tensor) else type(lengths).__name__
        raise ValueError(f"lengths must be int64 of shape ({B},), one number a row, not {kind}")
    found = lengths.tolist()
    if not found or min(found) < 1 or max(found) > T:
        raise ValueError(f"lengths must be from 1 to the {T} positions of the padded batch, not {found}")
    return found


class Rows:
    """Where each row stands when the valid positions of a padded batch are stored as (N, ...).

    All of it is worked out on the host from `lengths`; tensors are sent to the device once, without waiting for it.

    Args:
        lengths: valid positions of each row, all at least 1.
        longest: T of the padded form; at least max(lengths).
        device: where packed tensors live.
    Raises: ValueError for an empty row or one longer than `longest`.
    """

    def __init__(self, lengths: list[int], longest: int, device: torch.device) -> None:
        if not lengths or min(lengths) < 1:
            raise ValueError(f"every row needs at least one position, got lengths {lengths}")
        if max(lengths) > longest:
            raise ValueError(f"lengths say {max(lengths)} but the padded batch has {longest} positions")
        self.lengths = lengths
        self.longest = longest
        self.device = device
        self.starts = [0]
        for length in lengths:
            self.starts.append(self.starts[-1] + length)
        self.even = min(lengths) == longest  # every row is full: packing is a reshape

    @classmethod
    def of(cls, x: Tensor, lengths: Tensor | None) -> "Rows":
        """The rows of a padded batch (B, T, ...), as `row_lengths` says."""
        return cls(row_lengths(x, lengths), x.shape[1], x.device)

    def _send(self, host: Tensor) -> Tensor:
        if self.device.type == "cuda":
            host = host.pin_memory()
        return host.to(self.device, non_blocking=True)

    @property
    def total(self) -> int:
        """N, the number of real positions."""
        return self.starts[-1]

    @cached_property
    def _host(self) -> tuple[Tensor, Tensor]:
        lengths = torch.tensor(self.lengths)
        row = torch.repeat_interleave(torch.arange(len(self.lengths)), lengths)  # (N,)
        position = torch.arange(self.total) - torch.tensor(self.starts)[row]
        return row, position

    @cached_property
    def row(self) -> Tensor:
        """(N,) int64, which row each position belongs to."""
        return self._send(self._host[0])

    @cached_property
    def position(self) -> Tensor:
        """(N,) int64, where in its row each position stands, from 0."""
        return self._send(self._host[1])

    @cached_property
    def index(self) -> Tensor:
        """(N,) int64, where each position stands in the flattened padded batch (B * T)."""
        return self._send(self._host[0] * self.longest + self._host[1])

    @cached_property
    def offsets(self) -> Tensor:
        """(B + 1,) int64, where each row begins, and N."""
        return self._send(torch.tensor(self.starts))

    def pack(self, x: Tensor) -> Tensor:
        """(B, T, ...) to (N, ...)."""
        flat = x.flatten(0, 1)
        return flat if self.even else flat.index_select(0, self.index)

    def pad(self, x: Tensor) -> Tensor:
        """(N, ...) to (B, T, ...), zero beyond each row's length."""
        B, T = len(self.lengths), self.longest
        if self.even:
            return x.unflatten(0, (B, T))
        return x.new_zeros(B * T, *x.shape[1:]).index_copy(0, self.index, x).unflatten(0, (B, T))

    def place(self, index: Tensor) -> Tensor:
        """Where positions of the flattened padded batch, `index` (M,) into B * T, stand in the packed form.

        A padded position is given some other's place.
        """
        if self.even:
            return index
        return (self.offsets[index // self.longest] + index % self.longest).clamp(max=self.total - 1)

    def mean(self, x: Tensor) -> Tensor:
        """(N, D) to (B, D): the mean over each row's positions, in float32."""
        B = len(self.lengths)
        if self.even:
            return x.unflatten(0, (B, self.longest)).float().mean(1)
        total = x.new_zeros(B, *x.shape[1:], dtype=torch.float32).index_add(0, self.row, x.float())
        return total / self._send(torch.tensor(self.lengths, dtype=torch.float32))[:, None]

    def spread(self, gap: int) -> tuple[Tensor, int]:
        """Packed positions laid out again with `gap` empty places before, between and after the rows.

        Returns: (N,) int64 the place of each position, and the number of places.
        """
        place = torch.arange(self.total) + (self._host[0] + 1) * gap
        return self._send(place), self.total + (len(self.lengths) + 1) * gap


def valid(lengths: Tensor | None, like: Tensor) -> Tensor:
    """(B, T) bool on the device of `like` (B, T, ...): True where a row is real."""
    B, T = like.shape[:2]
    if lengths is None:
        return torch.ones(B, T, dtype=torch.bool, device=like.device)
    return torch.arange(T, device=like.device) < lengths.to(like.device, non_blocking=True)[:, None]
