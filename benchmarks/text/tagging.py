# SPDX-License-Identifier: Apache-2.0
"""A class for each word of a sentence, such as its part of speech, from the frozen state of its first sub-token.

Shape letters: B rows, T tokens, W words of all rows, D width.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer

from ..ssl.config import Config
from ..ssl.data import Dataset, Epoch, Item, Loader
from ..ssl.encoder import Backbone
from ..text import tokenizer as wordpiece
from .classify import linear
from .encoders import modality, text_tokenizer
from .features import COST, Vectors, check_layer, layer_of
from .task import Score, TaskConfig

NO_WORD = -1  # the tag of tokens that begin no word
COLUMNS = {"upos": 3, "xpos": 4}  # of CoNLL-U; the word is column 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaggedConfig(Config):
    """Where tagged sentences are."""

    path: str = ""  # folder of CoNLL-U files with train and test (or dev) in their names
    tags: Literal["upos", "xpos"] = "upos"
    longest: int = 128  # tokens; words beyond them are left out, and counted


class Sentence(NamedTuple):
    """Words and their tags."""

    words: list[str]
    tags: list[str]


def read_conllu(path: Path, tags: Literal["upos", "xpos"] = "upos") -> list[Sentence]:
    """The sentences of a CoNLL-U file (universaldependencies.org/format); contractions count as the words they hold.

    Raises: ValueError, with the line, for a file of another form.
    """
    found = [Sentence([], [])]
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            found.append(Sentence([], []))
            continue
        if line.startswith("#"):
            continue
        columns = line.rstrip("\r").split("\t")
        if len(columns) != 10 or not re.fullmatch(r"\d+([-.]\d+)?", columns[0]):
            raise ValueError(f"{path}, line {number}: CoNLL-U has ten columns, of which the first is a number")
        if columns[0].isdigit():
            found[-1].words.append(columns[1])
            found[-1].tags.append(columns[COLUMNS[tags]])
    sentences = [sentence for sentence in found if sentence.words]
    if not sentences:
        raise ValueError(f"{path} holds no sentence")
    return sentences


class Tagged(Dataset):
    """Sentences as [CLS] tokens [SEP], cut at `longest`; extras: "tags" (T,) int64, a word's at its first token."""

    unit = "tokens"
    ragged = True

    def __init__(self, sentences: list[Sentence], tokenizer: Tokenizer, numbers: dict[str, int], longest: int) -> None:
        start, stop = (wordpiece.special_id(tokenizer, token) for token in ("[CLS]", "[SEP]"))
        flat = [word for sentence in sentences for word in sentence.words]
        pieces = iter(tokenizer.encode_batch_fast(flat, add_special_tokens=False))
        self.items: list[tuple[list[int], list[int]]] = []
        self.left_out = 0  # words beyond `longest`, or of which the tokenizer leaves nothing
        for sentence in sentences:
            ids, tags = [start], [NO_WORD]
            for tag in sentence.tags:
                word = next(pieces).ids
                if not word or len(ids) + len(word) >= longest:
                    self.left_out += 1
                    continue
                ids += word
                tags += [numbers[tag], *[NO_WORD] * (len(word) - 1)]
            self.items.append(([*ids, stop], [*tags, NO_WORD]))
        self.records = np.arange(len(sentences), dtype=np.int64)[:, None]
        self.sizes = np.array([len(ids) for ids, _ in self.items], dtype=np.float64)

    def epoch(self, key: int) -> Epoch:
        return Epoch(self.records, self.sizes)

    def load(self, record: np.ndarray, key: int) -> Item:
        ids, tags = self.items[int(record[0])]
        return Item(torch.tensor(ids), {"tags": torch.tensor(tags)})

    def name(self, record: np.ndarray) -> str:
        return f"sentence {int(record[0]) + 1}"

    def save_assets(self, folder: Path) -> None:
        pass


class TaggedParts(NamedTuple):
    """What is for training, what for testing, and what the tags are called."""

    train: Tagged
    test: Tagged
    names: list[str]


