# SPDX-License-Identifier: Apache-2.0
"""Mockingjay: reconstruct hidden spans of frames and bands of channels (Liu et al. 2020, arXiv:1910.12638; TERA,
arXiv:2007.06028).

Works on any front end whose units are vectors: spectrogram frames, image patches. Follows s3prl@ec8064b5,
pretrain/mockingjay/task.py; differs: valid lengths are given, not guessed from frames that sum to zero.
Shape letters: B rows, T units, U unit width, M units that the loss reads, D width.
"""

import dataclasses
from typing import Literal

import torch
from torch import Tensor, nn

from .. import draw, masking
from ..encoder import Backbone, IdFrontEnd
from ..linear import Linear
from ..objective import Batch, Objective, ObjectiveConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class MockingjayConfig(ObjectiveConfig):
    """Settings of Mockingjay. Defaults: as published for speech."""

    mask_share: float = 0.15  # of a row's units, if spans did not overlap
    span: int = 7  # units
    as_zero: float = 0.8  # share of dice by which chosen units become zero
    as_other: float = 0.1  # share by which they become other units of the same row; the rest stays as it is
    die: Literal["row", "span"] = "row"  # one die for all of a row's spans, as published, or one for each
    channel_share: float = 0.0  # widest band of channels that is zeroed, as a share of U; TERA: 0.2

    def build(self, backbone: Backbone) -> "Mockingjay":
        if isinstance(backbone.front_end, IdFrontEnd):
            raise ValueError("Mockingjay reconstructs vectors, and this front end's units are ids: use bert")
        return Mockingjay(self, backbone)


