# SPDX-License-Identifier: Apache-2.0
"""Files of SQuAD's form are read whole or refused by name, and scored as the official scripts score them."""

import json
import math
import os
import random
import re
import string
import unicodedata
from pathlib import Path

import pytest

from pluri.benchmarks.text.squad.files import Answer, Question, Questions, read_squad
from pluri.benchmarks.text.squad.score import best_threshold, normalized, raw_scores, score

TEXT = "The Normans (Norman: Nourmands) gave their name to Normandy, a region in France. 諾曼人是10世紀的民族。"
WORDS = ("the", "a", "An", "Normans", "normans,", "in", "10th", "U.S.A.", "naïve", "—", "%", "1,000", "don't", "_", "ß")
CHINESE = (
    "諾曼",
    "人",
    "，",
    "10.5%",
    "世紀",
    " ",
    "a b",
    "《",
    "》",
    "……",
    "1,000",
    "don't",
    "ω-force",
    "龥",
    "龦",
    "·",
)


def entry(name="q1", answers=(("Normandy", 51),), **more):
    listed = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": name, "question": "Where?", "answers": listed, **more}


def tree(*entries, context=TEXT):
    return {"version": "1.1", "data": [{"title": "x", "paragraphs": [{"context": context, "qas": list(entries)}]}]}


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def asked(answers, nullable=False):
    """A file of questions with these golds."""
    items = [Question(name, "?", 0, tuple(Answer(gold, 0) for gold in golds)) for name, golds in answers.items()]
    return Questions(Path("x.json"), [TEXT], items, nullable)


def drawn(rng, words, joint=" ", most=5):
    return joint.join(rng.choices(words, k=rng.randint(0, most)))


def data(*parts):
    root = os.environ.get("PLURI_TRIAL_DATA")
    path = Path(root or "", "text", *parts)
    if not root or not path.is_file():
        pytest.skip(f"no {'/'.join(parts)}")
    return path


def test_a_file_is_read_with_its_contexts_questions_and_answers(tmp_path):
    told = tree(entry(), entry("q2", is_impossible=True, answers=(), plausible_answers=[]), entry("q3"))
    told["data"].append(tree(entry("諾"), context=" Normandy " * 6)["data"][0])
    read = read_squad(write(tmp_path / "x.json", told))
    assert [item.id for item in read.items] == ["q1", "q2", "q3", "諾"] and read.nullable
    assert [item.context for item in read.items] == [0, 0, 0, 1] and read.contexts[0] == TEXT
    assert read.items[0].answers == (Answer("Normandy", 51),) and TEXT[51:59] == "Normandy"
    assert [item.impossible for item in read.items] == [False, True, False, False] and not read.items[1].answers


def test_a_byte_order_mark_is_no_error_and_without_is_impossible_there_is_always_an_answer(tmp_path):
    read = read_squad(write(tmp_path / "x.json", "\ufeff" + json.dumps(tree(entry()))))
    assert not read.nullable and read.items[0].answers[0].text == "Normandy"


def test_nothing_is_an_answer_only_where_a_question_is_marked_impossible(tmp_path):
    possible = [entry(is_impossible=False), entry("q2", is_impossible=False)]
    assert not read_squad(write(tmp_path / "x.json", tree(*possible))).nullable
    assert read_squad(write(tmp_path / "x.json", tree(*possible, entry("q3", (), is_impossible=True)))).nullable


def test_a_hidden_test_without_answers_can_be_read(tmp_path):
    hidden = {"id": "q1", "question": "Where?"}
    assert read_squad(write(tmp_path / "x.json", tree(hidden))).items[0].answers == ()


