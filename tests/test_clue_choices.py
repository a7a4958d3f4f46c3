# SPDX-License-Identifier: Apache-2.0
"""C3 and ChID: questions and blanks to candidates, one idiom a row, bad files, and the leaderboard's files."""

import itertools
import json
import random
from collections import Counter

import pytest

from pluri.benchmarks.text.clue.choices import AROUND, BLANK, around, distinct
from pluri.benchmarks.text.clue.predictions import read_predictions, score, write
from pluri.benchmarks.text.clue.tasks import TASKS, read
from pluri.benchmarks.text.examples import Choices

C3 = [
    [
        ["男：足球比赛?", "女：改了。"],
        [{"question": "可以知道什么?", "choice": ["天气", "时间变了", "忘了"], "answer": "时间变了"}],
        "31-109",
    ],
    [
        ["甲"],
        [
            {"question": "问", "choice": ["A", "b"], "answer": "B"},
            {"question": "又", "choice": ["是", "否"], "answer": "是"},
        ],
        "2",
    ],
]
CHID = [
    {
        "content": ["甲#idiom000378#乙，再#idiom000379#。", "丙#idiom000380#"],
        "candidates": ["百尺竿头", "随波逐流", "一日千里"],
    },
    {"content": ["没有", "丁#idiom000381#"], "candidates": ["方兴未艾", "日新月异"]},
]
CHID_ANSWERS = {"#idiom000378#": 2, "#idiom000379#": 0, "#idiom000380#": 1, "#idiom000381#": 1}


def put(root, name, file, text):
    path = root / TASKS[name].folders[0] / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def c3(root):
    for file, entry in zip(TASKS["c3"].files["dev"], C3, strict=True):
        put(root, "c3", file, json.dumps([entry], ensure_ascii=False))
    return TASKS["c3"], root, "dev"


def chid(root, split="dev"):
    rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in CHID)
    put(root, "chid", TASKS["chid"].files[split][0], rows)
    put(root, "chid", "dev_answer.json", json.dumps(CHID_ANSWERS))
    return TASKS["chid"], root, split


def test_c3_pairs_the_text_with_question_and_answer(tmp_path):
    examples = read(*c3(tmp_path)).examples
    candidates = ("可以知道什么? 天气", "可以知道什么? 时间变了", "可以知道什么? 忘了")
    assert examples[0] == Choices("0", "男：足球比赛?\n女：改了。", candidates, 1)
    assert [(example.index, example.label) for example in examples] == [("0", 1), ("1", 1), ("2", 0)]


def test_hidden_answers_of_c3_and_chid_are_none(tmp_path):
    hidden = [["甲"], [{"question": "问", "choice": ["是", "否"], "id": 0}], "1"]
    put(tmp_path, "c3", "test1.1.json", json.dumps([hidden]))
    assert read(TASKS["c3"], tmp_path, "test").examples == [Choices("0", "甲", ("问 是", "问 否"))]
    assert [example.label for example in read(*chid(tmp_path, "test")).examples] == [None] * 4


def test_chid_asks_for_each_blank_and_hides_the_others(tmp_path):
    examples = read(*chid(tmp_path)).examples
    assert [example.first for example in examples] == [
        "甲#idiom#乙，再____。",
        "甲____乙，再#idiom#。",
        "丙#idiom#",
        "丁#idiom#",
    ]
    assert [example.index for example in examples] == list(CHID_ANSWERS)
    assert [example.label for example in examples] == list(CHID_ANSWERS.values())
    assert [example.group for example in examples] == ["0", "0", "0", "1"]
    assert isinstance(examples[3], Choices) and examples[3].candidates == ("方兴未艾", "日新月异")


