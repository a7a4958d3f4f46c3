# SPDX-License-Identifier: Apache-2.0
"""Vectors to codes: the Gumbel product quantiser of vq-wav2vec and wav2vec 2.0 (Baevski et al. 2020, arXiv:1910.05453).

Shape letters: M vectors, G groups, V codes of a group, C width of a quantised vector.
"""

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import draw, parallel
from .config import Config


class Quantized(NamedTuple):
    """What a quantiser says of M vectors."""

    vectors: Tensor  # (M, C)
    codes: Tensor  # (M,) int64, one number for the codes of all groups together
    perplexity: Tensor  # () float32, of the mean soft choice over all ranks, summed over groups: at most G V
    hard_perplexity: Tensor  # () float32, of the codes taken, without gradient


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizerConfig(Config):
    """Settings of the quantiser. Defaults: wav2vec 2.0 base."""

    groups: int = 2
    codes: int = 320  # in each group
    width: int = 256  # of a quantised vector, all groups together
    start_temperature: float = 2.0
    end_temperature: float = 0.5
    # 0.999995^t falls from 2 to 0.5 in 277k steps, 69 % of the published 400k; here as a share of the run.
    anneal: float = 0.69

    def build(self, input_width: int) -> "GumbelQuantizer":
        if self.width % self.groups:
            raise ValueError(f"quantizer.width {self.width} is no multiple of quantizer.groups {self.groups}")
        return GumbelQuantizer(self, input_width)


class GumbelQuantizer(nn.Module):
    """A straight-through choice of one code in each group; deterministic (the likeliest code) in eval mode."""

    temperature: Tensor

    def __init__(self, config: QuantizerConfig, input_width: int) -> None:
        super().__init__()
        self.config = config
        self.score = nn.Linear(input_width, config.groups * config.codes)
        self.codebook = nn.Parameter(torch.empty(config.groups, config.codes, config.width // config.groups))
        nn.init.normal_(self.score.weight)
        nn.init.zeros_(self.score.bias)
        nn.init.uniform_(self.codebook)
        self.register_buffer("temperature", torch.tensor(config.start_temperature))

    def forward(self, x: Tensor, keys: Tensor, real: Tensor) -> Quantized:
        """Quantises vectors.

        Args:
            x: (M, input width).
            keys: (M,) int64, one for each vector's noise.
            real: (M,) bool; vectors that are not do not count for the perplexity.
        """
        G, V = self.config.groups, self.config.codes
        scores = self.score(x).float().unflatten(-1, (G, V))  # (M, G, V)
        choice = scores.argmax(-1)
        soft = scores.softmax(-1)
        if self.training:
            noise = draw.uniform(keys, G * V).unflatten(-1, (G, V)).clamp(min=2.0**-25)
            noisy = ((scores - (-noise.log()).log()) / self.temperature).softmax(-1)
            choice = noisy.argmax(-1)  # (M, G)
            weights = F.one_hot(choice, V).float() - noisy.detach() + noisy
        else:
            weights = F.one_hot(choice, V).float()
        with torch.autocast(x.device.type, enabled=False):
            vectors = torch.einsum("mgv,gvc->mgc", weights, self.codebook.float()).flatten(1)  # (M, C)
        hard = _perplexity(F.one_hot(choice, V).float(), real).detach()
        perplexity = _perplexity(soft, real) if self.training else hard
        codes = (choice * V ** torch.arange(G, device=x.device)).sum(-1)
        return Quantized(vectors, codes, perplexity, hard)

    @torch.no_grad()
    def anneal(self, progress: float) -> None:
        """Sets the temperature for the share of the run that is done: exponential, then constant."""
        first, last = self.config.start_temperature, self.config.end_temperature
        share = min(1.0, progress / self.config.anneal)
        self.temperature.fill_(first * (last / first) ** share)


def _perplexity(probabilities: Tensor, real: Tensor) -> Tensor:
    """exp(entropy) of the mean of (M, G, V) over real entries of all ranks, summed over groups."""
    total = (probabilities * real[:, None, None]).sum(0)
    count = parallel.total(real.sum().float()).clamp(min=1.0)
    mean = parallel.total_with_gradient(total) / count  # (G, V)
    return torch.exp(-(mean * torch.log(mean + 1e-7)).sum(-1)).sum()
