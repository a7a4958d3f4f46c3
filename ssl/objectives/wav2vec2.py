# SPDX-License-Identifier: Apache-2.0
"""wav2vec 2.0: find the quantised target of each hidden unit among false ones (Baevski et al. 2020, arXiv:2006.11477).

Works on any front end whose units are vectors. Shape letters: B rows, T units, M hidden units, K negatives, D width.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from .. import draw, masking
from ..contrast import draw_negatives, place_in_row, row_contrast
from ..dropout import Dropout
from ..encoder import Backbone, IdFrontEnd, Units
from ..objective import Batch, Objective, ObjectiveConfig
from ..quantize import QuantizerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wav2Vec2Config(ObjectiveConfig):
    """Settings of wav2vec 2.0. Defaults: the base model."""

    mask_share: float = 0.65  # of units that would be hidden if spans did not overlap; about 49 % are
    span: int = 10  # units; 20 ms each in speech
    negatives: int = 100
    temperature: float = 0.1
    final_width: int = 256  # of the vectors that are compared
    diversity_weight: float = 0.1
    penalty_weight: float = 10.0  # on the mean square of the extractor's raw output
    target_dropout: float = 0.1  # of the units that are quantised
    quantizer: QuantizerConfig = QuantizerConfig()

    def build(self, backbone: Backbone) -> "Wav2Vec2":
        if isinstance(backbone.front_end, IdFrontEnd):
            raise ValueError("wav2vec 2.0 quantises vectors, and this front end's units are ids: use bert")
        return Wav2Vec2(self, backbone)


class Wav2Vec2(Objective):
    """A contrastive loss over hidden units, a diversity loss over codes, and a penalty on large features."""

    # One code in each of two groups: then all negatives are the target's own code, and the loss falls to nothing.
    alarms: ClassVar[Mapping[str, float]] = {"code_perplexity": 4.0}

    def __init__(self, config: Wav2Vec2Config, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.config = config
        width = backbone.encoder.config.width
        self.hidden_unit = nn.Parameter(torch.empty(width).uniform_())  # stands in for hidden units
        self.quantizer = config.quantizer.build(backbone.front_end.unit_width)
        self.target_dropout = Dropout(config.target_dropout)
        self.project_target = nn.Linear(config.quantizer.width, config.final_width)
        self.project = nn.Linear(width, config.final_width)

    def masked(self, batch: Batch, lengths: Tensor, longest: int) -> Tensor:
        """(B, T) bool: spans at random starts, whose number is rounded at random, as in fairseq.

        Differs from fairseq: rows of a batch are not cut down to one number of hidden units.
        """
        lengths = lengths.to(batch.keys.device, non_blocking=True)
        wanted = self.config.mask_share * lengths / self.config.span
        count = masking.stochastic_round(draw.fold(batch.keys, "spans"), wanted)
        return masking.spans(draw.fold(batch.keys, "starts"), lengths, longest, count, self.config.span)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        lengths = self.backbone.front_end.unit_lengths(batch.inputs, batch.lengths)
        masked = self.masked(batch, lengths, int(lengths.max())).sum().float()
        return {"masked": masked, "units": torch.full_like(masked, float(lengths.sum()))}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        units = self.backbone.front_end.units(batch.inputs, batch.lengths)
        B, T = units.values.shape[:2]
        lengths = torch.full((B,), T) if units.lengths is None else units.lengths
        masked = self.masked(batch, lengths, T)
        most = ((self.config.mask_share * lengths / self.config.span).floor() + 1) * self.config.span  # (B,)
        chosen = masking.where(masked, int(torch.minimum(most, lengths).sum()))
        keys = draw.fold(batch.keys[chosen.row], chosen.column)
        place, count = place_in_row(chosen, B)
        negatives = draw_negatives(draw.fold(keys, "negatives"), place, count[chosen.row], self.config.negatives)
        return self.compare(units, masked, chosen, negatives, draw.fold(keys, "noise"), self.shared_counts(batch))

    def compare(
        self,
        units: Units,
        masked: Tensor,
        chosen: masking.Chosen,
        negatives: Tensor,
        keys: Tensor,
        counts: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """The loss for given hidden units (B, T) and negatives (M, K): places among the same row's hidden units."""
        config, front_end = self.config, self.backbone.front_end
        B, T = masked.shape
        x = front_end.embed(units.values)
        hidden = self.hidden_unit.to(x.dtype).expand(B, T, -1)
        x = torch.cat([x[:, : front_end.prefix], torch.where(masked[..., None], hidden, x[:, front_end.prefix :])], 1)
        query = self.project(self.backbone.encode_at(x, units.lengths, chosen.row, chosen.column))  # (M, final width)
        targets = self.target_dropout(units.values.flatten(0, 1)[chosen.flat])
        quantized = self.quantizer(targets, keys, chosen.real)
        key = self.project_target(quantized.vectors)
        nats, right = row_contrast(query, key, chosen, negatives, quantized.codes, (B, T), 1.0 / config.temperature)
        contrastive = (nats * chosen.real).sum() / counts["masked"]
        share = chosen.real.sum() / counts["masked"]  # of the step's hidden units
        size = config.quantizer.groups * config.quantizer.codes
        diversity = (size - quantized.perplexity) / size * share
        loss = contrastive + config.diversity_weight * diversity
        out = {
            "contrastive_loss": contrastive,
            "diversity_loss": diversity,
            "accuracy": (right & chosen.real).sum() / counts["masked"],
            "code_perplexity": quantized.hard_perplexity * share,
        }
        if units.energy is not None and config.penalty_weight:
            lengths = torch.full((B,), T) if units.lengths is None else units.lengths
            penalty = units.energy * float(lengths.sum()) / counts["units"]
            loss = loss + config.penalty_weight * penalty
            out["feature_penalty"] = penalty
        return {"loss": loss, **out}

    def after_step(self, progress: float) -> None:
        self.quantizer.anneal(progress)
