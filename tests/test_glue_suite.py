# SPDX-License-Identifier: Apache-2.0
"""`pluri evaluate glue`: rows, what is left out and why, the submission, and a run that was killed."""

import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from pluri.benchmarks import scores
from pluri.benchmarks.text.glue import config as glue_config
from pluri.benchmarks.text.glue import submission
from pluri.benchmarks.text.glue import suite as glue_suite
from pluri.benchmarks.text.glue.config import GlueConfig, GlueDataConfig
from pluri.benchmarks.text.glue.tasks import TASKS
from pluri.ssl.recipe import LoopConfig

TYPING = Path(__file__).resolve().parents[1] / ".typing"
QUICK = LoopConfig(workers=0, keep=0, precision="fp32")


def config(name: str, path: Path, **more) -> GlueConfig:
    return GlueConfig(name=name, data=GlueDataConfig(path=str(path)), batch=(8,), epochs=(1.0,), loop=QUICK, **more)


@pytest.fixture(scope="module")
def suite(glue, small_bert, tmp_path_factory):
    """The whole suite on the small files, with scratch beside it, and what it said."""
    out = tmp_path_factory.mktemp("suite")
    lines: list[str] = []
    configs = {f"glue/{name}": config(name, glue) for name in (*glue_names(), "ax")}
    rows = glue_suite.evaluate(configs, str(small_bert), 2, True, out, lines.append)
    return out, rows, lines


def glue_names() -> tuple[str, ...]:
    return glue_config.ORDER


def test_the_suite_writes_a_row_for_each_task_and_start(suite, small_bert):
    out, rows, lines = suite
    found = scores.read(out)
    assert found == rows and {row.task for row in rows} == {f"glue/{name}" for name in glue_names()}
    assert sorted({row.encoder for row in rows}) == sorted([str(small_bert), "random twin"])
    for row in rows:
        assert row.scores and row.protocol and row.seeds and all(np.isfinite(value) for value in row.scores.values())
    wnli = next(row for row in rows if row.task == "glue/wnli")
    assert "majority" in wnli.protocol and wnli.encoder == str(small_bert)
    assert any("diagnostic-full.tsv" in line for line in lines)
    assert sum(line.startswith("average ") for line in lines) == 3
    page = (out / "index.html").read_text()
    assert page.count("data:image/png;base64") == 2 and "random twin" in page


