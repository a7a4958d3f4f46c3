# SPDX-License-Identifier: Apache-2.0
"""Suites in bf16, on a GPU where there is one, score as in float32 on the CPU, within the spread of the seeds."""

import dataclasses
import os
from pathlib import Path

import pytest
import torch

from pluri.benchmarks.scores import Row
from pluri.benchmarks.superb import suite as superb_suite
from pluri.benchmarks.superb.utterance.tasks import KeywordConfig
from pluri.benchmarks.text.glue import suite as glue_suite
from pluri.benchmarks.text.glue.config import GlueConfig, GlueDataConfig
from pluri.ssl.recipe import LoopConfig

DATA = Path(os.environ.get("PLURI_TRIAL_DATA", "")) / "speech"
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def agree(one: Row, other: Row) -> None:
    """The medians are no further apart than either row's seeds are, or than one item of a hundred."""
    figures = [[figures[row.main] for figures in row.each] for row in (one, other)]
    spread = max(0.01, *(max(each) - min(each) for each in figures))
    assert len(figures[0]) == len(figures[1]) == 3
    assert abs(one.scores[one.main] - other.scores[other.main]) <= spread, figures


def sentences(root: Path) -> Path:
    """SST-2 that is learnt within seconds, with one label in eight wrong."""
    rows = [("good good word", "1"), ("bad bad word", "0")] * 100
    for part, many in (("train", rows), ("dev", rows)):
        path = root / "SST-2" / f"{part}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{text} {i}\t{1 - int(label) if i % 8 == 5 else label}\n" for i, (text, label) in enumerate(many)]
        path.write_text("sentence\tlabel\n" + "".join(lines))
    return root


@pytest.mark.parametrize("device", DEVICES)
def test_glue_scores_the_same_in_bf16(device, small_bert, tmp_path):
    data = GlueDataConfig(path=str(sentences(tmp_path / "data")))
    rows = []
    for name, loop in (
        ("plain", LoopConfig(workers=0, keep=0, precision="fp32", device="cpu")),
        ("half", LoopConfig(workers=0, keep=0, precision="bf16", device=device)),
    ):
        config = GlueConfig(name="sst2", data=data, lr=(1e-3,), batch=(16,), epochs=(6.0,), loop=loop)
        rows += glue_suite.evaluate({"glue/sst2": config}, str(small_bert), 3, False, tmp_path / name, print)
    assert not rows[0].failed and not rows[1].failed and rows[0].scores["accuracy"] > 0.8
    agree(*rows)


@pytest.mark.skipif("PLURI_TRIAL_DATA" not in os.environ, reason="needs the trial data")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("encoder", "half"),
    [("fbank_no_cmvn", "fp32"), ("random:speech/wav2vec2_tiny", "bf16")],  # filter banks know no bf16
)
def test_superb_scores_the_same_in_bf16(device, encoder, half, tmp_path):
    lines = ["path\tlabel\tsplit"]
    for path in sorted((DATA / "fsdd" / "recordings").glob("[0-4]_*.wav")):
        digit, _, index = path.stem.split("_")
        part = "test" if int(index) < 5 else "dev" if int(index) < 7 else "train" if int(index) < 11 else ""
        lines += [f"{path}\t{digit}\t{part}"] if part else []
    (listing := tmp_path / "digits.tsv").write_text("\n".join(lines) + "\n")
    rows = []
    for name, precision, where in (("plain", "fp32", "cpu"), ("half", half, device)):
        config = KeywordConfig(lr=1e-2, steps=150, evaluations=3)
        data = dataclasses.replace(config.data, path=str(listing))
        config = dataclasses.replace(config, data=data, precision=precision, device=where)
        rows += superb_suite.evaluate({"superb/ks": config}, encoder, 3, False, tmp_path / name, print)
    assert rows[0].scores["accuracy"] > 0.3  # one in five by chance
    agree(*rows)
