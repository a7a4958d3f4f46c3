# SPDX-License-Identifier: Apache-2.0
"""SuperGLUE: official rows to texts, bad files, and the leaderboard's files."""

import json

import pytest

from pluri.benchmarks.finetune import MissingFiles
from pluri.benchmarks.text.examples import Choices, Example
from pluri.benchmarks.text.superglue.metrics import score
from pluri.benchmarks.text.superglue.predictions import read_predictions, write
from pluri.benchmarks.text.superglue.tasks import TASKS, read

PASSAGE = "Ann Lee met the Bank of Oslo.\n@highlight\nOslo — naïve?"
ROWS = {
    "boolq": [{"question": "is it so", "passage": "It is.", "idx": 4, "label": True}],
    "cb": [{"premise": "p", "hypothesis": "h", "label": "neutral", "idx": 7}],
    "copa": [
        {"premise": "I fell.", "choice1": "Ice.", "choice2": "Sun.", "question": "cause", "label": 0, "idx": 0},
        {"premise": "I fell.", "choice1": "Joy.", "choice2": "Pain.", "question": "effect", "label": 1, "idx": 1},
    ],
    "multirc": [
        {
            "idx": 3,
            "passage": {
                "text": "Long text.",
                "questions": [
                    {
                        "question": "Who?",
                        "idx": 9,
                        "answers": [{"text": "He", "idx": 20, "label": 1}, {"text": "She", "idx": 21, "label": 0}],
                    },
                    {"question": "Where?", "idx": 10, "answers": [{"text": "Here", "idx": 22, "label": 0}]},
                ],
            },
        }
    ],
    "record": [
        {
            "idx": 0,
            "passage": {
                "text": PASSAGE,
                "entities": [{"start": 0, "end": 6}, {"start": 24, "end": 27}, {"start": 41, "end": 44}],
            },
            "qas": [
                {
                    "idx": 5,
                    "query": "It is in @placeholder, near @placeholder",
                    "answers": [{"start": 24, "end": 27, "text": "Oslo"}, {"start": 41, "end": 44, "text": "Oslo"}],
                }
            ],
        }
    ],
    "rte": [{"premise": "p", "hypothesis": "h", "label": "not_entailment", "idx": 1}],
    "wic": [
        {
            "word": "place",
            "sentence1": "Do you want to come over to my place later?",
            "sentence2": "A political system with no place for the less prominent groups.",
            "idx": 0,
            "label": False,
            "start1": 31,
            "start2": 27,
            "end1": 36,
            "end2": 32,
        }
    ],
    "wsc": [
        {
            "text": "Mark told  Pete many lies, which he believed.",
            "target": {"span1_text": "Mark", "span2_text": "he", "span1_index": 0, "span2_index": 6},
            "idx": 2,
            "label": True,
        }
    ],
    "axb": [{"sentence1": "a", "sentence2": "b", "idx": 0, "label": "entailment", "logic": "Negation"}],
    "axg": [
        {"premise": f"p {who}", "hypothesis": f"h{pair}", "label": "entailment", "pair_id": 2 * pair + place, "idx": 0}
        for pair in range(2)
        for place, who in enumerate(("he", "she"))
    ],
}


def tree(root, name, rows, split="dev"):
    task = TASKS[name]
    split = "test" if name.startswith("ax") else split
    folder = root / task.folders[0]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / task.files[split][0]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return task, root, split


def hidden(value):
    """Rows as the test files have them."""
    if isinstance(value, dict):
        return {name: hidden(one) for name, one in value.items() if name != "label" and not _golds(name, one)}
    return [hidden(one) for one in value] if isinstance(value, list) else value


def _golds(name, value):
    return name == "answers" and "start" in value[0]


def test_plain_pairs_are_read_in_the_order_of_jiant(tmp_path):
    assert read(*tree(tmp_path, "boolq", ROWS["boolq"])).examples == [Example("4", "It is.", "is it so", "true")]
    assert read(*tree(tmp_path, "cb", ROWS["cb"])).examples == [Example("7", "p", "h", "neutral")]
    assert read(*tree(tmp_path, "rte", ROWS["rte"])).examples == [Example("1", "p", "h", "not_entailment")]
    assert read(*tree(tmp_path, "axb", ROWS["axb"])).examples == [Example("0", "a", "b", "entailment")]


