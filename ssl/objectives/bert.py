# SPDX-License-Identifier: Apache-2.0
"""BERT: fill in hidden ids, and say whether two segments belong together (Devlin et al. 2019, arXiv:1810.04805).

Works on any front end whose units are ids. Shape letters: B rows, T units, M hidden units, D width, V vocabulary.
"""

import dataclasses
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import draw, masking
from ..encoder import Backbone, IdFrontEnd
from ..linear import Linear
from ..objective import Batch, Objective, ObjectiveConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class BertConfig(ObjectiveConfig):
    """Settings of BERT. Defaults: as published, but new masks each epoch (RoBERTa, arXiv:1907.11692, sec. 4.1)."""

    mask_share: float = 0.15  # of a row's units, special ones counted
    most_masked: int | None = None  # in a row; published: 20 in rows of 128, 80 in rows of 512
    as_mask: float = 0.8  # share of the chosen that become [MASK]
    as_random: float = 0.1  # share that becomes a random id; the rest stays as it is
    random_ids: Literal["all", "non_special"] = "all"
    whole_words: bool = False
    next_sentence: bool = True  # batches must carry "is_random": (B,) 1 where the second segment is a random one

    def build(self, backbone: Backbone) -> "Bert":
        if not isinstance(backbone.front_end, IdFrontEnd):
            raise ValueError("BERT hides ids, and this front end's units are vectors: use mockingjay or wav2vec2")
        return Bert(self, backbone)


class Bert(Objective):
    """Masked language modelling with logits at hidden units only, and next sentence prediction."""

    ordinary: Tensor
    special: Tensor
    continues: Tensor

    def __init__(self, config: BertConfig, backbone: Backbone) -> None:
        super().__init__(backbone)
        assert isinstance(backbone.front_end, IdFrontEnd)
        self.config = config
        self.table = backbone.front_end.table
        self.vocabulary = backbone.front_end.vocabulary
        width, size = backbone.encoder.config.width, self.vocabulary.size
        self.transform = Linear(width, width)
        self.transform_norm = nn.LayerNorm(width, eps=1e-12)
        self.bias = nn.Parameter(torch.zeros(size))
        self.pooler = nn.Linear(width, width) if config.next_sentence else None
        self.next_sentence = nn.Linear(width, 2) if config.next_sentence else None
        for layer in (self.transform, self.pooler, self.next_sentence):
            if layer is not None:
                nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04)
                nn.init.zeros_(layer.bias)
        special = torch.zeros(size, dtype=torch.bool)
        special[list(self.vocabulary.special_ids)] = True
        continues = self.vocabulary.continues
        ordinary = (~special).nonzero()[:, 0] if config.random_ids == "non_special" else torch.arange(size)
        self.register_buffer("ordinary", ordinary, persistent=False)
        self.register_buffer("special", special, persistent=False)
        self.register_buffer("continues", special & False if continues is None else continues, persistent=False)

    def _wanted(self, lengths: Tensor) -> Tensor:
        """(B,) int64: how many units of each row are to be hidden."""
        wanted = (self.config.mask_share * lengths).round().clamp(min=1, max=self.config.most_masked).long()
        return torch.minimum(wanted, lengths)

    def masked(self, batch: Batch, ids: Tensor, lengths: Tensor) -> Tensor:
        """(B, T) bool: the units to be hidden, a fixed share of each row, never special ones."""
        keys = draw.fold(batch.keys, "hidden")
        lengths = lengths.to(ids.device, non_blocking=True)
        real = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        allowed = real & ~self.special[ids]
        if self.config.whole_words:
            return masking.words(keys, allowed, self.continues[ids], self._wanted(lengths))
        return masking.choose(keys, allowed, self._wanted(lengths))

    def corrupt(self, batch: Batch, ids: Tensor, masked: Tensor) -> Tensor:
        """(B, T) int64: ids with the hidden ones replaced by [MASK], by a random id, or left."""
        config, T = self.config, ids.shape[1]
        die = draw.uniform(draw.fold(batch.keys, "die"), T)
        number = draw.integers(draw.fold(batch.keys, "id"), T, len(self.ordinary))
        changed = torch.where(die < config.as_mask + config.as_random, self.ordinary[number], ids)
        changed = torch.where(die < config.as_mask, self.vocabulary.mask_id, changed)
        return torch.where(masked, changed, ids)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        ids = batch.inputs if batch.inputs.ndim == 2 else batch.inputs[..., 0]
        lengths = self.backbone.front_end.unit_lengths(batch.inputs, batch.lengths)
        masked = self.masked(batch, ids, lengths).sum().float()
        return {"masked": masked, "rows": torch.full_like(masked, len(ids))}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        units = self.backbone.front_end.units(batch.inputs, batch.lengths)
        values = units.values
        ids = values if values.ndim == 2 else values[..., 0]
        lengths = self.backbone.front_end.unit_lengths(batch.inputs, batch.lengths)
        masked = self.masked(batch, ids, lengths)
        corrupted = self.corrupt(batch, ids, masked)
        if values.ndim == 3:
            corrupted = torch.stack([corrupted, values[..., 1]], dim=-1)
        chosen = masking.where(masked, int(self._wanted(lengths).sum()))
        row, column = chosen.row, chosen.column
        if self.config.next_sentence:  # the first vector of each row as well
            every = torch.arange(len(ids), device=row.device)
            row, column = torch.cat([row, every]), torch.cat([column, torch.zeros_like(every)])
        x = self.backbone.encode_at(self.backbone.front_end.embed(corrupted), units.lengths, row, column)
        counts = self.shared_counts(batch)
        hidden = len(chosen.flat)
        out = self.fill_in(x[:hidden], chosen, ids.flatten()[chosen.flat], counts["masked"])
        if self.config.next_sentence:
            if "is_random" not in batch.extras:
                raise ValueError(
                    "next sentence prediction needs pairs: set data.pairs=True, or objective.next_sentence=False"
                )
            following = self.follow(x[hidden:], batch.extras["is_random"], counts["rows"])
            out = {**following, **out, "loss": out["mlm_loss"] + following["nsp_loss"]}
        return out

    def fill_in(self, x: Tensor, chosen: masking.Chosen, targets: Tensor, count: Tensor) -> dict[str, Tensor]:
        """The loss of filling in: the encoder's outputs at the chosen units (M, D), ids (M,), what to divide by."""
        x = self.transform_norm(F.gelu(self.transform(x)))
        logits = F.linear(x, self.table(), self.bias.to(x.dtype)).float()  # (M, V)
        nats = F.cross_entropy(logits, targets, reduction="none") * chosen.real
        right = (logits.argmax(-1) == targets) & chosen.real
        loss = nats.sum() / count
        return {"loss": loss, "mlm_loss": loss, "mlm_accuracy": right.sum() / count}

    def follow(self, x: Tensor, is_random: Tensor, rows: Tensor) -> dict[str, Tensor]:
        """The loss of telling from each row's first output (B, D) whether the second segment follows the first."""
        assert self.pooler is not None and self.next_sentence is not None
        logits = self.next_sentence(torch.tanh(self.pooler(x))).float()  # (B, 2)
        loss = F.cross_entropy(logits, is_random, reduction="sum") / rows
        return {"nsp_loss": loss, "nsp_accuracy": (logits.argmax(-1) == is_random).sum() / rows}
