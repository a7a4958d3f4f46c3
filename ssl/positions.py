# SPDX-License-Identifier: Apache-2.0
"""Where a vector stands: learned, sinusoidal, convolutional and rotary positions, and none at all.

The encoder adds positions itself, after an objective has hidden units, so that hidden units keep their place.
Shape letters: N real positions of all rows, D width, H heads, d width of a head.
"""

import dataclasses
import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import wide_convolution
from .attention import Attend
from .config import Config
from .packing import Rows


class Positions(nn.Module, ABC):
    """One way of telling the encoder where each vector stands."""

    @abstractmethod
    def forward(self, x: Tensor, rows: Rows, position: Tensor) -> Tensor:
        """Vectors (N, D) with what is added to them before the first block; `position` (N,) int64 counts from 0."""

    @abstractmethod
    def turn(self, attend: Attend, position: Tensor) -> Attend:
        """The attention with what is done to queries and keys before it."""


class PositionsConfig(Config, ABC):
    """Settings of a kind of positions."""

    @abstractmethod
    def build(self, width: int, heads: int) -> Positions:
        """The positions for an encoder of this width and number of heads."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoPositionsConfig(PositionsConfig):
    """No positions: the encoder sees a set."""

    def build(self, width: int, heads: int) -> Positions:
        return NoPositions()


class NoPositions(Positions):
    """Leaves everything as it is."""

    def forward(self, x: Tensor, rows: Rows, position: Tensor) -> Tensor:
        return x

    def turn(self, attend: Attend, position: Tensor) -> Attend:
        return attend


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnedPositionsConfig(PositionsConfig):
    """A trained table (Devlin et al. 2019, arXiv:1810.04805; Dosovitskiy et al. 2021, arXiv:2010.11929)."""

    length: int = 512  # positions; longer rows are refused

    def build(self, width: int, heads: int) -> Positions:
        return LearnedPositions(self.length, width)


class LearnedPositions(Positions):
    """A trained vector for each place."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(length, width))
        nn.init.trunc_normal_(self.table, std=0.02, a=-0.04, b=0.04)

    def forward(self, x: Tensor, rows: Rows, position: Tensor) -> Tensor:
        _check_length(rows, len(self.table))
        return x + F.embedding(position, self.table).to(x.dtype)

    def turn(self, attend: Attend, position: Tensor) -> Attend:
        return attend


@dataclasses.dataclass(frozen=True, kw_only=True)
class SinusoidalPositionsConfig(PositionsConfig):
    """A fixed table of sines and cosines (Vaswani et al. 2017, arXiv:1706.03762, section 3.5)."""

    length: int = 3000  # positions; longer rows are refused

    def build(self, width: int, heads: int) -> Positions:
        return SinusoidalPositions(self.length, width)


class SinusoidalPositions(Positions):
    """Sines in the even columns, cosines in the odd ones."""

    table: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        place = torch.arange(length, dtype=torch.float64)[:, None]
        angle = place * torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10_000.0) / width))
        table = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]  # (length, D)
        self.register_buffer("table", table.float(), persistent=False)

    def forward(self, x: Tensor, rows: Rows, position: Tensor) -> Tensor:
        _check_length(rows, len(self.table))
        return x + F.embedding(position, self.table).to(x.dtype)

    def turn(self, attend: Attend, position: Tensor) -> Attend:
        return attend


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvolutionalPositionsConfig(PositionsConfig):
    """A wide grouped convolution over the row (Baevski et al. 2020, arXiv:2006.11477, section 2)."""

    kernel: int = 128  # positions
    groups: int = 16

    def build(self, width: int, heads: int) -> Positions:
        return ConvolutionalPositions(self.kernel, self.groups, width)


class ConvolutionalPositions(Positions):
    """GELU of a weight-normalised grouped convolution, added to the vectors. Rows are kept apart by zeros."""

    def __init__(self, kernel: int, groups: int, width: int) -> None:
        super().__init__()
        self.kernel = kernel
        conv = nn.Conv1d(width, width, kernel, groups=groups)
        nn.init.normal_(conv.weight, std=math.sqrt(4.0 / (kernel * width)))
        nn.init.zeros_(conv.bias) if conv.bias is not None else None
        nn.utils.parametrizations.weight_norm(conv, dim=2)
        self.conv = conv

    def forward(self, x: Tensor, rows: Rows, position: Tensor) -> Tensor:
        if x.device.type == "cpu" and x.dtype != torch.float64 and self.kernel >= 64:
            conv = self.conv
            return x + F.gelu(wide_convolution.convolve(x, rows.lengths, conv.weight, conv.bias, conv.groups))
        # The published layer pads k // 2 on both sides and drops the last output of an even kernel, so a window reaches
        # k // 2 back and (k - 1) // 2 ahead; a gap of k // 2 zeros between rows keeps each to itself.
        before = self.kernel // 2
        place, total = rows.spread(before)
        apart = x.new_zeros(total, x.shape[1]).index_copy(0, place, x)
        out = self.conv(apart.T[None])[0].T  # (total - kernel + 1, D)
        return x + F.gelu(out.index_select(0, place - before))

    def turn(self, attend: Attend, position: Tensor) -> Attend:
        return attend


@dataclasses.dataclass(frozen=True, kw_only=True)
class RotaryPositionsConfig(PositionsConfig):
    """Queries and keys turned by an angle that grows with the place (Su et al. 2021, arXiv:2104.09864)."""

    theta: float = 10_000.0  # the slowest pair turns once in about 2 pi theta positions

    def build(self, width: int, heads: int) -> Positions:
        if (width // heads) % 2:
            raise ValueError(f"rotary positions need an even head width, got {width // heads}: change encoder.heads")
        return RotaryPositions(self.theta, width // heads)


class RotaryPositions(Positions):
    """Pairs (i, i + d / 2) of each head are turned."""

    frequency: Tensor

    def __init__(self, theta: float, head_width: int) -> None:
        super().__init__()
        exponent = torch.arange(0, head_width, 2, dtype=torch.float32) / head_width
        self.register_buffer("frequency", theta**-exponent, persistent=False)  # (d / 2,)

    def forward(self, x: Tensor, rows: Rows, position: Tensor) -> Tensor:
        return x

    def turn(self, attend: Attend, position: Tensor) -> Attend:
        angle = position.float()[:, None, None] * self.frequency  # (N, 1, d / 2)
        cosine, sine = angle.cos(), angle.sin()

        def rotate(x: Tensor) -> Tensor:
            first, second = x.float().chunk(2, dim=-1)
            return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1).to(x.dtype)

        return lambda query, key, value: attend(rotate(query), rotate(key), value)


def _check_length(rows: Rows, length: int) -> None:
    if rows.longest > length and max(rows.lengths) > length:
        raise ValueError(
            f"a row has {max(rows.lengths)} positions but the table holds {length}: "
            f"shorten the input or set encoder.positions.length"
        )
