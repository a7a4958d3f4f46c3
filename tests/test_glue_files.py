# SPDX-License-Identifier: Apache-2.0
"""GLUE's files: every header and quirk, parquet, and bad files named with their line."""

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from pluri.benchmarks.finetune import MissingFiles
from pluri.benchmarks.text.glue.config import ORDER, read_all
from pluri.benchmarks.text.glue.files import read, read_parquet
from pluri.benchmarks.text.glue.tasks import DIAGNOSTIC, TASKS

DATA = os.environ.get("PLURI_TRIAL_DATA")


@pytest.mark.parametrize("name", ORDER)
def test_every_official_file_is_read(name, glue):
    task = TASKS[name]
    parts, dropped = read_all(task, glue)
    assert len(parts.train) == 32 and [len(part) for part in parts.dev.values()] == [12] * len(task.dev) and not dropped
    assert list(parts.hidden) == list(task.hidden) and all(len(part) == 7 for part in parts.hidden.values())
    for one in [*parts.train, *parts.dev[""]]:
        assert one.label in task.classes if task.classes else 0 <= float(one.label or -1) <= 5
        assert "word" in one.first and ("word" in (one.second or "")) == (len(task.columns) == 2)
    for examples in parts.hidden.values():
        assert [one.index for one in examples] == [str(i) for i in range(7)]
        assert all(one.label is None and "word" in one.first for one in examples)


@pytest.mark.parametrize("name", ORDER)
def test_parquet_of_the_hub_gives_the_same_examples(name, glue, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    task = TASKS[name]
    wanted, _ = read_all(task, glue)
    splits = {"train": wanted.train}
    splits |= {
        "validation" if len(wanted.dev) == 1 else f"validation_{part or 'matched'}": examples
        for part, examples in wanted.dev.items()
    }
    hub = {"MNLI-m": "test_matched", "MNLI-mm": "test_mismatched"}
    splits |= {hub.get(part, "test"): examples for part, examples in wanted.hidden.items() if part != "AX"}
    order = tuple(reversed(task.classes))  # the files' own metadata say which number is which class
    for split, examples in splits.items():
        columns: dict[str, list[str | None]] = {task.columns[0]: [one.first for one in examples]}
        if len(task.columns) == 2:
            columns[task.columns[1]] = [one.second for one in examples]
        numbers = [
            -1 if one.label is None else order.index(one.label) if order else float(one.label) for one in examples
        ]
        table = pyarrow.table({**columns, "label": numbers, "idx": list(range(len(examples)))})
        about = {"info": {"features": {"label": {"names": order, "_type": "ClassLabel"}}}} if order else {}
        path = tmp_path / task.name / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(exist_ok=True)
        parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(about)}), path)
    found, _ = read_all(task, tmp_path)

    def content(examples):
        return [
            (one.first, one.second, one.label if task.classes else one.label and float(one.label)) for one in examples
        ]

    assert content(found.train) == content(wanted.train) and content(found.dev[""]) == content(wanted.dev[""])
    assert [len(part) for part in found.hidden.values()] == [7] * (len(found.hidden))