def test_an_answer_that_stands_elsewhere_is_read_as_it_is(tmp_path):
    """CMRC 2018's dev file has answers in other words than the text's, at -1, and some that are one character off."""
    read = read_squad(write(tmp_path / "x.json", tree(entry(answers=(("in Norway", -1), ("Normandy", 50))))))
    assert read.items[0].answers == (Answer("in Norway", -1), Answer("Normandy", 50))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "x.json is empty"),
        (" \n", "x.json is empty"),
        ('{"data": [\n{]', "line 2: not JSON"),
        ("[]", '"data"'),
        ('{"version": "1.1"}', 'no "data", only version'),
        ({"data": []}, "holds no question"),
        ({"data": {}}, '"data" must be a list'),
        ({"data": [{"paragraphs": [7]}]}, "article 1, paragraph 1: not an object"),
        ({"data": [{"title": "x"}]}, 'article 1: no "paragraphs"'),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, 'paragraph 1: no "context"'),
        (tree(entry(), {"question": "Who?", "answers": []}), 'question 2: no "id"'),
        (tree({"id": "q7", "answers": []}), 'question q7: no "question"'),
        (tree(entry() | {"id": 7}), '"id" must be a text, not 7'),
        (tree(entry("q7"), entry("q7")), "question q7: the id comes twice"),
        (tree(entry("q7", is_impossible="no")), 'question q7: "is_impossible" must be true or false'),
        (tree(entry("q7", (("Normandy", "51"),))), 'question q7: "answer_start" must be a whole number, not "51"'),
        (tree(entry("q7", (("Normandy", True),))), "must be a whole number, not true"),
        (tree(entry("q7", (("Normandy", len(TEXT) - 7),))), "question q7: answer_start 86 leads out of the context"),
        (tree(entry("q7", (("Normandy", -2),))), "question q7: answer_start -2 leads out"),
        (tree(entry("q7", (("Normandy" * 20, 0),))), "question q7: answer_start 0 leads out"),
        (tree(entry("q7", ((None, 0),))), 'question q7: "text" must be a text, not null'),
        (tree(entry(), context="half \ud83d"), "paragraph 1: context has half a character at 5"),
    ],
)
def test_a_malformed_file_is_refused_in_one_line_that_says_where(tmp_path, content, words):
    with pytest.raises(ValueError) as caught:
        read_squad(write(tmp_path / "x.json", content))
    assert words in str(caught.value) and "x.json" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_one_of_another_encoding_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*x\.json"):
        read_squad(tmp_path / "x.json")
    (tmp_path / "x.json").write_bytes('{"data":\n"naïve"}'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"x\.json, line 2: not UTF-8"):
        read_squad(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("parts", "questions", "nullable"),
    [
        (("squad_v1.1", "train-v1.1.json"), 1910, False),
        (("squad_v1.1", "dev-v1.1.json"), 1000, False),
        (("squad_v2.0", "train-v2.0.json"), 4065, True),
        (("squad_v2.0", "dev-v2.0.json"), 2013, True),
        (("DRCD", "DRCD_dev.json"), 3524, False),
        (("DRCD", "DRCD_test.json"), 1902, False),
        (("xquad", "xquad.en.json"), 352, False),
        (("xquad", "xquad.zh.json"), 352, False),
        (("xquad", "xquad.de.json"), 352, False),
    ],
)
def test_the_published_files_are_read_whole(parts, questions, nullable):
    """How many questions they have is in the README beside each."""
    read = read_squad(data(*parts))
    assert len(read.items) == questions and read.nullable == nullable
    for item in read.items:
        assert item.impossible != bool(item.answers)
        for answer in item.answers:
            assert read.contexts[item.context][answer.start :].startswith(answer.text)


def test_answers_are_normalised_as_the_official_script_says():
    """Lower case, ASCII punctuation deleted before the articles, articles as words, spaces joined."""
    assert normalized("The U.S.A.'s  a-bomb, an\tApple — “Theatre”") == "usas abomb apple — “theatre”"
    assert normalized("a.n the. %") == "" and normalized("A, n") == "n" and normalized("\u00a0x\u3000y ") == "x y"
    metrics = pytest.importorskip("transformers.data.metrics.squad_metrics")
    rng = random.Random(0)
    for _ in range(500):
        text = drawn(rng, WORDS, rng.choice((" ", "", "\n", "-")))
        assert normalized(text) == metrics.normalize_answer(text)


def theirs(questions, predictions, odds=None):
    """What transformers' port of evaluate-v2.0.py makes of it; its threshold of 1 on the odds is taken out."""
    metrics = pytest.importorskip("transformers.data.metrics.squad_metrics")
    squad = pytest.importorskip("transformers.data.processors.squad")
    examples = [
        squad.SquadExample(item.id, item.text, "x", None, None, "", [answer._asdict() for answer in item.answers])
        for item in questions.items
    ]
    found = metrics.squad_evaluate(examples, predictions, odds, no_answer_probability_threshold=math.inf)
    return {name: value for name, value in found.items() if odds is not None or not name.startswith("best")}


