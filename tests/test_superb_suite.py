# SPDX-License-Identifier: Apache-2.0
"""SUPERB's suite as a whole: what is refused at once, what a break leaves behind, stores of twins, chosen layers."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from pluri.benchmarks import scores
from pluri.benchmarks.superb import entrant, suite, swept
from pluri.benchmarks.superb.featurizer import FeaturizerConfig
from pluri.benchmarks.superb.page import pictures
from pluri.benchmarks.superb.qbe.search import SearchConfig
from pluri.benchmarks.superb.store import StoreConfig
from pluri.benchmarks.superb.swept import CorpusConfig
from pluri.benchmarks.superb.utterance.tasks import SpeakerConfig

TINY = "random:speech/mockingjay_tiny"
TWIN = "random twin of random-speech-mockingjay_tiny"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """20 clips of two pitches."""
    folder = tmp_path_factory.mktemp("tones")
    rows, rng = ["path\tlabel\tsplit"], np.random.default_rng(0)
    for i in range(20):
        wave = 0.1 * np.sin(2 * np.pi * (120.0, 900.0)[i % 2] * np.arange(4800) / 16000)
        soundfile.write(folder / f"{i}.wav", wave + 0.01 * rng.standard_normal(4800), 16000)
        rows.append(f"{i}.wav\t{('low', 'high')[i % 2]}\t{'test' if i > 14 else 'dev' if i > 10 else 'train'}")
    (folder / "clips.tsv").write_text("\n".join(rows) + "\n")
    return folder / "clips.tsv"


@pytest.fixture
def config(data):
    corpus = dataclasses.replace(SpeakerConfig().data, path=str(data))
    return SpeakerConfig(data=corpus, steps=12, evaluations=3, batch=8, grid=(1e-2, 1e-3), device="cpu")


@pytest.fixture(autouse=True)
def other_twins(monkeypatch):
    """None of which is the encoder itself, whose weights are those of seed 0."""
    through = entrant.random_twin
    monkeypatch.setattr(entrant, "random_twin", lambda backbone, seed: through(backbone, seed + 1))


def run(config, out, encoder=TINY, beside=True, seeds=2):
    lines = []
    return suite.evaluate({"superb/sid": config}, encoder, seeds, beside, out, lines.append), "\n".join(lines)


def stores(out):
    return sorted(path.parent.name for path in (out / "store").glob("*/states.bin"))


def test_an_encoder_without_a_twin_is_refused_before_anything_is_trained(config, tmp_path, monkeypatch):
    def refuse(backbone, seed):
        raise ValueError("pluri cannot draw these weights anew: set --beside False")

    monkeypatch.setattr(entrant, "random_twin", refuse)
    with pytest.raises(ValueError, match="set --beside False"):
        run(config, tmp_path)
    assert not list(tmp_path.iterdir())
    run(config, tmp_path, beside=False)


def test_a_run_that_is_killed_in_the_twins_sweep_keeps_the_first_row_and_ends_as_a_whole_one(
    config, tmp_path, monkeypatch
):
    whole, _ = run(config, tmp_path / "whole")
    through, calls = swept.sweep, []

    def cut(*words):
        calls.append(words)
        if len(calls) == 3:  # the encoder's sweep, and that of one twin, are done
            raise KeyboardInterrupt
        return through(*words)

    monkeypatch.setattr(swept, "sweep", cut)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "cut")
    assert [row.encoder for row in scores.read(tmp_path / "cut")] == [TINY]
    assert len(stores(tmp_path / "cut")) == 2  # the encoder's, and that of the twin whose turn it was
    monkeypatch.setattr(swept, "sweep", through)
    again, said = run(config, tmp_path / "cut")
    assert [row.each for row in again] == [row.each for row in whole] and " 20 to be encoded" in said
    assert said.count(" to be encoded") == 2 and " 0 to be encoded" in said  # the second twin's, then the filter banks'


def test_stores_of_twins_are_removed_after_their_sweeps_and_the_budget_is_the_run_s(config, tmp_path):
    rows, said = run(config, tmp_path / "out", seeds=3)
    assert [row.encoder for row in rows] == [TINY, TWIN, "fbank_no_cmvn"]
    assert said.count(" 20 to be encoded") == 5 and len(stores(tmp_path / "out")) == 2
    amounts = [line.split(", ")[2] for line in said.splitlines() if line.startswith("store:")]
    tight = dataclasses.replace(config, store=StoreConfig(gigabytes=2.01 * float(amounts[0].split()[0])))
    again, said = run(tight, tmp_path / "tight", seeds=3)
    assert "runs online" not in said  # a twin's store stands beside the encoder's, one at a time
    assert [row.each for row in again] == [row.each for row in rows]
    _, said = run(dataclasses.replace(tight, steps=13), tmp_path / "out", beside=False)
    assert " 0 to be encoded" in said
    short = dataclasses.replace(config, store=StoreConfig(gigabytes=1.5 * float(amounts[0].split()[0])))
    _, said = run(short, tmp_path / "short", seeds=1)
    assert said.count("of which other stores in") == 1
    unkept = dataclasses.replace(config, store=StoreConfig(keep=False))
    run(unkept, tmp_path / "unkept", beside=False)
    assert not stores(tmp_path / "unkept")


@pytest.mark.parametrize("kind", ["weighted", "concat"])
def test_chosen_layers_are_stored_alone_and_named_by_their_numbers(config, tmp_path, kind):
    some = dataclasses.replace(config, featurizer=FeaturizerConfig(kind=kind, layers=(1, 3)))
    rows, said = run(some, tmp_path)
    assert "frames of 2 x" in said and "layers 1, 3" in rows[0].protocol and "(1, 3) (all)" in rows[0].protocol
    assert rows[0].chosen[0]["numbers"] == [1, 3] and "numbers" not in rows[2].chosen[0]  # filter banks have but one
    assert rows[2].encoder == "fbank_no_cmvn" and "not as published: featurizer.layers" not in rows[2].protocol
    assert json.loads((tmp_path / scores.FILE).read_text().splitlines()[0])["chosen"][0]["numbers"] == [1, 3]
    if kind == "weighted":
        assert all(len(one) == 2 for one in rows[0].chosen[0]["layers"])
        names = [label.get_text() for label in pictures.layers(rows).axes[0].get_xticklabels()]
        assert names == ["1", "3"]


def test_a_run_that_is_killed_as_it_notes_what_it_left_out_goes_on(config, tmp_path, monkeypatch):
    through = Path.replace

    def cut(path, target):
        if target.name == swept.LEFT_OUT:
            raise KeyboardInterrupt
        return through(path, target)

    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path, beside=False)
    assert not list(tmp_path.rglob(swept.LEFT_OUT))
    monkeypatch.setattr(Path, "replace", through)
    (row,), _ = run(config, tmp_path, beside=False)
    assert row.chosen[0]["bad"] == 0


def test_rows_on_other_data_are_not_replaced(config, data, tmp_path, monkeypatch):
    (first,), _ = run(config, tmp_path / "out", beside=False)
    shutil.copytree(data.parent, tmp_path / "copy")
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, path=str(tmp_path / "copy" / data.name)))
    for name in (TINY, "mel"):
        with pytest.raises(
            ValueError, match="scores.jsonl has a row of superb/sid on other data, .*clips.tsv: choose an"
        ):
            run(other, tmp_path / "out", name, beside=False)
    assert scores.read(tmp_path / "out") == [first]
    monkeypatch.chdir(data.parent)
    same = dataclasses.replace(config, data=dataclasses.replace(config.data, path=data.name), steps=13)
    (second,), said = run(same, tmp_path / "out", beside=False)  # other settings on the same data
    was = f"had {first.scores['accuracy']:.4f}, by other rules: {first.protocol}; this row takes its place"
    assert f"superb/sid: {TINY} {was}, another --out keeps both" in said
    monkeypatch.chdir(tmp_path)
    assert "takes its place" in run(config, tmp_path / "out", beside=False)[1]
    assert "takes its place" not in run(config, tmp_path / "out", beside=False)[1]
    assert "13 steps" in second.protocol and len(scores.read(tmp_path / "out")) == 1


def test_a_precision_is_refused_where_it_has_no_effect_and_is_not_that_of_filter_banks(config, tmp_path):
    half = dataclasses.replace(config, precision="bf16")
    for name in ("mel", "fbank_no_cmvn", "s3prl:fbank"):
        with pytest.raises(ValueError, match=f"--precision has no effect on {name}, which computes in float32"):
            run(half, tmp_path, name, beside=False)
    assert not list(tmp_path.iterdir())
    rows, _ = run(half, tmp_path, seeds=1)
    assert [row.chosen[0]["changed"].get("precision") for row in rows] == ["bf16 (fp32)", "bf16 (fp32)", None]


def test_one_layer_of_an_encoder_has_filter_banks_beside_it(config, tmp_path):
    one = dataclasses.replace(config, featurizer=FeaturizerConfig(kind="layer", layer=2))
    rows, _ = run(one, tmp_path, seeds=1)
    assert "layer 2;" in rows[0].protocol and "layer 0;" in rows[2].protocol
    with pytest.raises(ValueError, match="--beside has no effect on fbank_no_cmvn, which has no weights"):
        run(one, tmp_path, "fbank_no_cmvn")
    with pytest.raises(ValueError, match="featurizer.layer=2 is not one of 0"):
        run(one, tmp_path, "fbank_no_cmvn", beside=False)


def test_a_search_by_chosen_layers_has_filter_banks_beside_it_and_removes_its_twins_stores(tmp_path):
    rows, rng = ["path\tlabel\tsplit"], np.random.default_rng(0)
    for i in range(12):
        wave = 0.1 * np.sin(2 * np.pi * (300.0, 1200.0)[i % 2] * np.arange(8000) / 16000)
        soundfile.write(tmp_path / f"{i}.wav", wave + 0.01 * rng.standard_normal(8000), 16000)
        rows.append(f"{i}.wav\t{('low', 'high')[i % 2]}\t{'document' if i < 8 else 'dev' if i < 10 else 'test'}")
    (tmp_path / "terms.tsv").write_text("\n".join(rows) + "\n")
    search = SearchConfig(device="cpu", data=CorpusConfig(path=str(tmp_path / "terms.tsv")), layers=(1, 2))
    found = suite.evaluate({"superb/qbe": search}, TINY, 2, True, tmp_path / "out", lambda line: None)
    assert [[cell["layer"] for cell in row.chosen[0]["grid"]] for row in found] == [[1, 2], [1, 2], [0]]
    assert len(stores(tmp_path / "out")) == 2 and torch.isfinite(torch.tensor(found[1].values())).all()
