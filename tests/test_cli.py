# SPDX-License-Identifier: Apache-2.0
"""The command line: quick to start, helpful when misused, and every command does its work."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pluri.cli import COMMANDS, RUN

TYPING = Path(__file__).resolve().parents[1] / ".typing"


def pluri(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(TYPING), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    command = [sys.executable, "-m", "pluri", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250, cwd=cwd)


@pytest.fixture(scope="module")
def run(samples, methods, tmp_path_factory) -> Path:
    """A short run on the images."""
    out = tmp_path_factory.mktemp("cli") / "run"
    words = ["--data.path", samples["images"], "--steps", 2, "--batch", 12, "--loop.workers", 0, "--data.held-out", 0.2]
    done = pluri("pretrain", "vision/vicreg_tiny", "--out", out, *words)
    assert done.returncode == 0, done.stderr
    assert str(out) in done.stdout and "2 steps" in done.stdout
    return out


def test_help_takes_less_than_half_a_second():
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = pluri("--help")
        seconds.append(time.perf_counter() - start)
        assert done.returncode == 0 and all(command in done.stdout for command in COMMANDS)
    assert min(seconds) < 0.5


def test_every_command_has_help():
    assert set(COMMANDS) == set(RUN)
    for command in COMMANDS:
        done = pluri(command, "--help")
        assert done.returncode == 0 and "usage" in done.stdout.lower(), (command, done.stderr)


def test_a_suites_help_names_its_tasks():
    done = pluri("evaluate", "superb", "--help")
    assert done.returncode == 0 and all(f"  superb/{task} " in done.stdout for task in ("ks", "asv", "sf"))
    assert (
        "superb/ss" not in done.stdout
        and "glue/" not in done.stdout
        and "pluri evaluate superb/ks --help" in done.stdout
    )
    alone = pluri("evaluate", "superb/asv", "--help").stdout
    assert all(word in alone for word in ("--data.trials", "--seeds", "--beside", "--out"))


def test_list_names_recipes_and_tasks():
    done = pluri("list")
    assert done.returncode == 0
    for name in ("text/bert", "speech/wav2vec2_tiny", "vision/mockingjay_tiny", "classify/linear"):
        assert f"  {name} " in done.stdout


def test_a_recipes_help_shows_its_fields():
    done = pluri("pretrain", "speech/wav2vec2", "--help")
    for field in ("--data.path", "--steps", "--objective.quantizer.codes", "--encoder.layer-drop", "--loop.precision"):
        assert field in done.stdout


def test_a_run_goes_on_with_more_steps_and_refuses_other_settings(run):
    done = pluri("pretrain", run, "--steps", 3)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 3 and 0 < rows[1]["rate"] < 5000  # 12 images take milliseconds; the last row is read at once
    done = pluri("pretrain", "vision/vicreg_tiny", "--out", run, "--data.path", "elsewhere")
    assert done.returncode == 2 and "holds a run with other settings" in done.stderr
    before = (run / "recipe.json").read_text()
    done = pluri("pretrain", run, "--encoder.depth", 5, "--seed", 3, "--steps", 9, "--loop.workers", 1)
    assert done.returncode == 2 and "was begun with --encoder.depth 4, --seed 0 and goes on so" in done.stderr
    done = pluri("pretrain", run, "--steps", 1)
    assert done.returncode == 2 and "has taken 3 steps already" in done.stderr
    assert (run / "recipe.json").read_text() == before


def test_a_run_of_a_method_of_ones_own_is_gone_on_with_and_evaluated(samples, tmp_path):
    (tmp_path / "my_lab.py").write_text(
        "import dataclasses\nimport torch\nfrom pluri.ssl.objective import Objective, ObjectiveConfig\n"
        "from pluri.vision.recipes import vicreg_tiny\n\n"
        "class Noise(Objective):\n"
        "    def counts(self, batch):\n        return {'images': torch.tensor(float(len(batch.inputs)))}\n\n"
        "    def forward(self, batch):\n"
        "        x = self.backbone(batch.inputs, batch.lengths).x.square().mean((1, 2))\n"
        "        return {'loss': x.sum() / self.shared_counts(batch)['images']}\n\n"
        "@dataclasses.dataclass(frozen=True, kw_only=True)\nclass NoiseConfig(ObjectiveConfig):\n"
        "    def build(self, backbone):\n        return Noise(backbone)\n\n"
        "def mine():\n    return dataclasses.replace(vicreg_tiny(), objective=NoiseConfig())\n\n"
        "def number():\n    return 3\n"
    )
    words = ["--data.path", samples["images"], "--batch", 12, "--loop.workers", 0, "--steps"]
    done = pluri("pretrain", "my_lab:mine", "--out", "out", *words, 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = pluri("pretrain", "out", "--steps", 3, cwd=tmp_path)
    assert done.returncode == 2 and "pluri --import my_lab COMMAND" in done.stderr
    done = pluri("--import", "my_lab", "pretrain", "out", "--steps", 3, cwd=tmp_path)
    assert done.returncode == 0 and "3 steps" in done.stdout, done.stderr
    done = pluri("pretrain", "my_lab:number", *words, 2, cwd=tmp_path)
    assert done.returncode == 2 and "my_lab:number returns int" in done.stderr


def test_a_run_that_was_cut_off_before_its_first_checkpoint_says_that_it_begins_anew(run, tmp_path):
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "recipe.json").write_text((run / "recipe.json").read_text())
    done = pluri("pretrain", tmp_path / "cut")
    assert done.returncode == 0 and "has no checkpoint yet" in done.stdout, done.stderr


@pytest.mark.parametrize("task", ["classify/knn", "classify/linear", "classify/finetune"])
def test_evaluate_prints_the_encoder_beside_its_twin(task, run, samples, tmp_path):
    words = ["--data.path", samples["images"], "--seeds", 2, "--out", tmp_path / "scores"]
    if task == "classify/finetune":
        words += ["--epochs", 1]
    done = pluri("evaluate", task, run, *words)
    assert done.returncode == 0, done.stderr
    assert "random twin" in done.stdout and ("pixels" in done.stdout) == (task != "classify/finetune")
    rows = [json.loads(line) for line in (tmp_path / "scores" / "scores.jsonl").read_text().splitlines()]
    assert {row["task"] for row in rows} == {task} and rows[0]["encoder"] == str(run) and rows[0]["protocol"]
    assert 0.0 <= rows[0]["scores"]["accuracy"] <= 1.0 and len(rows[1]["each"]) == len(rows[1]["seeds"]) == 2
    done = pluri("report", run, tmp_path, "--out", tmp_path / "page.html")
    assert done.returncode == 0 and "data:image/png;base64" in (tmp_path / "page.html").read_text()


def test_an_export_loads_in_transformers(run, tmp_path):
    transformers = pytest.importorskip("transformers")
    done = pluri("export", run, "--to", "hf", "--out", tmp_path / "hf")
    assert done.returncode == 0, done.stderr
    assert transformers.AutoConfig.from_pretrained(tmp_path / "hf").hidden_size == 192
    done = pluri("export", "random:text/bert_tiny", "--out", tmp_path / "no")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1


def test_wrong_encoders_tasks_and_data_end_in_one_line(run, samples, tmp_path):
    for words, expected in (
        (("classify/linar", run), "did you mean classify/linear"),
        (("classify/linear", "no/such/encoder"), "no encoder"),
        (("classify/linear", run), "set --data.path"),
        (("classify/linear", run, "--data.path", tmp_path / "nowhere"), "does not exist"),
        (("classify/linear", run, "--data.path", samples["images"] / "across"), "needs two"),
        (("classify/linear", "fbank", "--data.path", samples["images"]), "no audio"),
    ):
        done = pluri("evaluate", *words)
        assert done.returncode == 2 and expected in done.stderr, (words, done.stderr)
        assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1


def test_doctor_names_what_does_not_fit():
    from pluri.benchmarks.doctor import pair_fits, problems, versions

    assert pair_fits("2.9.1", "2.9.1") and pair_fits("2.14.1+cu130", "2.11.0") and pair_fits("2.11.0", "2.11.0")
    assert not pair_fits("2.15.0", "2.11.0") and not pair_fits("2.9.1", "2.11.0")
    found = problems({**versions(), "torch": "2.9.1", "torchaudio": "2.11.0"})
    assert any("torchaudio==2.9.1" in line for line in found)
    done = pluri("doctor")
    assert done.returncode == 0 and "no problem found" in done.stdout, done.stdout


@pytest.mark.slow
def test_the_demo_runs_from_end_to_end(tmp_path):
    done = pluri("demo", "--quick", "--out", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "demo" / "index.html").read_text()
    assert page.count("data:image/png;base64") >= 8 and "<mark" in page
    assert all(f"{name}_tiny" in done.stdout for name in ("bert", "mockingjay", "wav2vec2", "byol", "vicreg"))
