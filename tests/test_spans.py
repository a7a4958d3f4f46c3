# SPDX-License-Identifier: Apache-2.0
"""Windows of questions and paragraphs, and the targets in them, are those of BERT's run_squad.py.

The oracle is transformers' port of it. Where the two differ the original is followed: it cuts the stride to the
window's room.
"""

import dataclasses
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest

from pluri.benchmarks.text.squad.answers import widest
from pluri.benchmarks.text.squad.files import Answer, Question, Questions, read_squad
from pluri.benchmarks.text.squad.spans import WindowConfig, Windows, located, stretches, touched
from pluri.benchmarks.text.squad.suite import SquadDataConfig, cmrc
from pluri.ssl.data import Loader
from pluri.text import tokenizer as wordpiece

SIGNS = "abcdefghijklmnopqrstuvwxyz0123456789()-.,?'"
TIGHT = WindowConfig(longest=100, stride=30, question=12)


def vocabulary(folder, words):
    (folder / "vocab.txt").write_text("\n".join([*wordpiece.SPECIAL, *dict.fromkeys(words)]) + "\n", encoding="utf-8")
    return wordpiece.load_tokenizer(folder)


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """Each letter is a token, so that places can be counted, and "japanese" and "norman" are too."""
    folder = tmp_path_factory.mktemp("letters")
    return vocabulary(folder, ["japanese", "norman", *SIGNS, *(f"##{x}" for x in SIGNS), *"諾曼人是世紀的民族。"])


def data(*parts):
    root = os.environ.get("PLURI_TRIAL_DATA")
    path = Path(root or "", "text", *parts)
    if not root or not path.is_file():
        pytest.skip(f"no {'/'.join(parts)}")
    return path


def some(questions, step, at=0):
    return questions._replace(items=questions.items[at::step])


def asked(context, *answers, nullable=False, impossible=False, question="who?"):
    """Questions on one paragraph, each with one answer: a text, and where it begins (where it is first found)."""
    found = [Answer(one, context.find(one)) if isinstance(one, str) else Answer(*one) for one in answers]
    items = [Question(f"q{i}", question, 0, (answer,), impossible) for i, answer in enumerate(found)]
    return Questions(Path("x.json"), [context], items, nullable)


def target(questions, tokenizer, number=0):
    """What the text of the target is, in the first window of those of a question that has one."""
    windows = Windows(questions, tokenizer, training=True)
    places = windows.paragraphs[0].places
    for record in windows.records.tolist():
        window = windows.window(record[0])
        if window.question == number and window.start:
            first, last = (token - window.begin + window.first for token in (window.start, window.end))
            return questions.contexts[0][places[first, 0] : places[last, 1]]
    return None


def examples(theirs, questions, training):
    """The same questions for transformers."""
    out = []
    for item in questions.items:
        first = item.answers[0] if training and item.answers else None
        listed = [answer._asdict() for answer in item.answers]
        text, start = (first.text, first.start) if first else (None, None)
        context = questions.contexts[item.context]
        out.append(theirs.SquadExample(item.id, item.text, context, text, start, "", listed, item.impossible))
    return out


def features(theirs, listed, config, training):
    """What transformers makes of them: a list for each question."""
    shape = (config.longest, config.stride, config.question)
    return [theirs.squad_convert_example_to_features(one, *shape, "do_not_pad", training) for one in listed]


@pytest.mark.parametrize("config", [WindowConfig(), TIGHT])
@pytest.mark.parametrize("parts", [("squad_v2.0", "train-v2.0.json"), ("xquad", "xquad.de.json")])
def test_windows_targets_and_widest_context_equal_those_of_transformers(squad_port, parts, config):
    tokenizer, theirs = squad_port
    questions = some(read_squad(data(*parts)), 9 if parts[0] == "xquad" else 83)
    windows = Windows(questions, tokenizer, config, training=True)
    wanted = features(theirs, examples(theirs, questions, True), config, True)
    assert not windows.bad and len(windows.records) == sum(map(len, wanted)) > len(questions.items) - 1
    number = with_answer = 0
    for place, parts_of_one in enumerate(wanted):
        ours = [windows.window(number + i) for i in range(len(parts_of_one))]
        number += len(ours)
        fresh = widest([(window.first, window.length) for window in ours])
        for window, feature, widely in zip(ours, parts_of_one, fresh, strict=True):
            assert (window.question, window.ids, window.segments) == (place, feature.input_ids, feature.token_type_ids)
            assert (window.start, window.end) == (feature.start_position, feature.end_position)
            assert widely.tolist() == [feature.token_is_max_context[window.begin + i] for i in range(window.length)]
            with_answer += window.start > 0
    assert with_answer > 15


