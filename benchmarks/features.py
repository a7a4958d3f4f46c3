# SPDX-License-Identifier: Apache-2.0
"""One vector for each item of a dataset, from a frozen encoder."""

from typing import Literal, NamedTuple

import numpy as np
import torch

from ..ssl.data import Loader
from ..ssl.encoder import Backbone, Encoded
from ..ssl.parallel import find_device
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
    # A GPU waits for nothing but the data; on a CPU another process would take what the encoder computes with.
    loader = Loader(dataset=data, batch=COST[data.unit], seed=0, workers=2 if device.type == "cuda" else 0)
    place = {int(record[0]): i for i, record in enumerate(data.records)}
    found: dict[int, tuple[np.ndarray, int]] = {}
    bad: list[tuple[str, str]] = []
    for loaded in loader.all():
        bad += loaded.bad
        if loaded.batch is None:
            continue
        encoded = backbone(loaded.batch.inputs.to(device), loaded.batch.lengths, layers=layer >= 0)
        x = layer_of(encoded, layer).pooled(pool).float().cpu().numpy()
        failed = {name for name, _ in loaded.bad}
        good = [record for record in loaded.source.records if data.name(record) not in failed]
        for record, row, label in zip(good, x, loaded.batch.extras["label"].tolist(), strict=True):
            found[place[int(record[0])]] = row, label
    backbone.to("cpu")  # whoever handed it over goes on with it as it was
    if not found:
        raise ValueError(f"no item can be read; the first: {': '.join(bad[0])}")
    rows = [found[i] for i in sorted(found)]
    return Vectors(np.stack([row for row, _ in rows]), np.array([label for _, label in rows]), bad)


def check_layer(backbone: Backbone, layer: int) -> None:
    """Raises ValueError for a layer that the encoder has not."""
    depth = backbone.encoder.config.depth
    if not -1 <= layer <= depth:
        raise ValueError(f"layer {layer} is not one of -1 (the output), 0 (the input) to {depth}")


def layer_of(encoded: Encoded, layer: int) -> Encoded:
    """The same with one layer's states as its output; -1: as it is."""
    return encoded if layer < 0 else Encoded(encoded.rows, encoded.packed_layers[layer], [])
