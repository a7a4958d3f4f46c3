# SPDX-License-Identifier: Apache-2.0
"""What a probe reads of a frozen encoder: a learned mean of all layers, one layer, or all of them side by side.

Yang et al. 2021 (arXiv:2105.01051, section 3); equal to s3prl@ec8064b, upstream/interfaces.py (`Featurizer`).
Shape letters: G groups of probes that see the same batch, K probes of a group, N vectors, L layers, D width.
"""

import dataclasses
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...ssl.config import Config
from ...ssl.encoder import FrontEnd

_SAMPLES = 1_600_000  # long enough for the distance of frames to show


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeaturizerConfig(Config):
    """How layers become one vector a frame. Defaults: SUPERB's."""

    kind: Literal["weighted", "layer", "concat"] = "weighted"  # softmax-weighted mean; one layer; all, side by side
    layer: int = 0  # of "layer": 0 the encoder's input, k the output of block k
    layers: tuple[int, ...] = ()  # of the other kinds: those that are read, in ascending order; (): all
    normalize: bool = False  # each vector to zero mean and unit variance before, as s3prl's option; here one layer too

    def __post_init__(self) -> None:
        if self.layer and self.kind != "layer":
            raise ValueError(f"featurizer.layer={self.layer} has no effect: set featurizer.kind=layer")
        if self.layers and self.kind == "layer":
            raise ValueError("featurizer.layers has no effect on featurizer.kind=layer: set featurizer.layer")
        if self.layers != tuple(sorted(set(self.layers))):
            raise ValueError(f"featurizer.layers={self.layers}: name each layer once, in ascending order")

    def chosen(self, depth: int) -> tuple[int, ...]:
        """The layers that are read of an encoder with so many blocks. Raises ValueError for one that it has not."""
        name, wanted = ("layer", (self.layer,)) if self.kind == "layer" else ("layers", self.layers)
        if wrong := [layer for layer in wanted if not 0 <= layer <= depth]:
            raise ValueError(f"featurizer.{name}={wrong[0]} is not one of 0 (the encoder's input) to {depth}")
        return wanted or tuple(range(depth + 1))

    def words(self) -> str:
        """What is read, for a line on the protocol."""
        some = f"layers {', '.join(map(str, self.layers))}" if self.layers else ""
        read = {
            "weighted": f"weighted sum of {some or 'layers'}",
            "layer": f"layer {self.layer}",
            "concat": f"{some or 'all layers'} side by side",
        }[self.kind]
        return f"{read}, normalised" if self.normalize else read

    def width(self, layers: int, width: int) -> int:
        """D of what the probe reads."""
        return layers * width if self.kind == "concat" else width


def mix(x: Tensor, weights: Tensor) -> Tensor:
    """The mean of the layers, weighted by the softmax of each probe's weights.

    Args:
        x: (G, N, L, D), or (1, N, L, D) for all groups. weights: (G, K, L), 0 at first.
    Returns: (G, K, N, D).
    """
    return torch.einsum("gnld,gkl->gknd", x, weights.softmax(-1))


def concatenate(x: Tensor) -> Tensor:
    """(G, N, L, D) to (G, 1, N, L D)."""
    return x.flatten(2)[:, None]


class Featurizer(nn.Module):
    """What a single probe reads of every frame."""

    def __init__(self, layers: int, config: FeaturizerConfig) -> None:
        super().__init__()
        self.kind = config.kind
        if config.kind == "weighted":
            self.weights = nn.Parameter(torch.zeros(layers))

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, D) to (N, D) or, for layers side by side, (N, L D)."""
        return torch.einsum("nld,l->nd", x, self.weights.softmax(0)) if self.kind == "weighted" else x.flatten(1)


def normalized(x: Tensor) -> Tensor:
    """(..., D): layer norm without scale and shift.

    s3prl's option does it to what is summed, and leaves an encoder of one layer, or one layer of several, as it is.
    """
    return F.layer_norm(x, x.shape[-1:])


def hop(front_end: FrontEnd) -> int:
    """Samples (16 kHz) from one frame to the next."""
    lengths = torch.tensor([_SAMPLES, 2 * _SAMPLES])
    first, second = front_end.unit_lengths(torch.empty(1).expand(2, 2 * _SAMPLES), lengths).tolist()
    return round(_SAMPLES / (second - first))


def frames(samples: int, hop: int, have: int) -> int:
    """How many of a clip's frames are used: s3prl cuts at samples / hop, rounded; one is always left."""
    return min(have, max(1, round(samples / hop)))
