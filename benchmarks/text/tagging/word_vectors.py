# SPDX-License-Identifier: Apache-2.0
"""Words as vectors, the frozen state of each word's first sub-token; and what the sub-token alone says of a word's tag.

Shape letters: W words of all sentences, D width.
"""

import numpy as np
import torch

from ....ssl.data import Loader
from ....ssl.encoder import Backbone
from ...features import COST, Vectors, check_layer, layer_of
from .words import NO_WORD, Tagged


@torch.inference_mode()
def word_states(backbone: Backbone, data: Tagged, layer: int = -1) -> Vectors:
    """The state (W, D) of each word's first token, and its tag's number.

    Args:
        layer: -1 the normalised output; 0 the encoder's input, k the output of block k.
    Raises: ValueError for a layer that the encoder has not.
    """
    check_layer(backbone, layer)
    backbone.eval()
    states, tags = [], []
    for loaded in Loader(dataset=data, batch=COST[data.unit], seed=0).all():
        assert loaded.batch is not None
        tagged = loaded.batch.extras["tags"]
        encoded = layer_of(backbone(loaded.batch.inputs, loaded.batch.lengths, layers=layer >= 0), layer)
        begins = tagged != NO_WORD
        states.append(encoded.x[begins].float())
        tags.append(tagged[begins])
    return Vectors(torch.cat(states).numpy(), torch.cat(tags).numpy(), [])


def most_frequent(train: Tagged, test: Tagged) -> tuple[np.ndarray, np.ndarray]:
    """(W,) the tag that each test word's first token most often had in training, and (W,) the word's own."""

    def words(data: Tagged) -> np.ndarray:
        pairs = [pair for ids, tagged in data.items for pair in zip(ids, tagged, strict=True) if pair[1] != NO_WORD]
        return np.array(pairs, dtype=np.int64)

    known, asked = words(train), words(test)
    tags = len(train.names) + 1
    counts = np.zeros((max(known[:, 0].max(), asked[:, 0].max()) + 1, tags), dtype=np.int64)
    np.add.at(counts, (known[:, 0], known[:, 1]), 1)
    unseen = counts.sum(1) == 0
    counts[unseen] = np.bincount(known[:, 1], minlength=tags)
    return counts[asked[:, 0]].argmax(1), asked[:, 1]
