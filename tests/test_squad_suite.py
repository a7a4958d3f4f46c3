# SPDX-License-Identifier: Apache-2.0
"""SQuAD as a suite: rows of every file in its own protocol, prediction files, the null threshold, and wrong use."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest

from pluri.benchmarks import encoders, scores
from pluri.benchmarks.finetune import MissingFiles
from pluri.benchmarks.text.squad import suite as squad_suite
from pluri.benchmarks.text.squad.files import read_squad
from pluri.benchmarks.text.squad.score import score
from pluri.benchmarks.text.squad.spans import WindowConfig
from pluri.benchmarks.text.squad.suite import SquadConfig, SquadDataConfig
from pluri.benchmarks.text.squad.task import answers_of
from pluri.ssl.recipe import LoopConfig

DATA = os.environ.get("PLURI_TRIAL_DATA")
QUICK = LoopConfig(workers=0, keep=0, precision="fp32")
SMALL = WindowConfig(longest=48, stride=12, question=8)


def config(name: str, train: Path | str = "", dev: Path | str = "", test=(), path: Path | str = "", **more):
    data = SquadDataConfig(path=str(path), train=str(train), dev=str(dev), test=tuple(map(str, test)))
    settings = {"windows": SMALL, "lr": (5e-3,), "batch": (8,), "epochs": (1.0,), "loop": QUICK, **more}
    return SquadConfig(name=name, data=data, **settings)


@pytest.fixture(scope="module")
def suite(write_squad, squad_bert, tmp_path_factory):
    """A suite trained on English, tested on Chinese, English and hidden files, with scratch beside; what it says."""
    root = tmp_path_factory.mktemp("squad")
    files = write_squad(root / "train-v1.1.json", 60, 0), write_squad(root / "dev-v1.1.json", 30, 1)
    tests = [
        write_squad(root / "x.zh.json", 20, 2, chinese=True),
        write_squad(root / "x.en.json", 15, 3),
        write_squad(root / "dev.json", 9, 4, hidden=True),
    ]
    lines: list[str] = []
    settings = config("v1", path=root, test=tests, lr=(5e-3, 1e-3))
    rows = squad_suite.evaluate({"squad/v1": settings}, str(squad_bert), 1, True, root / "out", lines.append)
    return root, rows, lines, settings, [*files, *tests]


def said(folder: Path) -> dict[str, str]:
    return json.loads((folder / "predictions.json").read_text())


def official(path: Path, predictions: dict[str, str], odds: dict[str, float] | None = None) -> dict[str, float]:
    """What transformers' port of evaluate-v2.0.py says."""
    metrics = pytest.importorskip("transformers.data.metrics.squad_metrics")
    processors = pytest.importorskip("transformers.data.processors.squad")
    questions = read_squad(path)
    examples = [
        processors.SquadExample(
            item.id, item.text, "", None, None, "", [a._asdict() for a in item.answers], item.impossible
        )
        for item in questions.items
    ]
    # Odds above 1 would change predictions there.
    return dict(metrics.squad_evaluate(examples, predictions, odds, math.inf))


def test_each_file_has_a_row_with_the_protocol_of_its_language(suite, squad_bert):
    root, rows, lines, _, _ = suite
    assert scores.read(root / "out") == rows
    names = [(row.task, row.encoder, row.split) for row in rows]
    both = (str(squad_bert), "random twin")
    wanted = [("squad/v1", "dev"), ("squad/v1/on-x.zh", "test"), ("squad/v1/on-x.en", "test")]
    assert names == [(task, who, split) for task, split in wanted for who in both]
    for row in rows:
        assert row.main == "f1" and row.seeds == [0] and row.chosen[0]["setting"].startswith("lr")
        assert {"exact", "f1", "total"} <= set(row.scores) and not any("on-" in name for name in row.scores)
        assert ("f1_squad" in row.scores) == ("zh" in row.task) and row.settings["name"] == "v1"
        assert ("by characters" in row.protocol) == ("en" not in row.task)
    assert [row.scores["total"] for row in rows[::2]] == [30.0, 20.0, 15.0]
    assert "dev-v1.1.json: scored by words" in lines[0] and "dev.json: no answers, so it is not scored" in lines[0]
    assert "squad/v1/on-x.zh" in (root / "out" / "index.html").read_text()