def test_a_task_that_is_run_again_renews_the_averages_and_takes_the_older_zip_away(suite, glue, small_bert, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(suite[0], out)
    (out / "submission.zip").touch()
    before, lines = json.loads((out / "averages.json").read_text()), []
    glue_suite.evaluate({"glue/stsb": config("stsb", glue)}, str(small_bert), 4, False, out, lines.append)
    found = json.loads((out / "averages.json").read_text())
    mine = {row.task.split("/")[1]: row.scores for row in scores.read(out) if row.encoder == str(small_bert)}
    assert len(before) == 3 and found == glue_config.averages(mine) and found != before
    assert "Averages" in (out / "index.html").read_text()
    assert not (out / "submission.zip").exists() and any("submission.zip is removed" in line for line in lines)


def test_what_the_leaderboard_would_refuse_is_not_zipped(suite):
    out, _, lines = suite
    assert not (out / "submission.zip").exists()  # the test files have 7 rows, not the official numbers
    bad = "the index 7 is missing; it has 7 rows, the leaderboard wants 1063"
    assert f"submission.zip: CoLA.tsv, line 9: {bad}" in lines
    early = [line for line in lines if "the leaderboard would refuse its test file: " in line]
    assert len(early) == 11 and lines.index(early[-1]) < next(
        i for i, x in enumerate(lines) if x.startswith("glue/mnli  ")
    )
    assert any(line.startswith("glue/cola: ") and line.endswith(f"CoLA/test.tsv, line 9: {bad}") for line in early)
    text = (out / "predictions" / "MNLI-m.tsv").read_text().splitlines()
    assert text[0] == "index\tprediction" and len(text) == 8
    assert {line.split("\t")[1] for line in text[1:]} <= set(TASKS["mnli"].classes)
    assert {line.split("\t")[1] for line in (out / "predictions" / "WNLI.tsv").read_text().splitlines()[1:]} <= {
        "0",
        "1",
    }


def test_the_zip_has_eleven_files_with_the_right_words(tmp_path):
    said = {}
    for name, count in submission.ROWS.items():
        task = submission.task_of(name)
        answers = [task.classes[i % len(task.classes)] if task.classes else i / 100 - 1 for i in range(count)]
        if name != "QQP":
            said[name] = submission.Part([str(i) for i in range(count)], answers)
    notes = submission.write(tmp_path / "a.zip", said)
    assert notes == ["QQP: not predicted, a constant stands for it"]
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        files = {name: archive.read(name).decode().splitlines() for name in archive.namelist()}
    assert sorted(files) == sorted(f"{name}.tsv" for name in submission.ROWS)
    for name, count in submission.ROWS.items():
        lines = files[f"{name}.tsv"]
        assert lines[0] == "index\tprediction" and len(lines) == count + 1
        words = {line.split("\t")[1] for line in lines[1:]}
        if name == "STS-B":
            assert all(0.0 <= float(word) <= 5.0 and len(word) == 5 for word in words)
        elif name in ("CoLA", "SST-2", "MRPC", "QQP", "WNLI"):
            assert words <= {"0", "1"}
        else:
            assert words <= {"entailment", "neutral", "contradiction", "not_entailment"}
    said["RTE"] = submission.Part([*said["RTE"].indices[:-1], "0"], said["RTE"].said)
    wanted = "it has 3000 rows, the leaderboard wants 3000"
    notes = submission.write(tmp_path / "b.zip", said)
    assert f"RTE.tsv, line 3001: the index 0 stands twice; {wanted}" in notes and "b.zip was not written" in notes
    said["RTE"] = submission.Part([*said["RTE"].indices[:-1], "3000"], said["RTE"].said)
    notes = submission.write(tmp_path / "b.zip", said)
    assert f"RTE.tsv, line 3001: the index 3000 is none; {wanted}" in notes
    assert not (tmp_path / "b.zip").exists()
    said["RTE"] = submission.Part(said["RTE"].indices[:2999], said["RTE"].said[:2999])
    notes = submission.write(tmp_path / "a.zip", said)
    wanted = "it has 2999 rows, the leaderboard wants 3000"
    assert f"RTE.tsv, line 3001: the index 2999 is missing; {wanted}" in notes
    assert not (tmp_path / "a.zip").exists()  # the older one would be taken for this one


def test_tasks_without_files_are_left_out_and_said_to_be(glue, small_bert, tmp_path):
    shutil.copytree(glue / "RTE", tmp_path / "glue" / "RTE")
    lines: list[str] = []
    configs = {f"glue/{name}": config(name, tmp_path / "glue") for name in glue_names()}
    rows = glue_suite.evaluate(configs, str(small_bert), 1, False, tmp_path / "out", lines.append)
    assert [row.task for row in rows] == ["glue/rte"]
    assert sum(line.startswith("glue/") and " left out: " in line for line in lines) == 8
    with pytest.raises(ValueError, match="none of the files"):
        configs = {f"glue/{name}": config(name, tmp_path) for name in ("cola", "sst2")}
        glue_suite.evaluate(configs, str(small_bert), 1, False, tmp_path / "none", lines.append)


def test_a_bad_file_of_a_late_task_is_named_before_anything_is_trained(glue, small_bert, tmp_path):
    shutil.copytree(glue, tmp_path / "glue")
    with (tmp_path / "glue" / "RTE" / "dev.tsv").open("a") as file:
        file.write("too\tfew\n")
    configs = {f"glue/{name}": config(name, tmp_path / "glue") for name in ("cola", "rte")}
    with pytest.raises(ValueError, match=r"RTE/dev\.tsv, line \d+"):
        glue_suite.evaluate(configs, str(small_bert), 1, False, tmp_path / "out", lambda line: None)
    assert not (tmp_path / "out").exists()


def test_all_bad_files_are_named_before_anything_is_trained(glue, small_bert, tmp_path):
    root = tmp_path / "glue"
    shutil.copytree(glue, root)
    for file in ("CoLA/train.tsv", "CoLA/test.tsv", "RTE/dev.tsv"):
        with (root / file).open("a") as opened:
            opened.write("1\t2\t3\t4\t5\n")
    diagnostic(root, "maybe")
    configs = {f"glue/{name}": config(name, root) for name in ("cola", "rte", "sst2", "ax")}
    with pytest.raises(ValueError) as caught:
        glue_suite.evaluate(configs, str(small_bert), 1, False, tmp_path / "out", lambda line: None)
    said = str(caught.value).splitlines()
    for file, words in zip(("CoLA/train", "CoLA/test", "RTE/dev", "diagnostic-full"), said, strict=True):
        assert f"{file}.tsv, line " in words
    assert "'maybe' is no label of MNLI" in said[3] and not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="no GLUE named: set --data.path[^;]*$"):  # once, not for each task
        none = {f"glue/{name}": GlueConfig(name=name) for name in ("cola", "rte")}
        glue_suite.evaluate(none, str(small_bert), 1, False, tmp_path / "out", lambda line: None)


