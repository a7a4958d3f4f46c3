# SPDX-License-Identifier: Apache-2.0
"""Result files are whole or not there: what writes them is killed half-way."""

from pathlib import Path

import pytest

from pluri.benchmarks import files
from pluri.benchmarks.report import Page
from pluri.benchmarks.text.clue import predictions as clue
from pluri.benchmarks.text.clue.tasks import TASKS as CLUE
from pluri.benchmarks.text.examples import Choices, Example
from pluri.benchmarks.text.glue import submission
from pluri.benchmarks.text.superglue import predictions as superglue
from pluri.benchmarks.text.superglue.tasks import TASKS as SUPERGLUE

PAIR = Example("0", "a", "b")
WRITERS = {
    "a.json": lambda out, n: files.write_json(out / "a.json", [n] * 9),
    "index.html": lambda out, n: Page("é" * n).save(out / "index.html"),
    "submission.zip": lambda out, n: submission.write(
        out / "submission.zip", {"AX": submission.Part([str(i) for i in range(1104)], ["neutral"] * 1104)}
    ),
    "RTE.tsv": lambda out, n: submission.write_file(out, "RTE", submission.Part([str(n)], ["entailment"])),
    "afqmc_predict.json": lambda out, n: clue.write(CLUE["afqmc"], out, [PAIR], [str(n - 1)]),
    "chid11_predict.json": lambda out, n: clue.write(
        CLUE["chid"], out, [Choices("#idiom1#", "a", ("b", "c", "d"))], [n]
    ),
    "RTE.jsonl": lambda out, n: superglue.write(
        SUPERGLUE["rte"], out, [PAIR], [("entailment", "not_entailment")[n - 1]]
    ),
}


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("name", WRITERS)
def test_a_result_file_is_whole_or_not_there(name, tmp_path, monkeypatch):
    write, path = WRITERS[name], tmp_path / "out" / name
    real = Path.write_bytes

    def half(self: Path, content: bytes) -> None:
        real(self, content[: len(content) // 2])
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", half)
        patch.setattr(Path, "write_text", lambda self, text, **_: half(self, text.encode()))
        with pytest.raises(Killed):
            write(tmp_path / "out", 1)
    assert not path.exists()
    write(tmp_path / "out", 1)
    whole = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", half)
        patch.setattr(Path, "write_text", lambda self, text, **_: half(self, text.encode()))
        with pytest.raises(Killed):
            write(tmp_path / "out", 2)
    # The zip goes first: an older one would be taken for the new one.
    assert not path.exists() if name == "submission.zip" else path.read_bytes() == whole
