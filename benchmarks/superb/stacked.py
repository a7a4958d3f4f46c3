# SPDX-License-Identifier: Apache-2.0
"""Adam for many small networks at once: parameters are stacked, each network has its own rate and its own clipping.

What comes out is what as many separate runs of torch.optim.Adam and clip_grad_norm_ would give.
Shape letters: G groups of networks, which see the same batches, K networks of a group.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

BETAS, EPS = (0.9, 0.999), 1e-8  # Kingma & Ba 2015 (arXiv:1412.6980), torch's defaults


class Adam:
    """Updates parameters (G, K, ...), all in place.

    Args:
        rates: the learning rate of each of a group's K networks.
        clip: the greatest norm of a network's whole gradient.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], rates: Sequence[float], clip: float) -> None:
        self.parameters = list(parameters)
        # In float32, 1 - 0.999 ** 1 is off by 6e-5 of itself.
        exact = {"device": self.parameters[0].device, "dtype": torch.float64}
        self.rates = torch.tensor(rates, **exact)
        self.clip = clip
        self.first = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.second = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = torch.zeros(self.parameters[0].shape[:2], **exact)  # (G, K)

    @torch.no_grad()
    def step(self) -> None:
        """One step along the gradients, which are then gone. Where a network's is not finite, it stays as it is."""
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        norm = torch.stack([torch.linalg.vector_norm(g.flatten(2), dim=2) for g in gradients]).norm(dim=0)  # (G, K)
        good = norm.isfinite()
        kept: list[Tensor] = []
        if not good.all():
            kept = [moment.clone() for moment in (*self.first, *self.second)]
            gradients = [torch.where(_as(good, gradient), gradient, 0.0) for gradient in gradients]
        scale = torch.where(good, (self.clip / (norm + 1e-6)).clamp(max=1.0), 0.0)
        self.steps += good
        count = self.steps.clamp(min=1.0)
        rate = torch.where(good, self.rates / (1.0 - BETAS[0] ** count), 0.0).to(norm.dtype)
        unbias = (1.0 - BETAS[1] ** count).sqrt().to(norm.dtype)
        for parameter, gradient, first, second in zip(self.parameters, gradients, self.first, self.second, strict=True):
            gradient.mul_(_as(scale, gradient))
            first.lerp_(gradient, 1.0 - BETAS[0])
            second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1.0 - BETAS[1])
            size = second.sqrt().div_(_as(unbias, second)).add_(EPS)
            parameter.sub_(torch.div(first, size, out=size).mul_(_as(rate, first)))
            parameter.grad = None
        for moment, before in zip((*self.first, *self.second), kept, strict=False):
            moment.copy_(torch.where(_as(good, moment), moment, before))

    def state(self) -> dict[str, list[Tensor] | Tensor]:
        """What `load` takes."""
        return {"first": self.first, "second": self.second, "steps": self.steps}

    def load(self, state: dict[str, list[Tensor] | Tensor]) -> None:
        """Goes on from another's `state`."""
        for name, mine in (("first", self.first), ("second", self.second)):
            for to, value in zip(mine, state[name], strict=True):
                to.copy_(value)
        self.steps.copy_(torch.as_tensor(state["steps"]))


def _as(x: Tensor, like: Tensor) -> Tensor:
    """(G, K) with as many dimensions as `like` (G, K, ...)."""
    return x[(...,) + (None,) * (like.ndim - 2)]