@pytest.mark.parametrize(("left", "right"), list(itertools.product((0, 1, 27, 28, 29, 55, 56, 90), repeat=2)))
def test_what_stands_around_a_blank_is_as_wide_as_the_baselines(left, right):
    text = "左" * left + "#idiom000001#" + "右" * right
    blank = BLANK.search(text)
    assert blank is not None
    kept = Counter(around(text, blank))
    assert kept["左"] + kept["右"] == min(left + right, AROUND)
    assert min(kept["左"], kept["右"]) == min(left, right, AROUND // 2)


@pytest.mark.parametrize("seed", range(10))
def test_no_idiom_stands_twice_in_a_row(seed):
    rng = random.Random(seed)
    examples = [Choices(str(i), "", ("a", "b", "c", "d"), 0, str(i // 3)) for i in range(9)]
    scores = [[rng.choice((0.0, 0.5, 1.0, 2.0)) for _ in range(4)] for _ in examples]
    found = distinct(examples, scores)
    for first in range(0, 9, 3):
        left = {(blank, place) for blank in range(first, first + 3) for place in range(4)}
        while left:  # the surest pair that is still free, again and again
            blank, place = max(left, key=lambda pair: (scores[pair[0]][pair[1]], -pair[1], -pair[0]))
            assert found[blank] == place
            left = {pair for pair in left if pair[0] != blank and pair[1] != place}


def test_blanks_beyond_the_idioms_take_their_best():
    examples = [Choices(str(i), "", ("a", "b"), 0, "0") for i in range(3)]
    assert distinct(examples, [[1.0, 0.0], [3.0, 2.0], [0.5, 0.7]]) == [0, 0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[\n[["a"],', "d-dev.json, line 2: not JSON"),
        ("{}", "d-dev.json is not a list of texts"),
        ('[["a"]]', "entry 1: not a list of a text and its questions"),
        ('[["a", []]]', "entry 1: text is 'a', not a list of texts"),
        (
            '[[["a"], [{"question": "q", "choice": ["x", "y"], "answer": "z"}]]]',
            "entry 1: the answer 'z' is none of x, y",
        ),
        (
            '[[["a"], [{"question": "q", "choice": ["x", 1], "answer": "x"}]]]',
            "entry 1: choice has '1' among its texts",
        ),
        ('[[["a"], [{"question": "q", "choice": ["x"], "answer": "x"}]]]', "entry 1: 1 answers to choose from"),
        ('[[["a"], [{"question": "q", "choice": ["x", "y"]}]]]', "entry 1: no answer, only question, choice"),
        ("[]", "d-dev.json holds no examples"),
    ],
)
def test_a_bad_c3_file_is_named_with_its_entry(tmp_path, text, message):
    put(tmp_path, "c3", "m-dev.json", "[]")
    put(tmp_path, "c3", "d-dev.json", text)
    with pytest.raises(ValueError, match=message):
        read(TASKS["c3"], tmp_path, "dev")


def test_answers_of_chid_that_are_missing_or_beyond_the_idioms_are_named(tmp_path):
    task, root, split = chid(tmp_path)
    put(root, "chid", "dev_answer.json", json.dumps({**CHID_ANSWERS, "#idiom000381#": 2}))
    with pytest.raises(ValueError, match=r"dev.json, line 2: #idiom000381# is idiom 2 of 2, says .*dev_answer.json"):
        read(task, root, split)
    put(root, "chid", "dev_answer.json", json.dumps({"#idiom000378#": 0}))
    with pytest.raises(ValueError, match=r"dev_answer.json: no #idiom000379#, only #idiom000378#"):
        read(task, root, split)


def test_c3_and_chid_are_written_in_the_official_form_and_read_back(tmp_path):
    examples = read(*c3(tmp_path)).examples
    path = write(TASKS["c3"], tmp_path, examples, [1, 0, 1])
    assert path.name == "c311_predict.json"
    assert path.read_text() == '{"id": 0, "label": 1}\n{"id": 1, "label": 0}\n{"id": 2, "label": 1}\n'
    assert read_predictions(TASKS["c3"], path, examples) == [1, 0, 1]
    examples = read(*chid(tmp_path)).examples
    path = write(TASKS["chid"], tmp_path, examples, [2, 0, 1, 1])
    assert path.name == "chid11_predict.json" and json.loads(path.read_text()) == CHID_ANSWERS
    assert read_predictions(TASKS["chid"], path, examples) == [2, 0, 1, 1]
    assert score(TASKS["chid"], examples, [2, 0, 1, 0]) == {"accuracy": 0.75}
