# SPDX-License-Identifier: Apache-2.0
"""The feature store: the frozen encoder runs once, and the states of all clips lie on disk, memory-mapped.

FOLDER/KEY/states.bin holds frames (L, D) back to back, in the order in which they were encoded; index.bin two int64 a
clip: its first frame and its frames (0: not there yet, -1: cannot be read, and bad_items.jsonl says why). A clip is
listed after its frames are written, so a fill that was cut off goes on where it stopped.
Shape letters: n clips, N frames of all clips, L layers, D width.
"""

import dataclasses
import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from io import BufferedRandom
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...ssl.config import Config
from ..host import Sent, send
from .clips import Clips, batches, loaded
from .featurizer import hop
from .states import Frames, Online, Reading, States, need_finite, one_layer
from .sweep import STATE

_VERSION = 1  # of the layout
_STATES = "states.bin"
TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
_EVERY = 20.0  # seconds between lines on a fill


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreConfig(Config):
    """Where states are kept."""

    path: str = ""  # folder; "": OUT/store
    gigabytes: float = 50.0  # of the folder's stores, sweeps' own states aside; online beyond; 0: always
    keep: bool = True  # False: a store is removed after the sweep that reads it, as those of random twins always are
    dtype: Literal["fp16", "bf16", "fp32"] = "fp16"
    seconds: float = 60.0  # of audio, padded, that the encoder takes at once
    threads: int = 4  # that read audio

    def __post_init__(self) -> None:
        if not 0 <= self.gigabytes < math.inf or not 0 < self.seconds < math.inf or self.threads < 1:
            raise ValueError(
                "store.gigabytes is 0 or more, store.seconds and store.threads above 0, all of them finite"
            )


class Beside(NamedTuple):
    """What a sweep itself keeps on disk."""

    folder: Path  # where; a folder below for every fold
    bytes: int  # of one fold; twice that while it is written anew


class Size(NamedTuple):
    """What a store will hold, from the lengths in the files' headers."""

    frames: int
    layers: int
    width: int
    bytes: int


def estimate(clips: Clips, reading: Reading, dtype: str) -> Size:
    """The size of a store; frames at the ends of clips may make it a little smaller."""
    step = hop(reading.backbone.front_end) / 16_000
    count = sum(1 if reading.pooled else math.ceil(clips.seconds(i) / step) for i in range(len(clips)))
    layers, width = len(reading.layers), reading.width
    return Size(count, layers, width, count * layers * width * TYPES[dtype].itemsize)