def test_copa_asks_its_question_in_words(tmp_path):
    cause, effect = read(*tree(tmp_path, "copa", ROWS["copa"])).examples
    assert cause == Choices("0", "I fell.", ("What was the cause of this? Ice.", "What was the cause of this? Sun."), 0)
    assert (
        isinstance(effect, Choices) and effect.candidates[1] == "What happened as a result? Pain." and effect.label == 1
    )


def test_multirc_groups_answers_by_their_question(tmp_path):
    examples = read(*tree(tmp_path, "multirc", ROWS["multirc"])).examples
    assert examples[1] == Example("3-9-21", "Long text.", "Who? She", "0", "3-9")
    assert [example.group for example in examples] == ["3-9", "3-9", "3-10"]


def test_record_fills_each_entity_once_into_every_placeholder(tmp_path):
    (example,) = read(*tree(tmp_path, "record", ROWS["record"])).examples
    assert isinstance(example, Choices) and example.names == ("Ann Lee", "Oslo")
    assert example.label == 1 and example.answers == ("Oslo",)
    assert example.candidates[0] == "It is in Ann Lee, near Ann Lee" and example.first == PASSAGE


def test_wic_has_its_word_before_the_first_sentence(tmp_path):
    (example,) = read(*tree(tmp_path, "wic", ROWS["wic"])).examples
    assert example.first == "place: Do you want to come over to my place later?" and example.label == "false"


@pytest.mark.parametrize(
    ("text", "spans", "marked"),
    [
        (
            "Mark told  Pete lies, which he believed.",
            ("Mark", 0, "he", 5),
            "* Mark * told  Pete lies, which # he # believed.",
        ),
        ("It fell on the old\nman.", ("the old man", 3, "It", 0), "# It # fell on * the old\nman. *"),
        ("Tom's dog saw him.", ("Tom", 0, "him", 3), "* Tom *'s dog saw # him #."),
    ],
)
def test_wsc_marks_both_spans_as_t5_does(tmp_path, text, spans, marked):
    target = dict(zip(("span1_text", "span1_index", "span2_text", "span2_index"), spans, strict=True))
    (example,) = read(*tree(tmp_path, "wsc", [{"text": text, "target": target, "idx": 0, "label": True}])).examples
    assert example.first == marked and example.label == "True"


def test_neighbours_of_axg_are_pairs_whatever_their_pair_id(tmp_path):
    examples = read(*tree(tmp_path, "axg", ROWS["axg"])).examples
    assert [example.group for example in examples] == ["0", "0", "1", "1"]


def test_neighbours_of_axg_with_other_hypotheses_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"AX-g.jsonl, line 2: the hypothesis"):
        read(*tree(tmp_path, "axg", ROWS["axg"][1:]))
    with pytest.raises(ValueError, match="holds 1 sentences"):
        read(*tree(tmp_path, "axg", ROWS["axg"][:1]))


@pytest.mark.parametrize("name", TASKS)
def test_hidden_labels_are_none_in_test_and_an_error_elsewhere(tmp_path, name):
    rows = hidden(ROWS[name])
    assert all(example.label is None for example in read(*tree(tmp_path, name, rows, "test")).examples)
    if not name.startswith("ax"):
        with pytest.raises(ValueError, match=r"val.jsonl, line 1: no (label|answers)"):
            read(*tree(tmp_path, name, rows))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"premise": "p"', r"val.jsonl, line 1: not JSON"),
        ("[1]\n", r"val.jsonl, line 1: not a JSON object"),
        ('\n{"hypothesis": "h", "idx": 0, "label": "neutral"}', r"line 2: no premise, only hypothesis, idx, label"),
        ('{"premise": 1, "hypothesis": "h", "idx": 0, "label": "neutral"}', r"line 1: premise is '1', not a text"),
        ('{"premise": "p", "hypothesis": "h", "idx": "x", "label": "neutral"}', r"line 1: idx is 'x', not a whole"),
        ('{"premise": "p", "hypothesis": "h", "idx": 0, "label": "Neutral"}', r"line 1: label 'Neutral' is none of"),
        ('{"premise": "p", "hypothesis": "h", "idx": 0, "label": 2}', r"line 1: label '2' is none of entailment, "),
        ("\n", r"val.jsonl holds no examples"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, text, message):
    task, root, split = tree(tmp_path, "cb", [])
    (root / "CB" / "val.jsonl").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read(task, root, split)
    assert "\n" not in str(error.value)


