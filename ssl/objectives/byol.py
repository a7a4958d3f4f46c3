# SPDX-License-Identifier: Apache-2.0
"""BYOL: predict what a slowly moving teacher says of another view (Grill et al. 2020, arXiv:2006.07733).

Works on any front end, with views that fit it. Shape letters: B rows, D width, C projected width.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import parallel
from ..encoder import Backbone
from ..objective import Batch, Objective, ObjectiveConfig, Teacher, ViewsConfig, cosine_decay, mlp, two_views


@dataclasses.dataclass(frozen=True, kw_only=True)
class ByolConfig(ObjectiveConfig):
    """Settings of BYOL. Defaults: as published for ImageNet, 1000 epochs."""

    views: ViewsConfig
    pool: Literal["mean", "first"] = "mean"
    hidden: int = 4096  # width inside projector and predictor
    projected: int = 256
    decay: float = 0.996  # of the teacher at the start; rises to 1 along a cosine

    def build(self, backbone: Backbone) -> "Byol":
        return Byol(self, backbone)


class Byol(Objective):
    """Twice the cosine distance between predictions and the teacher's projections, both ways."""

    batch_statistics = True
    alarms: ClassVar[Mapping[str, float]] = {"embedding_std": 0.05}

    def __init__(self, config: ByolConfig, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.config = config
        self.views = config.views.build()
        self.projector = mlp((backbone.encoder.config.width, config.hidden, config.projected))
        self.predictor = mlp((config.projected, config.hidden, config.projected))
        self.teacher = Teacher(nn.ModuleList([self.backbone, self.projector]))

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"rows": torch.full((), float(len(batch.inputs)), device=batch.inputs.device)}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        rows = self.shared_counts(batch)["rows"]
        inputs, lengths = two_views(self.views, batch)
        # Heads take the views one after the other: each has batch statistics of its own, as published.
        pooled = self.backbone.pooled(inputs, lengths, self.config.pool).chunk(2)
        predictions = [self.predictor(self.projector(view)) for view in pooled]
        with torch.no_grad():
            backbone, projector = self.teacher.model.children()
            assert isinstance(backbone, Backbone)
            targets = [projector(view) for view in backbone.pooled(inputs, lengths, self.config.pool).chunk(2)]
        loss = (_distance(predictions[0], targets[1]) + _distance(predictions[1], targets[0])).sum() / rows
        return {"loss": loss, "embedding_std": spread(targets[0])}

    def after_step(self, progress: float) -> None:
        student = nn.ModuleList([self.backbone, self.projector])
        self.teacher.follow(student, cosine_decay(self.config.decay, progress))


def _distance(prediction: Tensor, target: Tensor) -> Tensor:
    """(B,) float32: the squared distance of the normalised vectors, 2 - 2 cosine."""
    return 2.0 - 2.0 * F.cosine_similarity(prediction.float(), target.float(), dim=-1)


def spread(x: Tensor) -> Tensor:
    """() float32: the deviation of L2-normalised rows (B, C), averaged over C and scaled so that isotropic rows give 1.

    It is that of the rows of all ranks. Near 0 the representation has collapsed to a point (Chen & He 2021,
    arXiv:2011.10566, section 4.1).
    """
    unit = F.normalize(x.detach().float(), dim=-1)
    rows = parallel.total_rows(unit)
    centred = unit - parallel.total(unit.sum(0)) / rows
    return (parallel.total(centred.square().sum(0)) / rows).sqrt().mean() * x.shape[1] ** 0.5
