# SPDX-License-Identifier: Apache-2.0
"""How alike two sentences are by the angle between their vectors, without tuning: STS-B's dev split.

As Reimers & Gurevych 2019 (arXiv:1908.10084, section 4.1) ask it of averaged BERT vectors; theirs is the test split.
"""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...ssl.encoder import Backbone
from .. import metrics
from ..encoders import modality, text_tokenizer
from ..features import vectors
from ..labelled import Labelled, Texts
from ..task import Score, TaskConfig
from .examples import Example
from .glue.config import GlueDataConfig
from .glue.files import read_part
from .glue.tasks import TASKS

AT_ONCE = 256  # pairs whose vectors are held together: a bag of tokens is as wide as the vocabulary


@dataclasses.dataclass(frozen=True, kw_only=True)
class CosineConfig(TaskConfig):
    """The cosine of the mean vectors of two sentences, the states of their markers ([CLS], [SEP]) among them."""

    trains: ClassVar[bool] = False
    split: ClassVar[str] = "dev"

    data: GlueDataConfig = GlueDataConfig()
    layer: int = -1  # -1: the normalised output; 0: the encoder's input; k: the output of block k

    def rules(self) -> str:
        layer = "output" if self.layer < 0 else f"layer {self.layer}"
        return f"cosine of the frozen {layer}'s mean vectors, nothing trained; {self.data.longest} tokens of a sentence"

    def evaluate(self, backbone: Backbone, seed: int) -> tuple[Score, dict[str, Any]]:
        """The score of a frozen backbone. `seed` changes nothing here."""
        if modality(backbone) != "text":
            raise ValueError("similarity of sentences is for text encoders")
        examples = read_dev(self.data.path)
        found = cosines(backbone, examples, self.data.longest, self.layer if backbone.encoder.config.depth else -1)
        known = [float(one.label or 0.0) for one in examples]
        pearson, spearman = metrics.pearson(known, found.tolist()), metrics.spearman(known, found.tolist())
        return Score("spearman", {"spearman": spearman, "pearson": pearson}), {"pairs": len(examples)}


def read_dev(path: str) -> list[Example]:
    """STS-B's dev split from GLUE's folder. Raises ValueError if it is not there or cannot be read."""
    task = TASKS["stsb"]
    root = Path(path)
    if not path or not root.is_dir():
        raise ValueError(f"set --data.path to GLUE's folder, which holds STS-B: {path or 'nothing'} is none")
    for folder in (root / task.folder, root / task.name):
        reading = read_part(task, folder, task.dev[""], "validation")
        if reading is not None:
            return reading.examples
    raise ValueError(f"{root} has no {task.folder}/{task.dev[''].name} and no {task.name}/validation-*.parquet")


def cosines(backbone: Backbone, examples: list[Example], longest: int = 128, layer: int = -1) -> np.ndarray:
    """(n,) float64, the cosine of each pair's mean vectors; 0 where one of them is nothing.

    Args:
        layer: -1 the normalised output; 0 the encoder's input, k the output of block k.
    Raises: ValueError for a layer that the encoder has not.
    """
    found = []
    for start in range(0, len(examples), AT_ONCE):
        some = examples[start : start + AT_ONCE]
        words = [one.first for one in some] + [one.second or "" for one in some]
        texts = Texts(words, text_tokenizer(backbone), longest, "STS-B")
        data = Labelled(texts, texts.records, texts.sizes, [0] * len(words))  # `vectors` wants classes
        first, second = np.split(vectors(backbone, data, "mean", layer).x.astype(np.float64), 2)
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        found.append((first * second).sum(1) / np.maximum(lengths, 1e-12))
    return np.concatenate(found)


def cosine() -> CosineConfig:
    """STS-B, not tuned: does the cosine of mean vectors rank pairs as people do? Spearman and Pearson correlation."""
    return CosineConfig()
