# SPDX-License-Identifier: Apache-2.0
"""Items with a class each, for any modality: a folder whose subfolders name classes, a table (TSV, CSV), CIFAR or IDX.

A table has the column `label` and `path` (audio) or `text`/`sentence` (text), and perhaps `split`. Where nothing says
what is for testing (a split column, subfolders train and test, official files), a share is set apart by name; dev is
for testing where there is no test, and else for nothing.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer

from ..speech.corpus import AudioDataConfig
from ..ssl.config import Config
from ..ssl.data import Dataset, Epoch, Item, held_out
from ..ssl.encoder import Backbone
from ..ssl.tables import table
from ..text import tokenizer as wordpiece
from ..vision.images import ImageDataConfig
from .encoders import modality, pixel_shape, text_tokenizer

TEST = ("test", "val", "dev", "valid", "validation")
TEXT_COLUMNS = ("text", "sentence")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledConfig(Config):
    """Where labelled items are."""

    path: str = ""  # folder or table
    test_share: float = 0.2  # of the items, by name, where nothing says which are for testing
    longest: float = 0.0  # seconds (speech) or tokens (text) that are read of an item; 0: 15 seconds, 128 tokens

    def rules(self) -> str:
        """How the items are split, in words."""
        without = f"without splits, {self.test_share:g} of the items by name"
        return f"the data's own test split (dev where it has no test) or, {without}"


class Labelled(Dataset):
    """Another dataset's items, some of them, with "label" () int64 in their extras."""

    def __init__(self, inner: Dataset, records: np.ndarray, sizes: np.ndarray, labels: list[int]) -> None:
        self.inner, self.records, self.sizes = inner, records, sizes
        self.unit, self.ragged = inner.unit, inner.ragged
        self.labels = dict(zip(records[:, 0].tolist(), labels, strict=True))

    def epoch(self, key: int) -> Epoch:
        return Epoch(self.records, self.sizes)

    def load(self, record: np.ndarray, key: int) -> Item:
        item = self.inner.load(record, key)
        return Item(item.inputs, {**item.extras, "label": torch.tensor(self.labels[int(record[0])])})

    def name(self, record: np.ndarray) -> str:
        return self.inner.name(record)

    def save_assets(self, folder: Path) -> None:
        pass


class Parts(NamedTuple):
    """What is for training, what for testing, and what the classes are called."""

    train: Labelled
    test: Labelled
    classes: list[str]


def read(config: LabelledConfig, backbone: Backbone) -> Parts:
    """The labelled items in the form that the backbone takes.

    Raises: ValueError if there are none, fewer than two classes, or a class that training never sees.
    """
    if not config.path:
        raise ValueError("no labelled data named: set --data.path to a folder of classes or a table")
    path = Path(config.path)
    if not path.exists():
        raise ValueError(f"{path} does not exist: set --data.path to a folder of classes or a table")
    kind = modality(backbone)
    if kind == "vision":
        items = _images(config, path, backbone)
    elif kind == "speech":
        items = _audio(config, path)
    else:
        items = _texts(config, path, text_tokenizer(backbone))
    return _split(config, items)


class _Items(NamedTuple):
    """All items: each with its class's name, and "train", "test" or "" where nothing says."""

    inner: Dataset
    records: np.ndarray
    sizes: np.ndarray
    labels: list[str]
    names: list[str]
    splits: list[str]


def _split(config: LabelledConfig, items: _Items) -> Parts:
    classes = sorted(set(items.labels))
    if len(classes) < 2:
        raise ValueError(f"{config.path} has {len(classes)} class(es), and telling apart needs two: {classes[:3]}")
    number = {name: i for i, name in enumerate(classes)}
    named = set(items.splits) - {""}
    if strange := named - {"train", *TEST}:
        raise ValueError(f"{config.path}: split is train, {' or '.join(TEST)}, not {min(strange)!r}")
    # Where there are both, what is for choosing is neither learnt from nor scored.
    spare = set(TEST) - {"test"} if "test" in named else set()
    test = [
        split in TEST if split else held_out(name, config.test_share)
        for name, split in zip(items.names, items.splits, strict=True)
    ]

    def part(wanted: bool) -> Labelled:
        kept = [i for i, one in enumerate(test) if one == wanted and items.splits[i] not in spare]
        if not kept:
            raise ValueError(f"{config.path} leaves nothing for {'testing' if wanted else 'training'}")
        labels = [number[items.labels[i]] for i in kept]
        return Labelled(items.inner, items.records[kept], items.sizes[kept], labels)

    parts = Parts(part(False), part(True), classes)
    if unseen := set(parts.test.labels.values()) - set(parts.train.labels.values()):
        raise ValueError(f"{config.path}: no item of class {classes[min(unseen)]} is for training")
    return parts


def _images(config: LabelledConfig, path: Path, backbone: Backbone) -> _Items:
    size, channels = pixel_shape(backbone)
    parts = [name for name in ("train", *TEST) if (path / name).is_dir()]
    official = not parts
    found, splits = [], []
    for part in parts or ["train", "test"]:
        data = ImageDataConfig(path=str(path), size=size, channels=channels, part=part, held_out=0.0)
        try:
            dataset = data.build("train", path)
        except ValueError:
            if part != "test":
                raise
            continue
        if official and found and dataset.arrays is None:
            break  # a plain folder of classes: the same files again
        found.append(dataset)
        splits.append(part if parts or dataset.arrays is not None else "")
    inner = _Joined(found)
    labels = [dataset.classes[dataset.label(record)] for dataset in found for record in dataset.records]
    names = [dataset.lasting_name(int(record[0])) for dataset in found for record in dataset.records]
    each = [split for dataset, split in zip(found, splits, strict=True) for _ in dataset.records]
    return _Items(inner, inner.records, inner.sizes, labels, names, each)