class Mockingjay(Objective):
    """L1 loss between what the encoder makes of corrupted units and the units themselves, where they were hidden."""

    def __init__(self, config: MockingjayConfig, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.config = config
        width = backbone.encoder.config.width
        norm = nn.LayerNorm(width, eps=1e-12)
        self.head = nn.Sequential(Linear(width, width), nn.GELU(), norm, Linear(width, backbone.front_end.unit_width))
        for layer in self.head:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def _starts(self, batch: Batch, lengths: Tensor, longest: int) -> Tensor:
        """(B, T) bool: where spans begin. `lengths` (B,) is on the keys' device; a row shorter than a span has one."""
        span = self.config.span
        count = (self.config.mask_share * lengths / span).round().clamp(min=1)
        allowed = torch.arange(longest, device=lengths.device) <= (lengths - span).clamp(min=0)[:, None]
        return masking.choose(draw.fold(batch.keys, "starts"), allowed, count)

    def _masks(self, batch: Batch, lengths: Tensor, longest: int) -> tuple[Tensor, Tensor, Tensor]:
        """Span starts (B, T), hidden units (B, T) and hidden channels (B, U), all bool."""
        lengths = lengths.to(batch.keys.device, non_blocking=True)
        starts = self._starts(batch, lengths, longest)
        real = torch.arange(longest, device=lengths.device) < lengths[:, None]
        masked = masking.grow(starts, self.config.span) & real
        width = self.backbone.front_end.unit_width
        widest = int(self.config.channel_share * width)
        size = draw.integers(draw.fold(batch.keys, "band size"), 1, widest + 1)  # (B, 1)
        first = draw.integers(draw.fold(batch.keys, "band start"), 1, width - size + 1)
        channel = torch.arange(width, device=lengths.device)
        return starts, masked, (channel >= first) & (channel < first + size)

    def corrupt(self, batch: Batch, values: Tensor, starts: Tensor, masked: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, U): hidden units made zero, replaced by others of their row, or left, as the dice say."""
        config = self.config
        B, T = starts.shape
        place = torch.arange(T, device=starts.device).expand(B, T)
        begin = torch.where(starts, place, -1).cummax(1).values.clamp(min=0)  # (B, T), where each unit's span begins
        dice = draw.uniform(draw.fold(batch.keys, "die"), T if config.die == "span" else 1).expand(B, T)
        die = dice.gather(1, begin)
        room = (lengths.to(starts.device, non_blocking=True) - config.span).clamp(min=0) + 1  # (B,)
        elsewhere = draw.integers(draw.fold(batch.keys, "elsewhere"), T, room[:, None]).gather(1, begin) + place - begin
        other = values.gather(1, elsewhere.clamp(max=T - 1)[..., None].expand_as(values))
        zero, swap = die < config.as_zero, die < config.as_zero + config.as_other
        changed = torch.where(swap[..., None], other, values).masked_fill(zero[..., None], 0.0)
        return torch.where(masked[..., None], changed, values)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        lengths = self.backbone.front_end.unit_lengths(batch.inputs, batch.lengths)
        _, masked, band = self._masks(batch, lengths, int(lengths.max()))
        frames, channels = masked.sum(1).float(), band.sum(1).float()
        whole = frames * band.shape[1] + (lengths.to(frames.device, non_blocking=True) - frames) * channels
        return {"cells": whole.sum()}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        units = self.backbone.front_end.units(batch.inputs, batch.lengths)
        values = units.values.float()
        B, T, U = values.shape
        lengths = torch.full((B,), T) if units.lengths is None else units.lengths
        starts, masked, band = self._masks(batch, lengths, T)
        corrupted = self.corrupt(batch, values, starts, masked, lengths).masked_fill(band[:, None], 0.0)
        if self.config.channel_share:
            real = torch.arange(T, device=masked.device) < lengths.to(masked.device, non_blocking=True)[:, None]
            chosen = masking.where(real, int(lengths.sum()))
        else:
            most = (self.config.mask_share * lengths / self.config.span).round().clamp(min=1) * self.config.span
            chosen = masking.where(masked, int(torch.minimum(most, lengths).sum()))
        x = self.backbone.front_end.embed(corrupted)
        predicted = self.head(self.backbone.encode_at(x, units.lengths, chosen.row, chosen.column)).float()  # (M, U)
        cells = (masked.flatten()[chosen.flat][:, None] | band[chosen.row]) & chosen.real[:, None]
        target = values.flatten(0, 1)[chosen.flat]
        count = self.shared_counts(batch)["cells"]
        out = {"loss": ((predicted - target).abs() * cells).sum() / count}
        if not self.training and not self.config.channel_share:
            guess = between_edges(values, masked, lengths, self.backbone.front_end.stack).flatten(0, 1)[chosen.flat]
            out["interpolation_loss"] = ((guess - target).abs() * cells).sum() / count
        return out


def between_edges(values: Tensor, masked: Tensor, lengths: Tensor, stack: int = 1) -> Tensor:
    """The trivial solution: (B, T, U) with hidden units on a line between the nearest units that are seen.

    Units that join `stack` frames are taken apart first, so that the line runs from frame to frame. At a row's ends the
    one seen neighbour is repeated; a row of which nothing is seen becomes zero.
    """
    values = values.unflatten(2, (stack, -1)).flatten(1, 2)  # (B, T stack, U / stack)
    masked, lengths = masked.repeat_interleave(stack, dim=1), lengths * stack
    B, T = masked.shape
    place = torch.arange(T, device=masked.device).expand(B, T)
    seen = ~masked & (place < lengths.to(masked.device, non_blocking=True)[:, None])
    before = torch.where(seen, place, -1).cummax(1).values
    after = torch.where(seen, place, T).flip(1).cummin(1).values.flip(1)
    left = torch.where(before >= 0, before, after).clamp(max=T - 1)
    right = torch.where(after < T, after, before).clamp(min=0)
    share = ((place - left) / (right - left).clamp(min=1))[..., None]
    a, b = (values.gather(1, index[..., None].expand_as(values)) for index in (left, right))
    line = torch.lerp(a, b, share) * seen.any(1)[:, None, None]
    return line.unflatten(1, (-1, stack)).flatten(2)  # (B, T, U)