def guesses(rng, questions):
    """Some right, some nearly, some empty."""
    said = {}
    for item in questions.items:
        gold = rng.choice(item.answers).text if item.answers else "something"
        near = " ".join(rng.sample(gold.split(), rng.randint(0, len(gold.split()))))
        said[item.id] = rng.choice([gold, gold.upper() + ".", near, f"the {near} thing", "", "wrong"])
    return said


@pytest.mark.parametrize("ties", [True, False])
def test_scores_on_squad_2_with_thresholds_equal_the_official_scripts(ties):
    questions = read_squad(data("squad_v2.0", "dev-v2.0.json"))
    rng = random.Random(ties)
    said = guesses(rng, questions)
    odds = {item.id: rng.gauss(2.0 * item.impossible, 1.0) for item in questions.items}
    if ties:
        odds = {one: float(round(value)) for one, value in odds.items()}
    figures = score(questions, said, null_odds=odds)
    assert figures == pytest.approx(theirs(questions, said, odds), abs=1e-9)
    assert figures["best_f1"] > figures["f1"] and figures["HasAns_total"] + figures["NoAns_total"] == 2013
    assert score(questions, said) == {name: value for name, value in figures.items() if "best" not in name}


@pytest.mark.parametrize("golds", [{}, {"q1": ["x"], "q2": ["the x", "y"]}, {"q1": [], "q2": []}, {"q1": ["the"]}])
@pytest.mark.parametrize("said", ["", "x", "the", "Y!"])
def test_questions_of_one_kind_and_golds_without_words_are_scored_as_officially(golds, said):
    questions = asked(golds or {"q1": ["x"], "q2": []}, nullable=True)
    predictions = {item.id: said for item in questions.items}
    for odds in (dict.fromkeys(predictions, 0.0), {one: i - 0.5 for i, one in enumerate(predictions)}):
        assert score(questions, predictions, null_odds=odds) == pytest.approx(theirs(questions, predictions, odds))


def test_the_best_threshold_is_that_of_trying_all():
    """Without ties each threshold is one of the odds, or below all of them, which is written 0."""
    rng = random.Random(2)
    for size in (1, 2, 30):
        names = [str(i) for i in range(size)]
        answerable = {one: rng.random() < 0.5 for one in names}
        said = {one: rng.choice(("", "x")) for one in names}
        raw = {one: (rng.random() if said[one] else 0.0) if answerable[one] else float(not said[one]) for one in names}
        odds = {one: rng.gauss(0.0, 3.0) for one in names}

        def reached(threshold, raw=raw, odds=odds, answerable=answerable):
            kept = [raw[one] if odds[one] <= threshold else float(not answerable[one]) for one in raw]
            return 100.0 * sum(kept) / len(kept)

        best, threshold = best_threshold(raw, said, odds, answerable)
        trials = [reached(-math.inf), *map(reached, odds.values())]
        assert best == pytest.approx(max(trials))
        assert threshold == 0.0 or reached(threshold) == pytest.approx(best)


def test_scores_on_squad_1_equal_torchmetrics_port_of_the_official_script():
    """But for golds without words, which it scores as evaluate-v2.0.py does."""
    text = pytest.importorskip("torchmetrics.functional.text")
    rng = random.Random(3)
    golds = {f"q{i}": [drawn(rng, WORDS) + " x" for _ in range(rng.randint(1, 3))] for i in range(300)}
    questions = asked(golds)
    said = {one: rng.choice([rng.choice(answers), drawn(rng, WORDS), ""]) for one, answers in golds.items()}
    target = [
        {"id": one, "answers": {"text": answers, "answer_start": [0] * len(answers)}} for one, answers in golds.items()
    ]
    predicted = [{"id": one, "prediction_text": text} for one, text in said.items()]
    wanted = {name: float(value) for name, value in text.squad(predicted, target).items()}
    figures = score(questions, said)
    assert figures == pytest.approx({"exact": wanted["exact_match"], "f1": wanted["f1"], "total": 300}, abs=1e-4)
    assert 20 < figures["exact"] < figures["f1"] < 80


def test_in_squad_1_two_answers_without_words_match_exactly_but_share_nothing():
    """evaluate-v1.1.py and evaluate-v2.0.py differ here."""
    assert score(asked({"q": ["The"]}), {"q": "a"}) == {"exact": 100.0, "f1": 0.0, "total": 1.0}
    assert score(asked({"q": ["The"]}, nullable=True), {"q": "a"})["f1"] == 100.0


