# SPDX-License-Identifier: Apache-2.0
"""Two ranks give what one rank gives at the same global batch, by DDP and by FSDP, for every method."""

import datetime
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pluri.ssl import checkpoint, parallel

SCRIPT = Path(__file__).with_name("two_ranks.py")
TYPING = Path(__file__).resolve().parents[1] / ".typing"
COMMON = {
    "steps": 3,
    "loop.precision": "fp32",
    "loop.workers": 0,
    "loop.evaluate-every": 100,
    "data.held-out": 0.0,
    "loop.save-every": 1,
    "loop.keep": 3,
    "optimizer.schedule.warmup": 0.0,
    # Adam divides by the size of tiny gradients, and would blow up what rounding differs in.
    "optimizer.eps": 1e-2,
    "optimizer.lr": 1e-4,
}


def launch(out: Path, ranks: int, jobs: list[str]) -> dict[str, Path]:
    out.mkdir(exist_ok=True)
    (out / "jobs").write_text("\n".join(jobs))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    environment = {**os.environ, "PYTHONPATH": str(TYPING), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, str(SCRIPT), str(out), str(out / "jobs")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    names = [job.split()[0] for job in jobs]
    return {name: out / name.replace("/", "-") for name in names}


def jobs(samples, methods, **extra) -> list[str]:
    out = []
    for name, (modality, settings) in methods.items():
        settings = {**settings, **COMMON, **extra, "data.path": samples[modality]}
        out.append(" ".join([name, *(f"--{field} {value}" for field, value in settings.items())]))
    return out


@pytest.fixture(scope="module")
def one(samples, methods, tmp_path_factory):
    return launch(tmp_path_factory.mktemp("ranks") / "one", 1, jobs(samples, methods))


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_two_ranks_equal_one(sharding, one, samples, methods, tmp_path):
    two = launch(tmp_path / "two", 2, jobs(samples, methods, **{"loop.sharding": sharding}))
    for name, alone in one.items():
        assert differences(alone, two[name]) == [], name


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_two_ranks_step_by_lars_as_one_does(sharding, samples, methods, tmp_path):
    lars = {"optimizer.kind": "lars", "optimizer.lr": 0.5, "optimizer.clip": 0.1, "loop.sharding": sharding}
    some = [job for job in jobs(samples, methods, **lars) if job.startswith("speech/mockingjay_tiny")]
    alone, together = (launch(tmp_path / str(ranks), ranks, some) for ranks in (1, 2))
    for name, run in alone.items():
        assert differences(run, together[name]) == []


def test_two_ranks_of_uneven_rows_equal_one(samples, methods, tmp_path):
    uneven = [job for job in jobs(samples, methods, batch=13) if job.startswith(("vision/byol", "vision/vicreg"))]
    alone, together = (launch(tmp_path / str(ranks), ranks, uneven) for ranks in (1, 2))
    assert len(alone) == 2
    for name, run in alone.items():
        assert differences(run, together[name]) == [], name


def differences(alone: Path, together: Path) -> list[object]:
    """The figures and weights in which two runs of three steps differ by more than 1e-5."""
    rows = [
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (alone, together)
    ]
    assert len(rows[0]) == len(rows[1]) == 3
    found: list[object] = []
    for mine, its in zip(*rows, strict=True):
        for key in set(mine) - {"time", "rate", "mfu", "step"}:
            if mine[key] != pytest.approx(its[key], rel=1e-5, abs=1e-5):
                found.append((mine["step"], key, mine[key], its[key]))
    for step in (1, 3):
        mine, its = (checkpoint.load_weights(run / checkpoint.name(step)) for run in (alone, together))
        assert mine.keys() == its.keys()
        for key, value in mine.items():
            # Written so that a NaN counts as a difference.
            if not (value - its[key]).abs().max() <= 1e-5 * max(1.0, value.abs().max().item()):
                found.append((step, key))
    return found


def test_a_run_of_two_ranks_goes_on_with_one(one, samples, methods, tmp_path):
    """Checkpoints know nothing of ranks."""
    name = "text/bert_tiny"
    job = next(job for job in jobs(samples, methods, **{"loop.sharding": "fsdp"}) if job.startswith(name))
    first = launch(tmp_path / "a", 2, [job])
    for later in (2, 3):
        shutil.rmtree(first[name] / checkpoint.name(later))
    assert differences(one[name], launch(tmp_path / "a", 1, [job])[name]) == []


@pytest.mark.parametrize("gpu", [True, False])
def test_ranks_join_on_their_own_device_and_wait_for_each_other_a_day(gpu, monkeypatch):
    done = []
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: done.append(index))
    monkeypatch.setattr(parallel.dist, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(parallel.dist, "init_process_group", lambda *args, **kwargs: done.append((args, kwargs)))
    parallel.start()
    day = datetime.timedelta(days=1)
    joined = ("nccl",), {"timeout": day, "device_id": torch.device("cuda", 3)}
    assert done == ([3, joined] if gpu else [(("gloo",), {"timeout": day})])


def test_alone_the_collectives_do_nothing():
    x = torch.randn(3, requires_grad=True)
    assert parallel.world() == 1 and parallel.rank() == 0
    assert parallel.total_with_gradient(x) is x and parallel.total_rows(x) == 3
    assert torch.equal(parallel.total(x), x) and not parallel.total(x).requires_grad
