# SPDX-License-Identifier: Apache-2.0
"""Waveforms to spectral frames to vectors: the front end of Mockingjay and its kin (Liu et al. 2020, arXiv:1910.12638).

Shape letters: B rows, S samples, T units, U unit width, D width.
"""

import dataclasses
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from ..ssl.encoder import FrontEnd, FrontEndConfig, Units
from ..ssl.linear import Linear
from .corpus import AudioDataset
from .features import FeaturesConfig
from .waveforms import sample_counts


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpectrumFrontEndConfig(FrontEndConfig):
    """Settings of the spectral front end. Defaults: s3prl's Mockingjay."""

    features: FeaturesConfig = FeaturesConfig()
    stack: int = 1  # frames of 10 ms that make one unit; original Mockingjay, 12 layers: 3
    width: int = 768

    def build(self, assets: Path | None = None) -> "SpectrumFrontEnd":
        return SpectrumFrontEnd(self)

    def fitted(self, dataset: object) -> Self:
        if not isinstance(dataset, AudioDataset):
            raise ValueError("this recipe is for speech: set data to a folder of audio")
        return self


class SpectrumFrontEnd(FrontEnd):
    """Units are frames, or stacks of them; a row's last stack is filled up with zeros."""

    def __init__(self, config: SpectrumFrontEndConfig) -> None:
        super().__init__()
        self.config = config
        self.features = config.features.build()
        self.width = config.width
        self.stack = config.stack
        self.unit_width = config.features.width * config.stack
        self.project = Linear(self.unit_width, config.width)
        nn.init.normal_(self.project.weight, std=0.02)
        nn.init.zeros_(self.project.bias)

    def units(self, inputs: Tensor, lengths: Tensor | None = None) -> Units:
        values, counts = self.features(inputs, lengths)
        stack = self.stack
        if stack > 1:
            values = nn.functional.pad(values, (0, 0, 0, -values.shape[1] % stack))
            values = values.unflatten(1, (-1, stack)).flatten(2)  # (B, T, stack features)
            counts = (counts + stack - 1) // stack
        return Units(values, counts)

    def embed(self, values: Tensor) -> Tensor:
        return self.project(values)

    def unit_lengths(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        samples = sample_counts(inputs, lengths)
        return torch.tensor([-(-self.features.count(length) // self.stack) for length in samples])

    def save_assets(self, folder: Path) -> None:
        pass
