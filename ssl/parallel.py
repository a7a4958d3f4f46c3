# SPDX-License-Identifier: Apache-2.0
"""What losses need of the other ranks: sums, with gradients where asked for; alone, all of them do nothing.

torch.distributed is the engine. Its `nn.functional` collectives carry gradients: the gradient of a sum is summed over
ranks, which data-parallel averaging then divides by their number, so that a loss computed from sums on every rank has
the same gradient as on one rank.
"""

import datetime
import os

import torch
import torch.distributed as dist
from torch import Tensor

# The other ranks wait for the first while it prepares a corpus, and torch's ten minutes would end the run.
PATIENCE = datetime.timedelta(days=1)


def world() -> int:
    """Number of ranks."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def local_rank() -> int:
    """This process's number on its machine, which is also the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def find_device(wanted: str) -> torch.device:
    """The device of this process. Raises ValueError if a GPU is wanted and there is none."""
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError("there is no CUDA device: say cpu or auto where cuda stands, or see `pluri doctor`")
    index = local_rank()
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def start() -> None:
    """Joins the other ranks, if torchrun started this process."""
    if dist.is_available() and dist.is_torchelastic_launched() and not dist.is_initialized():
        device = find_device("auto")
        if device.type == "cuda":
            dist.init_process_group("nccl", timeout=PATIENCE, device_id=device)
        else:
            dist.init_process_group("gloo", timeout=PATIENCE)


def finish() -> None:
    """Leaves the other ranks, all at the same time: one that goes earlier can take its neighbours' connections down."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def total(x: Tensor) -> Tensor:
    """The sum of `x` over all ranks, without gradient."""
    if world() == 1:
        return x.detach()
    x = x.detach().clone()
    dist.all_reduce(x)
    return x


def total_with_gradient(x: Tensor) -> Tensor:
    """The sum of `x` over all ranks; gradients flow to every rank's share."""
    if world() == 1:
        return x
    from torch.distributed.nn.functional import all_reduce

    out = all_reduce(x)
    assert out is not None
    return out


def total_rows(x: Tensor) -> Tensor:
    """() float32: the rows of `x` over all ranks, which may have different numbers; nobody waits for it."""
    return total(torch.full((), float(len(x)), device=x.device))


class FirstRankFirst:
    """A context in which rank 0 works alone (writes a cache), and then the others do (find it)."""

    def __enter__(self) -> None:
        if world() > 1 and rank() > 0:
            dist.barrier()

    def __exit__(self, *error: object) -> None:
        if world() > 1 and rank() == 0:
            dist.barrier()
