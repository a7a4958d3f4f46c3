# SPDX-License-Identifier: Apache-2.0
"""A class for each word of a sentence, its part of speech or whether it names something: a probe, and fine-tuning.

Always from the state of a word's first sub-token (Devlin et al. 2019, arXiv:1810.04805, section 5.3). Sentences are
read one by one, where that paper puts the text around them into CoNLL-2003's.
"""

import dataclasses
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal

from ....ssl.config import Config
from ....ssl.data import Dataset
from ....ssl.encoder import Backbone
from ...classify import linear
from ...encoders import Start, modality, text_tokenizer
from ...files import write_text
from ...finetune import MissingFiles, Setting, TunedConfig
from ...task import Score, Task, TaskConfig
from ..glue.protocols import grid
from .bio import read_ner
from .tagger import UNREAD, WordTags, by_sentence, entity_scores, word_accuracy
from .word_vectors import most_frequent, word_states
from .words import Sentence, Tagged, files_of, read_treebank, tag_names

Protocol = Literal["hf", "bert"]
# Learning rates, batches and epochs that a published protocol tries, and how else it trains.
PUBLISHED: dict[Protocol, tuple[Setting, tuple[float, ...], tuple[int, ...], tuple[float, ...]]] = {
    # huggingface/transformers, examples/pytorch/token-classification/run_ner.py, with nothing set.
    "hf": (Setting(), (5e-5,), (8,), (3.0,)),
    # Devlin et al. 2019, appendix A.3; google-research/bert@eedf5716, optimization.py.
    "bert": (
        Setting(warmup=0.1, weight_decay=0.01, eps=1e-6),
        (5e-5, 3e-5, 2e-5),
        (16, 32),
        (2.0, 3.0, 4.0),
    ),
}
SAID: dict[Protocol, str] = {
    "hf": "transformers' run_ner: lr 5e-5, batch 8, 3 epochs, linear decay, no warm-up",
    "bert": "BERT: best on dev of lr 5e-5, 3e-5, 2e-5 x batch 16, 32 x 2, 3, 4 epochs, warm-up 10 %",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaggedConfig(Config):
    """Where tagged sentences are."""

    path: str = ""  # folder of CoNLL-U files with train, dev and test in their names
    tags: Literal["upos", "xpos"] = "upos"
    longest: int = 128  # tokens of a sentence


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
        parts = read_treebank(self.data.path, self.data.tags)
        names, tokenizer = tag_names(parts["train"]), text_tokenizer(backbone)
        train, test = (
            Tagged(sentences, tokenizer, names, self.data.longest)
            for sentences in (parts["train"], parts["test"] or parts["dev"])
        )
        chosen: dict[str, Any] = {"left_out": train.unread + test.unread}  # words beyond `longest`
        if backbone.encoder.config.depth:
            known, asked = (word_states(backbone, data, self.layer) for data in (train, test))
            labels = asked.labels
            predicted, chosen["decay"] = linear(known, asked.x)
        else:
            predicted, labels = most_frequent(train, test)
        chosen["words"] = len(labels)
        return Score("accuracy", {"accuracy": float((predicted == labels).mean())}), chosen


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaggerConfig(TunedConfig, ABC):
    """Settings that all taggers have."""

    name: ClassVar[str]  # of prediction files

    protocol: Protocol = "hf"
    lr: tuple[float, ...] = ()  # in place of the protocol's; several make a grid
    batch: tuple[int, ...] = ()  # sentences, in place of the protocol's
    epochs: tuple[float, ...] = ()  # in place of the protocol's

    def settings(self) -> list[Setting]:
        base, lr, batch, epochs = PUBLISHED[self.protocol]
        return grid(base, self.lr or lr, self.batch or batch, self.epochs or epochs)

    def rules(self) -> str:
        changed = {"lr": self.lr, "batch": self.batch, "epochs": self.epochs}
        words = [f"{name} {', '.join(f'{x:g}' for x in values)}" for name, values in changed.items() if values]
        return "; ".join([SAID[self.protocol], *words, self.labels()])

    @abstractmethod
    def parts(self) -> dict[str, list[Sentence]]:
        """The sentences of each part. Raises MissingFiles, or ValueError for files that cannot be used."""

    def check(self) -> None:
        self.parts()

    @abstractmethod
    def labels(self) -> str:
        """What is asked of words, and what counts for those that are not read, in words."""

    def write(self, task: Task, part: str, data: Dataset, answers: list[Any], folder: Path) -> None:
        """A word a line with its tag and what is said of it, tabs between, as `conlleval -d '\\t'` takes it."""
        assert isinstance(data, Tagged)
        blocks = []
        for (words, tags), said in zip(data.sentences, by_sentence(data.sentences, answers), strict=True):
            blocks.append("".join("\t".join(columns) + "\n" for columns in zip(words, tags, said, strict=True)))
        write_text(folder / f"{self.name}_{part}.tsv", "\n".join(blocks))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PosConfig(TaggerConfig):
    """Parts of speech from a treebank."""

    name: ClassVar[str] = "pos"

    data: TaggedConfig = TaggedConfig()

    def labels(self) -> str:
        return f"{self.data.tags} of words; those beyond {self.data.longest} tokens count as wrong"

    def parts(self) -> dict[str, list[Sentence]]:
        parts = read_treebank(self.data.path, self.data.tags)
        if not parts["dev"]:
            raise MissingFiles(f"{self.data.path} needs *dev*.conllu, on which settings are chosen")
        return parts

    def task(self, start: Start) -> WordTags:
        return WordTags(start, self.parts(), self.data.longest, UNREAD, word_accuracy)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EntitiesConfig(Config):
    """Where sentences with named entities are."""

    path: str = ""  # folder of files in columns with train, dev (or valid, testa) and test in their names
    longest: int = 128  # tokens of a sentence


@dataclasses.dataclass(frozen=True, kw_only=True)
class NerConfig(TaggerConfig):
    """Named entities from files in columns."""

    name: ClassVar[str] = "ner"

    data: EntitiesConfig = EntitiesConfig()

    def labels(self) -> str:
        return f"BIO tags (IOB2) of words; those beyond {self.data.longest} tokens count as O"

    def parts(self) -> dict[str, list[Sentence]]:
        return read_entities(self.data.path)

    def task(self, start: Start) -> WordTags:
        return WordTags(start, self.parts(), self.data.longest, "O", entity_scores)


def read_entities(root: str) -> dict[str, list[Sentence]]:
    """The sentences of the parts of a folder such as CoNLL-2003's or WNUT-17's, in IOB2; without test, it is empty.

    Raises: finetune.MissingFiles without a file for training or for choosing; ValueError for two files of a part, or
        files of another form.
    """
    files = {  # a treebank's files, and their plain texts, are none
        part: [one for one in found if not one.with_suffix(".conllu").is_file()]
        for part, found in files_of(root, "*").items()
    }
    for part, found in files.items():
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise ValueError(f"{root} has {len(found)} files for {part}: {names}: leave one of them there")
    if missing := [part for part in ("train", "dev") if not files[part]]:
        raise MissingFiles(f"{root} needs a file with {' and one with '.join(missing)} in its name (or valid, testa)")
    return {part: [one for path in found for one in read_ner(path)] for part, found in files.items()}


def linear_probe() -> TagProbeConfig:
    """Parts of speech (CoNLL-U) by logistic regression on the frozen state of each word's first sub-token."""
    return TagProbeConfig()


def pos() -> PosConfig:
    """Parts of speech (CoNLL-U), the network fine-tuned. Accuracy over words."""
    return PosConfig()


def ner() -> NerConfig:
    """Named entities (BIO columns, as CoNLL-2003, WNUT-17), the network fine-tuned. F1 of spans, lenient and strict."""
    return NerConfig()
