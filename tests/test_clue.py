# SPDX-License-Identifier: Apache-2.0
"""CLUE and FewCLUE: official rows to texts, the published averages, the leaderboard's files, and the real ones."""

import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest
from sklearn.metrics import accuracy_score

from pluri.benchmarks.finetune import MissingFiles
from pluri.benchmarks.text.clue.predictions import AVERAGES, average, read_predictions, score, write
from pluri.benchmarks.text.clue.tasks import TASKS, read
from pluri.benchmarks.text.examples import Choices, Example

DATA = os.environ.get("PLURI_TRIAL_DATA")
WSC = {
    "target": {"span2_index": 37, "span1_index": 5, "span1_text": "床", "span2_text": "它"},
    "idx": 261,
    "label": "false",
    "text": "这时候放在床上枕头旁边的手机响了，我感到奇怪，因为欠费已被停机两个月，现在它突然响了。",
}
ROWS = {
    "afqmc": [{"sentence1": "双十一花呗提额在哪", "sentence2": "里可以提花呗额度", "label": "0"}],
    "tnews": [{"label": "102", "label_desc": "news_entertainment", "sentence": "江疏影自拍", "keywords": ""}],
    "iflytek": [{"label": "110", "label_des": "社区超市", "sentence": "朴朴快送超市"}],
    "cmnli": [
        {"sentence1": "a", "sentence2": "b", "label": "-"},
        {"sentence1": "新的权利", "sentence2": "最新的福利", "label": "neutral"},
    ],
    "ocnli": [{"level": "easy", "sentence1": "甲", "sentence2": "乙", "label": "entailment", "id": 12845}],
    "csl": [{"id": 1, "abst": "为解决问题", "keyword": ["水声学", "FFT"], "label": "1"}],
    "cluewsc2020": [WSC],
    "bustm": [{"id": 5, "sentence1": "女孩子", "sentence2": "你不是", "label": "1"}],
    "eprstmt": [{"id": 23, "sentence": "外包装上有点磨损", "label": "Positive"}],
    "fewclue_tnews": [{"label": 104, "label_desc": "news_finance", "sentence": "股", "keywords": "", "id": 3}],
}
TEXTS = {
    "afqmc": ("双十一花呗提额在哪", "里可以提花呗额度", "0"),
    "tnews": ("江疏影自拍", None, "102"),
    "iflytek": ("朴朴快送超市", None, "110"),
    "cmnli": ("新的权利", "最新的福利", "neutral"),
    "ocnli": ("甲", "乙", "entailment"),
    "csl": ("水声学 FFT", "为解决问题", "1"),
    "cluewsc2020": (
        "这时候放在_床_上枕头旁边的手机响了，我感到奇怪，因为欠费已被停机两个月，现在[它]突然响了。",
        None,
        "false",
    ),
    "bustm": ("女孩子", "你不是", "1"),
    "eprstmt": ("外包装上有点磨损", None, "Positive"),
    "fewclue_tnews": ("股", None, "104"),
}


def put(root, name, file, text):
    path = root / TASKS[name].folders[0] / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def tree(root, name, rows, split="dev"):
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    put(root, name, TASKS[name].files[split][0], lines)
    return TASKS[name], root, split


@pytest.mark.parametrize("name", TEXTS)
def test_rows_become_the_texts_of_the_baselines(tmp_path, name):
    reading = read(*tree(tmp_path, name, ROWS[name]))
    undecided = int(name == "cmnli")
    assert reading.examples == [Example(str(undecided), *TEXTS[name])] and reading.dropped == undecided


@pytest.mark.parametrize("name", TEXTS)
def test_hidden_labels_are_none_in_test_and_an_error_elsewhere(tmp_path, name):
    rows = [{key: value for key, value in row.items() if key != "label"} for row in ROWS[name]]
    assert all(example.label is None for example in read(*tree(tmp_path, name, rows, "test")).examples)
    with pytest.raises(ValueError, match=r"dev.*json, line 1: no label, only"):
        read(*tree(tmp_path, name, rows))


def test_undecided_rows_of_a_test_file_are_answered_as_all_others(tmp_path):
    reading = read(*tree(tmp_path, "cmnli", ROWS["cmnli"], "test"))
    assert reading.examples[0] == Example("0", "a", "b", None) and len(reading.examples) == 2 and not reading.dropped
    path = write(TASKS["cmnli"], tmp_path / "out", reading.examples, ["neutral", "entailment"])
    assert path.read_text() == '{"id": 0, "label": "neutral"}\n{"id": 1, "label": "entailment"}\n'


