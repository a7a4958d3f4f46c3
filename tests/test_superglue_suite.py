# SPDX-License-Identifier: Apache-2.0
"""SuperGLUE as a suite, on a small tree of the official files: rows, the score, diagnostic sets, prediction files."""

import dataclasses
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from pluri.benchmarks import scores
from pluri.benchmarks.scores import Row
from pluri.benchmarks.text.choices import right
from pluri.benchmarks.text.examples import Choices
from pluri.benchmarks.text.official_suite import OfficialDataConfig, blind
from pluri.benchmarks.text.superglue import predictions as superglue_predictions
from pluri.benchmarks.text.superglue import suite as superglue_suite
from pluri.benchmarks.text.superglue import tasks as superglue
from pluri.benchmarks.text.superglue.metrics import SCORED
from pluri.benchmarks.text.superglue.suite import SuperglueConfig
from pluri.ssl.recipe import LoopConfig

QUICK = LoopConfig(workers=0, keep=0, precision="fp32")
COUNTS = {"train": 16, "dev": 8, "test": 6}
Rows = list[dict[str, Any]]


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def lines(rows: Rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


class Maker:
    """Rows of made-up words, in each task's own form; labels are left out where they are hidden."""

    def __init__(self) -> None:
        self.random = random.Random(0)
        self.words = ["".join(self.random.choices("abcdefghij", k=self.random.randint(2, 6))) for _ in range(60)]

    def text(self, most: int = 12) -> str:
        return " ".join(self.random.choices(self.words, k=self.random.randint(3, most)))

    def label(self, labels: tuple[Any, ...], hidden: bool) -> dict[str, Any]:
        return {} if hidden else {"label": self.random.choice(labels)}

    def many(self, row: Callable[[int, bool], dict[str, Any]], split: str) -> Rows:
        return [row(number, split == "test") for number in range(COUNTS[split])]

    def superglue(self, name: str) -> Callable[[int, bool], dict[str, Any]]:
        makers = {"copa": self.copa, "multirc": self.multirc, "record": self.record, "wsc": self.wsc, "wic": self.wic}
        labels = {"boolq": (True, False)}.get(name, superglue.TASKS[name].labels)
        texts = superglue.TASKS[name].texts

        def pair(number: int, hidden: bool) -> dict[str, Any]:
            return {**{text: self.text() for text in texts}, "idx": number, **self.label(labels, hidden)}

        return makers.get(name, pair)

    def copa(self, number: int, hidden: bool) -> dict[str, Any]:
        asked = ("cause", "effect")[number % 2]
        texts = {name: self.text() for name in ("premise", "choice1", "choice2")}
        return {**texts, "question": asked, "idx": number, **self.label((0, 1), hidden)}

    def wic(self, number: int, hidden: bool) -> dict[str, Any]:
        texts = {"word": self.words[0], "sentence1": self.text(), "sentence2": self.text()}
        return {**texts, "idx": number, **self.label((True, False), hidden)}

    def wsc(self, number: int, hidden: bool) -> dict[str, Any]:
        words = self.text().split()
        target = {"span1_text": words[0], "span1_index": 0, "span2_text": words[2], "span2_index": 2}
        return {"text": " ".join(words), "target": target, "idx": number, **self.label((True, False), hidden)}

    def multirc(self, number: int, hidden: bool) -> dict[str, Any]:
        questions = []
        for question in range(2):
            answers = [
                {"text": self.text(4), "idx": 100 * number + 10 * question + place, **self.label((0, 1), hidden)}
                for place in range(3)
            ]
            questions.append({"question": self.text(5), "idx": 2 * number + question, "answers": answers})
        return {"idx": number, "passage": {"text": self.text(30), "questions": questions}}

    def record(self, number: int, hidden: bool) -> dict[str, Any]:
        names = self.random.sample(("Ann", "Oslo", "the Bank", "Lee"), 3)
        text = "; ".join(names) + "; " + self.text()
        starts = [text.index(name) for name in names]
        entities = [{"start": a, "end": a + len(name) - 1} for a, name in zip(starts, names, strict=True)]
        golds = [{"start": 0, "end": 0, "text": name} for name in names[:2]]
        if number == 1:
            golds = [{"start": 0, "end": 0, "text": "Rome"}]  # none of the entities
        query = {"query": f"{self.text(5)} @placeholder", "idx": number, **({} if hidden else {"answers": golds})}
        return {"idx": number, "passage": {"text": text, "entities": entities}, "qas": [query]}


@pytest.fixture(scope="module")
def superglue_tree(tmp_path_factory) -> Path:
    """All of SuperGLUE's files, with the labels of AX-b alone among those of the leaderboard."""
    root, maker = tmp_path_factory.mktemp("superglue"), Maker()
    for name in SCORED:
        described = superglue.TASKS[name]
        for split, (file,) in described.files.items():
            put(root / described.folders[0] / file, lines(maker.many(maker.superglue(name), split)))
    put(root / "AX-b" / "AX-b.jsonl", lines([maker.superglue("axb")(number, False) for number in range(8)]))
    twins = [
        {"premise": maker.text(), "hypothesis": f"h{number // 2}", "idx": number, "pair_id": number}
        for number in range(6)
    ]
    put(root / "AX-g" / "AX-g.jsonl", lines(twins))
    return root


def superglue_config(name: str, path: Path, **more) -> SuperglueConfig:
    data = OfficialDataConfig(path=str(path), longest=48)
    return SuperglueConfig(name=name, data=data, lr=(1e-3,), batch=(8,), epochs=(1.0,), loop=QUICK, **more)


Done = tuple[Path, list[Row], list[str]]


@pytest.fixture(scope="module")
def superglue_done(superglue_tree, small_bert, tmp_path_factory) -> Done:
    """The whole of SuperGLUE: its folder, rows and what it said."""
    out, said = tmp_path_factory.mktemp("out"), []
    configs = {f"superglue/{name}": superglue_config(name, superglue_tree) for name in superglue.TASKS}
    return out, superglue_suite.evaluate(configs, str(small_bert), 1, False, out, said.append), said


def test_superglue_has_a_row_for_each_task_and_labelled_diagnostic_set(superglue_done, small_bert):
    out, rows, said = superglue_done
    assert scores.read(out) == rows
    assert {row.task for row in rows} == {f"superglue/{name}" for name in superglue.TASKS if name != "axg"}
    for row in rows:
        official = superglue.TASKS[row.task.split("/")[1]].metrics
        assert set(official) <= set(row.scores) and all(np.isfinite(value) for value in row.scores.values())
        assert row.encoder == str(small_bert) and "jiant" in row.protocol and "48 tokens" in row.protocol
        assert row.split == ("test" if row.task == "superglue/axb" else "dev")
    (axb,) = (row for row in rows if row.task == "superglue/axb")
    assert "RTE network" in axb.protocol and axb.protocol.endswith("; fp32")
    assert "superglue/axg: predicted, not scored: its labels are not known here" in said
    assert "superglue/axb" in (out / "index.html").read_text()


def test_the_superglue_score_is_the_mean_over_tasks_of_the_mean_of_their_metrics(superglue_done):
    out, rows, said = superglue_done
    mine = {row.task.split("/")[1]: row for row in rows}
    for name, main in (("cb", "accuracy_and_macro_f1"), ("multirc", "f1a_and_em"), ("record", "f1_and_em")):
        assert mine[name].main == main
    wanted = fmean(fmean(mine[name].scores[one] for one in superglue.TASKS[name].metrics) for name in SCORED)
    found = json.loads((out / "averages.json").read_text())
    assert found == {"superglue_score": pytest.approx(wanted)}
    assert any(line.startswith("average superglue_score") for line in said)


def test_superglue_s_prediction_files_answer_all_hidden_rows(superglue_done, superglue_tree):
    folder = superglue_done[0] / "predictions"
    assert {path.name for path in folder.iterdir()} == {one.predictions for one in superglue.TASKS.values()}
    for described in superglue.TASKS.values():
        examples = superglue.read(described, superglue_tree, "test").examples
        said = superglue_predictions.read_predictions(described, folder / described.predictions, examples)
        assert len(said) == len(examples) > 0
    first = [json.loads(line) for line in (folder / "BoolQ.jsonl").read_text().splitlines()]
    assert {row["label"] for row in first} <= {"true", "false"} and [row["idx"] for row in first] == list(range(6))


def test_a_query_without_a_right_entity_is_counted(superglue_done):
    (row,) = (row for row in superglue_done[1] if row.task == "superglue/record")
    assert row.chosen[0]["notes"] == ["train: 1 questions without a right candidate were not trained on"]
    assert row.scores["em"] <= 7 / 8  # the dev split has one as well


def test_a_diagnostic_set_alone_takes_rte_along(superglue_tree, superglue_done, small_bert, tmp_path):
    configs = {"superglue/axb": superglue_config("axb", superglue_tree)}
    rows = superglue_suite.evaluate(configs, str(small_bert), 1, False, tmp_path / "out", lambda line: None)
    assert [row.task for row in rows] == ["superglue/rte", "superglue/axb"]
    assert rows[1].scores == next(row for row in superglue_done[1] if row.task == "superglue/axb").scores
    assert "superglue/axb" in (tmp_path / "out" / "index.html").read_text()
    shutil.copytree(superglue_tree / "RTE", tmp_path / "tree" / "RTE")
    said: list[str] = []
    configs = {f"superglue/{name}": superglue_config(name, tmp_path / "tree") for name in ("rte", "axg", "wic")}
    rows = superglue_suite.evaluate(configs, str(small_bert), 1, False, tmp_path / "less", said.append)
    assert [row.task for row in rows] == ["superglue/rte"]
    assert any(line.startswith("superglue/axg: left out: ") for line in said)
    assert any(line.startswith("superglue/wic: left out: ") for line in said)
    assert any(line.startswith("the SuperGLUE score needs boolq, cb, copa") for line in said)
    assert json.loads((tmp_path / "less" / "averages.json").read_text()) == {}


def test_a_diagnostic_set_without_its_network_or_its_file_is_left_out_and_said_to_be(
    superglue_tree, small_bert, tmp_path
):
    tree, said = tmp_path / "tree", []
    shutil.copytree(superglue_tree / "CB", tree / "CB")
    shutil.copytree(superglue_tree / "AX-b", tree / "AX-b")
    configs = {f"superglue/{name}": superglue_config(name, tree) for name in ("cb", "axb")}
    rows = superglue_suite.evaluate(configs, str(small_bert), 1, False, tmp_path / "out", said.append)
    assert [row.task for row in rows] == ["superglue/cb"]
    assert any(line.startswith("superglue/rte: left out: ") for line in said)
    wanted = "superglue/axb: left out: the network of superglue/rte answers it, and that task was left out"
    assert wanted in said
    shutil.copytree(superglue_tree / "RTE", tree / "RTE")
    only = {"superglue/axg": superglue_config("axg", tree)}
    with pytest.raises(ValueError, match="none of the files of superglue/axg is there"):  # RTE is not trained for it
        superglue_suite.evaluate(only, str(small_bert), 1, False, tmp_path / "none", said.append)
    assert not (tmp_path / "none").exists()


def test_all_bad_files_are_named_before_anything_is_trained(superglue_tree, small_bert, tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(superglue_tree, tree)
    files = ("CB/train.jsonl", "CB/test.jsonl", "RTE/val.jsonl", "AX-b/AX-b.jsonl")
    for file in files:
        with (tree / file).open("a") as opened:
            opened.write("{}\n")
    configs = {f"superglue/{name}": superglue_config(name, tree) for name in ("cb", "copa", "rte", "axb", "axg")}
    with pytest.raises(ValueError) as caught:
        superglue_suite.evaluate(configs, str(small_bert), 1, False, tmp_path / "out", lambda line: None)
    for file, words in zip(files, str(caught.value).splitlines(), strict=True):
        assert f"{file}, line " in words
    assert not (tmp_path / "out").exists()
    (tree / "RTE" / "train.jsonl").unlink()  # a missing file does not hide the bad one beside it
    with pytest.raises(ValueError, match=r"RTE/val\.jsonl, line 9"):
        superglue_suite.evaluate(configs, str(small_bert), 1, False, tmp_path / "out", lambda line: None)


def test_what_a_failed_network_says_of_a_diagnostic_set_is_marked(superglue_tree, small_bert, tmp_path):
    config = dataclasses.replace(superglue_config("axb", superglue_tree), lr=(1e30,))
    said: list[str] = []
    rows = superglue_suite.evaluate({"superglue/axb": config}, str(small_bert), 1, False, tmp_path, said.append)
    assert [row.task for row in rows] == ["superglue/rte", "superglue/axb"]
    assert rows[1].failed == rows[0].failed and rows[1].failed[0].startswith("lr1e+30")
    for name in ("rte", "axb"):
        assert f"superglue/{name}: what predictions/ has of it is by a failed run: {rows[0].failed[0]}" in said


def test_nothing_is_done_twice(superglue_tree, small_bert, tmp_path):
    configs = {f"superglue/{name}": superglue_config(name, superglue_tree) for name in ("copa", "cb")}
    first = superglue_suite.evaluate(configs, str(small_bert), 2, True, tmp_path, lambda line: None)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("run.json")}
    (tmp_path / "scores.jsonl").unlink()
    assert superglue_suite.evaluate(configs, str(small_bert), 2, True, tmp_path, lambda line: None) == first
    assert len(times) == 8 and all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_what_is_hidden_is_not_in_the_data(superglue_tree):
    for name in ("copa", "record", "rte"):
        for one in superglue.read(superglue.TASKS[name], superglue_tree, "dev").examples:
            if isinstance(one, Choices):
                assert not any(right(blind(one))) and blind(one).label is None
            else:
                assert one.label is not None and blind(one).label is None
