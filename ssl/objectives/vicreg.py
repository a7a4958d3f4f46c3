# SPDX-License-Identifier: Apache-2.0
"""VICReg: views agree, every dimension varies, no two vary together (Bardes et al. 2022, arXiv:2105.04906).

Works on any front end, with views that fit it. Shape letters: B rows, D width, C projected width.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import parallel
from ..encoder import Backbone
from ..objective import Batch, Objective, ObjectiveConfig, ViewsConfig, mlp, two_views
from .byol import spread


@dataclasses.dataclass(frozen=True, kw_only=True)
class VicregConfig(ObjectiveConfig):
    """Settings of VICReg. Defaults: as published for ImageNet."""

    views: ViewsConfig
    pool: Literal["mean", "first"] = "mean"
    projected: int = 8192  # width of all layers of the projector
    layers: int = 3  # of the projector
    invariance_weight: float = 25.0
    variance_weight: float = 25.0
    covariance_weight: float = 1.0
    # The official code halves the variance term, the paper (eq. 6) does not.
    variance: Literal["code", "paper"] = "code"

    def build(self, backbone: Backbone) -> "Vicreg":
        return Vicreg(self, backbone)


class Vicreg(Objective):
    """Invariance, variance and covariance of the two views' projections, with statistics over all ranks."""

    batch_statistics = True
    alarms: ClassVar[Mapping[str, float]] = {"embedding_std": 0.05}

    def __init__(self, config: VicregConfig, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.config = config
        self.views = config.views.build()
        width = config.projected
        self.projector = mlp((backbone.encoder.config.width, *[width] * config.layers))

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"rows": torch.full((), float(len(batch.inputs)), device=batch.inputs.device)}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        inputs, lengths = two_views(self.views, batch)
        # The projector's batch statistics are each view's own, as published.
        pooled = self.backbone.pooled(inputs, lengths, self.config.pool).chunk(2)
        projected = [self.projector(view) for view in pooled]
        terms = vicreg_terms(projected[0], projected[1])
        half = 0.5 if self.config.variance == "code" else 1.0
        loss = (
            self.config.invariance_weight * terms["invariance"]
            + self.config.variance_weight * half * terms["variance"]
            + self.config.covariance_weight * terms["covariance"]
        )
        return {"loss": loss, **terms, "embedding_std": spread(projected[0])}


def vicreg_terms(first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """The three terms for projections of two views (B, C), each summed over the views and without weights.

    Computed in float32 outside autocast: in bf16 the invariance of embeddings that have shrunk is off by four fifths.
    Statistics are over the rows of all ranks, each of which works off its own; B may differ between ranks.

    Raises: ValueError if all ranks together have fewer than 2 rows.
    """
    if len(first) * parallel.world() < 2:
        raise ValueError("VICReg needs at least two items in a batch: raise batch")
    with torch.autocast(first.device.type, enabled=False):
        first, second = first.float(), second.float()
        rows = parallel.total_rows(first)
        variance = covariance = torch.zeros((), device=first.device)
        for z in (first, second):
            centred = z - parallel.total_with_gradient(z.sum(0)) / rows
            matrix = parallel.total_with_gradient(centred.T @ centred) / (rows - 1.0)  # (C, C)
            spread = matrix.diagonal()
            variance = variance + F.relu(1.0 - (spread + 1e-4).sqrt()).mean()
            covariance = covariance + (matrix.square().sum() - spread.square().sum()) / z.shape[1]
        invariance = parallel.total_with_gradient(F.mse_loss(first, second, reduction="sum")) / (rows * first.shape[1])
        return {"invariance": invariance, "variance": variance, "covariance": covariance}
