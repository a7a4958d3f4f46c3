# SPDX-License-Identifier: Apache-2.0
"""The one Transformer encoder, and what stands before it: units, front ends, and the backbone that joins the two.

Shape letters: B rows, T longest row, N real positions of all rows, D width, H heads, U unit width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from . import attention
from .attention import Attend
from .blocks import EncoderConfig, PostNormBlock, PreNormBlock, initialise, make_norm
from .config import Config
from .dropout import Dropout
from .packing import Rows
from .positions import ConvolutionalPositionsConfig


class Units(NamedTuple):
    """What masked prediction predicts: one unit for each position of the encoder."""

    values: Tensor  # (B, T) ids, (B, T, 2) ids and segments, or (B, T, U) frames, conv latents, pixel patches
    lengths: Tensor | None  # (B,) int64 on the CPU, valid units in each row; None where all T are
    energy: Tensor | None = None  # () mean square of the extractor's raw output, in training, for penalties on it


class FrontEnd(nn.Module, ABC):
    """Raw input to units to vectors. Cut in two, so that an objective can hide units on either side of `embed`."""

    width: int  # D of the vectors
    unit_width: int  # U of the units; 1 where they are ids
    stack: int = 1  # pieces of equal width that a unit joins, one after the other in time
    prefix: int = 0  # vectors that `embed` puts before the units' own, such as a class token

    @abstractmethod
    def units(self, inputs: Tensor, lengths: Tensor | None = None) -> Units:
        """Padded raw rows (B, T, ...) and how much of each is real to units. Padding changes no valid unit."""

    @abstractmethod
    def embed(self, values: Tensor) -> Tensor:
        """Units' values (B, T, ...) to vectors (B, prefix + T, D), without positions; padded rows may hold anything."""

    @abstractmethod
    def unit_lengths(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        """(B,) int64 on the CPU: how many units `units` would make of each row, without making them."""

    @abstractmethod
    def save_assets(self, folder: Path) -> None:
        """Writes what weights and settings do not hold, such as a tokenizer; most front ends write nothing."""


class Vocabulary(NamedTuple):
    """What an objective has to know of the ids that it hides and predicts."""

    size: int
    mask_id: int
    special_ids: tuple[int, ...]  # never hidden, never predicted
    continues: Tensor | None = None  # (V,) bool, ids that continue a word; None where every id is a word


class IdFrontEnd(FrontEnd):
    """A front end whose units are ids: (B, T), or (B, T, 2) with a segment number beside each."""

    vocabulary: Vocabulary

    @abstractmethod
    def table(self) -> Tensor:
        """(V, D), the vector of each id; output layers tie to it."""


class FrontEndConfig(Config, ABC):
    """Settings of a front end."""

    @abstractmethod
    def build(self, assets: Path | None = None) -> FrontEnd:
        """The front end with random weights; `assets` is a folder that `save_assets` wrote to."""

    @abstractmethod
    def fitted(self, dataset: object) -> Self:
        """These settings with the sizes that follow from a `Dataset` (vocabulary, channels); most have none.

        Raises: ValueError for a dataset of another modality.
        """


class Encoded:
    """What the encoder says of a batch. Packed inside; padded forms are made when asked for.

    Args:
        rows: where the rows stand.
        packed: (N, D), the normalised output.
        packed_layers: the encoder's input and each block's output, (N, D) each; empty where they were not asked for.
    """

    def __init__(self, rows: Rows, packed: Tensor, packed_layers: list[Tensor]) -> None:
        self.rows = rows
        self.packed = packed
        self.packed_layers = packed_layers

    @cached_property
    def x(self) -> Tensor:
        """(B, T, D), the normalised output; zero where a row has ended."""
        return self.rows.pad(self.packed)

    @cached_property
    def layers(self) -> list[Tensor]:
        """depth + 1 tensors (B, T, D): the encoder's input and each block's output.

        Raises: ValueError if the encoder was called with layers=False.
        """
        if not self.packed_layers:
            raise ValueError("no layers were kept: call the encoder with layers=True")
        return [self.rows.pad(layer) for layer in self.packed_layers]

    @property
    def lengths(self) -> Tensor:
        """(B,) int64 on the CPU, vectors in each row (a class token counts)."""
        return torch.tensor(self.rows.lengths)

    def pooled(self, how: Literal["mean", "first"] = "mean") -> Tensor:
        """(B, D): the mean over each row's vectors, in float32, or its first vector (a class token)."""
        if how == "mean":
            return self.rows.mean(self.packed)
        return self.packed.index_select(0, self.rows.offsets[:-1])

    def select(self, index: Tensor) -> Tensor:
        """(M, D): outputs at `index` (M,) into the flattened padded batch (B * T); anything for padded positions."""
        return self.packed.index_select(0, self.rows.place(index))


class Encoder(nn.Module):
    """A stack of blocks over rows of vectors. Knows no modality and no objective."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        if config.causal and isinstance(config.positions, ConvolutionalPositionsConfig):
            raise ValueError("convolutional positions look ahead: set encoder.causal=False, or other encoder.positions")
        self.positions = config.positions.build(config.width, config.heads)
        post_norm = config.block == "post_norm"
        self.input_norm = make_norm(config) if post_norm else nn.Identity()
        self.dropout = Dropout(config.dropout)
        kind = PostNormBlock if post_norm else PreNormBlock
        share = [config.drop_path * i / max(1, config.depth - 1) for i in range(config.depth)]
        self.blocks = nn.ModuleList(kind(config, rate) for rate in share)
        self.output_norm = nn.Identity() if post_norm else make_norm(config)
        self.recompute = False  # in training, keep only what enters each block, and compute the rest again in backward
        self.compiled = False
        self.blocks.apply(initialise)

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        positions: Tensor | None = None,
        layers: bool = True,
    ) -> Encoded:
        """Encodes padded rows.

        Args:
            x: (B, T, D) vectors without positions.
            lengths: (B,) int64 on the CPU (a GPU tensor would be waited for), real vectors in each row; None: all T.
            positions: (B, T) int64 places, where they are not 0, 1, 2, ...
            layers: whether to keep each block's output.
        Raises: ValueError for an empty row, or one that the position table cannot hold.
        """
        rows = Rows.of(x, lengths)
        packed, kept = self._run(x, rows, positions, self._attend(x, rows), layers)
        return Encoded(rows, packed, kept)

    def at(self, x: Tensor, lengths: Tensor | None, index: Tensor) -> Tensor:
        """(M, D), the normalised output at `index` (M,) int64 into the flattened padded batch (B * T), and no other.

        As `forward(...).select(index)`, but the last block computes only keys and values of the other positions.
        """
        rows = Rows.of(x, lengths)
        return self._run(x, rows, None, self._attend(x, rows), False, rows.place(index))[0]

    def _attend(self, x: Tensor, rows: Rows) -> Attend:
        dropout = self.config.attention_dropout if self.training else 0.0
        return attention.fused(rows, self.config.causal, dropout, _dtype(x), self.compiled)

    def compile_blocks(self, backend: str | Callable[..., Any] = "inductor") -> None:
        """torch.compile of each block, for any number of positions; attention stays as it is."""
        self.compiled = True
        for block in self.blocks:
            block.compile(dynamic=True, backend=backend)

    def attentions(self, x: Tensor, lengths: Tensor | None = None) -> list[Tensor]:
        """Each block's attention weights (B, H, T, T), zero on padding. For analysis: slow, takes B H T^2 memory."""
        rows = Rows.of(x, lengths)
        weights = []

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            out, weight = attention.explicit(query, key, value, rows, self.config.causal)
            weights.append(weight)
            return out

        self._run(x, rows, None, attend, layers=False)
        return weights

    def _run(
        self,
        x: Tensor,
        rows: Rows,
        positions: Tensor | None,
        attend: Attend,
        layers: bool,
        wanted: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """The normalised output of all packed positions, or of those `wanted`, and the layers that are to be kept."""
        position = rows.position if positions is None else rows.pack(positions)
        hidden = self.positions(rows.pack(x), rows, position)  # (N, D)
        hidden = self.dropout(self.input_norm(hidden))
        attend = self.positions.turn(attend, position)
        kept = [hidden] if layers else []
        last = len(self.blocks) - 1
        for number, block in enumerate(self.blocks):
            hidden = self._step(block, hidden, attend, rows, wanted if number == last else None)
            if layers:
                kept.append(hidden)
        if wanted is not None and not self.blocks:
            hidden = hidden.index_select(0, wanted)
        return self.output_norm(hidden), kept

    def _step(self, block: nn.Module, hidden: Tensor, attend: Attend, rows: Rows, wanted: Tensor | None) -> Tensor:
        # The host draws, so that no device is waited for; train() seeds the host's generator anew at each step.
        if self.training and self.config.layer_drop and torch.rand(()).item() < self.config.layer_drop:
            # Zero gradients for the block that is left out: data-parallel ranks may leave out different ones.
            hidden = hidden + 0.0 * sum(parameter.sum() for parameter in block.parameters())
            return hidden if wanted is None else hidden.index_select(0, wanted)
        if self.recompute and self.training and torch.is_grad_enabled():
            out = checkpoint(block, hidden, attend, rows, wanted, use_reentrant=False)
            assert isinstance(out, Tensor)
            return out
        return block(hidden, attend, rows, wanted)


def _dtype(x: Tensor) -> torch.dtype:
    """What matrix products of `x` will be computed in."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class Backbone(nn.Module):
    """A front end and an encoder: what is kept, published, evaluated and plugged into other code."""

    def __init__(self, front_end: FrontEnd, encoder: Encoder) -> None:
        super().__init__()
        if front_end.width != encoder.config.width:
            raise ValueError(
                f"the front end gives vectors of width {front_end.width}, the encoder takes {encoder.config.width}: "
                f"set front_end.width and encoder.width alike"
            )
        self.front_end = front_end
        self.encoder = encoder

    def forward(self, inputs: Tensor, lengths: Tensor | None = None, layers: bool = True) -> Encoded:
        """Raw padded input to encoder states.

        Args:
            inputs: ids (B, T), waveforms (B, S) at 16 kHz, or uint8 pixels (B, C, H, W), or normalised floats.
            lengths: (B,) int64 on the CPU, how much of each row is real; None: all.
            layers: False where only `.x` is needed.
        """
        units = self.front_end.units(inputs, lengths)
        return self.encode(self.front_end.embed(units.values), units.lengths, layers)

    def pooled(self, inputs: Tensor, lengths: Tensor | None, how: Literal["mean", "first"]) -> Tensor:
        """Raw padded input to (B, D), as `Encoded.pooled`; for "first", no more is computed than that needs."""
        units = self.front_end.units(inputs, lengths)
        x = self.front_end.embed(units.values)
        if how == "mean":
            return self.encode(x, units.lengths).pooled()
        return self.encoder.at(x, self._with_prefix(units.lengths), torch.arange(len(x), device=x.device) * x.shape[1])

    def encode(self, x: Tensor, lengths: Tensor | None, layers: bool = False) -> Encoded:
        """Embedded units (B, prefix + T, D), of which `lengths` (B,) units are real, to encoder states."""
        return self.encoder(x, self._with_prefix(lengths), layers=layers)

    def encode_at(self, x: Tensor, lengths: Tensor | None, row: Tensor, column: Tensor) -> Tensor:
        """As `encode`, but to (M, D): the outputs for the units at `row` and `column` (M,) of (B, T) alone."""
        index = row * x.shape[1] + self.front_end.prefix + column
        return self.encoder.at(x, self._with_prefix(lengths), index)

    def _with_prefix(self, lengths: Tensor | None) -> Tensor | None:
        return None if lengths is None else lengths + self.front_end.prefix