class Store(States):
    """The states of clips on disk.

    Args:
        folder: of this store alone; it is made, or gone on with.
    """

    def __init__(self, folder: Path, clips: Clips, reading: Reading, dtype: str) -> None:
        self.folder, self.clips, self.reading, self.dtype = folder, clips, reading, TYPES[dtype]
        self.shape = (len(reading.layers), reading.width)
        self._bits = np.dtype({2: np.int16, 4: np.int32}[self.dtype.itemsize])  # numpy has no bfloat16
        folder.mkdir(parents=True, exist_ok=True)
        index = folder / "index.bin"
        if not index.is_file():
            index.write_bytes(bytes(16 * len(clips)))
        self.index = np.memmap(index, dtype=np.int64, mode="r+", shape=(len(clips), 2))
        self.lost = self._forget()
        self.bad: dict[int, str] = {}
        self._map: Tensor | None = None

    def _forget(self) -> int:
        """Strikes clips out of the index whose states the file, cut short or removed, does not hold: how many."""
        listed = np.array(self.index)  # before the file's size is asked for: another process may be filling
        frames = _taken(self.folder) // (math.prod(self.shape) * self.dtype.itemsize)
        lost = (listed[:, 1] > 0) & (listed.sum(1) > frames)
        if lost.any():
            self.index[lost] = 0
        return int(lost.sum())

    @property
    def missing(self) -> int:
        """How many clips have not been looked at yet."""
        return int((self.index[:, 1] == 0).sum())

    def fill(self, seconds: float, threads: int, say: Callable[[str], None]) -> None:
        """Encodes what is missing.

        Raises: ValueError for states that the type cannot hold, or if another process fills the same store.
        """
        todo = [batch for batch in batches(self.clips, seconds) if (self.index[batch, 1] == 0).any()]
        if todo:
            with (self.folder / _STATES).open("ab") as lock, (self.folder / _STATES).open("r+b") as file:
                _lock(lock, self.folder)
                file.seek(self._end() * math.prod(self.shape) * self.dtype.itemsize)
                self._encode(todo, file, threads, say)
            self.index.flush()
        if self._end():
            self._states()  # mapped, it can be read even where another process removes it
        rows = self.folder / "bad_items.jsonl"
        lines = rows.read_text().splitlines() if rows.is_file() else []
        self.bad = {row["number"]: row["reason"] for row in map(json.loads, lines)}

    def _end(self) -> int:
        """The first frame behind all that is listed."""
        return int((self.index[:, 0] + self.index[:, 1].clip(0)).max(initial=0))

    def _encode(self, todo: list[list[int]], file: BufferedRandom, threads: int, say: Callable[[str], None]) -> None:
        """Encodes batches; each is written in a thread while the next is encoded, and before the one after that."""
        end, done, said = self._end(), len(self.clips) - self.missing, time.monotonic()
        writing: Future[None] | None = None
        with ThreadPoolExecutor(1) as writer:  # leaving it, by an error too, waits for what is being written
            for batch, waves in loaded(self.clips, todo, threads):
                good = [number for number, wave in zip(batch, waves, strict=True) if not isinstance(wave, str)]
                for number, why in zip(batch, waves, strict=True):
                    if isinstance(why, str) and self.index[number, 1] == 0:
                        self._leave_out(number, why)
                if good:
                    x, lengths = self.reading([wave for wave in waves if not isinstance(wave, str)])
                    sent = send([x.to(self.dtype).view(_bits(self.dtype)), x.abs().max()])
                    if writing is not None:
                        writing.result()
                    starts = end + np.cumsum([0, *lengths])
                    spans = np.stack([starts[:-1], lengths], axis=1)
                    writing = writer.submit(self._write, file, sent, good, spans)
                    end = int(starts[-1])
                done += len(batch)
                if time.monotonic() - said > _EVERY:
                    said = time.monotonic()
                    say(f"store: {min(done, len(self.clips))} of {len(self.clips)} clips encoded")
        if writing is not None:
            writing.result()

    def _write(self, file: BufferedRandom, sent: Sent, numbers: list[int], spans: np.ndarray) -> None:
        """Writes the states of a batch, and then lists its clips."""
        bits, reach = sent.read()
        most = float(reach)
        if not math.isfinite(most):
            names = [self.clips.name(number) for number in numbers]
            need_finite(bits.view(self.dtype), [int(length) for _, length in spans], names)
        if not most <= torch.finfo(self.dtype).max:
            raise ValueError(f"states reach {most:.3g}, which {self.dtype} cannot hold: set --store.dtype bf16")
        file.write(bits.numpy().data)
        file.flush()
        self.index[numbers] = spans

    def _leave_out(self, number: int, why: str) -> None:
        with (self.folder / "bad_items.jsonl").open("a") as rows:
            rows.write(json.dumps({"number": number, "item": self.clips.name(number), "reason": why}) + "\n")
        self.index[number, 1] = -1

    def _states(self) -> Tensor:
        """(N, L, D) as it lies on disk; nothing is read yet."""
        if self._map is None:
            shape = (self._end(), *self.shape)
            # Copy on write: torch wants memory that could be written to, and nothing may reach the file.
            bits = np.memmap(self.folder / _STATES, dtype=self._bits, mode="c", shape=shape)
            self._map = torch.from_numpy(bits).view(self.dtype)
        return self._map

    def read(self, numbers: Sequence[int], place: int | None = None) -> Frames:
        states, spans = one_layer(self._states(), place), self.index[np.asarray(numbers)]
        assert (spans[:, 1] > 0).all(), "a clip that cannot be read was asked for"
        lengths = spans[:, 1].tolist()
        if self.reading.pooled:
            return Frames(states[torch.from_numpy(spans[:, 0].copy())].float(), lengths)
        parts = [states[start : start + length] for start, length in spans.tolist()]
        return Frames(torch.cat(parts).float(), lengths)