def test_all_targets_in_chinese_are_the_answers_to_the_letter(tmp_path):
    """With a token for each character. The original takes the first of equal texts between two spaces, often afar."""
    questions = read_squad(data("DRCD", "DRCD_test.json"))
    signs = sorted({x for context in questions.contexts for x in context.lower()} - set(" \n\t\u3000\xa0"))
    tokenizer = vocabulary(tmp_path, [*signs, *(f"##{x}" for x in signs)])
    windows = Windows(questions, tokenizer, training=True)
    assert not windows.bad
    found = set()
    for record in windows.records.tolist():
        window = windows.window(record[0])
        item = questions.items[window.question]
        if window.start:
            first, last = (token - window.begin + window.first for token in (window.start, window.end))
            places = windows.paragraphs[item.context].places
            text, start = item.answers[0]
            assert (places[first, 0], places[last, 1]) == (start, start + len(text))
            found.add(item.id)
    assert len(found) == len(questions.items)


@pytest.mark.parametrize("folder", ["cmrc2018_public", "clue/cmrc2018_public", "cmrc2018"])
def test_cmrc_is_found_where_the_zip_of_clue_was_unpacked(folder, tmp_path):
    entry = {"question": "誰？", "id": "TRAIN_0_QUERY_0", "answers": [{"text": "諾曼人", "answer_start": 0}]}
    (tmp_path / folder).mkdir(parents=True)
    for name in ("train.json", "dev.json"):
        entry["id"] = name
        paragraphs = [{"id": "TRAIN_0", "context": "諾曼人是民族。", "qas": [entry]}]
        text = json.dumps({"version": "v1.0", "data": [{"paragraphs": paragraphs, "id": "TRAIN_0", "title": ""}]})
        (tmp_path / folder / name).write_text(text, encoding="utf-8")
    (tmp_path / folder / "test.json").write_text("{}")  # which has no true answers, and is not looked at
    parts = dataclasses.replace(cmrc(), data=SquadDataConfig(path=str(tmp_path))).parts()
    assert [parts.train.items[0].id, parts.dev.items[0].id] == ["train.json", "dev.json"]
    assert not parts.test and not parts.hidden


def test_targets_are_the_tightest_tokens_around_the_answer(letters):
    text = "the Normans (1895-1943) of Japanese), and na\u0301ive Ärger  in  1895-1943."
    assert target(asked(text, "1895"), letters) == "1895"
    assert target(asked(text, "Japan"), letters) == "Japanese"  # run_squad.py has "Japanese),"
    assert target(asked(text, ("1943", text.rindex("1943"))), letters) == "1943"
    assert target(asked(text, "naïve".replace("ï", "i").replace("a", "a\u0301")), letters) == "na\u0301ive"
    assert target(asked(text, "Ärger  in"), letters) == "Ärger  in"
    assert target(asked(text, " of "), letters) == "of"
    chinese = "諾曼人是世紀的諾曼民族。"
    assert target(asked(chinese, ("諾曼", 7)), letters) == "諾曼"
    tokens = np.array([[0, 2], [2, 3], [5, 9]])
    assert touched(tokens, 1, 3) == (0, 1) and touched(tokens, 3, 5) is None and touched(tokens, 8, 20) == (2, 2)


def test_an_answer_that_is_not_at_its_start_is_found_in_the_words_there_or_its_question_skipped(letters):
    text = "one two\u202fthree (two) four two.five-two five\nsix"
    for start, wanted in ((4, (4, 7)), (5, (4, 7)), (14, (15, 18)), (24, (25, 28)), (28, (25, 28)), (31, (34, 37))):
        assert located(text, Answer("two", start)) == wanted
    assert located(text, Answer("five six", 38)) == (38, 46)  # the text has a new line there
    assert located(text, Answer("two three", 4)) == (4, 13)
    for answer in (Answer("two", 0), Answer("four", -1), Answer("", 0), Answer(" ", 3), Answer("seven", 38)):
        assert located(text, answer) is None
    assert located("  two", Answer("one", 0)) is None and located(" ", Answer("two", 0)) is None
    windows = Windows(asked(text, "two", ("four", 0), ("five six", 38)), letters, training=True)
    assert windows.bad == [("question q1", "its answer is not in the paragraph at answer_start")]
    assert {windows.window(i).question for i in range(len(windows.records))} == {0, 2}
    assert len(Windows(asked(text, "two", ("four", 0)), letters).records) == 2  # of what is only asked none is skipped


