# SPDX-License-Identifier: Apache-2.0
"""The encoder's settings and what it is made of: norms, attention, MLPs, and the two orders of adding them up.

Shape letters: N real positions of all rows, D width, H heads.
"""

import dataclasses
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import Attend
from .config import Config
from .dropout import Dropout
from .linear import Linear, linear_gelu
from .packing import Rows
from .positions import LearnedPositionsConfig, PositionsConfig, RotaryPositionsConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig(Config):
    """The encoder's shape. Defaults: BERT base (Devlin et al. 2019, arXiv:1810.04805)."""

    depth: int = 12
    width: int = 768
    heads: int = 12
    hidden: int = 3072  # width inside the MLP
    block: Literal["post_norm", "pre_norm"] = "post_norm"
    norm: Literal["layer", "rms", "none"] = "layer"
    norm_eps: float = 1e-12
    mlp: Literal["gelu", "gelu_tanh", "geglu"] = "gelu"
    bias: bool = True
    positions: PositionsConfig = LearnedPositionsConfig()
    causal: bool = False
    dropout: float = 0.1  # of embeddings and of what each sublayer adds
    attention_dropout: float = 0.1  # of attention weights
    mlp_dropout: float = 0.0  # inside the MLP, after its non-linearity
    layer_drop: float = 0.0  # share of blocks left out of a training step (Fan et al. 2020, arXiv:1909.11556)
    drop_path: float = 0.0  # share of rows whose sublayer is left out, in the last block (Huang et al. 2016)

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"encoder.width {self.width} is no multiple of encoder.heads {self.heads}")
        for name in ("dropout", "attention_dropout", "mlp_dropout", "drop_path"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"encoder.{name} {getattr(self, name):g} is no share below 1")


def modern(depth: int = 12, width: int = 768, heads: int = 12) -> EncoderConfig:
    """Pre-norm, rotary positions, gated MLP, RMS norms, no biases, no dropout: what recent encoders agree on.

    After ModernBERT (Warner et al. 2024, arXiv:2412.13663), section 2; the MLP keeps the parameters of a plain one.
    """
    return EncoderConfig(
        depth=depth,
        width=width,
        heads=heads,
        hidden=64 * round(width * 8 / 3 / 64),
        block="pre_norm",
        norm="rms",
        norm_eps=1e-6,
        mlp="geglu",
        bias=False,
        positions=RotaryPositionsConfig(),
        dropout=0.0,
        attention_dropout=0.0,
    )


def make_norm(config: EncoderConfig) -> nn.Module:
    """A norm over the width, as the config says."""
    if config.norm == "none":
        return nn.Identity()
    if config.norm == "rms":
        return nn.RMSNorm(config.width, eps=config.norm_eps)
    return nn.LayerNorm(config.width, eps=config.norm_eps, bias=config.bias)


class Attention(nn.Module):
    """Multi-head self-attention; which positions see which is `attend`'s affair."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = Linear(config.width, 3 * config.width, bias=config.bias)  # rows: queries, keys, values
        self.out = Linear(config.width, config.width, bias=config.bias)

    def forward(self, x: Tensor, attend: Attend, wanted: Tensor | None = None) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(1)  # each (N, H, D / H)
        mixed = attend(query, key, value).flatten(1)  # (N, D)
        return self.out(mixed if wanted is None else mixed.index_select(0, wanted))


class MLP(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.up = Linear(config.width, config.hidden, bias=config.bias)
        self.down = Linear(config.hidden, config.width, bias=config.bias)
        self.approximate = "tanh" if config.mlp == "gelu_tanh" else "none"
        self.dropout = Dropout(config.mlp_dropout)

    def forward(self, x: Tensor) -> Tensor:
        if self.approximate == "none":
            hidden = linear_gelu(x, self.up.weight, self.up.bias)
        else:
            hidden = F.gelu(self.up(x), approximate=self.approximate)
        return self.down(self.dropout(hidden))


class GatedMLP(nn.Module):
    """An MLP whose hidden units are multiplied by a second, linear set (Shazeer 2020, arXiv:2002.05202, GEGLU)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.up = Linear(config.width, 2 * config.hidden, bias=config.bias)  # rows: gate, value
        self.down = Linear(config.hidden, config.width, bias=config.bias)
        self.dropout = Dropout(config.mlp_dropout)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.up(x).chunk(2, dim=-1)
        return self.down(self.dropout(F.gelu(gate) * value))


class DropPath(nn.Module):
    """Leaves a sublayer out for a random share of the rows, and scales it up for the others."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor, rows: Rows, wanted: Tensor | None) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = torch.rand(len(rows.lengths), device=x.device) >= self.rate
        row = rows.row if wanted is None else rows.row[wanted]
        return x * (keep / (1.0 - self.rate)).to(x.dtype)[row, None]


class Block(nn.Module, ABC):
    """Attention and an MLP, each added to what it reads."""

    def __init__(self, config: EncoderConfig, drop_path: float) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.attention_norm = make_norm(config)
        self.mlp = GatedMLP(config) if config.mlp == "geglu" else MLP(config)
        self.mlp_norm = make_norm(config)
        self.dropout = Dropout(config.dropout)
        self.drop_path = DropPath(drop_path)

    @abstractmethod
    def forward(self, x: Tensor, attend: Attend, rows: Rows, wanted: Tensor | None = None) -> Tensor:
        """(N, D) to (N, D); with `wanted` (M,), numbers of packed positions, to (M, D): theirs alone, and nothing is
        computed for the others after they have been attended to."""


class PostNormBlock(Block):
    """Add, then normalise (Vaswani et al. 2017): BERT, wav2vec 2.0 base, HuBERT base."""

    def forward(self, x: Tensor, attend: Attend, rows: Rows, wanted: Tensor | None = None) -> Tensor:
        mixed = self.attention(x, attend, wanted)
        if wanted is not None:
            x = x.index_select(0, wanted)
        x = self.attention_norm(x + self.drop_path(self.dropout(mixed), rows, wanted))
        return self.mlp_norm(x + self.drop_path(self.dropout(self.mlp(x)), rows, wanted))


class PreNormBlock(Block):
    """Normalise what each sublayer reads (Xiong et al. 2020, arXiv:2002.04745): ViT, wav2vec 2.0 large."""

    def forward(self, x: Tensor, attend: Attend, rows: Rows, wanted: Tensor | None = None) -> Tensor:
        mixed = self.attention(self.attention_norm(x), attend, wanted)
        if wanted is not None:
            x = x.index_select(0, wanted)
        x = x + self.drop_path(self.dropout(mixed), rows, wanted)
        return x + self.drop_path(self.dropout(self.mlp(self.mlp_norm(x))), rows, wanted)


def initialise(module: nn.Module) -> None:
    """Truncated normal weights of deviation 0.02 and zero biases, as published for BERT and ViT."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
