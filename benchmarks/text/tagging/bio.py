# SPDX-License-Identifier: Apache-2.0
"""Named entities: files in columns, the spans that their tags mark, and precision, recall and F1 of spans.

Spans are read in one of two ways, and every name here says in which. Lenient: as conlleval, the scorer of CoNLL-2000
to 2003, does (Tjong Kim Sang and De Meulder 2003, arXiv:cs/0306050) and seqeval by default; a tag that cannot stand
where it stands still begins a span. Strict: only B- begins a span (seqeval with mode="strict", scheme=IOB2).
Published F1 of CoNLL-2003 is lenient; of well-formed IOB2 both are the same.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from ....ssl.tables import text_of
from .words import Sentence

DOCUMENT = "-DOCSTART-"  # the word of CoNLL-2003's lines between documents


class Span(NamedTuple):
    """An entity: the words from `start` up to and without `stop`."""

    kind: str
    start: int
    stop: int


Spans = Callable[[Sequence[str]], list[Span]]


class SpanScores(NamedTuple):
    """Of all spans of all sentences together (micro); 0.0 where there is nothing to divide by."""

    precision: float
    recall: float
    f1: float
    f1_of: dict[str, float]  # of each kind of entity in the references or the predictions


def read_ner(path: Path, tags: Literal["iob2", "as_written"] = "iob2") -> list[Sentence]:
    """The sentences of a file with a word a line, its tag in the last column, and empty lines between sentences.

    Columns are separated by tabs if the first line with a word has any (WNUT-17), otherwise by spaces (CoNLL-2003).
    Tags are those of IOB1, IOB2 (BIO) or IOBES.

    Args:
        tags: "iob2": in this scheme, whichever the file is in (see `to_iob2`).
    Raises: ValueError, with the line, for a file of another form.
    """
    found = [Sentence([], [])]
    separator, width = " ", 0
    for number, line in enumerate(text_of(path).split("\n"), start=1):
        line = line.rstrip("\r")
        if not line.strip() or line.split()[0] == DOCUMENT:
            found.append(Sentence([], []))
            continue
        if not width:
            separator = "\t" if "\t" in line else " "
        columns = [column for column in line.split(separator) if column or separator == "\t"]
        width = width or len(columns)
        try:
            word, tag = _word_and_tag(columns, width)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        found[-1].words.append(word)
        found[-1].tags.append(tag)
    sentences = [sentence for sentence in found if sentence.words]
    if not sentences:
        raise ValueError(f"{path} holds no sentence: it needs lines with a word and, in the last column, its tag")
    if tags == "as_written":
        return sentences
    return [Sentence(sentence.words, to_iob2(sentence.tags)) for sentence in sentences]


def _word_and_tag(columns: list[str], width: int) -> tuple[str, str]:
    """The first and the last of a line's columns. Raises ValueError, which says what is wrong with them."""
    if len(columns) < 2:
        raise ValueError("one column only: a word and, in the last column, its tag are needed")
    if len(columns) != width:
        raise ValueError(f"{len(columns)} columns, and {width} in the first line")
    word, tag = columns[0], columns[-1]
    if not word:
        raise ValueError("the first column, which holds the word, is empty")
    parts(tag)
    return word, tag


def parts(tag: str) -> tuple[str, str]:
    """A tag's prefix and its kind of entity: ("O", ""), or one of B, I, E, S and a kind, "_" where none is named.

    Raises: ValueError for another tag.
    """
    if tag == "O":
        return "O", ""
    prefix, dash, kind = tag.partition("-")
    if prefix not in ("B", "I", "E", "S") or bool(dash) != bool(kind):
        raise ValueError(f"no tag is called {tag!r}: there are O and B-, I-, E- or S- with a kind, such as B-PER")
    return prefix, kind or "_"