def test_transformers_skips_the_same_questions(squad_port):
    tokenizer, theirs = squad_port
    questions = some(read_squad(data("squad_v1.1", "dev-v1.1.json")), 20)
    rng = random.Random(0)
    moved = [
        item._replace(answers=(item.answers[0]._replace(start=max(0, item.answers[0].start + rng.randint(-9, 3))),))
        for item in questions.items
    ]
    questions = questions._replace(items=moved)
    wanted = features(theirs, examples(theirs, questions, True), WindowConfig(), True)
    skipped = [f"question {item.id}" for item, found in zip(moved, wanted, strict=True) if not found]
    assert [name for name, _ in Windows(questions, tokenizer, training=True).bad] == skipped
    assert 5 < len(skipped) < 45


def test_stretches_are_those_of_the_original_loop():
    for tokens, room, stride in [(1, 5, 2), (5, 5, 2), (6, 5, 2), (7, 5, 2), (30, 5, 2), (30, 7, 9), (31, 10, 10)]:
        wanted, offset = [], 0
        while offset < tokens:
            length = min(tokens - offset, room)
            wanted.append((offset, length))
            if offset + length == tokens:
                break
            offset += min(length, stride)
        assert stretches(tokens, room, stride) == wanted


def test_windows_without_the_whole_answer_and_impossible_questions_point_at_cls(letters):
    text = "ab cd ef gh ij"  # ten tokens
    config = WindowConfig(longest=9, stride=2, question=2)  # room for four
    windows = Windows(asked(text, "cd ef"), letters, config, training=True)
    found = [windows.window(i) for i in range(len(windows.records))]
    assert [(window.first, window.length) for window in found] == [(0, 4), (2, 4), (4, 4), (6, 4)]
    assert [(window.start, window.end) for window in found] == [(0, 0), (4, 7), (0, 0), (0, 0)]
    assert all(window.ids[0] == letters.token_to_id("[CLS]") and len(window.ids) == 9 for window in found)
    assert found[0].segments == [0] * 4 + [1] * 5
    impossible = Windows(asked(text, "cd ef", impossible=True), letters, config, training=True)
    assert not impossible.bad and not impossible.records[:, 4:].any() and len(impossible.records) == 4
    assert not Windows(asked(text, "cd ef"), letters, config).records[:, 4:].any()


def test_a_loader_hands_out_windows_with_their_targets(letters):
    questions = asked("ab cd ef gh ij kl mn op", "cd ef", "kl", nullable=True)
    config = WindowConfig(longest=14, stride=4, question=3)
    by_items, by_tokens = (
        Windows(questions, letters, config, True, "items"),
        Windows(questions, letters, config, True, "tokens"),
    )
    for windows, count, size in ((by_items, "items", 3.0), (by_tokens, "tokens", 40.0)):
        assert windows.unit == count and windows.ragged
        seen = []
        for loaded in Loader(dataset=windows, batch=size, seed=0).all():
            batch = loaded.batch
            assert batch is not None and batch.lengths is not None and set(batch.extras) == {"start", "end", "window"}
            if count == "items":
                assert len(batch.inputs) <= 3 and loaded.size == len(batch.inputs)
            for row, number in enumerate(batch.extras["window"].tolist()):
                window, length = windows.window(number), int(batch.lengths[row])
                assert batch.inputs[row, :length].T.tolist() == [window.ids, window.segments]
                assert not batch.inputs[row, length:].any()
                assert [int(batch.extras[name][row]) for name in ("start", "end")] == [window.start, window.end]
                seen.append(number)
        assert sorted(seen) == list(range(len(windows.records)))
    assert by_tokens.sizes.tolist() == [len(by_tokens.window(i).ids) for i in range(len(by_tokens.records))]
    assert by_items.name(by_items.records[1]) == "question q0, from token 4 on"


def test_what_cannot_be_made_windows_of_is_named(letters):
    with pytest.raises(ValueError, match="question q0: no answer to train on"):
        Windows(asked("ab")._replace(items=[Question("q0", "?", 0, ())]), letters, training=True)
    with pytest.raises(ValueError, match="question q0: the tokenizer finds nothing in its context"):
        Windows(asked("\u200b \x00", ("x", 0)), letters)
    with pytest.raises(ValueError, match="of no question the answer is in its paragraph"):
        Windows(asked("ab", ("x", 0)), letters, training=True)
    for config in (WindowConfig(longest=67), WindowConfig(stride=0), WindowConfig(question=0)):
        with pytest.raises(ValueError, match="leaves no room: set stride and question above 0"):
            Windows(asked("ab", "a"), letters, config)