def test_scores_are_those_of_the_official_scripts_on_the_written_files(suite):
    root, rows, _, _, files = suite
    mine = {row.task: row.scores for row in rows[::2]}
    folder = root / "out" / "predictions" / "squad-v1"
    assert sorted(path.name for path in folder.iterdir()) == ["dev", "on-dev", "on-x.en", "on-x.zh"]
    _, dev, chinese, english, hidden = files
    for path, place, row in ((dev, "dev", mine["squad/v1"]), (english, "on-x.en", mine["squad/v1/on-x.en"])):
        wanted = official(path, said(folder / place))
        assert (row["exact"], row["f1"]) == pytest.approx((wanted["exact"], wanted["f1"]))
    row = mine["squad/v1/on-x.zh"]
    by_words = official(chinese, said(folder / "on-x.zh"))
    assert (row["exact_squad"], row["f1_squad"]) == pytest.approx((by_words["exact"], by_words["f1"]))
    assert (row["exact"], row["f1"]) == pytest.approx(by_characters(chinese, said(folder / "on-x.zh")))
    assert row["f1"] > row["f1_squad"]
    assert list(said(folder / "on-dev")) == [item.id for item in read_squad(hidden).items]
    best = json.loads((folder / "dev" / "nbest_predictions.json").read_text())
    assert all(best[one][0]["text"] == text for one, text in said(folder / "dev").items())
    assert not list(folder.rglob("null_odds.json"))


def by_characters(path: Path, predictions: dict[str, str]) -> tuple[float, float]:
    """Exact match and F1 of texts that are all Chinese characters, slowly."""
    exact, f1, items = 0.0, 0.0, read_squad(path).items
    for item in items:
        gold, given = item.answers[0].text, predictions[item.id]
        same = sum(min(gold.count(x), given.count(x)) for x in set(gold))
        exact += gold == given
        f1 += 2 * same / (len(gold) + len(given))
    return 100 * exact / len(items), 100 * f1 / len(items)


def test_a_finished_suite_is_read_and_not_run_again(suite, squad_bert):
    root, rows, _, settings, _ = suite
    files = [*(root / "out").rglob("run.json"), *(root / "out").rglob("on-*.json")]
    times = [path.stat().st_mtime_ns for path in files]
    before = {path: path.read_bytes() for path in (root / "out" / "predictions").rglob("*.json")}
    again = squad_suite.evaluate({"squad/v1": settings}, str(squad_bert), 1, True, root / "out", lambda line: None)
    assert again == rows and len(files) > 4 and len(before) == 8
    assert [path.stat().st_mtime_ns for path in files] == times
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_file_that_comes_after_the_training_is_tested_by_the_kept_network(write_squad, squad_bert, tmp_path):
    train, dev = (write_squad(tmp_path / f"{i}.json", 30, i, impossible=True) for i in range(2))
    first, second = (write_squad(tmp_path / f"test{i}.json", 12, 2 + i, impossible=True) for i in range(2))
    run = (str(squad_bert), 2, False, tmp_path / "out", lambda line: None)
    squad_suite.evaluate({"squad/v2": config("v2", train, dev, [first])}, *run)
    moved = Path(shutil.copytree(tmp_path, tmp_path / "moved", ignore=shutil.ignore_patterns("out")))
    train, dev, first, second = (moved / path.name for path in (train, dev, first, second))
    wanted = {"squad/v2": config("v2", train, dev, [first, second])}
    whole, old, new = squad_suite.evaluate(wanted, *run)
    assert len(whole.seeds) == len(old.seeds) == 2 and len(new.seeds) == 1 and "alone" in new.protocol
    both = squad_suite.evaluate(wanted, str(squad_bert), 2, False, tmp_path / "b", print)
    kept = [row.chosen[0]["kept"] for row in both if row.task == "squad/v2"]
    assert new.each[0] == both[2].each[int(kept[0][-1])] and both[1].each == old.each
    write_squad(first, 12, 9, impossible=True)  # the file changes
    _, changed = squad_suite.evaluate({"squad/v2": config("v2", train, dev, [first])}, *run)
    assert len(changed.seeds) == 1 and changed.scores != old.scores
    write_squad(dev, 30, 9, impossible=True)
    with pytest.raises(ValueError, match="holds runs of other data: choose another --out"):
        squad_suite.evaluate({"squad/v2": config("v2", train, dev, [first])}, *run)