def lenient_spans(tags: Sequence[str]) -> list[Span]:
    """The spans as conlleval, and seqeval by default, reads them: every tag but O lies in one.

    A span begins at B- and S-, and at I- and E- after O, after E- and S-, or after another kind. So IOB1, IOB2 and
    IOBES need not be told apart.
    """
    found: list[Span] = []
    before, last = "O", ""
    for place, tag in enumerate(tags):
        prefix, kind = parts(tag)
        if prefix in ("B", "S") or (prefix != "O" and (before in ("O", "E", "S") or kind != last)):
            found.append(Span(kind, place, place + 1))
        elif prefix != "O":
            found[-1] = found[-1]._replace(stop=place + 1)
        before, last = prefix, kind
    return found


def strict_spans(tags: Sequence[str]) -> list[Span]:
    """The spans of IOB2 alone, as seqeval with mode="strict" and scheme=IOB2: B-X and the I-X that follow it.

    An I- that follows nothing of its kind lies in no span. Raises ValueError for the tags of IOBES.
    """
    found: list[Span] = []
    inside = ""  # the kind of the span that the word before lies in
    for place, tag in enumerate(tags):
        prefix, kind = parts(tag)
        if prefix in ("E", "S"):
            raise ValueError(f"{tag} is no tag of IOB2, of which strict spans are: convert with to_iob2")
        if prefix == "B":
            found.append(Span(kind, place, place + 1))
        elif prefix == "I" and kind == inside:
            found[-1] = found[-1]._replace(stop=place + 1)
        else:
            kind = ""
        inside = kind
    return found


def to_iob2(tags: Sequence[str]) -> list[str]:
    """A sentence's tags of IOB1, IOB2 or IOBES in IOB2. Lenient spans stay as they are, and strict ones become them."""
    out = ["O"] * len(tags)
    for kind, start, stop in lenient_spans(tags):
        out[start:stop] = [f"B-{kind}", *[f"I-{kind}"] * (stop - start - 1)]
    return out


def lenient_scores(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> SpanScores:
    """Scores of `lenient_spans`: conlleval's, and seqeval's default. Arguments: the tags of each sentence.

    Raises: ValueError if they are not equally many.
    """
    return _scores(references, predictions, lenient_spans)


def strict_scores(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> SpanScores:
    """Scores of `strict_spans`: seqeval's with mode="strict" and scheme=IOB2. Arguments: the tags of each sentence.

    Raises: ValueError if they are not equally many, or not of IOB2.
    """
    return _scores(references, predictions, strict_spans)


def span_figures(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> dict[str, float]:
    """Both ways' scores under names that say which: lenient_f1, strict_f1, lenient_precision, lenient_f1/PER ..."""
    out: dict[str, float] = {}
    ways = {"lenient": lenient_scores(references, predictions), "strict": strict_scores(references, predictions)}
    for way, scores in ways.items():
        out |= {f"{way}_f1": scores.f1, f"{way}_precision": scores.precision, f"{way}_recall": scores.recall}
        out |= {f"{way}_f1/{kind}": f1 for kind, f1 in scores.f1_of.items()}
    return out


def _scores(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]], spans: Spans) -> SpanScores:
    if len(references) != len(predictions):
        raise ValueError(f"{len(references)} sentences have references and {len(predictions)} predictions")
    right: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    given: Counter[str] = Counter()
    for number, (reference, prediction) in enumerate(zip(references, predictions, strict=True), start=1):
        if len(reference) != len(prediction):
            raise ValueError(f"sentence {number} has {len(reference)} tags and {len(prediction)} predicted ones")
        theirs, ours = set(spans(reference)), set(spans(prediction))
        wanted.update(span.kind for span in theirs)
        given.update(span.kind for span in ours)
        right.update(span.kind for span in theirs & ours)
    f1_of = {kind: _rates(right[kind], given[kind], wanted[kind])[2] for kind in sorted(wanted | given)}
    return SpanScores(*_rates(right.total(), given.total(), wanted.total()), f1_of)


def _rates(right: int, given: int, wanted: int) -> tuple[float, float, float]:
    """Precision, recall and F1."""
    return right / max(1, given), right / max(1, wanted), 2 * right / max(1, given + wanted)