def test_another_encoding_is_named_with_its_line(tmp_path):
    task, root, split = tree(tmp_path, "cb", ROWS["cb"])
    path = root / "CB" / "val.jsonl"
    path.write_bytes(path.read_bytes() + '{"premise": "caf\u00e9"}'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"val.jsonl, line 2: not UTF-8"):
        read(task, root, split)


def test_bad_rows_of_the_nested_tasks_are_named(tmp_path):
    bad = json.loads(json.dumps(ROWS["multirc"]))
    bad[0]["passage"]["questions"][0]["answers"][1]["label"] = 2
    with pytest.raises(ValueError, match="line 1: label '2' is none of 0, 1"):
        read(*tree(tmp_path, "multirc", bad))
    with pytest.raises(ValueError, match="line 1: passage is 'x', not an object"):
        read(*tree(tmp_path, "multirc", [{"idx": 0, "passage": "x"}]))
    bad = json.loads(json.dumps(ROWS["record"]))
    bad[0]["passage"]["entities"][0]["end"] = 99
    with pytest.raises(ValueError, match="line 1: the entity from 0 to 99 is not in the passage of 54"):
        read(*tree(tmp_path, "record", bad))
    bad = [{**ROWS["wsc"][0], "target": {**ROWS["wsc"][0]["target"], "span2_index": 50}}]
    with pytest.raises(ValueError, match="line 1: span2 is words 50 to 50 of a text of 8"):
        read(*tree(tmp_path, "wsc", bad))
    with pytest.raises(ValueError, match="line 1: question 'why' is none of cause, effect"):
        read(*tree(tmp_path, "copa", [{**ROWS["copa"][0], "question": "why"}]))


def test_missing_files_and_splits_say_what_there_should_be(tmp_path):
    with pytest.raises(MissingFiles, match=r"has no AX-b or RTE/diagnostics with AX-b.jsonl"):
        read(TASKS["axb"], tmp_path, "test")
    with pytest.raises(ValueError, match="axb has no split train, only test"):
        read(TASKS["axb"], tmp_path, "train")


OFFICIAL = {
    "boolq": '{"idx": 4, "label": "true"}\n',
    "cb": '{"idx": 7, "label": "neutral"}\n',
    "copa": '{"idx": 0, "label": 0}\n{"idx": 1, "label": 1}\n',
    "multirc": '{"idx": 3, "passage": {"questions": [{"idx": 9, "answers": [{"idx": 20, "label": 1}, '
    '{"idx": 21, "label": 0}]}, {"idx": 10, "answers": [{"idx": 22, "label": 0}]}]}}\n',
    "record": '{"idx": 5, "label": "Oslo"}\n',
    "rte": '{"idx": 1, "label": "not_entailment"}\n',
    "wic": '{"idx": 0, "label": "false"}\n',
    "wsc": '{"idx": 2, "label": "True"}\n',
    "axb": '{"idx": 0, "label": "entailment"}\n',
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_files_are_written_in_the_official_form_and_read_back(tmp_path, name):
    examples = read(*tree(tmp_path, name, ROWS[name])).examples
    right = [example.label for example in examples if example.label is not None]
    path = write(TASKS[name], tmp_path / "out", examples, right)
    assert path.name == f"{TASKS[name].folders[0]}.jsonl"
    assert path.read_text(encoding="utf-8") == OFFICIAL[name]
    assert read_predictions(TASKS[name], path, examples) == right
    assert set(score(TASKS[name], examples, read_predictions(TASKS[name], path, examples)).values()) <= {
        0.0,
        1.0,
        1 / 3,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"idx": 0, "label": 0}\n', "lacks 1 of copa's examples, the first is 1"),
        ('{"idx": 0, "label": 0}\n{"idx": 0, "label": 1}\n', "line 2: 0 is there twice of copa"),
        ('{"idx": 9, "label": 0}\n', "line 1: 9 is no example of copa"),
        ('{"idx": 0, "label": 2}\n{"idx": 1, "label": 1}\n', "line 1: label '2' is none of copa's 0, 1"),
        ('{"idx": 0, "label": true}\n{"idx": 1, "label": 1}\n', "line 1: label is True, not a whole number"),
        ('{"idx": 0}\n{"idx": 1, "label": 1}\n', "line 1: no label, only idx"),
    ],
)
def test_a_bad_prediction_file_is_named_with_its_line(tmp_path, text, message):
    examples = read(*tree(tmp_path, "copa", ROWS["copa"])).examples
    path = tmp_path / "COPA.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_predictions(TASKS["copa"], path, examples)
