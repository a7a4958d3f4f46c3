# SPDX-License-Identifier: Apache-2.0
"""Named entities in columns as they are published; spans and their scores are seqeval's, lenient and strict."""

import os
import random
import warnings
from pathlib import Path

import pytest

from pluri.benchmarks.text.tagging.bio import (
    Span,
    lenient_scores,
    lenient_spans,
    read_ner,
    span_figures,
    strict_scores,
    strict_spans,
    to_iob2,
)
from pluri.benchmarks.text.tagging.words import Sentence

# As in CoNLL-2003: four columns, IOB1, a line before each document.
CONLL = """\ufeff-DOCSTART- -X- -X- O

EU NNP I-NP I-ORG
rejects VBZ I-VP O
München NNP I-NP I-LOC
Berlin NNP I-NP B-LOC
Mitte NNP I-NP I-LOC

-DOCSTART- -X- O O
Peter NNP I-NP I-PER
Blackburn NNP I-NP I-PER
"""


def draw(generator, prefixes, longest=9):
    """Sentences of random tags, most of them malformed; some empty, some without entities."""

    def tag():
        prefix = generator.choice(prefixes)
        return prefix if prefix == "O" else f"{prefix}-{generator.choice(('PER', 'LOC', 'creative-work'))}"

    return [[tag() for _ in range(generator.randint(0, longest))] for _ in range(generator.randint(1, 5))]


def disturb(generator, sentences, prefixes):
    """The same with some tags drawn anew, so that a part of the spans is right."""
    fresh = iter([tag for _ in range(99) for tags in draw(generator, prefixes) for tag in tags])
    return [[next(fresh) if generator.random() < 0.25 else tag for tag in tags] for tags in sentences]


def test_four_columns_with_documents_are_read_and_converted_from_iob1(tmp_path):
    path = tmp_path / "eng.testa"
    path.write_bytes(CONLL.replace("\n", "\r\n").encode())
    first = ["EU", "rejects", "München", "Berlin", "Mitte"]
    assert read_ner(path) == [
        Sentence(first, ["B-ORG", "O", "B-LOC", "B-LOC", "I-LOC"]),
        Sentence(["Peter", "Blackburn"], ["B-PER", "I-PER"]),
    ]
    assert read_ner(path, "as_written")[0].tags == ["I-ORG", "O", "I-LOC", "B-LOC", "I-LOC"]


def test_two_columns_with_tabs_may_have_a_tab_in_empty_lines_and_spaces_in_words(tmp_path):
    path = tmp_path / "wnut.conll"
    path.write_text(
        "\n#\tO\nNew York\tB-location\n\u3000\tO\n\t\n\n \n's\tB-creative-work\n-\tI-creative-work", "utf-8"
    )
    assert read_ner(path) == [
        Sentence(["#", "New York", "\u3000"], ["O", "B-location", "O"]),
        Sentence(["'s", "-"], ["B-creative-work", "I-creative-work"]),
    ]


def test_several_spaces_are_one_and_iobes_is_converted(tmp_path):
    path = tmp_path / "iobes.txt"
    path.write_text("a  x S-LOC\nb x   B-PER \nc x I-PER\nd x E-PER\ne x E-PER\nf x O\n")
    tags = ["B-LOC", "B-PER", "I-PER", "I-PER", "B-PER", "O"]
    assert read_ner(path) == [Sentence(list("abcdef"), tags)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("EU NNP O\nrejects O\n", "line 2: 2 columns, and 3 in the first line"),
        ("EU\tO\nrejects\tVBZ\tO\n", "line 2: 3 columns, and 2"),
        ("EU\tO\nrejects O\n", "line 2: one column"),
        ("EU\nrejects\n", "line 1: one column"),
        ("EU\tO\n\tO\n", "line 2: the first column.* is empty"),
        ("EU O\n\nBonn X-PER\n", "line 3: no tag is called 'X-PER': there are O and B-"),
        ("EU NNP\n", "line 1: no tag is called 'NNP'"),
        ("EU B-\n", "line 1: no tag is called 'B-'"),
        ("EU O-PER\n", "line 1: no tag is called 'O-PER'"),
        ("", "holds no sentence"),
        ("-DOCSTART- -X- O O\n\n\t\n", "holds no sentence"),
    ],
)
def test_a_file_of_another_form_is_refused_by_name_and_line(text, words, tmp_path):
    path = tmp_path / "broken.conll"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^.*broken.conll,? {words}.*$"):
        read_ner(path)


