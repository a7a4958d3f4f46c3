# SPDX-License-Identifier: Apache-2.0
"""Ids to vectors: the sum of a word's and a segment's embedding (Devlin et al. 2019, arXiv:1810.04805, figure 2).

Positions, layer norm and dropout are the encoder's. Shape letters: B rows, T tokens, D width, V vocabulary.
"""

import dataclasses
from pathlib import Path
from typing import Self

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..ssl.encoder import FrontEndConfig, IdFrontEnd, Units, Vocabulary
from ..ssl.packing import row_lengths
from . import tokenizer as wordpiece
from .corpus import TextDataset


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextFrontEndConfig(FrontEndConfig):
    """Settings of the text front end. Defaults: BERT base, uncased; a tokenizer brings its own vocabulary."""

    vocab_size: int = 30522
    width: int = 768
    segments: int = 2  # 0: no segment embedding

    def build(self, assets: Path | None = None) -> "TextFrontEnd":
        tokenizer = None
        if assets is not None and (assets / wordpiece.FILE).is_file():
            tokenizer = wordpiece.load_tokenizer(assets)
        return TextFrontEnd(self, tokenizer)

    def fitted(self, dataset: object) -> Self:
        if not isinstance(dataset, TextDataset):
            raise ValueError("this recipe is for text: set data to a text file or a folder of them")
        return dataclasses.replace(self, vocab_size=wordpiece.describe(dataset.tokenizer).size)


class TextFrontEnd(IdFrontEnd):
    """A table of words and one of segments."""

    def __init__(self, config: TextFrontEndConfig, tokenizer: Tokenizer | None = None) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.width = config.width
        self.unit_width = 1
        if tokenizer is None:
            # BERT's own vocabularies begin so: [PAD] 0, [UNK] 100, [CLS] 101, [SEP] 102, [MASK] 103; ours 0 to 4.
            self.vocabulary = Vocabulary(config.vocab_size, 4, (0, 1, 2, 3, 4))
        else:
            self.vocabulary = wordpiece.describe(tokenizer)
        if self.vocabulary.size != config.vocab_size:
            raise ValueError(
                f"front_end.vocab_size is {config.vocab_size} but the tokenizer has {self.vocabulary.size} tokens"
            )
        self.word = nn.Embedding(config.vocab_size, config.width)
        self.segment = nn.Embedding(config.segments, config.width) if config.segments else None
        for table in (self.word, self.segment):
            if table is not None:
                nn.init.trunc_normal_(table.weight, std=0.02, a=-0.04, b=0.04)

    def units(self, inputs: Tensor, lengths: Tensor | None = None) -> Units:
        """(B, T) ids, or (B, T, 2) ids and segments, as they are. Raises ValueError as `row_lengths`."""
        row_lengths(inputs, lengths)
        return Units(inputs, lengths)

    def embed(self, values: Tensor) -> Tensor:
        ids = values if values.ndim == 2 else values[..., 0]
        x = self.word(ids)
        if self.segment is None:
            return x
        if values.ndim == 2 or self.config.segments == 1:  # RoBERTa has one, whatever a pair's tokens say
            return x + self.segment.weight[0]
        return x + self.segment(values[..., 1])

    def unit_lengths(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        return torch.tensor(row_lengths(inputs, lengths))

    def table(self) -> Tensor:
        return self.word.weight

    def save_assets(self, folder: Path) -> None:
        if self.tokenizer is not None:
            self.tokenizer.save(str(folder / wordpiece.FILE))
