# SPDX-License-Identifier: Apache-2.0
"""From numbered items to batches: the order is a pure function of (seed, epoch, position), so resuming costs nothing.

A `Dataset` lists the items of an epoch with their sizes; `plan` puts them in order and cuts them into global batches;
`deal` splits each into one share for every rank and accumulation step; `Loader` loads the shares, in workers or not,
and starts anywhere. No result depends on the number of workers.
"""

import dataclasses
import functools
import hashlib
import itertools
import math
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
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
    rows: tuple[int, ...] = ()  # lengths of the rows that `inputs` holds back to back, where an item is several of them


class Dataset(ABC):
    """A corpus: numbered items, listed anew each epoch and loaded one by one, in any process."""

    unit: str  # what `Epoch.sizes` counts: "tokens", "seconds" or "images"
    ragged: bool  # whether items differ in length, so that batches are padded and carry lengths
    bad: Sequence[tuple[str, str]] = ()  # names and reasons of what was found unusable when the corpus was listed

    @abstractmethod
    def epoch(self, key: int) -> Epoch:
        """The items of the epoch that `key` names. A corpus of fixed items ignores the key."""

    @abstractmethod
    def load(self, record: np.ndarray, key: int) -> Item:
        """One item, from its record (k,). All its randomness (crops) comes from `key`. Raises BadItem."""

    @abstractmethod
    def name(self, record: np.ndarray) -> str:
        """What a person calls the item: its path, or its file and line."""

    @abstractmethod
    def save_assets(self, folder: Path) -> None:
        """Writes what the front end is built from and the data decide (a tokenizer); most datasets write nothing."""


def held_out(name: str, share: float) -> bool:
    """Whether the item of this name belongs to the held-out split: decided by the name alone, so it never moves."""
    return int.from_bytes(_digest(name), "little") < share * 2**64


def all_held_out(names: Sequence[str], share: float) -> np.ndarray:
    """(n,) bool: `held_out` of each name. The two splits of a corpus ask one after the other: it is hashed once."""
    limit = max(0, math.ceil(share * 2**64))
    return _places(tuple(names)) < np.uint64(limit) if limit < 2**64 else np.ones(len(names), dtype=bool)


@functools.lru_cache(maxsize=1)
def _places(names: tuple[str, ...]) -> np.ndarray:
    """(n,) uint64: what `held_out` compares."""
    return np.frombuffer(b"".join(map(_digest, names)), dtype="<u8")


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(Config, ABC):
    """Where the data are. Subclasses read one kind of input; `path` is all that a user has to set."""

    path: str = ""  # file or folder
    held_out: float = 0.02  # share of the items that is kept for evaluation, by name

    @abstractmethod
    def build(self, split: str, cache: Path) -> Dataset:
        """The dataset of a split ("train" or "held_out"); `cache` is a folder to write to and to find again."""


class Position(NamedTuple):
    """Where a run stands in its data: the next batch to be used."""

    epoch: int
    batch: int  # its number in the epoch


def plan(sizes: np.ndarray, batch: float, key: int, buckets: int = 1, whole: bool = False) -> list[np.ndarray]:
    """Cuts an epoch's items into batches, in an order that `key` decides.

    Items are shuffled; with `buckets` above 1, the items of that many batches are sorted by size before they are cut,
    and the batches shuffled again, so that a batch holds items of like length. What is left over for less than a batch
    is left out of this epoch (other items in each), unless it is all there is, or the epoch is wanted `whole`.

    Args:
        sizes: (n,) float64, what items cost. batch: what a batch may cost; an item that costs more is one of its own.
    Returns: for each batch the numbers of its items in `sizes`.
    """
    order = draw.permutation(draw.key(key, "order"), len(sizes)).numpy()
    if buckets > 1:
        order = _sort_within(order, sizes, batch * buckets)
    cost = sizes[order]
    batches, start, filled = [], 0, 0.0
    for i, one in enumerate(cost.tolist()):
        if i > start and filled + one > batch * (1.0 + 1e-9):
            batches.append(order[start:i])
            start, filled = i, 0.0
        filled += one
    if whole or not batches or filled >= batch * (1.0 - 1e-9) or (buckets > 1 and filled >= 0.5 * batch):
        batches.append(order[start:])
    if buckets > 1:
        again = draw.permutation(draw.key(key, "batches"), len(batches)).tolist()
        batches = [batches[i] for i in again]
    return batches


def _sort_within(order: np.ndarray, sizes: np.ndarray, window: float) -> np.ndarray:
    """Sorts each stretch of items that cost `window` together by size, up and down in turn, so that ends meet alike."""
    cost = sizes[order]
    stretch = np.floor(np.cumsum(cost) / window)
    return order[np.lexsort((np.where(stretch % 2 == 0, cost, -cost), stretch))]


def deal(items: np.ndarray, sizes: np.ndarray, shares: int) -> list[np.ndarray]:
    """Splits a batch into shares of like cost and like number: largest first, to and fro as in a school playground.

    Raises: ValueError if there are fewer items than shares.
    """
    if len(items) < shares:
        raise ValueError(f"a batch of {len(items)} items cannot be split into {shares} shares: raise batch")
    order = items[np.argsort(-sizes[items], kind="stable")]
    turn = np.arange(len(order)) % (2 * shares)
    owner = np.where(turn < shares, turn, 2 * shares - 1 - turn)
    return [order[owner == share] for share in range(shares)]


class Share(NamedTuple):
    """One share of a batch, to be loaded."""

    records: np.ndarray  # (n, k)
    keys: np.ndarray  # (n,) int64
    sizes: np.ndarray  # (n,)
    after: Position  # where the run stands once the whole batch has been used


