# SPDX-License-Identifier: Apache-2.0
"""From numbered items to batches: an order that is a pure function of (seed, epoch, position), so resuming costs nothing.

A `Dataset` lists the items of an epoch with their sizes; `plan` puts them in order and cuts them into global batches, and each
of those into one share per rank and accumulation step; `batches` loads the shares, in workers or not, and starts anywhere.
"""

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import draw
from .config import Config
from .objective import Batch


class BadItem(ValueError):
    """An input that cannot be used; its message says why, in one line. The loop skips, counts and names it."""


class Epoch(NamedTuple):
    """The items of one epoch, in the dataset's own order."""

    records: np.ndarray  # (n, k) int64: all that `load` needs to know of an item; column 0 is the item's lasting number
    sizes: np.ndarray  # (n,) float64: what an item costs, in the dataset's unit


class Item(NamedTuple):
    """One loaded item."""

    inputs: Tensor  # (T, ...) raw: ids, samples, or (C, H, W) pixels; only the first axis may differ between items
    extras: dict[str, Tensor] = {}  # what the objective needs besides, each of the same shape for all items or (T, ...)


class Dataset(ABC):
    """A corpus: numbered items, listed anew each epoch and loaded one by one, in any process."""

    unit: str  # what `Epoch.sizes` counts: "tokens", "seconds" or "images"
    ragged: bool  # whether items differ in length, so that batches are padded and carry lengths

    @abstractmethod
    def epoch(self, key: int) -> Epoch:
        """The items of the epoch that `key` names. A corpus of fixed items ignores the key."""

    @abstractmethod
    def load(self, record: np.ndarray, key: int) -> Item:
        """One item, from its record (k,). All its randomness (crops) comes from `key`. Raises BadItem."""

    @abstractmethod
    def name(self, record: np.ndarray) -> str:
        """What a person calls the item: its path, or its file and line."""


def held_out(name: str, share: float) -> bool:
    """Whether the item of this name belongs to the held-out split: decided by the name alone, so it never moves."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") < share * 2**64


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(Config, ABC):
    """Where the data are. Subclasses read one kind of input; `path` is all that a user has to set."""

    path: str = ""  # file or folder
    held_out: float = 0.02  # share of the items that is kept for evaluation, by name

    @abstractmethod
    def build(self, split: str, cache: str) -> Dataset:
        """The dataset of a split ("train" or "held_out"). `cache` is a folder that may be written to and found again."""