def test_the_null_threshold_is_tuned_on_dev_and_holds_elsewhere(write_squad, squad_bert, tmp_path):
    files = [
        write_squad(tmp_path / f"{name}.json", count, i, impossible=True)
        for i, (name, count) in enumerate({"train": 90, "dev": 30, "other": 24}.items())
    ]
    hidden = write_squad(tmp_path / "hidden.json", 6, 9, impossible=True, hidden=True)
    settings = config("v2", files[0], files[1], [files[2], hidden], epochs=(3.0,))
    dev, other = squad_suite.evaluate(
        {"squad/v2": settings}, str(squad_bert), 1, False, tmp_path / "out", lambda line: None
    )
    folder = tmp_path / "out" / "predictions" / "squad-v2"
    assert dev.scores["null_threshold"] == other.scores["null_threshold"] == dev.scores["best_f1_thresh"]
    for row, path, place in ((dev, files[1], "dev"), (other, files[2], "on-other")):
        odds = json.loads((folder / place / "null_odds.json").read_text())
        assert all(
            (odds[one] > row.scores["null_threshold"]) == (text == "") for one, text in said(folder / place).items()
        )
        wanted = official(path, said(folder / place), odds)
        assert len(wanted) == 13
        assert row.scores == pytest.approx({**wanted, "null_threshold": row.scores["null_threshold"]})
    assert set(said(folder / "on-hidden")) == set(json.loads((folder / "on-hidden" / "null_odds.json").read_text()))
    assert "null threshold" in dev.protocol and "null threshold" in other.protocol
    answers = json.loads(next((tmp_path / "out").rglob("dev.json")).read_text())["predictions"]
    whole = answers_of(answers)
    assert (
        max(score(read_squad(files[1]), whole.texts(one))["f1"] for one in whole.null_odds.values()) == dev.scores["f1"]
    )


def marked(path: Path) -> Path:
    """A copy in which every question says that it is not impossible."""
    tree = json.loads(path.read_text())
    for paragraph in tree["data"][0]["paragraphs"]:
        paragraph["qas"][0]["is_impossible"] = False
    copy = path.with_name(f"marked-{path.name}")
    copy.write_text(json.dumps(tree))
    return copy


def test_questions_that_all_say_that_they_are_possible_are_as_those_that_say_nothing(write_squad, squad_bert, tmp_path):
    plain = [
        write_squad(tmp_path / "en.json", 12, 2),
        write_squad(tmp_path / "zh.json", 12, 3, chinese=True),
        write_squad(tmp_path / "hidden.json", 6, 4, hidden=True),
    ]
    nothing = write_squad(tmp_path / "none.json", 12, 5, impossible=True)
    train, dev = write_squad(tmp_path / "train.json", 30, 0), write_squad(tmp_path / "dev.json", 12, 1)
    settings = config("v1", train, dev, [*plain, *map(marked, plain), nothing])
    run = (str(squad_bert), 1, False, tmp_path / "out", lambda line: None)
    rows = {row.task.rpartition("on-")[2]: row for row in squad_suite.evaluate({"squad/v1": settings}, *run)}
    folder = tmp_path / "out" / "predictions" / "squad-v1"
    for name in ("en", "zh"):
        assert rows[f"marked-{name}"].scores == rows[name].scores
        assert rows[f"marked-{name}"].protocol == rows[name].protocol
        odds = (folder / f"on-marked-{name}" / "null_odds.json").exists()
        assert not odds and "by characters" in rows["zh"].protocol
    assert said(folder / "on-marked-hidden") == said(folder / "on-hidden") and "marked-hidden" not in rows
    assert rows["none"].scores["null_threshold"] == 0.0 and "null threshold 0, as no" in rows["none"].protocol
    with pytest.raises(ValueError, match="marked-hidden.json has no answers"):
        config("v1", train, marked(plain[2])).parts()


def test_a_network_that_knows_impossible_questions_answers_all_where_there_are_none(write_squad, squad_bert, tmp_path):
    train, dev = (write_squad(tmp_path / f"{i}.json", 30, i, impossible=True) for i in range(2))
    plain = write_squad(tmp_path / "plain.json", 12, 2)
    settings = config("v2", train, dev, [plain, marked(plain)])
    run = (str(squad_bert), 1, False, tmp_path / "out", lambda line: None)
    _, one, other = squad_suite.evaluate({"squad/v2": settings}, *run)
    assert one.scores == other.scores and not {"NoAns_f1", "null_threshold"} & one.scores.keys()
    folder = tmp_path / "out" / "predictions" / "squad-v2"
    assert said(folder / "on-plain") == said(folder / "on-marked-plain") and all(said(folder / "on-plain").values())


