# SPDX-License-Identifier: Apache-2.0
"""Sentences in which each word has a tag: treebanks in CoNLL-U, and sentences as tokens, a word's first with its tag.

Shape letters: T tokens.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer

from ....ssl.data import Dataset, Epoch, Item
from ....ssl.tables import text_of
from ....text import tokenizer as wordpiece
from ...finetune import MissingFiles

NO_WORD = 0  # the tag of tokens that begin no word; padding has it too, so tags are counted from 1
COLUMNS = {"upos": 3, "xpos": 4}  # of CoNLL-U; the word is column 1
# What tells in a file's name which part it is; CoNLL-2003 calls its own testa and testb.
PARTS = {"train": ("train",), "dev": ("dev", "valid", "testa"), "test": ("test",)}


class Sentence(NamedTuple):
    """Words and their tags."""

    words: list[str]
    tags: list[str]


def read_conllu(path: Path, tags: Literal["upos", "xpos"] = "upos") -> list[Sentence]:
    """The sentences of a CoNLL-U file (universaldependencies.org/format); contractions count as the words they hold.

    Raises: ValueError, with the line, for a file of another form, or one without a single tag of this kind.
    """
    found = [Sentence([], [])]
    for number, line in enumerate(text_of(path).split("\n"), start=1):
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
    if all(tag == "_" for sentence in sentences for tag in sentence.tags):
        other = next(kind for kind in COLUMNS if kind != tags)
        raise ValueError(f"{path} leaves column {COLUMNS[tags] + 1} ({tags}) empty: set --data.tags {other}")
    return sentences


def files_of(root: str, pattern: str) -> dict[str, list[Path]]:
    """The files of each part (train, dev, test) in a folder, by their names.

    Raises: ValueError if there is no such folder.
    """
    folder = Path(root)
    if not root or not folder.is_dir():
        raise ValueError(f"set --data.path to a folder of tagged sentences{f': {folder} is none' if root else ''}")
    found: dict[str, list[Path]] = {part: [] for part in PARTS}
    for file in sorted(folder.glob(pattern)):
        part = next((part for part, words in PARTS.items() if any(word in file.name for word in words)), None)
        if part is not None and file.is_file():
            found[part].append(file)
    return found


def read_treebank(root: str, tags: Literal["upos", "xpos"]) -> dict[str, list[Sentence]]:
    """The sentences of each part of a folder of CoNLL-U files; a part may have several files, or none.

    Raises: finetune.MissingFiles without files for training, or any besides; ValueError for files of another form.
    """
    files = files_of(root, "*.conllu")
    if not files["train"] or not (files["dev"] or files["test"]):
        raise MissingFiles(f"{root} needs *train*.conllu, and *dev*.conllu or *test*.conllu")
    return {part: [one for path in paths for one in read_conllu(path, tags)] for part, paths in files.items()}


def tag_names(sentences: Sequence[Sentence]) -> list[str]:
    """All their tags, in order."""
    return sorted({tag for sentence in sentences for tag in sentence.tags})


class Tagged(Dataset):
    """Sentences between markers, cut at `longest` tokens; extras: "tags" (T,) int64, a word's at its first token.

    Words are tokenized one by one, for byte-level BPE with a space before each. Of a word whose beginning stands beyond
    `longest`, or of which the tokenizer leaves nothing, no token is read, and `seen` says so.

    Args:
        names: what the tags are called, in the order of their numbers, which begin with 1. Other tags have the number
            after the last, which nothing is ever said to be.
        count: what the loader counts: "items" for training with a fixed batch, "tokens" for reading all.
    """

    ragged = True

    def __init__(
        self,
        sentences: Sequence[Sentence],
        tokenizer: Tokenizer,
        names: Sequence[str],
        longest: int,
        count: Literal["items", "tokens"] = "tokens",
    ) -> None:
        self.sentences, self.names, self.unit = sentences, names, count
        frame = wordpiece.frame(tokenizer)
        numbers = {name: number for number, name in enumerate(names, start=NO_WORD + 1)}
        flat = [frame.space + word for sentence in sentences for word in sentence.words]
        pieces = iter(tokenizer.encode_batch_fast(flat, add_special_tokens=False))
        self.items: list[tuple[list[int], list[int]]] = []
        self.seen: list[list[bool]] = []  # of each sentence's words
        for sentence in sentences:
            ids, tags, seen = [frame.start], [NO_WORD], []
            for tag in sentence.tags:
                word = next(pieces).ids
                seen.append(bool(word) and len(ids) < longest - 1)
                ids += word
                tags += [numbers.get(tag, len(names) + 1), *[NO_WORD] * (len(word) - 1)] if word else []
            self.items.append(([*ids[: longest - 1], frame.stop], [*tags[: longest - 1], NO_WORD]))
            self.seen.append(seen)
        self.records = np.arange(len(sentences), dtype=np.int64)[:, None]
        self.sizes = np.array([1.0 if count == "items" else float(len(ids)) for ids, _ in self.items])

    @property
    def unread(self) -> int:
        """How many words have no token."""
        return sum(not one for seen in self.seen for one in seen)

    def source(self) -> Iterable[object]:
        return self.sentences

    def epoch(self, key: int) -> Epoch:
        return Epoch(self.records, self.sizes)

    def load(self, record: np.ndarray, key: int) -> Item:
        ids, tags = self.items[int(record[0])]
        return Item(torch.tensor(ids), {"tags": torch.tensor(tags)})

    def name(self, record: np.ndarray) -> str:
        return f"sentence {int(record[0]) + 1}"

    def save_assets(self, folder: Path) -> None:
        pass
