# SPDX-License-Identifier: Apache-2.0
"""Which utterances a step trains on: pure functions of the seed and the step, so that a sweep can begin anywhere.

An epoch is a permutation, epochs follow one another, and a batch is the next stretch, also across their border. s3prl
cuts at the border, save where it draws with replacement (KS), which knows no epochs.
Shape letters: n utterances, B of a batch, C classes.
"""

from functools import lru_cache

import numpy as np
import torch

from ...ssl import draw

ACROSS = "batches go on across the border of epochs, where s3prl's last one of an epoch is smaller"


def shuffled(n: int, batch: int, seed: int, step: int) -> np.ndarray:
    """(B,) int64: each utterance once an epoch."""
    places = np.arange(step * batch, (step + 1) * batch)
    return np.array([_epoch(n, seed, epoch)[place] for epoch, place in zip(places // n, places % n, strict=True)])


@lru_cache(maxsize=16)
def _epoch(n: int, seed: int, epoch: int) -> np.ndarray:
    return draw.permutation(draw.key(seed, "order", int(epoch)), n).numpy()


def balanced(classes: list[np.ndarray], count: int, seed: int, step: int | str) -> np.ndarray:
    """(count,) int64, drawn with replacement: each class is as likely as any other, then each of its utterances.

    As torch's WeightedRandomSampler with weights of 1 / (utterances of the class), which KS uses for train and dev.

    Args:
        classes: the utterances of each class that has any.
    """
    u = draw.uniform(torch.tensor(draw.key(seed, "balanced", step)), 2 * count).double().numpy().reshape(2, count)
    which = (u[0] * len(classes)).astype(np.int64)
    sizes = np.array([len(one) for one in classes])[which]
    place = (u[1] * sizes).astype(np.int64)
    starts = np.cumsum([0, *(len(one) for one in classes)])[which]
    return np.concatenate(classes)[starts + place]


def pick(counts: np.ndarray, seed: int, step: int | str) -> np.ndarray:
    """(B,) int64: one of so many pieces of each utterance."""
    u = draw.uniform(torch.tensor(draw.key(seed, "piece", step)), len(counts)).double().numpy()
    return (u * counts).astype(np.int64)
