# SPDX-License-Identifier: Apache-2.0
"""Telemetry: collapse is seen and said, metrics are cut back to the checkpoint, and the peak is a speed."""

import json
import math

import pytest
import torch

from pluri.ssl.monitor import Alarm, Monitor, embedding_std, matmul_peak, rank_me
from pluri.ssl.objectives.wav2vec2 import Wav2Vec2


def test_rank_me_counts_the_dimensions_in_use():
    torch.manual_seed(0)
    x = torch.randn(500, 7) @ torch.randn(7, 64)
    assert 4 < rank_me(x) <= 7.2 and rank_me(torch.randn(2000, 64)) > 58
    assert rank_me(torch.ones(100, 64)) == pytest.approx(1.0, abs=0.05)
    # The definition, with numpy's own singular values (Garrido et al. 2023, eq. 1).
    import numpy as np

    values = np.linalg.svd(x.numpy(), compute_uv=False)
    share = values / values.sum() + 1e-5
    assert rank_me(x) == pytest.approx(float(np.exp(-(share * np.log(share)).sum())), rel=1e-4)


def test_embedding_std_is_one_for_isotropy_and_nought_for_a_point():
    torch.manual_seed(0)
    assert embedding_std(torch.randn(3000, 32)) == pytest.approx(1.0, abs=0.03)
    assert embedding_std(torch.ones(50, 32)) < 1e-6


def test_an_alarm_waits_says_it_once_and_is_silent_while_all_is_well():
    alarm = Alarm(Wav2Vec2.alarms)
    assert all(alarm.check({"code_perplexity": 50.0}) is None for _ in range(500))
    said = [words for _ in range(500) if (words := alarm.check({"code_perplexity": 2.1}))]
    assert len(said) == 1 and "code_perplexity" in said[0] and "collapse" in said[0]
    short = Alarm(Wav2Vec2.alarms)
    dips = [short.check({"code_perplexity": 2.0 if i % 5 else 60.0}) for i in range(500)]
    assert not any(dips)


def test_metrics_are_cut_back_to_the_step_that_a_run_goes_on_from(tmp_path):
    first = Monitor(tmp_path, 10, 0, "images")
    for step in range(1, 6):
        first.step({"step": step, "loss": 1.0 / step, "rate": math.nan})
    first.bad_item("a.png", "broken")
    first.bad_item("a.png", "broken")
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # a row that a crash cut off
    second = Monitor(tmp_path, 10, 3, "images")
    second.step({"step": 4, "loss": 9.0})
    second.bad_item("a.png", "broken")
    second.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4] and rows[-1]["loss"] == 9.0 and rows[0]["rate"] == "nan"
    assert len((tmp_path / "bad_items.jsonl").read_text().splitlines()) == 1


def test_the_peak_is_a_speed_that_matrix_products_have():
    peak = matmul_peak(torch.device("cpu"), torch.float32)
    assert 1e9 < peak < 1e14
