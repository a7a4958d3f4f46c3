# SPDX-License-Identifier: Apache-2.0
"""A text corpus, tokenised once into a memory-mapped shard with sentence and document offsets.

The shard is found again by the names, sizes and times of the files, the tokenizer and the settings, so a resumed run
reads nothing anew.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from ..ssl import hub
from ..ssl.cache import digest, once, state
from ..ssl.data import DataConfig, Dataset, Epoch, Item, all_held_out
from . import tokenizer as wordpiece
from .documents import documents, files, sentences
from .pairs import Shard, pair_table, plain_table

_VERSION = 1  # of the shard's layout and of the sentence rule


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextDataConfig(DataConfig):
    """Where the text is and how it is cut into items.

    `path` is a text file or a folder of them (.txt, .text, .txt.gz, .parquet), or `hf:NAME` of a data set. Lines are
    sentences or paragraphs; an empty line ends a document.
    """

    tokenizer: str = ""  # vocab.txt, tokenizer.json or a folder with either; empty: trained on the corpus
    vocab_size: int = 30522  # of a trained tokenizer, at most
    lowercase: bool = True  # of a trained tokenizer
    longest: int = 128  # tokens of an item, special ones counted
    pairs: bool = True  # sentence pairs for next sentence prediction; False: plain runs of sentences
    short: float = 0.1  # share of documents cut into shorter items (with pairs)
    documents_per_epoch: int = 200_000  # larger corpora are worked through in windows, so that planning stays short

    def build(self, split: str, cache: Path) -> "TextDataset":
        if not self.path:
            raise ValueError("no text named: set --data.path to a text file or a folder of them")
        found = files(hub.as_files(self.path, "text", cache))
        tokenizer = self._tokenizer(found, cache)
        return TextDataset(self, split, tokenizer, *open_shard(found, tokenizer, cache))

    def _tokenizer(self, found: list[Path], cache: Path) -> Tokenizer:
        if self.tokenizer:
            tokenizer = wordpiece.load_tokenizer(Path(self.tokenizer))
            if wordpiece.frame(tokenizer).space:
                raise ValueError(f"{self.tokenizer} is byte-level BPE: set data.tokenizer to a WordPiece vocabulary")
            return tokenizer
        name = digest(state(found), self.vocab_size, self.lowercase)

        def train(path: Path) -> None:
            wordpiece.train_wordpiece(lambda: _lines(found), self.vocab_size, self.lowercase).save(str(path))

        return wordpiece.load_tokenizer(once(cache / f"tokenizer-{name}.json", train))


def _lines(found: list[Path]) -> Iterator[str]:
    for file in found:
        for document in documents(file, []):
            for line in document:
                yield from sentences(line)


def open_shard(found: list[Path], tokenizer: Tokenizer, cache: Path) -> tuple[Shard, list[str], list[tuple[str, str]]]:
    """The shard of these files, the lasting name of each document, and what could not be read; made if need be."""
    name = f"text-{digest(_VERSION, state(found), tokenizer.to_str())}"
    folder = once(cache / name, lambda beside: _write_shard(found, tokenizer, beside))
    arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("tokens", "sentences", "documents")]
    notes = json.loads((folder / "notes.json").read_text())
    return Shard(*arrays), notes["names"], [(name, reason) for name, reason in notes["bad"]]


def _write_shard(found: list[Path], tokenizer: Tokenizer, folder: Path) -> None:
    kind = np.uint16 if tokenizer.get_vocab_size() <= 2**16 else np.uint32
    bad: list[tuple[str, str]] = []
    names: list[str] = []
    sentence_ends, document_ends = [0], [0]
    folder.mkdir()
    raw = folder / "tokens.raw"
    with raw.open("wb") as out:
        for part in _in_parts(found, bad):
            flat = [sentence for document in part for sentence in document]
            encoded = iter(tokenizer.encode_batch_fast(flat, add_special_tokens=False))
            for document in part:
                before = len(sentence_ends)
                for _ in document:
                    ids = next(encoded).ids
                    if ids:
                        out.write(np.array(ids, dtype=kind).tobytes())
                        sentence_ends.append(sentence_ends[-1] + len(ids))
                if len(sentence_ends) > before:
                    document_ends.append(len(sentence_ends) - 1)
                    text = "\n".join(document).encode("utf-8", "surrogatepass")
                    names.append(hashlib.blake2b(text, digest_size=8).hexdigest())
    tokens = np.fromfile(raw, dtype=kind) if sentence_ends[-1] else np.zeros(0, dtype=kind)
    np.save(folder / "tokens.npy", tokens)
    raw.unlink()
    np.save(folder / "sentences.npy", np.array(sentence_ends, dtype=np.int64))
    np.save(folder / "documents.npy", np.array(document_ends, dtype=np.int64))
    (folder / "notes.json").write_text(json.dumps({"names": names, "bad": bad}))


def _in_parts(found: list[Path], bad: list[tuple[str, str]]) -> Iterator[list[list[str]]]:
    """Documents as lists of sentences, some million characters at a time: enough for the tokenizer's threads."""
    part: list[list[str]] = []
    size = 0
    for file in found:
        for lines in documents(file, bad):
            part.append([sentence for line in lines for sentence in sentences(line)])
            size += sum(len(line) for line in lines)
            if size > 4_000_000:
                yield part
                part, size = [], 0
    yield part


