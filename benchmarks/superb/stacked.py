# SPDX-License-Identifier: Apache-2.0
"""Adam for many small networks at once: parameters are stacked, each network has its own rate and its own clipping.

What comes out is what as many separate runs of torch.optim.Adam (with weight decay AdamW) and clip_grad_norm_ would
give, or of s3prl's own AdamW, whose epsilon stands elsewhere.
Shape letters: G groups of networks, which see the same batches, K networks of a group.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

BETAS = (0.9, 0.999)  # Kingma & Ba 2015 (arXiv:1412.6980), torch's default


class Epsilon(NamedTuple):
    """What keeps steps small where gradients are next to nothing (arXiv:1412.6980, algorithm 1)."""

    value: float = 1e-8
    hat: bool = False  # it is added before the second moment's bias is corrected (end of section 2), not after


LATE = Epsilon()  # torch's default


class Adam:
    """Updates parameters (G, K, ...), all in place.

    Args:
        rates: the learning rate of each of a group's K networks.
        clip: the greatest norm of a network's whole gradient.
        decay: weight decay apart from the gradient (Loshchilov & Hutter 2019, arXiv:1711.05101).
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        rates: Sequence[float],
        clip: float,
        decay: float = 0.0,
        epsilon: Epsilon = LATE,
    ) -> None:
        self.parameters = list(parameters)
        # In float32, 1 - 0.999 ** 1 is off by 6e-5 of itself.
        exact = {"device": self.parameters[0].device, "dtype": torch.float64}
        self.rates = torch.tensor(rates, **exact)
        self.clip, self.decay, self.epsilon = clip, decay, epsilon
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
        shrink = torch.where(good, 1.0 - self.rates * self.decay, 1.0).to(norm.dtype)
        for parameter, gradient, first, second in zip(self.parameters, gradients, self.first, self.second, strict=True):
            gradient.mul_(_as(scale, gradient))
            first.lerp_(gradient, 1.0 - BETAS[0])
            second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1.0 - BETAS[1])
            if self.decay:
                parameter.mul_(_as(shrink, parameter))
            size, (value, hat) = second.sqrt(), self.epsilon
            size = size.add_(value).div_(_as(unbias, second)) if hat else size.div_(_as(unbias, second)).add_(value)
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


class Stacked(nn.Module):
    """G x K networks of one kind, which run one after the other; parameters are (G, K, ...).

    Args:
        make: a new network. seeds: networks of one seed begin with the same weights. heads: K.
    """

    def __init__(self, make: Callable[[], nn.Module], seeds: Sequence[int], heads: int) -> None:
        super().__init__()
        begin = []
        for seed in seeds:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                begin.append(make())
        self.shape = (len(seeds), heads)
        self._network = (begin[0],)  # in a tuple, so that its own parameters are none of this module's
        self.values = nn.ParameterDict()
        for name, _ in begin[0].named_parameters():
            each = torch.stack([one.get_parameter(name).detach() for one in begin])
            self.values[name.replace(".", "/")] = nn.Parameter(each[:, None].repeat_interleave(heads, 1))

    def each(self) -> list[list[dict[str, Tensor]]]:
        """The parameters of each network, for `call`."""
        names = [name.replace("/", ".") for name in self.values]
        apart = [value.flatten(0, 1).unbind(0) for value in self.values.values()]  # a slice's gradient would be whole
        flat = [dict(zip(names, one, strict=True)) for one in zip(*apart, strict=True)]
        return [flat[start : start + self.shape[1]] for start in range(0, len(flat), self.shape[1])]

    def call(self, parameters: dict[str, Tensor], *inputs: Any) -> Tensor:
        """What the network of these parameters says of the inputs."""
        return functional_call(self._network[0], parameters, inputs)

    @property
    def device(self) -> torch.device:
        return next(iter(self.values.values())).device

    def shares(self) -> Tensor | None:
        """(G, K, L): each network's share of every layer; None where its `featurizer` weights none."""
        if "featurizer/weights" not in self.values:
            return None
        return self.values["featurizer/weights"].detach().softmax(-1)
