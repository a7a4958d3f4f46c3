# SPDX-License-Identifier: Apache-2.0
"""Tables of all three kinds give the same rows, and what is wrong with one is said with its line."""

import csv
import json

import pytest

from pluri.ssl.tables import table

ROWS = [
    {"path": "a b.wav", "text": 'he said "no', "split": "train"},
    {"path": "c.wav", "text": "什么, ja", "split": ""},
    {"path": "d.wav", "text": "", "split": "test"},
]


def write(path, rows, ends="\n", mark=""):
    if path.suffix == ".jsonl":
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    elif path.suffix == ".tsv":
        lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        lines = path.read_text(encoding="utf-8").splitlines()
    path.write_bytes((mark + ends.join(lines) + ends).encode())
    return path


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_all_kinds_give_the_same_rows(suffix, ends, mark, tmp_path):
    found = list(table(write(tmp_path / f"m{suffix}", ROWS, ends, mark)))
    assert [row for _, row in found] == ROWS
    first = 1 if suffix == ".jsonl" else 2 if ends != "\n\n" else 3
    assert [number for number, _ in found] == [first + len(ends.replace("\r", "")) * i for i in range(3)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "path\tlabel\na.wav\tx\nb.wav\n", "a.tsv, line 3: 1 values for 2 columns"),
        ("a.csv", "path,label\n\na.wav,x,y\n", "a.csv, line 3: 3 values for 2 columns"),
        ("a.tsv", "path\tlabel\na.wav\tx\rb.wav\ty\n", "a.tsv, line 2: a carriage return within the line"),
        ("a.csv", f"path,label\na.wav,{'x' * 200_000}\n", "a.csv, line 2: field larger than field limit"),
        ("a.tsv", "path\tlabel\t label\n", "a.tsv: the column 'label' stands there twice"),
        ("a.jsonl", '{"path": "a.wav"}\n{"path": "b.wav", "label": {"x": 1}}\n', "line 2: label is no text but"),
        ("a.jsonl", '{"path": "a.wav"}\n[1]\n', "a.jsonl, line 2: not a JSON object"),
        ("a.jsonl", '{"path": "a.wav"\n', "a.jsonl, line 1: not JSON"),
        ("a.tsv", b"path\tlabel\na.wav\tgr\xfcn\n", "a.tsv, line 2: not UTF-8"),
        ("a.tsv", "path\tlabel\n".encode("utf-16"), "a.tsv, line 1: not UTF-8"),
        ("a.txt", "path\tlabel\n", "a.txt is no table: a manifest ends in .tsv, .csv or .jsonl"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as error:
        list(table(tmp_path / name))
    assert "\n" not in str(error.value)


def test_lists_and_objects_in_columns_that_nobody_reads_are_let_be(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"path": "a.wav", "meta": {"x": [1]}, "start": 0.5, "label": null}\n')
    ((_, row),) = table(tmp_path / "a.jsonl", ("path", "start", "label"))
    assert (row["path"], row["start"], "label" in row) == ("a.wav", "0.5", False)