def read(config: TaggedConfig, tokenizer: Tokenizer) -> TaggedParts:
    """The sentences for training and for testing. Raises ValueError if they are not there."""
    folder = Path(config.path)
    if not config.path or not folder.is_dir():
        raise ValueError(f"set --data.path to a folder of CoNLL-U files{f': {folder} is none' if config.path else ''}")
    files = sorted(folder.glob("*.conllu"))
    named = {part: [file for file in files if part in file.name] for part in ("train", "test", "dev")}
    test = named["test"] or named["dev"]
    if not named["train"] or not test:
        raise ValueError(
            f"{folder} needs files *train*.conllu and *test*.conllu (or *dev*), it has {len(files)} others"
        )
    parts = [[s for file in part for s in read_conllu(file, config.tags)] for part in (named["train"], test)]
    names = sorted({tag for part in parts for sentence in part for tag in sentence.tags})
    numbers = {name: number for number, name in enumerate(names)}
    train, test = (Tagged(part, tokenizer, numbers, config.longest) for part in parts)
    return TaggedParts(train, test, names)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TagProbeConfig(TaskConfig):
    """Logistic regression on the frozen state of each word's first sub-token; accuracy over words."""

    trains: ClassVar[bool] = False

    data: TaggedConfig = TaggedConfig()
    layer: int = -1  # -1: the normalised output; 0: the encoder's input; k: the output of block k

    def rules(self) -> str:
        return (
            f"logistic regression on each word's first sub-token, {self.data.tags}; the test file or, without one, dev"
        )

    def evaluate(self, backbone: Backbone, seed: int) -> tuple[Score, dict[str, Any]]:
        """The score of a frozen backbone; of raw features: each token's most frequent tag. `seed` changes nothing."""
        if modality(backbone) != "text":
            raise ValueError("tagging is for text encoders")
        parts = read(self.data, text_tokenizer(backbone))
        chosen: dict[str, Any] = {"left_out": parts.train.left_out + parts.test.left_out}
        if backbone.encoder.config.depth:
            train, test = (word_states(backbone, data, self.layer) for data in (parts.train, parts.test))
            labels = test.labels
            predicted, chosen["decay"] = linear(train, test.x)
        else:
            predicted, labels = most_frequent(parts.train, parts.test, len(parts.names))
        chosen["words"] = len(labels)
        return Score("accuracy", {"accuracy": float((predicted == labels).mean())}), chosen


@torch.inference_mode()
def word_states(backbone: Backbone, data: Tagged, layer: int = -1) -> Vectors:
    """The state (W, D) of each word's first token, and its tag.

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
        real = torch.arange(tagged.shape[1]) < encoded.lengths[:, None]  # rows are padded with zeros, which are tags
        begins = (tagged != NO_WORD) & real
        states.append(encoded.x[begins].float())
        tags.append(tagged[begins])
    return Vectors(torch.cat(states).numpy(), torch.cat(tags).numpy(), [])


def most_frequent(train: Tagged, test: Tagged, tags: int) -> tuple[np.ndarray, np.ndarray]:
    """(W,) the tag that each test word's first token most often had in training, and (W,) the word's own."""

    def words(data: Tagged) -> np.ndarray:
        pairs = [pair for ids, tagged in data.items for pair in zip(ids, tagged, strict=True) if pair[1] != NO_WORD]
        return np.array(pairs, dtype=np.int64)

    known, asked = words(train), words(test)
    counts = np.zeros((max(known[:, 0].max(), asked[:, 0].max()) + 1, tags), dtype=np.int64)
    np.add.at(counts, (known[:, 0], known[:, 1]), 1)
    unseen = counts.sum(1) == 0
    counts[unseen] = np.bincount(known[:, 1], minlength=tags)
    return counts[asked[:, 0]].argmax(1), asked[:, 1]


def linear_probe() -> TagProbeConfig:
    """Parts of speech (CoNLL-U) by logistic regression on the frozen state of each word's first sub-token."""
    return TagProbeConfig()
