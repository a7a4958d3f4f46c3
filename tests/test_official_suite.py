# SPDX-License-Identifier: Apache-2.0
"""CLUE and FewCLUE as suites, on small trees and on the real files; settings and errors, those of SuperGLUE too."""

import dataclasses
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from pluri.benchmarks import scores, suite, tasks
from pluri.benchmarks.finetune import MissingFiles
from pluri.benchmarks.scores import Row
from pluri.benchmarks.text.clue import predictions as clue_predictions
from pluri.benchmarks.text.clue import suite as clue_suite
from pluri.benchmarks.text.clue import tasks as clue
from pluri.benchmarks.text.clue.suite import ClueConfig
from pluri.benchmarks.text.official_suite import OfficialDataConfig
from pluri.benchmarks.text.superglue import suite as superglue_suite
from pluri.benchmarks.text.superglue import tasks as superglue
from pluri.benchmarks.text.superglue.suite import SuperglueConfig
from pluri.ssl.recipe import LoopConfig

DATA = os.environ.get("PLURI_TRIAL_DATA")
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

    def clue(self, name: str) -> Callable[[int, bool], dict[str, Any]]:
        described = clue.TASKS[name]

        def row(number: int, hidden: bool) -> dict[str, Any]:
            label = self.label(described.labels, hidden)
            if name in ("cmnli", "ocnli") and number == 2 and not hidden:
                label = {"label": "-"}
            if name == "csl":
                return {"id": number, "abst": self.text(), "keyword": self.text(4).split(), **label}
            if name == "cluewsc2020":
                target = {"span1_text": "今天", "span1_index": 0, "span2_text": "它", "span2_index": 4}
                return {"text": "今天天气它好，" + self.text(), "target": target, **label}
            return {**{text: self.text() for text in described.texts}, "id": number, **label}

        return row

    def c3(self, split: str) -> str:
        entries = []
        for number in range(COUNTS[split] // 2):
            choices = [self.text(3) for _ in range(2 + number % 3)]
            answer = {} if split == "test" else {"answer": self.random.choice(choices)}
            entries.append([[self.text()], [{"question": self.text(4), "choice": choices, **answer}], str(number)])
        return json.dumps(entries, ensure_ascii=False)

    def chid(self, split: str) -> tuple[str, str]:
        rows, known = [], {}
        for number in range(COUNTS[split] // 2):
            blanks = [f"#idiom{10 * number + place:06d}#" for place in range(2)]
            content = [f"{self.text()}{blank}{self.text()}" for blank in blanks]
            known |= dict(zip(blanks, self.random.sample(range(4), 2), strict=True))
            rows.append({"content": content, "candidates": ["百尺竿头", "随波逐流", "一日千里", "方兴未艾"]})
        return lines(rows), json.dumps(known)


@pytest.fixture(scope="module")
def clue_tree(tmp_path_factory) -> Path:
    """All of CLUE's files but those of CMRC 2018."""
    root, maker = tmp_path_factory.mktemp("clue"), Maker()
    for name in (*clue_predictions.CLASSIFICATION, "ocnli"):
        described = clue.TASKS[name]
        for split in COUNTS:
            rows = lines(maker.many(maker.clue(name), split))
            put(root / described.folders[0] / described.files[split][0], rows)
    for split, files in clue.TASKS["c3"].files.items():
        for file in files:
            put(root / "c3" / file, maker.c3(split))
    for split, (file, *answers) in clue.TASKS["chid"].files.items():
        rows, known = maker.chid(split)
        put(root / "chid" / file, rows)
        for other in answers:
            put(root / "chid" / other, known)
    return root


def clue_config(name: str, path: Path, **more) -> ClueConfig:
    data = OfficialDataConfig(path=str(path), longest=48, **more)
    return ClueConfig(name=name, data=data, lr=(1e-3,), batch=(8,), epochs=(1.0,), loop=QUICK)


Done = tuple[Path, list[Row], list[str]]


@pytest.fixture(scope="module")
def clue_done(clue_tree, small_bert, tmp_path_factory) -> Done:
    """The whole of CLUE."""
    out, said = tmp_path_factory.mktemp("out"), []
    names = [name for name in clue.TASKS if name not in clue_suite.FEW]
    configs = {f"clue/{name}": clue_config(name, clue_tree) for name in names}
    return out, clue_suite.evaluate(configs, str(small_bert), 1, False, out, said.append), said


# --- CLUE -------------------------------------------------------------------------------------------------------------


def test_clue_has_a_row_for_each_task(clue_done, small_bert):
    out, rows, said = clue_done
    assert scores.read(out) == rows and len(rows) == 9
    for row in rows:
        assert row.main == "accuracy" and 0 <= row.scores["accuracy"] <= 1 and "CLUE's baseline" in row.protocol
        notes = row.chosen[0].get("notes", [])
        assert bool(notes) == (row.task in ("clue/cmnli", "clue/ocnli"))
        assert not notes or notes[0] == "train: 1 examples without an agreed label were left out"
    assert any(line.startswith("CLUE's average reading needs squad/cmrc too") for line in said)


def test_clue_s_averages_take_cmrc_from_the_same_folder(clue_done, clue_tree, small_bert, tmp_path):
    out, rows, _ = clue_done
    accuracy = {row.task.split("/")[1]: row.scores["accuracy"] for row in rows}
    wanted = fmean(accuracy[name] for name in clue_predictions.CLASSIFICATION)
    assert json.loads((out / "averages.json").read_text()) == {"classification": pytest.approx(wanted)}
    shutil.copytree(out, tmp_path / "out")
    cmrc = Row.of(("squad/cmrc", str(small_bert)), "f1", [{"f1": 80.0, "exact": 60.0}], [{}], 0.0, {}, ("", "dev"), [])
    scores.write(tmp_path / "out", [cmrc])
    configs = {row.task: clue_config(row.task.split("/")[1], clue_tree) for row in rows}
    clue_suite.evaluate(configs, str(small_bert), 1, False, tmp_path / "out", lambda line: None)
    found = json.loads((tmp_path / "out" / "averages.json").read_text())
    assert list(found) == list(clue_predictions.AVERAGES)
    assert found["reading"] == pytest.approx((0.6 + accuracy["chid"] + accuracy["c3"]) / 3)


def test_clue_s_prediction_files_answer_all_hidden_rows(clue_done, clue_tree):
    folder = clue_done[0] / "predictions"
    names = [name for name in clue.TASKS if name not in clue_suite.FEW]
    assert {path.name for path in folder.iterdir()} == {clue.TASKS[name].predictions for name in names}
    for name in names:
        described = clue.TASKS[name]
        examples = clue.read(described, clue_tree, "test").examples
        said = clue_predictions.read_predictions(described, folder / described.predictions, examples)
        assert len(said) == len(examples) > 0
        if name == "chid":  # no idiom stands twice in a passage
            groups = [(one.group, place) for one, place in zip(examples, said, strict=True)]
            assert len(set(groups)) == len(groups)


def test_what_a_failed_network_says_to_the_leaderboard_is_marked(clue_tree, small_bert, tmp_path):
    config, said = dataclasses.replace(clue_config("afqmc", clue_tree), lr=(1e30,)), []
    (row,) = clue_suite.evaluate({"clue/afqmc": config}, str(small_bert), 1, False, tmp_path, said.append)
    assert row.failed and f"clue/afqmc: what predictions/ has of it is by a failed run: {row.failed[0]}" in said


def test_fewclue_is_chosen_on_dev_and_scored_on_the_public_test_split(small_bert, tmp_path):
    maker = Maker()
    for name in clue_suite.FEW:
        described = clue.TASKS[name]
        for part, count in (("train_1", 8), ("dev_1", 6), ("test_public", 7), ("test", 5)):
            rows = [maker.clue(name)(number, part == "test") for number in range(count)]
            put(tmp_path / "tree" / described.folders[0] / described.files[part][0], lines(rows))
    configs = {
        f"fewclue/{name}": clue_config(name, tmp_path / "tree", train="train_1", dev="dev_1") for name in clue_suite.FEW
    }
    rows = suite.evaluate(configs, str(small_bert), 1, False, tmp_path / "out", lambda line: None)
    assert len(rows) == 3
    for row in rows:
        assert row.split == "test" and set(row.scores) == {"accuracy", "dev_accuracy"}
        assert row.scores["accuracy"] * 7 == pytest.approx(round(row.scores["accuracy"] * 7))
        assert row.scores["dev_accuracy"] * 6 == pytest.approx(round(row.scores["dev_accuracy"] * 6))
        assert "trained on train_1, chosen on dev_1" in row.protocol
    assert len((tmp_path / "out" / "predictions" / "tnewsf_predict.json").read_text().splitlines()) == 5


# --- settings and errors ----------------------------------------------------------------------------------------------


def test_settings_are_those_of_the_baselines():
    def said(config) -> str:
        return config.release().published.words().split(": ")[1]

    jiant = "lr 1e-05, batch 4, 10 epochs, warm-up 10 %, 256 tokens"
    assert {said(SuperglueConfig(name=name)) for name in ("boolq", "cb", "copa", "multirc", "rte", "wic")} == {jiant}
    assert said(superglue_suite.record()) == jiant.replace("batch 4", "batch 8")
    assert said(superglue_suite.wsc()) == "lr 1e-05, batch 4, 10 epochs, constant, warm-up 0 %, 256 tokens"
    wanted = {
        "afqmc": "lr 2e-05, batch 16, 3 epochs, warm-up 10 %, 128 tokens",
        "tnews": "lr 2e-05, batch 16, 3 epochs, warm-up 10 %, 128 tokens",
        "iflytek": "lr 2e-05, batch 16, 3 epochs, warm-up 10 %, 128 tokens",
        "cmnli": "lr 3e-05, batch 16, 3 epochs, warm-up 10 %, 128 tokens",
        "ocnli": "lr 3e-05, batch 16, 2 epochs, warm-up 10 %, 128 tokens",
        "csl": "lr 1e-05, batch 8, 5 epochs, warm-up 10 %, 256 tokens",
        "cluewsc2020": "lr 1e-05, batch 16, 50 epochs, warm-up 10 %, 128 tokens",
        "c3": "lr 2e-05, batch 24, 8 epochs, warm-up 5 %, 512 tokens",
        "chid": "lr 2e-05, batch 24, 3 epochs, warm-up 6 %, 64 tokens",
        **dict.fromkeys(clue_suite.FEW, "lr 2e-05, batch 32, 3 epochs, warm-up 10 %, 128 tokens"),
    }
    assert {name: said(ClueConfig(name=name)) for name in clue.TASKS} == wanted
    several = ClueConfig(name="csl", lr=(1e-5, 2e-5), batch=(8, 16))
    assert len(several.settings()) == 4 and several.rules().endswith("; changed: lr 1e-05, 2e-05; batch 8, 16")


def test_every_task_of_the_suites_is_its_reader_s():
    named = {
        name: tasks.TASKS[name]() for name in tasks.TASKS if name.split("/")[0] in ("superglue", "clue", "fewclue")
    }
    assert {config.name for config in named.values() if isinstance(config, SuperglueConfig)} == set(superglue.TASKS)
    assert {config.name for config in named.values() if isinstance(config, ClueConfig)} == set(clue.TASKS)
    assert len(named) == len(superglue.TASKS) + len(clue.TASKS)


def test_wrong_use_is_said_in_one_line(clue_tree, small_bert, tmp_path):
    def run(config: ClueConfig, encoder: str = str(small_bert)) -> list[Row]:
        return clue_suite.evaluate({"clue/c3": config}, encoder, 1, False, tmp_path, lambda line: None)

    with pytest.raises(ValueError, match="no folder named: set --data.path"):
        run(ClueConfig(name="c3"))
    with pytest.raises(MissingFiles, match="has no c3 or c3_public with d-train.json and m-train.json"):
        run(clue_config("c3", tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"afqmc has no split train.3k, only train, dev, test"):
        run(clue_config("afqmc", clue_tree, train="train.3k"))
    with pytest.raises(ValueError, match="--data.train and --data.dev take splits for training and choosing"):
        run(clue_config("afqmc", clue_tree, dev="test"))
    for longest, words in ((None, "up to 512 tokens, but .* 128 positions: set --data.longest"), (7, "set 8 or more")):
        with pytest.raises(ValueError, match=words):
            run(ClueConfig(name="c3", data=OfficialDataConfig(path=str(clue_tree), longest=longest)))
    for name in ("c3", "afqmc"):
        with pytest.raises(ValueError, match="this task is for text encoders"):
            run(clue_config(name, clue_tree), "random:vision/byol_tiny")
    shutil.copytree(clue_tree / "tnews", tmp_path / "bad" / "tnews")
    with (tmp_path / "bad" / "tnews" / "dev.json").open("a") as file:
        file.write('{"sentence": "a", "label": "105"}\n')
    with pytest.raises(ValueError, match=r"tnews/dev.json, line 9: label '105' is none of"):
        run(clue_config("tnews", tmp_path / "bad"))
    with (tmp_path / "bad" / "tnews" / "train.json").open("a") as file:
        file.write("[]\n")
    with pytest.raises(ValueError, match=r"tnews/train.json, line 17: not a JSON object\n.*tnews/dev.json, line 9: "):
        run(clue_config("tnews", tmp_path / "bad"))
    with pytest.raises(ValueError, match="no folder named: set --data.path[^;]*$"):  # once, not for each task
        configs = {f"clue/{name}": ClueConfig(name=name) for name in ("csl", "c3")}
        clue_suite.evaluate(configs, str(small_bert), 1, False, tmp_path, lambda line: None)
    with pytest.raises(ValueError, match="none of the files of clue/csl, clue/c3 is there: is --data.path right"):
        configs = {f"clue/{name}": clue_config(name, tmp_path / "nowhere") for name in ("csl", "c3")}
        clue_suite.evaluate(configs, str(small_bert), 1, False, tmp_path, lambda line: None)


# --- real data --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(DATA is None, reason="PLURI_TRIAL_DATA is not set")
def test_the_real_ocnli_and_fewclue_run(small_bert, tmp_path):
    def config(name: str, folder: str, **more) -> ClueConfig:
        data = OfficialDataConfig(path=str(Path(str(DATA)) / "text" / folder), longest=24, **more)
        return ClueConfig(name=name, data=data, batch=(256,), epochs=(0.3,), loop=QUICK)

    configs = {"clue/ocnli": config("ocnli", "", train="train.3k")}
    (row,) = clue_suite.evaluate(configs, str(small_bert), 1, False, tmp_path, lambda line: None)
    assert [note.split(":")[0] for note in row.chosen[0]["notes"]] == ["train", "dev"]
    few = {f"fewclue/{name}": config(name, "fewclue") for name in clue_suite.FEW}
    rows = suite.evaluate(few, str(small_bert), 1, False, tmp_path, lambda line: None)
    assert [row.split for row in rows] == ["test"] * 3 and "left out" not in str(rows)