def diagnostic(root: Path, label: str) -> None:
    """The diagnostic set with labels."""
    head = "Lexical Semantics\tPredicate-Argument Structure\tLogic\tKnowledge\tDomain\tPremise\tHypothesis\tLabel\n"
    rows = [f"\t\t\t\t\tword {i}\tword\t{kind}\n" for i, kind in enumerate(("entailment", "neutral", label))]
    (root / "diagnostic").mkdir(exist_ok=True)
    (root / "diagnostic" / "diagnostic-full.tsv").write_text(head + "".join(rows))


def test_the_diagnostic_set_is_scored_by_the_mnli_model_and_says_if_that_failed(glue, small_bert, tmp_path):
    root, lines = tmp_path / "glue", []
    shutil.copytree(glue / "MNLI", root / "MNLI")
    diagnostic(root, "contradiction")
    settings = GlueConfig(
        name="ax", data=GlueDataConfig(path=str(root)), lr=(1e30,), batch=(16,), epochs=(1.0,), loop=QUICK
    )
    rows = glue_suite.evaluate({"glue/ax": settings}, str(small_bert), 1, False, tmp_path / "out", lines.append)
    assert [row.task for row in rows] == ["glue/mnli", "glue/ax"]
    assert rows[1].failed == rows[0].failed and rows[1].failed[0].startswith("lr1e+30")
    assert rows[1].protocol.endswith("; fp32") and rows[1].split == "test"
    again = {f"glue/{name}": dataclasses.replace(settings, name=name) for name in ("mnli", "qqp", "ax")}
    rows = glue_suite.evaluate(again, str(small_bert), 1, False, tmp_path / "out", lines.append)
    assert any(line.startswith("submission.zip: MNLI-m is by a failed run: lr1e+30") for line in lines)