def _taken(folder: Path) -> int:
    """Bytes of the states in a store's folder."""
    return (folder / _STATES).stat().st_size if (folder / _STATES).is_file() else 0


def _bits(dtype: torch.dtype) -> torch.dtype:
    return torch.int16 if dtype.itemsize == 2 else torch.int32


def _lock(file: IO[bytes], folder: Path) -> None:
    """Held until the file is closed, or the process ends."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ValueError(f"another process fills {folder}: wait for it, or choose another --store.path") from error


def remove(states: States) -> None:
    """Takes a store off the disk; what has been read of it can still be read."""
    if isinstance(states, Store):
        shutil.rmtree(states.folder, ignore_errors=True)


def _need_room(root: Path, store: int, out: Path, beside: Beside | None) -> None:
    """Raises ValueError if a disk cannot hold what is yet to be written of the store and of the sweep's state."""
    state = 0
    if beside is not None:
        there = sum(path.stat().st_size for path in beside.folder.rglob(f"{Path(STATE).stem}.*"))
        state = max(0, 2 * beside.bytes - there)
    for place in (root, out):
        place.mkdir(parents=True, exist_ok=True)
    one = root.stat().st_dev == out.stat().st_dev
    for place, stored, kept in ((root, store, state * one), (out, store * one, state)):
        free = shutil.disk_usage(place).free
        if stored + kept > free:
            parts = {"the store": stored, "the sweep's state, while it is written,": kept}
            needed = " and ".join(f"{amount / 1e9:.3g} GB for {name}" for name, amount in parts.items() if amount)
            less = "set --store.gigabytes 0" if stored else "name fewer learning rates by --grid"
            raise ValueError(
                f"{place} has {free / 1e9:.3g} GB free, and needs {needed.rstrip(',')}: make room, or {less}"
            )


def open_states(
    config: StoreConfig,
    out: Path,
    clips: Clips,
    reading: Reading,
    say: Callable[[str], None],
    beside: Beside | None = None,
) -> States:
    """The states of all clips: from the store, which is filled first, or, where it would be too large, online.

    Args:
        out: where the store stands if the settings do not say. beside: what else will be written there.
    Raises: ValueError if the disk cannot hold them.
    """
    size = estimate(clips, reading, config.dtype)
    words = f"{len(clips)} clips, {size.frames} frames of {size.layers} x {size.width} in {config.dtype}"
    amount = f"{size.bytes / 1e9:.3g} GB"
    state = f"; the sweep's own state takes {beside.bytes / 1e9:.3g} GB, twice that while written" if beside else ""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(json.dumps([_VERSION, reading.key(), clips.hash(), config.dtype]).encode())
    root = Path(config.path or out / "store")
    folder = root / digest.hexdigest()
    store = Store(folder, clips, reading, config.dtype) if folder.is_dir() else None
    rest = size.bytes - _taken(folder) if store is None or store.missing else 0
    others = sum(_taken(path) for path in root.glob("*") if path != folder)
    most = config.gigabytes * 1e9
    if size.bytes > most or (rest and size.bytes + others > most):
        _need_room(root, 0, out, beside)
        limit = f"--store.gigabytes is {config.gigabytes:g}"
        limit += f", of which other stores in {root} take {others / 1e9:.3g}" if others else ""
        say(f"no store: {words} would take {amount}, and {limit}; the encoder runs online, again at each step{state}")
        return Online(clips, reading, config.seconds)
    _need_room(root, max(0, rest), out, beside)
    store = store or Store(folder, clips, reading, config.dtype)
    if store.lost:
        say(f"store: {folder / _STATES} lacks {store.lost} clips that its index lists: they are encoded again")
    say(f"store: {words}, {amount}, in {folder}; {store.missing} to be encoded{state}")
    store.fill(config.seconds, config.threads, say)
    return store
