# SPDX-License-Identifier: Apache-2.0
"""What a pre-training method is: a backbone, what one paper adds to it, and a `forward` that returns the loss."""

import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass
class Batch:
    """One step's items, or one rank's share of them."""

    inputs: Tensor  # (B, T, ...) raw, padded with zeros: ids, samples, or (B, C, H, W) pixels
    lengths: Tensor | None  # (B,) int64 on the CPU: how much of each row is real; None where rows are equally long
    keys: Tensor  # (B,) int64: one random key for each item, from (seed, epoch, item)
    extras: dict[str, Tensor] = dataclasses.field(default_factory=dict)

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on a device; lengths stay on the host, which is where they are read."""
        move = {name: value.to(device, non_blocking=True) for name, value in self.extras.items()}
        keys = self.keys.to(device, non_blocking=True)
        return Batch(self.inputs.to(device, non_blocking=True), self.lengths, keys, move)