def test_a_diagnostic_set_without_its_model_or_its_labels_is_left_out_and_said_to_be(glue, small_bert, tmp_path):
    root, lines = tmp_path / "glue", []
    shutil.copytree(glue / "RTE", root / "RTE")
    diagnostic(root, "contradiction")
    configs = {f"glue/{name}": config(name, root) for name in ("rte", "ax")}
    rows = glue_suite.evaluate(configs, str(small_bert), 1, False, tmp_path / "out", lines.append)
    assert [row.task for row in rows] == ["glue/rte"]
    said = "\n".join(lines)
    assert "glue/mnli: left out: " in said
    assert "glue/ax: left out: the network of glue/mnli answers it, and that task was left out" in said
    with pytest.raises(ValueError, match="none of the files of glue/ax is there"):
        glue_suite.evaluate({"glue/ax": configs["glue/ax"]}, str(small_bert), 1, False, tmp_path / "b", lines.append)
    with pytest.raises(ValueError, match="none of the files of glue/ax is there"):  # MNLI is not trained for nothing
        only = {"glue/ax": config("ax", glue)}
        glue_suite.evaluate(only, str(small_bert), 1, False, tmp_path / "b", lines.append)
    assert "diagnostic-full.tsv, so its labels are not known" in lines[-1] and not (tmp_path / "b").exists()


def test_rows_of_test_files_that_the_leaderboard_would_refuse_are_named(tmp_path):
    lines = ["index\tsentence1\tsentence2", *(f"{i}\ta\tb" for i in range(3000))]
    labelled = "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n"
    (tmp_path / "RTE").mkdir()
    for part in ("train", "dev"):
        (tmp_path / "RTE" / f"{part}.tsv").write_text(labelled)
    path = tmp_path / "RTE" / "test.tsv"
    spoilt = {
        "": lines,
        "line 19: the index 17 is missing; it has 2999 rows": [*lines[:18], *lines[19:]],
        "line 3001: the index 2999 is missing; it has 2999 rows": lines[:-1],
        "line 3002: the index 3000 is none; it has 3001 rows": [*lines, "3000\ta\tb"],
        "line 20: the index 17 stands twice; it has 3001 rows": [*lines[:19], *lines[18:]],
        "line 5: the index 03 is none; it has 3000 rows": [*lines[:4], "03\ta\tb", *lines[5:]],
    }
    for words, rows in spoilt.items():
        path.write_text("\n".join(rows) + "\n")
        wanted = [f"{path}, {words}, the leaderboard wants 3000"] if words else []
        assert config("rte", tmp_path).refused() == wanted


def test_an_encoder_keeps_its_rows_under_another_path(glue, small_bert, tmp_path, monkeypatch):
    configs = {f"glue/{name}": config(name, glue) for name in ("rte", "wnli")}
    monkeypatch.chdir(small_bert.parent)
    rows = glue_suite.evaluate(configs, small_bert.name, 1, True, tmp_path, lambda line: None)
    monkeypatch.chdir(small_bert)
    again = glue_suite.evaluate(configs, str(small_bert), 1, True, tmp_path, lambda line: None)
    assert again == rows == scores.read(tmp_path) and rows[0].encoder == small_bert.name
    other = glue_suite.evaluate({"glue/wnli": configs["glue/wnli"]}, "random:text/bert_tiny", 1, False, tmp_path, print)
    assert other[0].encoder == "random:text/bert_tiny" and len(scores.read(tmp_path)) == len(rows) + 1


