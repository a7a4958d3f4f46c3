# SPDX-License-Identifier: Apache-2.0
"""A speech corpus: a folder of audio files, one file, or a manifest."""

import dataclasses
import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..ssl import draw, hub, tables
from ..ssl.cache import digest, once
from ..ssl.data import BadItem, DataConfig, Dataset, Epoch, Item, held_out
from . import audio

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".w64", ".caf")
_VERSION = 1  # of the index


class Clip(NamedTuple):
    """One file or a piece of one."""

    path: str
    start: float  # seconds
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioDataConfig(DataConfig):
    """Where the speech is.

    `path` is a folder of any depth (LibriSpeech's layout or any other), one audio file, or a manifest: .tsv or .csv
    with the columns path and, if wanted, start and end in seconds; .jsonl with the same names; or fairseq's .tsv (a
    root in the first line, then path and samples). Paths are taken from the manifest's folder.
    """

    longest: float = 15.6  # seconds; longer clips are cropped at random, to another piece in each epoch
    shortest: float = 1.0  # seconds; shorter clips are left out

    def build(self, split: str, cache: Path) -> "AudioDataset":
        return AudioDataset(self, split, cache)


class AudioDataset(Dataset):
    """Waveforms (S,) float32 at 16 kHz."""

    unit = "seconds"
    ragged = True

    def __init__(self, config: AudioDataConfig, split: str, cache: Path) -> None:
        self.config = config
        clips, self.root, self.bad = _index(config, cache)
        wanted = split == "held_out"
        self.clips = clips
        kept, self.left_out = [], 0
        for i, clip in enumerate(clips):
            if clip.seconds < config.shortest:
                self.left_out += 1
            elif held_out(f"{clip.path} {clip.start:g}", config.held_out) == wanted:
                kept.append(i)
        if not kept and not wanted and self.bad and not clips:
            name, why = self.bad[0]
            raise ValueError(f"{config.path}: none of {len(self.bad)} clips can be read; the first: {name}: {why}")
        if not kept and not wanted:
            raise ValueError(
                f"none of the {len(clips)} clips in {config.path} lasts {config.shortest:g} seconds "
                f"({len(self.bad)} cannot be read): set --data.shortest, or another --data.path"
            )
        self.records = np.array(kept, dtype=np.int64).reshape(-1, 1)
        seconds = np.array([clips[i].seconds for i in kept], dtype=np.float64)
        self.sizes = np.minimum(seconds, config.longest)

    def epoch(self, key: int) -> Epoch:
        return Epoch(self.records, self.sizes)

    def load(self, record: np.ndarray, key: int) -> Item:
        clip = self.clips[int(record[0])]
        start, seconds = clip.start, clip.seconds
        if seconds > self.config.longest:
            u = float(draw.uniform(torch.tensor(draw.key(key, "crop")), 1))
            start += u * (seconds - self.config.longest)
            seconds = self.config.longest
        return Item(audio.read(self.root / clip.path, start, seconds, shortest=min(self.config.shortest, seconds) / 2))

    def name(self, record: np.ndarray) -> str:
        clip = self.clips[int(record[0])]
        return str(self.root / clip.path) + (f" from {clip.start:g} s" if clip.start else "")

    def save_assets(self, folder: Path) -> None:
        pass


def _index(config: AudioDataConfig, cache: Path) -> tuple[list[Clip], Path, list[tuple[str, str]]]:
    """The clips, the folder that their paths start from, and what is no audio; headers are read once and remembered."""
    if not config.path:
        raise ValueError("no speech named: set --data.path to a folder of audio, an audio file or a manifest")
    path = hub.as_files(config.path, "audio", cache)
    if not path.exists():
        raise ValueError(f"{path} does not exist: set --data.path to a folder of audio, an audio file or a manifest")
    root, listed = _list(path)
    stats = []
    for clip in listed:
        file = root / clip.path
        stat = file.stat() if file.is_file() else None
        stats.append((clip.path, clip.start, clip.seconds, stat and stat.st_size, stat and stat.st_mtime_ns))

    def write(index: Path) -> None:
        clips, bad = _scan(root, listed)
        index.write_text(json.dumps({"clips": clips, "bad": bad}))

    content = json.loads(once(cache / f"audio-{digest(_VERSION, str(root), stats)}.json", write).read_text())
    return [Clip(*clip) for clip in content["clips"]], root, [(name, why) for name, why in content["bad"]]


def _list(path: Path) -> tuple[Path, list[Clip]]:
    """Root and clips; a length of -1 means: to the end of the file."""
    if path.is_file():
        if path.suffix.lower() in tables.TABLES:
            return _read_manifest(path)
        return path.parent, [Clip(path.name, 0.0, -1.0)]
    found = []
    for folder, folders, names in os.walk(path):
        folders.sort()
        here = Path(folder).relative_to(path)
        found += [Clip(str(here / name), 0.0, -1.0) for name in sorted(names) if name.lower().endswith(SUFFIXES)]
    if not found:
        raise ValueError(f"no audio in {path}: it needs files that end in {', '.join(SUFFIXES)}")
    return path, found


def _read_manifest(path: Path) -> tuple[Path, list[Clip]]:
    first, *lines = (line.rstrip("\r") for line in tables.text_of(path).split("\n"))
    if path.suffix.lower() == ".tsv" and first and "\t" not in first and Path(first).is_dir():  # fairseq's
        return Path(first), [Clip(line.split("\t")[0], 0.0, -1.0) for line in lines if line]
    rows = tables.table(path, ("path", "start", "end"))
    clips = [_manifest_clip(row, f"{path}, line {number}") for number, row in rows]
    if not clips:
        raise ValueError(f"{path} lists no clips")
    return path.parent, clips


def _manifest_clip(values: dict[str, str], place: str) -> Clip:
    if not values.get("path"):
        raise ValueError(f"{place}: no column path; a manifest has path and perhaps start and end")
    try:
        start, end = float(values.get("start") or 0.0), float(values.get("end") or math.inf)
    except ValueError as error:
        raise ValueError(f"{place}: start and end must be seconds") from error
    if not 0.0 <= start < end:  # which no NaN is
        raise ValueError(f"{place}: a clip must start at 0 or later and end after its start, not {start:g} to {end:g}")
    return Clip(values["path"], start, -1.0 if end == math.inf else end - start)


def _scan(root: Path, listed: list[Clip]) -> tuple[list[Clip], list[tuple[str, str]]]:
    def look(clip: Clip) -> Clip | tuple[str, str]:
        try:
            count, rate = audio.probe(root / clip.path)
        except BadItem as error:
            return str(root / clip.path), str(error)
        whole = count / rate - clip.start
        if whole <= 0.0:
            return str(root / clip.path), f"ends before {clip.start:g} seconds"
        return clip._replace(seconds=whole if clip.seconds < 0.0 else min(whole, clip.seconds))

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(look, listed))
    return [x for x in seen if isinstance(x, Clip)], [x for x in seen if not isinstance(x, Clip)]