class _Joined(Dataset):
    """Several datasets of fixed items as one; a record is its number and where it comes from."""

    def __init__(self, parts: list) -> None:
        self.parts = parts
        self.unit, self.ragged = parts[0].unit, parts[0].ragged
        rows, sizes = [], []
        for i, part in enumerate(parts):
            records, cost = part.epoch(0)
            rows += [(i, *record) for record in records.tolist()]
            sizes.append(cost)
        table = np.array(rows, dtype=np.int64)
        self.records = np.concatenate([np.arange(len(table))[:, None], table], axis=1)
        self.sizes = np.concatenate(sizes)

    def epoch(self, key: int) -> Epoch:
        return Epoch(self.records, self.sizes)

    def load(self, record: np.ndarray, key: int) -> Item:
        return self.parts[int(record[1])].load(record[2:], key)

    def name(self, record: np.ndarray) -> str:
        return self.parts[int(record[1])].name(record[2:])

    def save_assets(self, folder: Path) -> None:
        pass


def _table(path: Path) -> list[dict[str, str]]:
    """The rows of a table with the column label. Raises ValueError, with the line, for one without."""
    rows = []
    for number, row in table(path, ("path", "start", "end", "label", "split", *TEXT_COLUMNS)):
        rows.append(row)
        if not row.get("label"):
            raise ValueError(f"{path}, line {number} has no label")
    if not rows:
        raise ValueError(f"{path} needs a header with the column label, and rows below it")
    return rows


def _tables(path: Path) -> list[tuple[str, dict[str, str]]]:
    """The rows of a table, or of the tables train and test (dev, ...) in a folder, each with its split."""
    if path.is_file():
        return [(row.get("split") or "", row) for row in _table(path)]
    found = []
    for part in ("train", "dev", "valid", "validation", "val", "test"):
        for suffix in (".tsv", ".csv"):
            file = path / f"{part}{suffix}"
            # GLUE's test files come without labels: the first labelled split after train is the one to test on.
            if file.is_file() and (part == "train" or not any(split != "train" for split, _ in found)):
                found += [(part, row) for row in _table(file)]
    if not found:
        raise ValueError(f"{path} has no train.tsv or train.csv with the columns text and label")
    return found


def _audio(config: LabelledConfig, path: Path) -> _Items:
    longest = config.longest or 15.0
    data = AudioDataConfig(path=str(path), longest=longest, shortest=0.0, held_out=0.0)
    with tempfile.TemporaryDirectory() as cache:
        dataset = data.build("train", Path(cache))
    if path.is_file():
        rows = {}
        for row in _table(path):
            piece = row["path"], float(row.get("start") or 0.0)
            if piece in rows:
                raise ValueError(f"{path}: {piece[0]} from {piece[1]:g} s stands there twice: remove one row")
            rows[piece] = row
        kept = [rows[clip.path, clip.start] for clip in dataset.clips]
        labels = [row["label"] for row in kept]
        splits = [row.get("split") or "" for row in kept]
    else:
        folders = [Path(clip.path).parent for clip in dataset.clips]
        labels = [folder.name for folder in folders]
        top = [folder.parts[0] if len(folder.parts) > 1 else "" for folder in folders]
        splits = [name if name == "train" or name in TEST else "" for name in top]
    names = [f"{clip.path} {clip.start:g}" for clip in dataset.clips]
    return _Items(dataset, dataset.records, dataset.sizes, labels, names, splits)


def _texts(config: LabelledConfig, path: Path, tokenizer: Tokenizer) -> _Items:
    rows = _tables(path)
    column = next((name for name in TEXT_COLUMNS if name in rows[0][1]), None)
    if column is None:
        raise ValueError(f"{path} needs one of the columns {', '.join(TEXT_COLUMNS)}")
    dataset = Texts([row[column] or "" for _, row in rows], tokenizer, int(config.longest or 128), str(path))
    return _Items(
        dataset,
        dataset.records,
        dataset.sizes,
        [row["label"] for _, row in rows],
        dataset.texts,
        [split for split, _ in rows],
    )


class Texts(Dataset):
    """Single texts as [CLS] text [SEP], cut at `longest` tokens."""

    unit = "tokens"
    ragged = True

    def __init__(self, texts: list[str], tokenizer: Tokenizer, longest: int, path: str) -> None:
        self.texts, self.path = texts, path
        start = wordpiece.special_id(tokenizer, "[CLS]")
        stop = wordpiece.special_id(tokenizer, "[SEP]")
        encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        self.ids = [[start, *one.ids[: longest - 2], stop] for one in encoded]
        self.records = np.arange(len(texts), dtype=np.int64)[:, None]
        self.sizes = np.array([len(ids) for ids in self.ids], dtype=np.float64)

    def epoch(self, key: int) -> Epoch:
        return Epoch(self.records, self.sizes)

    def load(self, record: np.ndarray, key: int) -> Item:
        return Item(torch.tensor(self.ids[int(record[0])]))

    def name(self, record: np.ndarray) -> str:
        return f"{self.path}, row {int(record[0]) + 1}"

    def save_assets(self, folder: Path) -> None:
        pass