def test_no_task_starts_from_another_encoder_s_mnli_model(glue, small_bert, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(small_bert, other)
    weights = load_file(other / "model.safetensors")
    save_file({name: tensor + 0.01 for name, tensor in weights.items()}, other / "model.safetensors", {"format": "pt"})
    out = tmp_path / "out"
    glue_suite.evaluate({"glue/mnli": config("mnli", glue)}, str(small_bert), 1, False, out, lambda line: None)
    configs = {f"glue/{name}": config(name, glue, intermediate=True) for name in ("cola", "rte")}
    with pytest.raises(ValueError, match="glue-mnli/pretrained holds the MNLI model of another encoder: choose anot"):
        glue_suite.evaluate(configs, str(other), 1, False, out, lambda line: None)
    assert not (out / "glue-cola").exists()  # said before anything was trained
    rows = glue_suite.evaluate({"glue/rte": configs["glue/rte"]}, str(small_bert), 1, False, out, lambda line: None)
    assert "started from the MNLI model" in rows[0].protocol


def test_some_tasks_start_from_the_mnli_model_if_asked_to(glue, small_bert, tmp_path):
    configs = {f"glue/{name}": config(name, glue, intermediate=True) for name in ("rte", "mnli")}
    rows = glue_suite.evaluate(configs, str(small_bert), 1, False, tmp_path, lambda line: None)
    assert [row.task for row in rows] == ["glue/mnli", "glue/rte"] and "MNLI model" in rows[1].protocol
    guards = [
        json.loads((tmp_path / f"glue-{name}" / "pretrained" / "settings.json").read_text()) for name in ("mnli", "rte")
    ]
    assert guards[0]["encoder"] != guards[1]["encoder"]
    with pytest.raises(ValueError, match="run that task first"):
        glue_suite.evaluate(
            {"glue/rte": configs["glue/rte"]}, str(small_bert), 1, False, tmp_path / "b", lambda line: None
        )


def test_a_task_is_not_continued_from_another_mnli_model_than_it_began_with(glue, small_bert, tmp_path):
    out = tmp_path / "out"
    both = {f"glue/{name}": config(name, glue, intermediate=True) for name in ("mnli", "rte")}
    glue_suite.evaluate(both, str(small_bert), 1, False, out, lambda line: None)
    best = out / "glue-mnli" / "pretrained" / "best.safetensors"
    save_file({name: tensor + 0.01 for name, tensor in load_file(best).items()}, best)  # as a better run would
    with pytest.raises(ValueError, match=r"glue-rte/pretrained holds runs from another start than the MNLI model"):
        glue_suite.evaluate(both, str(small_bert), 1, False, out, lambda line: None)


def command(small_bert: Path, glue: Path, out: Path) -> list[str]:
    words = ["evaluate", "glue", str(small_bert), "--data.path", str(glue), "--out", str(out), "--seeds", "2"]
    words += ["--loop.save_every", "2"]
    return [sys.executable, "-m", "pluri", *words, "--batch", "8", "--epochs", "2", "--lr", "0.001", "0.003"]


def finished_and_under_way(out: Path) -> tuple[int, int]:
    """How many runs are finished, and how many others have a checkpoint, while folders come and go."""
    walked = list(os.walk(out))  # unlike rglob, it passes over a folder that is gone
    finished = {folder for folder, _, files in walked if "run.json" in files}
    begun = {folder for folder, inside, _ in walked if any(name.startswith("step_") for name in inside)}
    return len(finished), len(begun - finished)


@pytest.mark.slow
def test_a_suite_killed_twice_ends_with_the_same_scores(glue, small_bert, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(TYPING), "OMP_NUM_THREADS": "1"}
    whole = subprocess.run(command(small_bert, glue, tmp_path / "a"), env=environment, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    for goal in (random.randint(2, 9), random.randint(10, 20)):  # runs that are finished when the kill comes
        process = subprocess.Popen(
            command(small_bert, glue, tmp_path / "b"), env=environment, stdout=subprocess.DEVNULL
        )
        try:
            while process.poll() is None:
                finished, begun = finished_and_under_way(tmp_path / "b")
                if finished >= goal and begun:
                    break
                time.sleep(0.01)
        finally:
            process.kill()
        assert process.wait() != 0, "it was done before it could be killed"
    end = subprocess.run(command(small_bert, glue, tmp_path / "b"), env=environment, capture_output=True, text=True)
    assert end.returncode == 0, end.stderr
    one, two = ([(row.task, row.each, row.chosen) for row in scores.read(tmp_path / name)] for name in "ab")
    assert one == two, goal
    assert (tmp_path / "a" / "averages.json").read_bytes() == (tmp_path / "b" / "averages.json").read_bytes()
    said = [sorted((tmp_path / name / "predictions").iterdir()) for name in "ab"]
    assert [path.read_bytes() for path in said[0]] == [path.read_bytes() for path in said[1]]
