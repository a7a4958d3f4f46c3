# SPDX-License-Identifier: Apache-2.0
"""One vector for each item of a dataset, from a frozen encoder."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..ssl.data import Dataset, Loaded, Loader
from ..ssl.encoder import Backbone, Encoded
from ..ssl.parallel import find_device
from .host import behind
from .labelled import Labelled

COST = {"tokens": 8192.0, "seconds": 60.0, "images": 256.0}  # of a batch


class Vectors(NamedTuple):
    """Items as vectors."""

    x: np.ndarray  # (n, D) float32
    labels: np.ndarray  # (n,) int64
    bad: list[tuple[str, str]]  # items that could not be read: name and reason


@torch.inference_mode()
def vectors(backbone: Backbone, data: Labelled, pool: Literal["mean", "first"] = "mean", layer: int = -1) -> Vectors:
    """The pooled states of all items, in the dataset's order.

    In float32, on a GPU where there is one; the backbone is back on the CPU afterwards.

    Args:
        layer: -1 the normalised output; 0 the encoder's input, k the output of block k.
    Raises: ValueError for a layer that the encoder has not, or if no item can be read.
    """
    check_layer(backbone, layer)
    device = find_device("auto")
    backbone.to(device).eval()
    # A GPU waits for nothing but the data; on a CPU more processes would take what the encoder computes with.
    gpu = device.type == "cuda"
    loader = Loader(dataset=data, batch=COST[data.unit], seed=0, workers=2 if gpu else 0, pin=gpu)
    batches = loader.all() if gpu else _ahead(loader.all())
    place = {int(record[0]): i for i, record in enumerate(data.records)}
    found: dict[int, tuple[np.ndarray, int]] = {}
    bad: list[tuple[str, str]] = []

    def pooled() -> Iterator[tuple[tuple[list[np.ndarray], list[int]], list[Tensor]]]:
        for loaded in batches:
            bad.extend(loaded.bad)
            if loaded.batch is None:
                continue
            inputs = loaded.batch.inputs.to(device, non_blocking=True)
            encoded = backbone(inputs, loaded.batch.lengths, layers=layer >= 0)
            known = good_records(loaded, data), loaded.batch.extras["label"].tolist()
            yield known, [layer_of(encoded, layer).pooled(pool).float()]

    for (records, labels), (x,) in behind(pooled()):
        for record, row, label in zip(records, x.numpy().copy(), labels, strict=True):
            found[place[int(record[0])]] = row, label
    backbone.to("cpu")  # whoever handed it over goes on with it as it was
    if not found:
        raise ValueError(f"no item can be read; the first: {': '.join(bad[0])}")
    rows = [found[i] for i in sorted(found)]
    return Vectors(np.stack([row for row, _ in rows]), np.array([label for _, label in rows]), bad)


def _ahead(batches: Iterator[Loaded]) -> Iterator[Loaded]:
    """The same batches; the next is read in a thread while one is worked on."""
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(next, batches, None)
        while (loaded := reading.result()) is not None:
            reading = reader.submit(next, batches, None)
            yield loaded


def good_records(loaded: Loaded, data: Dataset) -> list[np.ndarray]:
    """The records of the items that could be read, as they stand in the batch."""
    failed = {name for name, _ in loaded.bad}
    return [record for record in loaded.source.records if data.name(record) not in failed]


def check_layer(backbone: Backbone, layer: int) -> None:
    """Raises ValueError for a layer that the encoder has not."""
    depth = backbone.encoder.config.depth
    if not -1 <= layer <= depth:
        raise ValueError(f"layer {layer} is not one of -1 (the output), 0 (the input) to {depth}")


def layer_of(encoded: Encoded, layer: int) -> Encoded:
    """The same with one layer's states as its output; -1: as it is."""
    return encoded if layer < 0 else Encoded(encoded.rows, encoded.packed_layers[layer], [])