def test_parquet_without_a_column_is_named(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "train-00000-of-00001.parquet"
    parquet.write_table(pyarrow.table({"sentence": ["a"], "labels": [0]}), path)
    with pytest.raises(ValueError, match="train-00000-of-00001.parquet has no column label, only sentence, labels"):
        read_parquet(TASKS["cola"], [path], True)


PAIRS = {"sentence1": ["a", "b", "c"], "sentence2": ["d", "e", "f"], "label": [0, 1, 0], "idx": [0, 1, 2]}


def put_parquet(root: Path, name: str, split: str, columns: dict[str, list[Any]]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = root / name / f"{split}-00000-of-00001.parquet"
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.mark.parametrize(
    "name, column, values, words",
    [
        ("rte", "label", [0, -1, 1], "row 1: the label is hidden (-1), training and dev rows need one"),
        ("rte", "label", [0, 1, None], "row 2: the label is hidden (None), training and dev rows need one"),
        ("rte", "label", [0, 2, 1], "row 1: 2 is no label of RTE: 0 entailment, 1 not_entailment"),
        ("rte", "label", [0, -2, 1], "row 1: -2 is no label of RTE: 0 entailment, 1 not_entailment"),
        ("rte", "label", ["entailment", "neutral", "x"], "row 1: 'neutral' is no label of RTE: 0 entailment, "),
        ("rte", "label", ["entailment", None, "entailment"], "row 1: the label is hidden (None), training and dev "),
        ("rte", "label", [0.0, 1.0, 1.0], "row 0: 0.0 is no label of RTE: 0 entailment, 1 not_entailment"),
        ("rte", "label", [True, False, True], "row 0: True is no label of RTE: 0 entailment, 1 not_entailment"),
        ("rte", "sentence2", ["a", None, "b"], "row 1: sentence2 is None, not a text"),
        ("rte", "sentence1", [1, 2, 3], "row 0: sentence1 is 1, not a text"),
        ("rte", "idx", [0, None, 2], "row 1: idx is None, not a whole number"),
        ("stsb", "label", [0.0, 5.0, 7.0], "row 2: label 7.0 is no score from 0 to 5"),
        ("stsb", "label", [0.0, float("nan"), 5.0], "row 1: label nan is no score from 0 to 5"),
        ("stsb", "label", ["1", "2", "3"], "row 0: label '1' is no score from 0 to 5"),
        ("stsb", "label", [1.0, 2.0, -1.0], "row 2: the label is hidden (-1.0), training and dev rows need one"),
    ],
)
def test_a_bad_row_of_parquet_is_named(name, column, values, words, tmp_path):
    for spoilt, other in (("train", "validation"), ("validation", "train")):
        put_parquet(tmp_path, name, other, PAIRS)
        path = put_parquet(tmp_path, name, spoilt, {**PAIRS, column: values})
        with pytest.raises(ValueError) as caught:
            read_all(TASKS[name], tmp_path)
        assert str(caught.value).startswith(f"{path}, {words}") and "\n" not in str(caught.value)


def test_a_missing_file_of_several_is_named(tmp_path):
    put_parquet(tmp_path, "rte", "validation", PAIRS)
    path = put_parquet(tmp_path, "rte", "train", PAIRS)
    first = path.rename(path.parent / "train-00000-of-00003.parquet")
    (tmp_path / "rte" / "train-00002-of-00003.parquet").write_bytes(first.read_bytes())
    with pytest.raises(ValueError, match="is one of 3 files, of which train-00001-of-00003.parquet is not there"):
        read_all(TASKS["rte"], tmp_path)
    (tmp_path / "rte" / "train-00001-of-00003.parquet").write_bytes(first.read_bytes())
    assert len(read_all(TASKS["rte"], tmp_path)[0].train) == 9


def test_hidden_labels_of_parquet_are_for_test_files_alone(tmp_path):
    for split in ("train", "validation"):
        put_parquet(tmp_path, "rte", split, PAIRS)
    put_parquet(tmp_path, "rte", "test", {**PAIRS, "label": [-1] * 3})
    parts, _ = read_all(TASKS["rte"], tmp_path)
    assert [one.label for one in parts.train] == ["entailment", "not_entailment", "entailment"]
    assert [one.label for one in parts.hidden["RTE"]] == [None] * 3
    path = put_parquet(tmp_path, "rte", "test", {**PAIRS, "label": [-1, 5, -1]})
    with pytest.raises(ValueError, match=r"test-.*\.parquet, row 1: 5 is no label of RTE"):
        read_parquet(TASKS["rte"], [path], False)


def test_labels_of_parquet_may_be_names(tmp_path):
    names = ["entailment", "not_entailment", "entailment"]
    for split in ("train", "validation"):
        put_parquet(tmp_path, "rte", split, {**PAIRS, "label": names})
    parts, _ = read_all(TASKS["rte"], tmp_path)
    assert [one.label for one in parts.train] == [one.label for one in parts.dev[""]] == names


def test_a_test_file_of_parquet_needs_no_labels(tmp_path):
    without = {name: values for name, values in PAIRS.items() if name != "label"}
    for split in ("train", "validation"):
        put_parquet(tmp_path, "rte", split, PAIRS)
    put_parquet(tmp_path, "rte", "test", without)
    hidden = read_all(TASKS["rte"], tmp_path)[0].hidden["RTE"]
    assert [(one.first, one.second, one.label) for one in hidden] == [
        ("a", "d", None),
        ("b", "e", None),
        ("c", "f", None),
    ]
    put_parquet(tmp_path, "rte", "validation", without)
    with pytest.raises(ValueError, match=r"validation-.*\.parquet has no column label, only sentence1, sentence2, idx"):
        read_all(TASKS["rte"], tmp_path)


@pytest.mark.parametrize("spoilt", ["text", "empty", "cut", "inside", "bytes"])
def test_a_broken_parquet_file_is_named(spoilt, tmp_path):
    texts = ["a word", "more words"] * 500
    path = put_parquet(tmp_path, "cola", "train", {"sentence": texts, "label": [0, 1] * 500})
    whole = path.read_bytes()
    assert len(read_parquet(TASKS["cola"], [path], True).examples) == 1000
    bad = {"text": b"sentence", "empty": b"", "cut": whole[: len(whole) // 2]}
    bad |= {"inside": whole[:20] + b"\xff" * 60 + whole[80:], "bytes": whole.replace(b"word", b"w\xffrd")}
    path.write_bytes(bad[spoilt])
    with pytest.raises(ValueError) as caught:
        read_parquet(TASKS["cola"], [path], True)
    assert f"{path} cannot be read as parquet, download it again (" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "cola").mkdir()
    for split in ("train", "validation"):
        (tmp_path / "cola" / f"{split}-00000-of-00001.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"train-00000-of-00001\.parquet is parquet: pip install pyarrow to read it"):
        read_all(TASKS["cola"], tmp_path)


def spoil(glue: Path, tmp_path: Path, file: str, change) -> Path:
    root = tmp_path / "glue"
    shutil.copytree(glue, root)
    path = root / file
    path.write_bytes(change(path.read_bytes()))
    return root


@pytest.mark.parametrize(
    "file, change, words",
    [
        ("RTE/train.tsv", lambda x: x + b"32\tonly one\n", "train.tsv, line 34: 2 columns where RTE has 4"),
        (
            "RTE/dev.tsv",
            lambda x: x + b"12\ta\tb\tmaybe\n",
            "dev.tsv, line 14: 'maybe' is no label of RTE: entailment, ",
        ),
        ("CoLA/dev.tsv", lambda x: x + b"gj04\t2\t\ta\n", "dev.tsv, line 13: '2' is no label of CoLA: 0 or 1"),
        (
            "SST-2/train.tsv",
            lambda x: x.split(b"\n", 1)[1],
            "line 1: column 1 of the header must be sentence, it is 'word",
        ),
        ("STS-B/dev.tsv", lambda x: x.split(b"\n")[0] + b"\n", "dev.tsv has no examples"),
        ("STS-B/train.tsv", lambda x: x + b"\t".join([b"a"] * 9 + [b"5.5"]), "line 34: '5.5' is no score from 0 to 5"),
        (
            "QNLI/train.tsv",
            lambda x: x + "33\tcafé\tb\tentailment\n".encode("latin-1"),
            "train.tsv, line 34: not UTF-8",
        ),
        ("MRPC/train.tsv", lambda x: b"", "line 1: column 1 of the header must be Quality, it is ''"),
        (
            "RTE/dev.tsv",
            lambda x: x.replace(b"sentence1\tsentence2\tlabel", b"label\tsentence1\tsentence2"),
            "dev.tsv, line 1: column 2 of the header must be sentence1, it is 'label'",
        ),
        (
            "RTE/dev.tsv",
            lambda x: x.replace(b"sentence2\tlabel", b"sentence2"),
            "dev.tsv, line 1: column 4 of the header must be label, it is missing",
        ),
        (
            "QNLI/test.tsv",
            lambda x: x.replace(b"sentence\n", b"sentence\tlabel\n"),
            "test.tsv, line 1: column 4 of the header is one more than QNLI has, it is 'label'",
        ),
        (
            "MNLI/train.tsv",
            lambda x: x.replace(b"sentence1\tsentence2", b"sentence2\tsentence1"),
            "train.tsv, line 1: column 9 of the header must be sentence1, it is 'sentence2'",
        ),
        ("RTE/dev.tsv", lambda x: x.replace(b"\n1\t", b"\n\n1\t"), "dev.tsv, line 3: 1 columns where RTE has 4"),
    ],
)
def test_a_bad_file_gets_one_line_that_names_it_and_the_row(file, change, words, glue, tmp_path):
    root = spoil(glue, tmp_path, file, change)
    task = next(task for task in TASKS.values() if task.folder == file.split("/")[0])
    with pytest.raises(ValueError) as caught:
        read_all(task, root)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_all_bad_files_of_a_task_are_named_at_once(glue, tmp_path):
    root = spoil(glue, tmp_path, "MNLI/train.tsv", lambda x: x + b"one\n")
    for file in ("dev_matched.tsv", "test_mismatched.tsv"):
        path = root / "MNLI" / file
        path.write_text(path.read_text() + "too\tfew\n")
    with pytest.raises(ValueError) as caught:
        read_all(TASKS["mnli"], root)
    said = str(caught.value).splitlines()
    for file, words in zip(
        ("train.tsv, line 34", "dev_matched.tsv, line 14", "test_mismatched.tsv"), said, strict=True
    ):
        assert file in words and "columns where MNLI has" in words


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n\r\n"])
def test_blank_lines_at_the_end_of_a_file_are_no_rows(end, glue, tmp_path):
    wanted, _ = read_all(TASKS["qqp"], glue)
    root = spoil(glue, tmp_path, "QQP/train.tsv", lambda x: x + end)
    assert read_all(TASKS["qqp"], root) == (wanted, {})
    path = root / "QQP" / "dev.tsv"
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    assert read_all(TASKS["qqp"], root) == (wanted, {})


@pytest.mark.parametrize("folder", ["diagnostic", "AX", "ax"])
def test_the_diagnostic_set_is_found_under_its_other_name(folder, glue, tmp_path):
    wanted, _ = read_all(TASKS["mnli"], glue)
    shutil.copytree(glue / "MNLI", tmp_path / "MNLI")
    (tmp_path / folder).mkdir()
    shutil.copy(glue / "diagnostic" / "diagnostic.tsv", tmp_path / folder / "AX.tsv")
    assert read_all(TASKS["mnli"], tmp_path)[0].hidden["AX"] == wanted.hidden["AX"]


def test_malformed_rows_of_qqp_are_dropped_and_counted(glue, tmp_path):
    root = spoil(glue, tmp_path, "QQP/train.tsv", lambda x: x + b"1\t2\t3\tonly four\n5\t6\n")
    parts, dropped = read_all(TASKS["qqp"], root)
    assert len(parts.train) == 32 and dropped == {"train": 2}


def test_missing_files_are_told_from_bad_ones(glue, tmp_path):
    with pytest.raises(MissingFiles, match="has no RTE/train.tsv"):
        read_all(TASKS["rte"], tmp_path)
    with pytest.raises(ValueError, match="set --data.path"):
        read_all(TASKS["rte"], tmp_path / "nowhere")
    shutil.copytree(glue / "RTE", tmp_path / "RTE")
    (tmp_path / "RTE" / "dev.tsv").unlink()
    with pytest.raises(MissingFiles, match="has no dev.tsv"):
        read_all(TASKS["rte"], tmp_path)


def test_the_labels_of_the_diagnostic_set_are_read(tmp_path):
    head = "Lexical Semantics\tPredicate-Argument Structure\tLogic\tKnowledge\tDomain\tPremise\tHypothesis\tLabel\n"
    path = tmp_path / DIAGNOSTIC.name
    path.write_text(f"{head}Quantifiers\t\t\t\tArtificial\tThe cat sat.\tThe cat did not sit.\tcontradiction\n")
    (one,) = read(TASKS["mnli"], path, DIAGNOSTIC).examples
    assert (one.first, one.second, one.label) == ("The cat sat.", "The cat did not sit.", "contradiction")
    path.write_text(path.read_text().replace("Domain\tPremise", "Premise\tDomain"))
    with pytest.raises(ValueError, match="column 5 of the header must be Domain, it is 'Premise'"):
        read(TASKS["mnli"], path, DIAGNOSTIC)


@pytest.mark.skipif(DATA is None, reason="needs PLURI_TRIAL_DATA")
@pytest.mark.parametrize(
    "name, train, dev, hidden",
    [
        ("cola", 8551, 1043, 1063),
        ("sst2", 20000, 872, 1821),
        ("mrpc", 3667, 408, 1725),
        ("stsb", 5749, 1500, 1379),
        ("qnli", 8999, 5463, 5463),
        ("rte", 2490, 277, 3000),
        ("wnli", 635, 71, 146),
    ],
)
def test_the_real_files_have_their_published_sizes(name, train, dev, hidden):
    folder = Path(str(DATA)) / "text" / "glue"
    if not folder.is_dir():
        pytest.skip("GLUE is not unpacked")
    parts, dropped = read_all(TASKS[name], folder)
    (said,) = parts.hidden.values()
    assert (len(parts.train), len(parts.dev[""]), len(said)) == (train, dev, hidden) and not dropped
    assert dataclasses.astuple(parts.train[0])[0] == "0"


@pytest.mark.skipif(DATA is None, reason="needs PLURI_TRIAL_DATA")
def test_the_real_headers_of_mnli_and_qqp_and_the_diagnostic_set_are_known():
    folder = Path(str(DATA)) / "text" / "glue"
    if not folder.is_dir():
        pytest.skip("GLUE is not unpacked")
    mnli, _ = read_all(TASKS["mnli"], folder)  # parts of the files, as they were published
    qqp, _ = read_all(TASKS["qqp"], folder)
    assert mnli.train and mnli.dev["mismatched"] and qqp.train and qqp.dev[""]
    assert len(mnli.hidden["AX"]) == 1104