def test_bytes_that_are_no_text_are_refused_by_name_and_line(tmp_path):
    path = tmp_path / "latin.conll"
    path.write_bytes(b"EU O\nM\xfcnchen B-LOC\n")
    with pytest.raises(ValueError, match="latin.conll, line 2: not UTF-8"):
        read_ner(path)


@pytest.mark.parametrize(
    ("tags", "lenient", "strict"),
    [
        ("", [], []),
        ("O O", [], []),
        ("B-X I-X I-X O B-X", [("X", 0, 3), ("X", 4, 5)], [("X", 0, 3), ("X", 4, 5)]),
        ("B-X B-X I-X", [("X", 0, 1), ("X", 1, 3)], [("X", 0, 1), ("X", 1, 3)]),
        ("O I-X I-X", [("X", 1, 3)], []),  # an I- after O, as IOB1 writes it
        ("I-X B-X", [("X", 0, 1), ("X", 1, 2)], [("X", 1, 2)]),
        ("B-X I-Y I-Y", [("X", 0, 1), ("Y", 1, 3)], [("X", 0, 1)]),
        ("B-X I-Y I-X", [("X", 0, 1), ("Y", 1, 2), ("X", 2, 3)], [("X", 0, 1)]),
        ("B-X O I-X", [("X", 0, 1), ("X", 2, 3)], [("X", 0, 1)]),
        ("B-a-b I-a-b I-a", [("a-b", 0, 2), ("a", 2, 3)], [("a-b", 0, 2)]),
        ("B I O I", [("_", 0, 2), ("_", 3, 4)], [("_", 0, 2)]),
        ("S-X E-X B-X E-X I-X", [("X", 0, 1), ("X", 1, 2), ("X", 2, 4), ("X", 4, 5)], None),
    ],
)
def test_spans_are_those_that_conlleval_and_strict_iob2_find(tags, lenient, strict):
    found = tags.split()
    assert lenient_spans(found) == [Span(*span) for span in lenient]
    assert lenient_spans(to_iob2(found)) == strict_spans(to_iob2(found)) == lenient_spans(found)
    if strict is None:
        with pytest.raises(ValueError, match="S-X is no tag of IOB2"):
            strict_spans(found)
    else:
        assert strict_spans(found) == [Span(*span) for span in strict]


def test_scores_of_a_small_case_are_those_that_conlleval_prints():
    # conlleval, version of 2004-01-26: 5 phrases; found: 5; correct: 3. FB1: LOC 80.00, ORG 0.00, PER 66.67.
    references = [["B-PER", "I-PER", "O", "B-LOC"], ["I-LOC", "O", "B-ORG", "I-ORG", "B-PER"]]
    predictions = [["I-PER", "I-PER", "O", "B-LOC"], ["I-LOC", "O", "B-ORG", "I-LOC", "O"]]
    precision, recall, f1, f1_of = lenient_scores(references, predictions)
    assert (precision, recall) == (0.6, 0.6) and f1 == pytest.approx(0.6)
    assert f1_of == pytest.approx({"LOC": 0.8, "ORG": 0.0, "PER": 2 / 3})
    found = span_figures(references, predictions)
    assert found["lenient_f1"] == f1 and found["lenient_f1/LOC"] == f1_of["LOC"]
    assert found["strict_f1"] == strict_scores(references, predictions).f1 < f1


def test_where_nothing_is_to_be_found_or_nothing_is_found_scores_are_zero():
    for references, predictions in (
        ([], []),
        ([[]], [[]]),
        ([["O", "O"]], [["O", "O"]]),
        ([["B-X"]], [["O"]]),
        ([["O"]], [["B-X"]]),
    ):
        for scores in (lenient_scores(references, predictions), strict_scores(references, predictions)):
            assert scores[:3] == (0.0, 0.0, 0.0)
            assert set(scores.f1_of.values()) <= {0.0}