class Loaded(NamedTuple):
    """One share of a batch, loaded."""

    batch: Batch | None  # None if every item was bad
    bad: list[tuple[str, str]]  # name and reason
    size: float  # of the good items, in the dataset's unit
    source: Share

    def pin_memory(self) -> "Loaded":
        """Called by torch's loader where a GPU will take the batch."""
        return self if self.batch is None else self._replace(batch=self.batch.pin_memory())


def collate(items: list[Item], keys: list[int], ragged: bool) -> Batch:
    """Stacks items; those of different length are padded with zeros at the end of their first axis.

    An item of several rows makes as many rows of the batch; keys and extras stay one for each item.
    """
    inputs = [row for item in items for row in (item.inputs.split(item.rows) if item.rows else (item.inputs,))]
    lengths = torch.tensor([len(x) for x in inputs]) if ragged else None
    names = items[0].extras.keys()
    extras = {name: _stack([item.extras[name] for item in items]) for name in names}
    return Batch(_stack(inputs), lengths, torch.tensor(keys, dtype=torch.int64), extras)


def _stack(tensors: list[Tensor]) -> Tensor:
    if all(tensor.shape == tensors[0].shape for tensor in tensors):
        return torch.stack(tensors)
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)


def _as_it_is(loaded: Loaded) -> Loaded:
    return loaded


class _Shares(torch.utils.data.Dataset[Loaded]):
    """What torch's loader sees: a "dataset" whose indices are shares."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __getitem__(self, share: Share) -> Loaded:
        items, keys, bad, size = [], [], [], 0.0
        for record, key, cost in zip(share.records, share.keys.tolist(), share.sizes.tolist(), strict=True):
            try:
                items.append(self.dataset.load(record, key))
            except BadItem as error:
                bad.append((self.dataset.name(record), str(error)))
                continue
            keys.append(key)
            size += cost
        batch = collate(items, keys, self.dataset.ragged) if items else None
        return Loaded(batch, bad, size, share)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loader:
    """Loads one rank's shares of the batches of a run, from any position on."""

    dataset: Dataset
    batch: float  # cost of a batch of all ranks
    seed: int
    rank: int = 0
    world: int = 1
    accumulate: int = 1  # shares of a batch that a rank works off one after the other
    workers: int = 0
    buckets: int = 1
    pin: bool = False

    def steps(self, start: Position) -> Iterator[list[Loaded]]:
        """The shares of each batch, for ever, beginning with the batch at `start`."""
        stream = self._load(self._shares(start))
        while True:
            yield [next(stream) for _ in range(self.accumulate)]

    def once(self, epoch: int = 0, most: int | None = None) -> Iterator[Loaded]:
        """One pass in fixed order with fixed keys, at most `most` batches, for evaluation; nothing is accumulated."""
        yield from self._load(itertools.islice(self._epoch(epoch, 0, 1), most))

    def all(self) -> Iterator[Loaded]:
        """Every item once, those of like length together, with fixed keys; for reading an encoder's states."""
        records, sizes = self.dataset.epoch(0)
        keys = _keys(0, records)
        batches = plan(sizes, self.batch, 0, buckets=max(2, len(sizes)), whole=True)
        return self._load(Share(records[i], keys[i], sizes[i], Position(1, 0)) for i in batches)

    def _load(self, shares: Iterator[Share]) -> Iterator[Loaded]:
        loader = torch.utils.data.DataLoader(
            _Shares(self.dataset),
            batch_size=None,
            sampler=_Once(shares),
            num_workers=self.workers,
            pin_memory=self.pin,
            worker_init_fn=_leave_signals if self.workers else None,
            collate_fn=_as_it_is,  # pyright: ignore[reportArgumentType]  torch's own turns arrays into tensors
        )
        return iter(loader)

    def _shares(self, start: Position) -> Iterator[Share]:
        epoch, index = start
        while True:
            yield from self._epoch(epoch, index, self.accumulate)
            epoch, index = epoch + 1, 0

    def _epoch(self, epoch: int, index: int, accumulate: int) -> Iterator[Share]:
        key = draw.key(self.seed, "epoch", epoch)
        records, sizes = self.dataset.epoch(key)
        if len(records) == 0:
            raise ValueError("there is no item to train on: is data.path right, and data.held_out below 1?")
        keys = _keys(key, records)
        batches = plan(sizes, self.batch, key, self.buckets)
        shares = self.world * accumulate
        for items in batches[index:]:
            if len(items) < shares:  # found here, since batches are dealt one by one as they are wanted
                deal(items, sizes, shares)
        for number in range(index, len(batches)):
            last = number + 1 == len(batches)
            after = Position(epoch + 1, 0) if last else Position(epoch, number + 1)
            for items in deal(batches[number], sizes, shares)[self.rank :: self.world]:
                yield Share(records[items], keys[items], sizes[items], after)


def _keys(key: int, records: np.ndarray) -> np.ndarray:
    """(n,) int64: `draw.key(key, number)` of each item's lasting number."""
    return draw.fold(torch.tensor(draw.key(key)), torch.from_numpy(records[:, 0].astype(np.int64))).numpy()


def _leave_signals(worker: int) -> None:
    """Ctrl-C and a scheduler's SIGTERM reach workers too; they go on, since the loop still has to save."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


class _Once(torch.utils.data.Sampler[Share]):
    """An iterator in a sampler's clothes."""

    def __init__(self, shares: Iterator[Share]) -> None:
        self.shares = shares

    def __iter__(self) -> Iterator[Share]:
        return self.shares
