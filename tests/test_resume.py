# SPDX-License-Identifier: Apache-2.0
"""A run that is killed with SIGKILL, three times, ends with the very bits of one that was not."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import pluri
from pluri.ssl import checkpoint

TYPING = Path(__file__).resolve().parents[1] / ".typing"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(TYPING), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
STEPS = 14


def start(words: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "pluri", "pretrain", *words],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # loader workers die with their parent
    )


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors[-3000:]


def rows(run: Path) -> list[dict]:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def kill_at(words: list[str], run: Path, step: int) -> None:
    """Lets a run go until its metrics say `step`, and kills it and its workers that moment."""
    process = start(words)
    end = time.monotonic() + 200
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        seen = rows(run)
        if seen and seen[-1]["step"] >= step:
            break
        time.sleep(0.005)
    assert process.poll() is None, "the run ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def equal(run: Path, whole: Path) -> bool:
    """True; raises AssertionError where two finished runs differ in a single bit."""
    assert [(row["step"], row["loss"], row["grad_norm"]) for row in rows(run)] == [
        (row["step"], row["loss"], row["grad_norm"]) for row in rows(whole)
    ]
    mine, its = (checkpoint.latest(path) for path in (run, whole))
    assert mine is not None and its is not None and mine.name == its.name == checkpoint.name(STEPS)
    assert (mine / "model.safetensors").read_bytes() == (its / "model.safetensors").read_bytes()
    same(*(torch.load(path / "optimizer.pt", weights_only=True) for path in (mine, its)))
    return True


def same(mine, its) -> None:
    """Raises AssertionError unless two nested values are equal to the bit."""
    if isinstance(mine, dict):
        assert list(mine) == list(its)
        for name in mine:
            same(mine[name], its[name])
    elif isinstance(mine, (list, tuple)):
        for one, other in zip(mine, its, strict=True):
            same(one, other)
    elif isinstance(mine, torch.Tensor):
        assert torch.equal(mine, its)
    else:
        assert mine == its


def words_for(name: str, samples, methods, out: Path, workers: int) -> list[str]:
    modality, settings = methods[name]
    settings = {
        **settings,
        "data.path": samples[modality],
        "steps": STEPS,
        "loop.workers": workers,
        "loop.save-every": 3,
        "loop.evaluate-every": 5,
        "data.held-out": 0.2,
    }
    return [name, "--out", str(out), *(str(word) for field in settings.items() for word in (f"--{field[0]}", field[1]))]


NAMES = ["text/bert_tiny", "speech/mockingjay_tiny", "speech/wav2vec2_tiny", "vision/byol_tiny", "vision/vicreg_tiny"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_a_killed_run_ends_with_the_same_bits(name, samples, methods, tmp_path):
    whole = tmp_path / "whole"
    finish(start(words_for(name, samples, methods, whole, 0)))
    rng = random.Random()  # other steps each time
    for workers in (0, 2):
        run = tmp_path / f"killed{workers}"
        words = words_for(name, samples, methods, run, workers)
        for step in sorted(rng.sample(range(1, STEPS - 1), 3)):
            kill_at(words, run, step)
        finish(start([str(run)]))  # the run directory alone is enough to go on
        assert equal(run, whole)


def test_a_run_killed_once_ends_with_the_same_bits(samples, methods, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "killed"
    finish(start(words_for("text/bert_tiny", samples, methods, whole, 0)))
    kill_at(words_for("text/bert_tiny", samples, methods, run, 2), run, 4)
    finish(start([str(run)]))
    assert equal(run, whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_told_to_stop_with_its_workers_saves_first(number, samples, methods, tmp_path):
    run = tmp_path / "stopped"
    process = start(
        [*words_for("text/bert_tiny", samples, methods, run, 2), "--loop.save-every", "1000", "--steps", "5000"]
    )
    while not rows(run):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, number)  # as a terminal does
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1 and "start again to go on" in errors and "Traceback" not in errors
    assert checkpoint.latest(run) is not None


def test_a_damaged_checkpoint_is_named(samples, methods, tmp_path):
    run = tmp_path / "run"
    finish(start([*words_for("text/bert_tiny", samples, methods, run, 0), "--steps", "3"]))
    newest = checkpoint.latest(run)
    assert newest is not None
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    process = start([str(run), "--steps", "5"])
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 2 and "is damaged" in errors and "Traceback" not in errors
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged: delete"):
        pluri.load(str(run))