def test_references_and_predictions_of_unlike_lengths_are_refused():
    with pytest.raises(ValueError, match="2 sentences have references and 1"):
        lenient_scores([["O"], ["O"]], [["O"]])
    with pytest.raises(ValueError, match="sentence 2 has 1 tags and 2 predicted"):
        strict_scores([["O"], ["O"]], [["O"], ["O", "O"]])


def ask(function, *arguments, **settings):
    """What seqeval says, without its warnings of divisions by zero."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments, zero_division=0, **settings)


@pytest.mark.parametrize("prefixes", ["OIB", "OOOIB", "OIBES", "IB"])
def test_spans_and_scores_of_random_tags_equal_seqevals(prefixes):
    labeling = pytest.importorskip("seqeval.metrics.sequence_labeling")
    scheme = pytest.importorskip("seqeval.scheme")
    generator = random.Random(prefixes)
    for _ in range(600):
        references = draw(generator, prefixes)
        predictions = disturb(generator, references, prefixes)
        for tags in references:
            assert lenient_spans(tags) == [Span(k, i, j + 1) for k, i, j in labeling.get_entities(tags)]
        names = sorted({span.kind for tags in references + predictions for span in lenient_spans(tags)})
        found = lenient_scores(references, predictions)
        summed = ask(labeling.precision_recall_fscore_support, references, predictions, average="micro")
        each = ask(labeling.precision_recall_fscore_support, references, predictions, average=None)
        assert found[:3] == pytest.approx(summed[:3], abs=1e-12)
        assert found.f1_of == pytest.approx(dict(zip(names, each[2], strict=True)), abs=1e-12)
        if prefixes == "OIBES":
            continue
        entities = [scheme.Tokens(tags, scheme=scheme.IOB2).entities if tags else [] for tags in references]
        assert [strict_spans(tags) for tags in references] == [
            [Span(e.tag, e.start, e.end) for e in x] for x in entities
        ]
        settings = dict(mode="strict", scheme=scheme.IOB2)
        strict = strict_scores(references, predictions)
        for score, function in zip(
            strict, (labeling.precision_score, labeling.recall_score, labeling.f1_score), strict=False
        ):
            assert score == pytest.approx(ask(function, references, predictions, **settings), abs=1e-12)
        each = ask(labeling.f1_score, references, predictions, average=None, **settings)
        assert list(strict.f1_of.values()) == pytest.approx(list(each), abs=1e-12)


def trial(name):
    root = os.environ.get("PLURI_TRIAL_DATA")
    folder = Path(root or "", "text", name)
    if not root or not folder.is_dir():
        pytest.skip(f"no {name}")
    return folder


def test_wnut_17_is_read_whole():
    folder = trial("wnut17")
    sizes = {"wnut17train.conll": 3394, "emerging.dev.conll": 1009, "emerging.test.annotated": 1287}
    for name, size in sizes.items():
        found, lines = read_ner(folder / name), (folder / name).read_text(encoding="utf-8").split("\n")
        assert len(found) == size
        tags = [tag for sentence in found for tag in sentence.tags]
        assert tags == [line.split("\t")[-1] for line in lines if line.strip()]
        gold = [sentence.tags for sentence in found]
        entities = sum(tag.startswith("B-") for tag in tags)
        assert sum(len(lenient_spans(tags)) for tags in gold) == sum(len(strict_spans(tags)) for tags in gold)
        assert sum(len(lenient_spans(tags)) for tags in gold) == entities
        assert lenient_scores(gold, gold).f1 == strict_scores(gold, gold).f1 == 1.0


def test_a_treebank_is_no_file_of_entities():
    with pytest.raises(ValueError, match="line 1: .*column|line 1: no tag"):
        read_ner(trial("UD_English-EWT") / "en_ewt-ud-dev.conllu")
