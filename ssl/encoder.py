# SPDX-License-Identifier: Apache-2.0
"""The one Transformer encoder, and what stands before it: units, front ends, and the backbone that joins the two."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn


class Units(NamedTuple):
    """What masked prediction predicts: one unit for each position of the encoder."""

    values: Tensor  # (B, T) ids, (B, T, 2) ids and segments, or (B, T, U) frames, conv latents, pixel patches
    lengths: Tensor | None  # (B,) int64 on the CPU, valid units in each row; None where all T are
    energy: Tensor | None = None  # () mean square of the extractor's raw output, in training, for penalties on it


class FrontEnd(nn.Module, ABC):
    """Raw input to units to vectors. Cut in two, so that an objective can hide units on either side of `embed`."""

    width: int  # D of the vectors
    prefix: int = 0  # vectors that `embed` puts before the units' own, such as a class token

    @abstractmethod
    def units(self, inputs: Tensor, lengths: Tensor | None = None) -> Units:
        """Padded raw rows (B, T, ...) and how much of each is real to units. Padding changes no valid unit."""

    @abstractmethod
    def embed(self, values: Tensor) -> Tensor:
        """Units' values (B, T, ...) to vectors (B, prefix + T, D), without positions; padded rows may hold anything."""

    @abstractmethod
    def save_assets(self, folder: Path) -> None:
        """Writes what weights and settings do not hold, such as a tokenizer; most front ends write nothing."""
