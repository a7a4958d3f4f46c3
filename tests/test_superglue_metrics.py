# SPDX-License-Identifier: Apache-2.0
"""SuperGLUE's metrics against scikit-learn and slow loops, ReCoRD's against SQuAD's script, the paper's means."""

import random
from collections import defaultdict

import pytest
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from pluri.benchmarks.text.examples import Choices, Example
from pluri.benchmarks.text.superglue.metrics import normalised, overlap, score, superglue_score
from pluri.benchmarks.text.superglue.predictions import write
from pluri.benchmarks.text.superglue.tasks import TASKS


def drawn(name, count, seed, labels=None):
    """Examples with random labels, and random predictions, of one task."""
    rng = random.Random(seed)
    labels = labels or TASKS[name].labels
    examples = [Example(str(i), "a", "b", rng.choice(labels), str(i // 3)) for i in range(count)]
    return examples, [rng.choice(labels) for _ in examples]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["boolq", "cb", "rte", "wic", "wsc", "axb"])
def test_metrics_of_classes_are_those_of_scikit_learn(name, seed):
    examples, said = drawn(name, 1 + 13 * seed, seed)
    known = [example.label for example in examples]
    figures = score(TASKS[name], examples, said)
    assert tuple(figures) == TASKS[name].metrics
    if name == "axb":
        assert figures["matthews"] == pytest.approx(matthews_corrcoef(known, said) if len(set(known)) > 1 else 0.0)
    else:
        assert figures["accuracy"] == accuracy_score(known, said)
    if name == "cb":
        labels = list(TASKS["cb"].labels)
        expected = f1_score(known, said, labels=labels, average="macro", zero_division=0.0)  # pyright: ignore
        assert figures["macro_f1"] == pytest.approx(expected)


def test_metrics_of_one_class_only_are_what_scikit_learn_has():
    one = [Example(str(i), "a", "b", "entailment") for i in range(4)]
    assert score(TASKS["axb"], one, ["entailment"] * 4) == {"matthews": 0.0}
    assert score(TASKS["cb"], one, ["entailment"] * 4) == {"accuracy": 1.0, "macro_f1": pytest.approx(1 / 3)}
    no = [Example(str(i), "a", "b", "0", "q") for i in range(4)]
    assert score(TASKS["multirc"], no, ["0"] * 4) == {"f1a": 0.0, "em": 1.0}


@pytest.mark.parametrize("seed", range(5))
def test_multirc_is_f1_over_answers_and_the_share_of_questions_all_right(seed):
    examples, said = drawn("multirc", 40, seed)
    questions = defaultdict(list)
    for example, one in zip(examples, said, strict=True):
        questions[example.group].append(example.label == one)
    right = 0
    for answers in questions.values():
        right += all(answers)
    expected = f1_score([e.label == "1" for e in examples], [one == "1" for one in said])
    assert score(TASKS["multirc"], examples, said) == {"f1a": pytest.approx(expected), "em": right / len(questions)}


@pytest.mark.parametrize("seed", range(5))
def test_gender_parity_is_the_share_of_pairs_answered_alike(seed):
    rng = random.Random(seed)
    examples = [Example(str(i), "p", "h", "entailment", str(i // 2)) for i in range(40)]
    said = [rng.choice(TASKS["axg"].labels) for _ in examples]
    same = 0
    for first in range(0, len(said), 2):
        same += said[first] == said[first + 1]
    assert score(TASKS["axg"], examples, said)["gender_parity"] == same / 20
    assert score(TASKS["axg"], examples, ["not_entailment"] * 40) == {"accuracy": 0.0, "gender_parity": 1.0}


@pytest.mark.parametrize(
    "text",
    [
        "The U.S.A.",
        "an apple, a day",
        "Ma'am -- THE  theatre\t",
        "«Éa» the\u00a0a",
        "a",
        "",
        "don't",
        "北京 the 大学。",
        "x\u202fy",
    ],
)
def test_normalised_words_are_those_of_the_squad_script(text):
    from transformers.data.metrics.squad_metrics import normalize_answer

    assert " ".join(normalised(text)) == normalize_answer(text)


def test_record_takes_the_best_over_the_right_names():
    names = ("The U.N.", "Kofi Annan", "Mr. Annan", "the")
    example = Choices("3", "p", names, 1, names=names, answers=("Kofi Annan", "Annan", "UN"))
    figures = [score(TASKS["record"], [example], [place]) for place in range(4)]
    assert figures[0] == {"f1": 1.0, "em": 1.0} and figures[1] == {"f1": 1.0, "em": 1.0}
    assert figures[2] == {"f1": pytest.approx(2 / 3), "em": 0.0} and figures[3] == {"f1": 0.0, "em": 0.0}
    assert score(TASKS["record"], [example] * 4, [0, 1, 2, 3]) == {"f1": pytest.approx(2 / 3), "em": 0.5}
    assert overlap(["a", "a", "b"], ["a", "a", "c"]) == pytest.approx(2 / 3) and overlap([], []) == 0.0


def test_predictions_that_do_not_fit_are_refused(tmp_path):
    examples, said = drawn("cb", 3, 0)
    with pytest.raises(ValueError, match="2 predictions for 3 examples"):
        score(TASKS["cb"], examples, said[:2])
    with pytest.raises(ValueError, match="there are no examples"):
        score(TASKS["cb"], [], [])
    with pytest.raises(ValueError, match="example 1: 'yes' is none of entailment"):
        write(TASKS["cb"], tmp_path, examples, [said[0], "yes", said[2]])
    with pytest.raises(ValueError, match="example 0: 2 is no place"):
        write(TASKS["copa"], tmp_path, [Choices("0", "p", ("a", "b"))], [2])
    with pytest.raises(ValueError, match="example 8: its label is hidden"):
        score(TASKS["cb"], [Example("8", "a", "b")], ["neutral"])
    with pytest.raises(ValueError, match="example 8: its answers are hidden"):
        score(TASKS["record"], [Choices("8", "a", ("b",), names=("b",))], [0])
    assert not list(tmp_path.iterdir())


# Wang et al. 2019, table 3, in percent: each row's printed mean is that of its cells
PUBLISHED = {
    47.1: ("62.3", "21.7/48.4", "50.0", "61.1/0.3", "33.4/32.5", "50.3", "50.0", "65.1"),
    69.0: ("77.4", "75.7/83.6", "70.6", "70.0/24.1", "72.0/71.3", "71.7", "69.6", "64.4"),
    71.5: ("79.0", "84.7/90.4", "73.8", "70.0/24.1", "72.0/71.3", "79.0", "69.6", "64.4"),
    89.8: ("89.0", "95.8/98.9", "100.0", "81.8/51.9", "91.7/91.3", "93.6", "80.0", "100.0"),
}


@pytest.mark.parametrize(("mean", "cells"), list(PUBLISHED.items()))
def test_the_score_reproduces_the_papers_rows(mean, cells):
    names = ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc")
    scores = {
        name: {metric: float(cell) for metric, cell in zip(TASKS[name].metrics, cell.split("/"), strict=True)}
        for name, cell in zip(names, cells, strict=True)
    }
    assert superglue_score({**scores, "axb": {"matthews": 0.0}}) == pytest.approx(mean, abs=0.0501)
    with pytest.raises(ValueError, match="copa missing"):
        superglue_score({name: figures for name, figures in scores.items() if name != "copa"})