@pytest.mark.parametrize("seed", range(20))
def test_cluewsc_marks_spans_wherever_they_stand(tmp_path, seed):
    rng = random.Random(seed)
    text = "".join(rng.choice("他我它床的，") for _ in range(12))
    a, b, c, d = sorted(rng.sample(range(13), 4))
    spans = [(a, b), (c if seed % 3 else b, d)]
    rng.shuffle(spans)
    slow = ""
    for place, character in enumerate(text + "\n"):
        slow += ("_" if place == spans[0][1] else "") + ("]" if place == spans[1][1] else "")
        slow += ("_" if place == spans[0][0] else "") + ("[" if place == spans[1][0] else "") + character
    target = {
        f"span{n}_{key}": value
        for n, (i, j) in enumerate(spans, 1)
        for key, value in (("text", text[i:j]), ("index", i))
    }
    (example,) = read(*tree(tmp_path, "cluewsc2020", [{"text": text, "target": target, "label": "true"}])).examples
    assert example.first == slow[:-1]


def test_a_span_that_does_not_stand_at_its_place_is_named(tmp_path):
    row = {**WSC, "target": {**WSC["target"], "span1_index": 6}}
    with pytest.raises(ValueError, match="line 1: span1 is '床', which does not stand at character 6"):
        read(*tree(tmp_path, "cluewsc2020", [row]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"sentence1": "a"', r"afqmc/dev.json, line 1: not JSON"),
        ("{}\n", "line 1: no sentence1, only nothing"),
        ('\n{"sentence1": "a", "label": "0"}\n', "line 2: no sentence2, only sentence1, label"),
        ('{"sentence1": "a", "sentence2": ["b"], "label": "0"}\n', "line 1: sentence2 is .*, not a text"),
        ('{"sentence1": "a", "sentence2": "b", "label": "2"}\n', "line 1: label '2' is none of 0, 1"),
        ('{"sentence1": "a", "sentence2": "b", "label": null}\n', "line 1: label 'None' is none of 0, 1"),
        ("", "dev.json holds no examples"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, text, message):
    put(tmp_path, "afqmc", "dev.json", text)
    with pytest.raises(ValueError, match=message) as error:
        read(TASKS["afqmc"], tmp_path, "dev")
    assert "\n" not in str(error.value)


def test_another_encoding_is_named_with_its_line(tmp_path):
    path = put(tmp_path, "tnews", "dev.json", "")
    path.write_bytes(b'{"sentence": "a", "label": 100}\n' + '{"sentence": "新闻", "label": 100}\n'.encode("gbk"))
    with pytest.raises(ValueError, match=r"tnews/dev.json, line 2: not UTF-8"):
        read(TASKS["tnews"], tmp_path, "dev")


def test_missing_files_say_where_they_might_be(tmp_path):
    (tmp_path / "ocnli").mkdir()
    with pytest.raises(MissingFiles, match="has no ocnli or ocnli_public or OCNLI with train.50k.json: ocnli needs it"):
        read(TASKS["ocnli"], tmp_path, "train")
    with pytest.raises(ValueError, match="afqmc has no split validation, only train, dev, test"):
        read(TASKS["afqmc"], tmp_path, "validation")


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_is_that_of_scikit_learn(seed):
    rng = random.Random(seed)
    labels = TASKS["iflytek"].labels[:4]
    examples = [Example(str(i), "a", None, rng.choice(labels)) for i in range(1 + 40 * seed)]
    said = [rng.choice(labels) for _ in examples]
    expected = accuracy_score([example.label for example in examples], said)
    assert score(TASKS["iflytek"], examples, said) == {"accuracy": expected}
    choices = [Choices(str(i), "a", ("b", "c", "d"), rng.randrange(3)) for i in range(7)]
    places = [rng.randrange(3) for _ in choices]
    expected = accuracy_score([choice.label for choice in choices], places)
    assert score(TASKS["c3"], choices, places) == {"accuracy": expected}


def test_hidden_labels_cannot_be_scored():
    with pytest.raises(ValueError, match="example 4: its label is hidden"):
        score(TASKS["afqmc"], [Example("4", "a", "b")], ["0"])
    with pytest.raises(ValueError, match="example 4: 'no' is none of 0, 1"):
        score(TASKS["afqmc"], [Example("4", "a", "b", "0")], ["no"])


# The README of CLUEbenchmark/CLUE, and the one of its baselines/paddlenlp for all ten tasks
PUBLISHED = [
    ("classification", 68.77, (73.70, 56.58, 60.29, 79.69, 62.0, 80.36)),
    ("classification", 72.83, (76.55, 58.61, 62.98, 82.12, 74.6, 82.13)),
    ("reading", 72.71, (71.60, 82.04, 64.50)),
    ("reading", 79.05, (77.95, 85.37, 73.82)),
    ("all", 77.03, (76.41, 59.67, 62.29, 83.82, 89.14, 84.10, 79.69, 71.48, 85.52, 78.12)),
    ("all", 74.17, (74.84, 58.91, 62.25, 81.68, 85.20, 82.77, 76.58, 67.32, 82.47, 69.68)),
]


@pytest.mark.parametrize(("name", "mean", "cells"), PUBLISHED)
def test_averages_reproduce_the_published_rows(name, mean, cells):
    scores = dict(zip(AVERAGES[name], cells, strict=True))
    assert average(scores, name) == pytest.approx(mean, abs=0.0101)
    with pytest.raises(ValueError, match=f"average {name} needs c3|average {name} needs afqmc"):
        average({task: one for task, one in scores.items() if task not in ("c3", "afqmc")}, name)


def test_an_unknown_average_is_refused():
    with pytest.raises(ValueError, match="CLUE has no average glue, only classification, reading, all, 1.1"):
        average({}, "glue")


@pytest.mark.parametrize(("name", "file"), [("tnews", "tnews11"), ("fewclue_tnews", "tnewsf"), ("eprstmt", "eprstmt")])
def test_lines_are_written_in_the_official_form_and_read_back(tmp_path, name, file):
    examples = read(*tree(tmp_path, name, ROWS[name] * 2)).examples
    right = [example.label for example in examples if example.label is not None]
    path = write(TASKS[name], tmp_path / "out", examples, right)
    assert path.name == f"{file}_predict.json"
    assert path.read_text() == f'{{"id": 0, "label": "{right[0]}"}}\n{{"id": 1, "label": "{right[1]}"}}\n'
    assert read_predictions(TASKS[name], path, examples) == right


def test_a_file_that_would_lack_rows_is_not_written(tmp_path):
    examples = read(*tree(tmp_path, "cmnli", ROWS["cmnli"])).examples
    with pytest.raises(ValueError, match="cmnli: example 1 is out of its place: the leaderboard counts all rows"):
        write(TASKS["cmnli"], tmp_path / "out", examples, ["neutral"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": 0, "label": "100"}\n', "lacks 1 of tnews's examples, the first is 1"),
        ('{"id": 0, "label": "100"}\n{"id": "0", "label": "100"}\n', "line 2: 0 is there twice of tnews"),
        ('{"id": 0, "label": "105"}\n{"id": 1, "label": "100"}\n', "line 1: label '105' is none of tnews's 100, 101"),
        ('{"id": 0, "label": 100}\n{"id": 1, "label": "100"}\n', "line 1: label is '100', not a text"),
        ('{"label": "100"}\n', "line 1: no id, only label"),
    ],
)
def test_a_bad_prediction_file_is_named_with_its_line(tmp_path, text, message):
    examples = read(*tree(tmp_path, "tnews", ROWS["tnews"] * 2)).examples
    path = tmp_path / "tnews11_predict.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_predictions(TASKS["tnews"], path, examples)


def counted(file):
    """What a real file holds, by the standard library alone."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return Counter(str(row["label"]) for row in rows), rows


@pytest.mark.skipif(DATA is None, reason="needs PLURI_TRIAL_DATA")
@pytest.mark.parametrize(("split", "rows", "undecided"), [("dev", 3000, 50), ("train.3k", 3000, 6)])
def test_the_real_ocnli_drops_what_annotators_did_not_agree_on(split, rows, undecided):
    folder = Path(str(DATA)) / "text"
    reading = read(TASKS["ocnli"], folder, split)
    labels, known = counted(folder / "OCNLI" / TASKS["ocnli"].files[split][0])
    assert len(known) == rows and reading.dropped == labels.pop("-") == undecided
    assert Counter(example.label for example in reading.examples) == labels
    for example in reading.examples:
        assert isinstance(example, Example)
        row = known[int(example.index)]
        assert (example.first, example.second, example.label) == (row["sentence1"], row["sentence2"], row["label"])


@pytest.mark.skipif(DATA is None, reason="needs PLURI_TRIAL_DATA")
@pytest.mark.parametrize("name", ["bustm", "eprstmt", "fewclue_tnews"])
@pytest.mark.parametrize("split", ["train", "dev", "train_0", "dev_0", "test_public"])
def test_the_real_fewclue_is_read_whole_and_its_labels_score_one(tmp_path, name, split):
    task, folder = TASKS[name], Path(str(DATA)) / "text" / "fewclue"
    reading = read(task, folder, split)
    labels, known = counted(folder / task.folders[0] / task.files[split][0])
    right = [example.label for example in reading.examples if example.label is not None]
    assert Counter(right) == labels and set(labels) == set(task.labels) and reading.dropped == 0
    assert [example.first for example in reading.examples] == [row[task.texts[0]] for row in known]
    path = write(task, tmp_path, reading.examples, right)
    assert score(task, reading.examples, read_predictions(task, path, reading.examples)) == {"accuracy": 1.0}
