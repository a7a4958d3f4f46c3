# SPDX-License-Identifier: Apache-2.0
"""What the README shows is there and runs."""

import re
import shlex
from pathlib import Path

import pytest

from pluri import recipes
from pluri.benchmarks import tasks
from pluri.cli import COMMANDS, override

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()
COMMANDS_SHOWN = sorted({line.split("  #")[0].strip() for line in re.findall(r"^pluri .*$", TEXT, re.M)})


def test_the_two_set_up_commands_are_the_issues():
    assert "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/pluri demo" in TEXT
    second = "python3 -m venv .venv && .venv/bin/pip install -e '.[all,test]' && .venv/bin/python -m pytest"
    assert second in TEXT and second in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("line", COMMANDS_SHOWN)
def test_a_shown_command_is_understood(line):
    _, command, name, *words = shlex.split(line)
    assert command in COMMANDS
    if command == "pretrain":
        override(recipes.find(name), words, "test")
    elif command == "evaluate":
        task = next(iter(tasks.find(name).values()))
        own = [
            i for i, word in enumerate(words) if word in ("--seeds", "--beside", "--out")
        ]  # the command's, of one word
        override(task, [word for i, word in enumerate(words) if i and i not in own and i - 1 not in own], "test")


def test_every_recipe_and_every_linked_file_is_there():
    for name in recipes.names():
        modality, function = name.split("/")
        rows = [line for line in TEXT.splitlines() if line.startswith("|") and f"{modality}/" in line]
        assert any(f"`{name}`" in row or f"`{function}`" in row for row in rows), name
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_the_python_example_runs():
    import torch

    import pluri

    waveforms, lengths = torch.randn(2, 9000), torch.tensor([9000, 4000])
    code = re.search(r"```python\n(.*?)```", TEXT, re.S)
    assert code is not None
    encoded = pluri.load("random:speech/wav2vec2_tiny")(waveforms, lengths)
    for expression in ("encoded.x", "encoded.layers", "encoded.pooled()"):
        assert expression in code.group(1)
    assert encoded.x.shape[0] == encoded.pooled().shape[0] == 2 and len(encoded.layers) == 4
