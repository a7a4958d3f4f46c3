# SPDX-License-Identifier: Apache-2.0
"""SUPERB's head for whole utterances (KS, IC, SID, ER), many of them trained side by side.

Linear to 256, mean over the frames, linear to the classes, with nothing in between (s3prl@ec8064b, downstream/model.py,
`UtteranceLevel`). The mean of a linear map is the map of the mean, so the head takes each layer's mean over the clip.
Shape letters: G groups of heads that see the same batch, K heads of a group, B clips, L layers, D width, H hidden,
C classes of all slots together.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..featurizer import FeaturizerConfig, concatenate, mix

HIDDEN = 256


class UtteranceHeads(nn.Module):
    """One head, with layer weights of its own, for each seed (G) and each learning rate (K).

    Args:
        seeds: heads of one seed begin with the same weights, those that torch draws for two nn.Linear in turn.
        slots: the number of classes of each slot.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        heads: int,
        layers: int,
        width: int,
        slots: Sequence[int],
        featurizer: FeaturizerConfig,
    ) -> None:
        super().__init__()
        self.slots = tuple(slots)
        self.kind = featurizer.kind
        drawn = [begin(seed, featurizer.width(layers, width), sum(slots)) for seed in seeds]

        def stack(number: int) -> nn.Parameter:
            return nn.Parameter(torch.stack([one[number] for one in drawn])[:, None].repeat_interleave(heads, 1))

        self.into = stack(0)  # (G, K, D, H)
        self.into_bias = stack(1)  # (G, K, 1, H)
        self.out = stack(2)  # (G, K, H, C)
        self.out_bias = stack(3)  # (G, K, 1, C)
        if featurizer.kind == "weighted":
            self.layers = nn.Parameter(torch.zeros(len(seeds), heads, layers))  # (G, K, L), before the softmax

    def forward(self, x: Tensor) -> Tensor:
        """Means over clips (G, B, L, D), or (1, B, L, D) for all, to logits (G, K, B, C)."""
        pooled = mix(x, self.layers) if self.kind == "weighted" else concatenate(x)
        return (pooled @ self.into + self.into_bias) @ self.out + self.out_bias

    def losses(self, x: Tensor, labels: Tensor) -> Tensor:
        """(G, K): each head's cross-entropy, the mean over clips and the sum over slots; labels are (G, B, slots)."""
        logits = self(x)
        total = logits.new_zeros(logits.shape[:2])
        for number, part in enumerate(logits.split(self.slots, dim=-1)):
            wanted = labels[:, None, :, number].expand(part.shape[:-1])
            each = F.cross_entropy(part.flatten(0, 2), wanted.flatten(), reduction="none")
            total = total + each.view(part.shape[:-1]).mean(-1)
        return total

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """(G, K, B, slots) int64: the likeliest class of each slot."""
        parts = self(x).split(self.slots, dim=-1)
        return torch.stack([part.argmax(-1) for part in parts], dim=-1)

    def shares(self) -> Tensor | None:
        """(G, K, L): each head's share of every layer; None where nothing is weighted."""
        return self.layers.detach().softmax(-1) if self.kind == "weighted" else None


def begin(seed: int, width: int, classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights (D, H) and (H, C) and, behind each, its bias (1, H) and (1, C), as torch draws them for nn.Linear."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, second = nn.Linear(width, HIDDEN), nn.Linear(HIDDEN, classes)
    into, out = first.weight.detach().T, second.weight.detach().T
    return into, first.bias.detach()[None], out, second.bias.detach()[None]