def mlqa_slowly(text):
    """The words of an answer, character by character."""
    words, word = [], ""
    for x in text.lower():
        if x in string.punctuation or unicodedata.category(x).startswith("P"):
            continue
        if "\u4e00" <= x <= "\u9fa5" or x.isspace():
            words += [word, x.strip()]
            word = ""
        else:
            word += x
    return [one for one in [*words, word] if one]


def test_chinese_scores_are_over_characters_as_mlqa_has_them():
    rng = random.Random(4)
    for _ in range(300):
        gold, said = drawn(rng, CHINESE, ""), drawn(rng, CHINESE, "")
        exact, f1 = raw_scores(asked({"q": [gold]}), {"q": said}, "mlqa_zh")
        wanted, given = mlqa_slowly(gold), mlqa_slowly(said)
        rest = list(given)
        same = 0
        for word in wanted:
            if word in rest:
                rest.remove(word)
                same += 1
        assert exact["q"] == (wanted == given)
        assert f1["q"] == pytest.approx(2 * same / (len(wanted) + len(given)) if same else 0.0)


def test_cmrc_scores_are_of_the_longest_common_run():
    def figures(gold, said):
        exact, f1 = raw_scores(asked({"q": gold}), {"q": said}, "cmrc2018")
        return exact["q"], f1["q"]

    assert figures(["《战国无双》"], "战国无双。") == (1.0, 1.0)
    assert figures(["光荣和ω-force"], "光荣") == (0.0, pytest.approx(2 * 1.0 * 0.5 / 1.5))  # ωforce is one word
    assert figures(["甲乙丙丁"], "甲乙戊丙丁") == (0.0, pytest.approx(2 * (2 / 5) * (2 / 4) / (2 / 5 + 2 / 4)))
    assert figures(["甲", "乙丙"], "乙丙") == (1.0, 1.0)
    assert figures(["甲"], "") == (0.0, 0.0) and figures(["。"], "") == (1.0, 0.0)
    assert figures(["50%"], "50")[1] == pytest.approx(2 / 3) and figures(["3,000 U.S."], "3000")[1] == 0.0


def test_the_longest_common_run_equals_a_slow_search():
    rng = random.Random(5)
    for _ in range(200):
        gold, said = ("".join(rng.choices("甲乙丙", k=rng.randint(1, 9))) for _ in range(2))
        runs = [gold[i:j] for i in range(len(gold)) for j in range(i + 1, len(gold) + 1)]
        same = max((len(run) for run in runs if run in said), default=0)
        f1 = raw_scores(asked({"q": [gold]}), {"q": said}, "cmrc2018")[1]["q"]
        assert f1 == pytest.approx(2 * same / (len(gold) + len(said)) if same else 0.0)


@pytest.mark.parametrize("protocol", ["squad", "mlqa_zh", "cmrc2018"])
@pytest.mark.parametrize("parts", [("DRCD", "DRCD_test.json"), ("xquad", "xquad.zh.json"), ("xquad", "xquad.de.json")])
def test_the_right_answers_score_a_hundred_and_none_scores_nothing(parts, protocol):
    questions = read_squad(data(*parts))
    right = score(questions, {item.id: item.answers[-1].text for item in questions.items}, protocol)
    assert right == {"exact": 100.0, "f1": 100.0, "total": len(questions.items)}
    assert score(questions, {item.id: "" for item in questions.items}, protocol)["exact"] == 0.0


def test_a_question_without_prediction_odds_or_gold_and_a_wrong_protocol_are_named():
    questions = asked({"q1": ["x"], "q2": ["y"], "q3": []}, nullable=True)
    said = {"q1": "x", "q2": "y", "q3": ""}
    with pytest.raises(ValueError, match=re.escape("x.json, question q2: no prediction and 1 others")):
        score(questions, {"q1": "x"})
    with pytest.raises(ValueError, match="question q3: no null odds: give one for each"):
        score(questions, said, null_odds={"q1": 0.0, "q2": 0.0})
    with pytest.raises(ValueError, match="leave out the null odds"):
        score(asked({"q1": ["x"]}), said, null_odds={"q1": 0.0})
    with pytest.raises(ValueError, match="mlqa_zh does not know: set it to squad"):
        score(questions, said, "mlqa_zh")
    with pytest.raises(ValueError, match="question q3: no answer to score against"):
        score(asked({"q3": []}), said)
