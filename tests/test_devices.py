# SPDX-License-Identifier: Apache-2.0
"""Suites in bf16, on a GPU where there is one, score as in float32 on the CPU, within the spread of the seeds."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from pluri.benchmarks.scores import Row
from pluri.benchmarks.superb import suite as superb_suite
from pluri.benchmarks.superb.asv.task import TrialCorpusConfig, VerificationConfig
from pluri.benchmarks.superb.ctc.tasks import (
    LetterConfig,
    PhoneConfig,
    PronouncedCorpusConfig,
    SlotConfig,
    TranscribedCorpusConfig,
)
from pluri.benchmarks.superb.qbe.task import SearchConfig
from pluri.benchmarks.superb.sd.task import DiarizationConfig
from pluri.benchmarks.superb.swept import CorpusConfig, SweptConfig
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
    assert len(figures[0]) == len(figures[1]) == (1 if one.task == "superb/qbe" else 3)
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


DIGITS = {"zero": "Z IY1 R OW0", "one": "W AH1 N", "two": "T UW1", "three": "TH R IY1", "four": "F AO1 R"}
WORDS = tuple(DIGITS)


def digits(root: Path, task: str) -> Path:
    """330 recordings of five digits by six speakers, with what a task wants to know of them."""
    root.mkdir()
    lines = ["path\tsplit\tlabel\ttext\ttags"]
    for path in sorted((DATA / "fsdd" / "recordings").glob("[0-4]_*.wav")):
        digit, speaker, index = path.stem.split("_")
        number, word = int(index), WORDS[int(digit)]
        part = "test" if number < 5 else "dev" if number < 7 else "train" if number < 11 else ""
        if task == "qbe":  # two queries of each term, and documents
            part = ("test", "dev")[number] if number < 2 else "document" if number < 8 else ""
            part = "document" if part and speaker != "jackson" else part
        lines += [f"{path}\t{part}\t{word}\t{word.upper()}\tB-{'small' if word < 'p' else 'large'}"] if part else []
    (root / "lexicon.txt").write_text("".join(f"{word.upper()} {phones}\n" for word, phones in DIGITS.items()))
    (listing := root / "digits.tsv").write_text("\n".join(lines) + "\n")
    return listing


def voices(root: Path) -> Path:
    """Six speakers who hum, each at a pitch of their own."""
    root.mkdir()
    lines = ["path\tlabel\tsplit"]
    time, noise = np.arange(6400) / 16000, np.random.default_rng(0)
    for number, pitch in enumerate((150, 700, 300, 1500, 220, 1000)):
        for i in range(6):
            wave = 0.1 * np.sin(2 * np.pi * pitch * time) + 0.005 * noise.standard_normal(6400)
            soundfile.write(root / f"{pitch}_{i}.wav", wave, 16000)
            lines.append(f"{pitch}_{i}.wav\t{pitch}\t{('train', 'dev', 'test')[number // 2]}")
    (listing := root / "voices.tsv").write_text("\n".join(lines) + "\n")
    return listing


def settings(task: str, root: Path) -> SweptConfig | SearchConfig:
    """A task with a head that learns something within seconds."""
    found = DATA / "ami_debug" if task == "sd" else voices(root) if task == "asv" else digits(root, task)
    path = str(found)
    short = {"data": CorpusConfig(path=path), "lr": 1e-2, "steps": 60, "evaluations": 2, "batch": 16}
    recurrent = {**short, "hidden": 24, "augmented": False, "steps": 150}
    if task == "pr":
        return PhoneConfig(**{**short, "data": PronouncedCorpusConfig(path=path, lexicon=(str(root / "lexicon.txt"),))})
    if task == "asv":
        corpus = TrialCorpusConfig(path=path, trials="all")
        return VerificationConfig(
            **{**short, "data": corpus, "lr": 3e-4, "steps": 6, "batch": 4, "shortest": 0.1, "silence": "keep"}
        )
    if task == "sd":
        return DiarizationConfig(**{**short, "lr": 1e-3, "steps": 6, "batch": 2, "speakers": 4, "chunk": 1000})
    if task == "qbe":
        return SearchConfig(data=CorpusConfig(path=path))
    if task == "asr":
        return LetterConfig(**{**recurrent, "data": TranscribedCorpusConfig(path=path)})
    return SlotConfig(**recurrent)


@pytest.mark.skipif("PLURI_TRIAL_DATA" not in os.environ, reason="needs the trial data")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("encoder", "half"),
    [("fbank_no_cmvn", "fp32"), ("random:speech/wav2vec2_tiny", "bf16")],  # filter banks know no bf16
)
def test_superb_scores_the_same_in_bf16(device, encoder, half, tmp_path):
    listing, rows = digits(tmp_path / "data", "ks"), []
    for name, precision, where in (("plain", "fp32", "cpu"), ("half", half, device)):
        config = KeywordConfig(lr=1e-2, steps=150, evaluations=3)
        data = dataclasses.replace(config.data, path=str(listing))
        config = dataclasses.replace(config, data=data, precision=precision, device=where)
        rows += superb_suite.evaluate({"superb/ks": config}, encoder, 3, False, tmp_path / name, print)
    assert rows[0].scores["accuracy"] > 0.3  # one in five by chance
    agree(*rows)


@pytest.mark.skipif("PLURI_TRIAL_DATA" not in os.environ, reason="needs the trial data")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("task", "reached"), [("pr", 0.6), ("asr", 0.9), ("sf", 0.7), ("asv", 0.4), ("sd", 0.8), ("qbe", 0.1)]
)
def test_tasks_that_hear_frames_score_the_same_in_bf16(task, reached, device, tmp_path):
    config, rows = settings(task, tmp_path / "data"), []
    # Mockingjay's features have each recording's mean taken away, which of a hum leaves nothing.
    encoder = "random:speech/vicreg_tiny" if task == "asv" else "random:speech/mockingjay_tiny"
    for precision, where in (("fp32", "cpu"), ("bf16", device)):
        changed, name = dataclasses.replace(config, precision=precision, device=where), f"superb/{task}"
        rows += superb_suite.evaluate({name: changed}, encoder, 3, False, tmp_path / precision, print)
    print([(row.main, row.scores, [e[row.main] for e in row.each]) for row in rows])
    score = rows[0].scores[rows[0].main]
    assert score > reached if task in ("sf", "qbe") else score < reached
    agree(*rows)
