# SPDX-License-Identifier: Apache-2.0
"""GLUE's files: every header and quirk, parquet, and bad files named with their line."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest

from pluri.benchmarks.finetune import MissingFiles
from pluri.benchmarks.text.glue import ORDER, read_all
from pluri.benchmarks.text.glue_files import read, read_parquet
from pluri.benchmarks.text.glue_tasks import DIAGNOSTIC, TASKS

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
        read_parquet(TASKS["cola"], [path])


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
        ("SST-2/train.tsv", lambda x: x.split(b"\n", 1)[1], "train.tsv, line 1: the header must begin with sentence"),
        ("STS-B/dev.tsv", lambda x: x.split(b"\n")[0] + b"\n", "dev.tsv has no examples"),
        ("STS-B/train.tsv", lambda x: x + b"\t".join([b"a"] * 9 + [b"5.5"]), "line 34: '5.5' is no score from 0 to 5"),
        (
            "QNLI/train.tsv",
            lambda x: x + "33\tcafé\tb\tentailment\n".encode("latin-1"),
            "train.tsv, line 34: not UTF-8",
        ),
        ("MRPC/train.tsv", lambda x: b"", "train.tsv, line 1: the header must begin with Quality"),
    ],
)
def test_a_bad_file_gets_one_line_that_names_it_and_the_row(file, change, words, glue, tmp_path):
    root = spoil(glue, tmp_path, file, change)
    task = next(task for task in TASKS.values() if task.folder == file.split("/")[0])
    with pytest.raises(ValueError) as caught:
        read_all(task, root)
    assert words in str(caught.value) and "\n" not in str(caught.value)


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
