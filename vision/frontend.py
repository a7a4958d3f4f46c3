# SPDX-License-Identifier: Apache-2.0
"""Images to patches to vectors (Dosovitskiy et al. 2021, arXiv:2010.11929).

Shape letters: B images, C channels, H and W pixels, P side of a patch, T patches, U = C P P, D width.
"""

import dataclasses
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ssl.encoder import FrontEnd, FrontEndConfig, Units
from .images import ImageDataset


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchFrontEndConfig(FrontEndConfig):
    """Settings of the patch front end. Defaults: ViT base at 224 pixels, ImageNet statistics."""

    size: int = 224  # pixels, side of the images it is built for; others work where the positions allow it
    patch: int = 16  # pixels, side
    channels: int = 3
    width: int = 768
    class_token: bool = True
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # of each channel, pixels in [0, 1]
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if self.size % self.patch:
            raise ValueError(f"front_end.size {self.size} is no multiple of front_end.patch {self.patch}")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(f"front_end.mean and front_end.std need {self.channels} numbers, one a channel")

    @property
    def positions(self) -> int:
        """Positions that the encoder needs for images of `size`."""
        return (self.size // self.patch) ** 2 + int(self.class_token)

    def build(self, assets: Path | None = None) -> "PatchFrontEnd":
        return PatchFrontEnd(self)

    def fitted(self, dataset: object) -> Self:
        if not isinstance(dataset, ImageDataset):
            raise ValueError("this recipe is for images: set data to a folder of images")
        channels = dataset.channels
        if channels == self.channels:
            return self
        grey = sum(self.mean) / len(self.mean), sum(self.std) / len(self.std)
        return dataclasses.replace(self, channels=channels, mean=grey[:1] * channels, std=grey[1:] * channels)


class PatchFrontEnd(FrontEnd):
    """Flattened patches through a linear layer, with a class token in front."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: PatchFrontEndConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.unit_width = config.channels * config.patch**2
        self.prefix = int(config.class_token)
        self.project = nn.Linear(self.unit_width, config.width)
        nn.init.trunc_normal_(self.project.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.zeros_(self.project.bias)
        self.class_token = nn.Parameter(torch.zeros(config.width)) if config.class_token else None
        self.register_buffer("mean", torch.tensor(config.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(config.std)[:, None, None], persistent=False)

    def _patches(self, inputs: Tensor) -> int:
        """T. Raises ValueError for images that cannot be cut into whole patches."""
        _, C, H, W = inputs.shape
        P = self.config.patch
        if C != self.config.channels or H % P or W % P:
            raise ValueError(
                f"images are {C} x {H} x {W}; the front end takes {self.config.channels} channels and sides that are "
                f"multiples of {P}"
            )
        return (H // P) * (W // P)

    def units(self, inputs: Tensor, lengths: Tensor | None = None) -> Units:
        """Images (B, C, H, W) to patches (B, T, U), each in the order C, P, P.

        uint8 images are scaled to [0, 1] and normalised; floating-point ones are taken as normalised already.
        """
        self._patches(inputs)
        if not inputs.is_floating_point():
            inputs = (inputs.float() / 255.0 - self.mean) / self.std
        P = self.config.patch
        patches = inputs.unflatten(3, (-1, P)).unflatten(2, (-1, P))  # (B, C, H / P, P, W / P, P)
        return Units(patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2), None)  # (B, T, U)

    def embed(self, values: Tensor) -> Tensor:
        x = self.project(values)
        if self.class_token is None:
            return x
        token = self.class_token.to(x.dtype).expand(len(x), 1, -1)
        return torch.cat([token, x], dim=1)  # (B, 1 + T, D)

    def unit_lengths(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        return torch.full((len(inputs),), self._patches(inputs))

    def save_assets(self, folder: Path) -> None:
        pass

    def pictures(self, values: Tensor, height: int) -> Tensor:
        """Patches (B, T, U) back to images (B, C, H, W) with pixels in [0, 1]; `height` is H."""
        P, C = self.config.patch, self.config.channels
        grid = values.unflatten(2, (C, P, P)).unflatten(1, (height // P, -1))  # (B, H / P, W / P, C, P, P)
        images = grid.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)  # (B, C, H, W)
        return (images * self.std + self.mean).clamp(0.0, 1.0)


def interpolate_positions(table: Tensor, old: tuple[int, int], new: tuple[int, int], prefix: int = 1) -> Tensor:
    """A table of learned positions for another grid of patches: bicubic, class token and other prefixes unchanged.

    Args:
        table: (prefix + old rows * old columns, D). old, new: rows and columns of patches.
    Returns: (prefix + new rows * new columns, D).
    """
    first, grid = table[:prefix], table[prefix:]
    grid = grid.unflatten(0, old).permute(2, 0, 1)[None]  # (1, D, rows, columns)
    grid = F.interpolate(grid, size=new, mode="bicubic", align_corners=False)
    return torch.cat([first, grid[0].permute(1, 2, 0).flatten(0, 1)])
