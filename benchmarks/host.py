# SPDX-License-Identifier: Apache-2.0
"""Tensors between the host and its device, without either waiting: read one batch behind, when they have come."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

_Known = TypeVar("_Known")


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host's on a device; a GPU fetches it while the host goes on."""
    return (x.pin_memory() if device.type == "cuda" else x).to(device, non_blocking=True)


class Sent(NamedTuple):
    """Tensors on their way to the host."""

    tensors: list[Tensor]  # pinned where they come from a GPU: scarce memory, so copy what is to be kept
    there: torch.cuda.Event | None

    def read(self) -> list[Tensor]:
        """The tensors on the CPU, waited for."""
        if self.there is not None:
            self.there.synchronize()
        return self.tensors


def send(tensors: list[Tensor]) -> Sent:
    """Sends tensors of one device to the host, behind the work that makes them and before what is asked for next."""
    host = [x.to("cpu", non_blocking=x.is_cuda) for x in tensors]  # from a GPU into pinned memory
    there = None
    if tensors[0].is_cuda:
        there = torch.cuda.Event()
        there.record(torch.cuda.current_stream(tensors[0].device))
    return Sent(host, there)


def behind(batches: Iterable[tuple[_Known, list[Tensor]]]) -> Iterator[tuple[_Known, list[Tensor]]]:
    """Each batch's tensors on the CPU, and what is known of it, once the device has been given the next batch."""
    last: tuple[_Known, Sent] | None = None
    for known, tensors in batches:
        now = known, send(tensors)
        if last is not None:
            yield last[0], last[1].read()
        last = now
    if last is not None:
        yield last[0], last[1].read()