@pytest.mark.skipif(not DATA, reason="PLURI_TRIAL_DATA is not set")
def test_a_network_trained_on_english_is_scored_on_chinese_by_characters(small_bert, tmp_path):
    files = []
    for name in ("xquad/xquad.en.json", "xquad/xquad.zh.json", "DRCD/DRCD_test.json"):
        tree = json.loads(Path(str(DATA), "text", name).read_text(encoding="utf-8"))
        tree["data"] = [{**article, "paragraphs": article["paragraphs"][:2]} for article in tree["data"][:6]]
        files.append(tmp_path / Path(name).name)
        files[-1].write_text(json.dumps(tree))
    settings = config("v1", files[0], files[0], files[1:], windows=WindowConfig(longest=128, stride=64, question=32))
    rows = squad_suite.evaluate({"squad/v1": settings}, str(small_bert), 1, False, tmp_path / "o", lambda line: None)
    assert [row.task for row in rows] == ["squad/v1", "squad/v1/on-xquad.zh", "squad/v1/on-DRCD_test"]
    for path, row in zip(files[1:], rows[1:], strict=True):
        given = said(tmp_path / "o" / "predictions" / "squad-v1" / f"on-{path.stem}")
        wanted = score(read_squad(path), given, "mlqa_zh")
        assert {name: row.scores[name] for name in wanted} == wanted and "MLQA" in row.protocol


def test_files_are_found_in_a_folder_or_in_one_of_its_folders(write_squad, squad_bert, tmp_path):
    (tmp_path / "drcd").mkdir()
    for i, name in enumerate(("training", "dev", "test")):
        write_squad(tmp_path / "drcd" / f"DRCD_{name}.json", 5, i, chinese=True)
    for path in (tmp_path, tmp_path / "drcd"):
        parts = config("drcd", path=path).parts()
        assert (parts.train.path.name, list(parts.test)) == ("DRCD_training.json", ["on-DRCD_test"])
    assert config("drcd", path=tmp_path, dev=tmp_path / "drcd" / "DRCD_test.json").parts().dev.path.stem == "DRCD_test"
    with pytest.raises(MissingFiles, match=r"has no train-v1.1.json: set --data.path, or --data.train"):
        config("v1", path=tmp_path).parts()
    lines: list[str] = []
    configs = {f"squad/{name}": config(name, path=tmp_path) for name in ("v1", "drcd")}
    rows = squad_suite.evaluate(configs, str(squad_bert), 1, False, tmp_path / "out", lines.append)
    assert [row.task for row in rows] == ["squad/drcd", "squad/drcd/on-DRCD_test"]
    assert any("squad/v1: left out: " in line for line in lines)
    with pytest.raises(ValueError, match="none of the files"):
        squad_suite.evaluate(
            {"squad/v1": configs["squad/v1"], "squad/v2": config("v2", path=tmp_path)},
            *(str(squad_bert), 1, False, tmp_path / "none", lines.append),
        )


def test_what_cannot_be_done_is_said_before_anything_is_trained(write_squad, squad_bert, tmp_path):
    start = encoders.start(str(squad_bert))
    good, hidden = write_squad(tmp_path / "good.json", 4, 0), write_squad(tmp_path / "hidden.json", 4, 1, hidden=True)
    tree = json.loads(good.read_text())
    tree["data"][0]["paragraphs"][2]["qas"][0]["answers"] = []
    (tmp_path / "some.json").write_text(json.dumps(tree))
    (tmp_path / "same").mkdir()
    wrong = {
        "no questions named: set --data.path": config("v1"),
        "is no folder": config("v1", path=tmp_path / "nowhere"),
        "there is no file": config("v1", tmp_path / "nothing.json", good),
        "hidden.json has no answers: give --data.dev": config("v1", good, hidden),
        "hidden.json, question hidden-0: no answer to train on": config("v1", hidden, good),
        "some.json, question good-2: no answer, though others have one: give one, or mark": config(
            "v1", good, good, [tmp_path / "some.json"]
        ),
        "have the same name: rename one": config(
            "v1", good, good, [good, write_squad(tmp_path / "same" / "good.json", 2, 0)]
        ),
        "64 positions: set --windows.longest 64": config(
            "v1", good, good, windows=WindowConfig(longest=65, question=8)
        ),
    }
    for words, settings in wrong.items():
        with pytest.raises(ValueError, match=words):
            settings.task(start)
    with pytest.raises(ValueError, match="for text encoders"):
        config("v1", good, good).task(encoders.start("pixels"))
    with pytest.raises(ValueError, match="for one task: name it"):
        both = {f"squad/{name}": config(name, good, good) for name in ("v1", "v2")}
        squad_suite.evaluate(both, str(squad_bert), 1, False, tmp_path / "out", lambda line: None)