class TextDataset(Dataset):
    """Items are [CLS] A [SEP] B [SEP] with "is_random", or [CLS] A [SEP]; they are cut anew each epoch."""

    unit = "tokens"
    ragged = True

    def __init__(
        self,
        config: TextDataConfig,
        split: str,
        tokenizer: Tokenizer,
        shard: Shard,
        names: list[str],
        bad: list[tuple[str, str]],
    ) -> None:
        self.config, self.tokenizer, self.shard, self.names, self.bad = config, tokenizer, shard, names, bad
        wanted = split == "held_out"
        self.documents = np.flatnonzero(all_held_out(names, config.held_out) == wanted)
        if len(shard.tokens) == 0:
            raise ValueError(f"{config.path} holds no text that can be read")
        if config.longest < 5:
            raise ValueError(f"data.longest must be at least 5 tokens, got {config.longest}")
        self.start = wordpiece.special_id(tokenizer, "[CLS]")
        self.stop = wordpiece.special_id(tokenizer, "[SEP]")

    def epoch(self, key: int) -> Epoch:
        random = np.random.Generator(np.random.PCG64(key & (2**64 - 1)))
        order = random.permutation(self.documents)[: self.config.documents_per_epoch]
        if len(order) == 0:
            return Epoch(np.zeros((0, 6), dtype=np.int64), np.zeros(0))
        if self.config.pairs:
            table = pair_table(self.shard, order, self.config.longest, self.config.short, key)
        else:
            table = plain_table(self.shard, order, self.config.longest)
        special = 3 if self.config.pairs else 2
        sizes = (table[:, 2] - table[:, 1]) + (table[:, 4] - table[:, 3]) + special
        return Epoch(table, sizes.astype(np.float64))

    def load(self, record: np.ndarray, key: int) -> Item:
        _, a, a_end, b, b_end, is_random = record.tolist()
        first = self.shard.tokens[a:a_end].astype(np.int64)
        if not self.config.pairs:
            return Item(torch.from_numpy(np.concatenate([[self.start], first, [self.stop]])))
        second = self.shard.tokens[b:b_end].astype(np.int64)
        ids = np.concatenate([[self.start], first, [self.stop], second, [self.stop]])
        segment = np.zeros_like(ids)
        segment[len(first) + 2 :] = 1
        return Item(torch.from_numpy(np.stack([ids, segment], axis=1)), {"is_random": torch.tensor(is_random)})

    def name(self, record: np.ndarray) -> str:
        sentence = int(np.searchsorted(self.shard.sentences, record[1], side="right")) - 1
        document = int(np.searchsorted(self.shard.documents, sentence, side="right")) - 1
        return f"{self.config.path}: document {document}, token {int(record[1])}"

    def save_assets(self, folder: Path) -> None:
        self.tokenizer.save(str(folder / wordpiece.FILE))
