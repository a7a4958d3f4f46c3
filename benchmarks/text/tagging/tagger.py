# SPDX-License-Identifier: Apache-2.0
"""A network that is fine-tuned to give each word of a sentence a class.

A linear layer on the state of each word's first sub-token (Devlin et al. 2019, arXiv:1810.04805, section 5.3), with the
cross-entropy over words. Shape letters: B rows, T tokens, C classes.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ....ssl.data import Dataset
from ....ssl.encoder import Backbone, Encoded
from ....ssl.objective import Batch
from ... import metrics
from ...encoders import Start, modality, text_tokenizer
from ...task import Score, Splits, Task, commonest
from ..sentences import check_longest, exactly
from .bio import parts as parts_of_tag
from .bio import span_figures
from .words import NO_WORD, Sentence, Tagged, tag_names

UNREAD = "(not read)"  # said of words without a token, where no tag means that there is nothing


class EachVector(nn.Module):
    """Dropout and a linear layer on every vector."""

    def __init__(self, width: int, outputs: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, outputs)
        nn.init.trunc_normal_(self.classifier.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, encoded: Encoded) -> Tensor:
        """(B, T, C)."""
        return exactly(self.classifier, self.dropout(encoded.x))


class WordTags(Task):
    """A class for each word. Answers and references are those of all words, sentence after sentence.

    Args:
        parts: the sentences of train, dev and test; without test, dev is scored. The classes are train's tags, as in
            transformers' run_ner; a word of another part with a tag besides them counts as wrong.
        longest: tokens of a sentence.
        unread: what is said of words beyond them, which count like all others, and of those without a token.
        figures: the metrics, from sentences with what is right and the tags of each that are said.
    Raises: ValueError if the encoder takes no text, or has no tokenizer.
    """

    def __init__(
        self,
        start: Start,
        parts: Mapping[str, Sequence[Sentence]],
        longest: int,
        unread: str,
        figures: Callable[[Sequence[Sentence], list[list[str]]], Score],
    ) -> None:
        if modality(start.backbone) != "text":
            raise ValueError("tagging is for text encoders")
        check_longest(start.backbone, longest, shortest=3)
        tokenizer = text_tokenizer(start.backbone)
        self.names, self.said_of_unread, self.figures = tag_names(parts["train"]), unread, figures
        train = Tagged(parts["train"], tokenizer, self.names, longest, count="items")
        dev, test = (Tagged(parts[part], tokenizer, self.names, longest) for part in ("dev", "test"))
        self.splits = Splits(train, {"": dev}, {"": test} if parts["test"] else {})
        self.notes = [
            f"{part}: {data.unread} of {sum(map(len, data.seen))} words have no token within {longest}{of_them}"
            for part, data, of_them in (
                ("train", train, ""),
                ("dev", dev, f", and count as said to be {unread}"),
                ("test", test, f", and count as said to be {unread}"),
            )
            if data.unread
        ]
        for part, data in (("dev", dev), ("test", test)):
            if unknown := sorted(set(tag_names(data.sentences)) - set(self.names)):
                self.notes.append(f"{part}: words with a tag that train has not count as wrong: {', '.join(unknown)}")

    def data(self, backbone: Backbone) -> Splits:
        return self.splits

    def head(self, width: int) -> nn.Module:
        return EachVector(width, len(self.names))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        labels = batch.extras["tags"].flatten() - 1
        return F.cross_entropy(outputs.float().flatten(0, 1), labels, ignore_index=NO_WORD - 1, reduction="sum")

    def count(self, batch: Batch) -> Tensor:
        return (batch.extras["tags"] != NO_WORD).sum()

    def predict(self, outputs: Tensor, batch: Batch) -> list[Any]:
        begins = (batch.extras["tags"] != NO_WORD).cpu()
        return [row[words].tolist() for row, words in zip(outputs.argmax(-1).cpu(), begins, strict=True)]

    def answers(self, data: Dataset, predictions: Sequence[Any]) -> list[Any]:
        assert isinstance(data, Tagged)
        out: list[str] = []
        for seen, numbers in zip(data.seen, predictions, strict=True):
            said = iter(numbers)
            out += [self.names[next(said)] if one else self.said_of_unread for one in seen]
        return out

    def references(self, data: Dataset) -> list[Any]:
        assert isinstance(data, Tagged)
        return [tag for sentence in data.sentences for tag in sentence.tags]

    def idle(self, data: Dataset) -> list[Any]:
        return commonest(self.references(data))

    def score(self, data: Dataset, answers: Sequence[Any]) -> Score:
        assert isinstance(data, Tagged)
        return self.figures(data.sentences, by_sentence(data.sentences, answers))


def by_sentence(sentences: Sequence[Sentence], tags: Sequence[str]) -> list[list[str]]:
    """The tags of all words parted into those of each sentence."""
    each = iter(tags)
    return [list(islice(each, len(sentence.words))) for sentence in sentences]


def word_accuracy(sentences: Sequence[Sentence], said: list[list[str]]) -> Score:
    """The share of words with the right tag."""
    known = [tag for sentence in sentences for tag in sentence.tags]
    return Score("accuracy", {"accuracy": metrics.accuracy(known, [tag for tags in said for tag in tags])})


def entity_scores(sentences: Sequence[Sentence], said: list[list[str]]) -> Score:
    """F1, precision and recall of spans, lenient (conlleval's) and strict, and F1 of each kind that is there."""
    references = [sentence.tags for sentence in sentences]
    kinds = {parts_of_tag(tag)[1] for tags in references for tag in tags if tag != "O"}
    figures = span_figures(references, said)
    kept = {name: value for name, value in figures.items() if "/" not in name or name.split("/", 1)[1] in kinds}
    return Score("lenient_f1", kept)
