# SPDX-License-Identifier: Apache-2.0
"""ASV: the network and its loss against slow ones, padding, layouts and protocols, and what is written."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soundfile
import torch
from torch import nn
from torch.nn import functional as F

from pluri.benchmarks import scores, tasks
from pluri.benchmarks.finetune import MissingFiles
from pluri.benchmarks.superb import suite
from pluri.benchmarks.superb.asv.probe import SCORES, figures
from pluri.benchmarks.superb.asv.task import TrialCorpusConfig, VerificationConfig
from pluri.benchmarks.superb.asv.verification import equal_error_rate
from pluri.benchmarks.superb.asv.xvector import CONTEXTS, MARGIN, REACH, SCALE, XVector, am_softmax, pool
from pluri.benchmarks.superb.featurizer import FeaturizerConfig
from pluri.benchmarks.superb.layouts.published import COUNTS, Count
from pluri.benchmarks.superb.order import ACROSS
from pluri.benchmarks.superb.predictions import read_scores
from pluri.benchmarks.superb.stacked import Adam, Stacked
from pluri.benchmarks.superb.states import Reading
from pluri.benchmarks.superb.store import StoreConfig

DATA = Path(os.environ.get("PLURI_TRIAL_DATA", "")) / "speech"
real = pytest.mark.skipif("PLURI_TRIAL_DATA" not in os.environ, reason="needs the trial data")
GRID = VerificationConfig().grid
SMALL = {"steps": 3, "evaluations": 1, "batch": 4, "grid": (3e-4, 1e-4), "device": "cpu", "shortest": 0.2}


def network(layers=2, width=8, speakers=3, kind: Literal["weighted", "layer", "concat"] = "weighted"):
    torch.manual_seed(0)
    return XVector(layers, width, speakers, FeaturizerConfig(kind=kind))


def tdnn(x, layer, count, apart):
    """One layer, frame by frame: x (T, D)."""
    weight = layer.weight  # (after, before, count)
    rows = []
    for t in range(len(x) - (count - 1) * apart):
        rows.append(sum(weight[:, :, i] @ x[t + i * apart] for i in range(count)) + layer.bias)
    return torch.stack(rows).relu()


def test_the_network_is_that_of_a_slow_loop_over_frames():
    made, x = network(), torch.randn(19, 2, 8)
    with torch.no_grad():
        share = torch.softmax(made.featurizer.weights, 0)
        y = made.into(sum(share[i] * x[:, i] for i in range(2)))
        for layer, (count, apart, _) in zip(made.contexts, CONTEXTS, strict=True):
            y = tdnn(y, layer, count, apart)
        assert y.shape == (19 - REACH + 1, 1500) and REACH == 15
        hidden = made.segment(torch.cat([y.mean(0), y.std(0)])).relu()
        assert torch.allclose(made(x, [19])[0], hidden / hidden.norm(), atol=1e-5)
        out = made.after(hidden).relu()[None]
        loss = made(x, [19], torch.tensor([1]))
        assert torch.allclose(loss, am_softmax(out, made.speakers, torch.tensor([1])), atol=1e-4)


def test_a_clip_alone_and_in_a_padded_batch_has_the_same_embedding_and_a_short_one_has_one():
    made, lengths = network(), [40, 16, 15, 7, 1]
    x = torch.randn(sum(lengths), 2, 8)
    with torch.no_grad():
        together = made(x, lengths)
        for row, part in zip(together, x.split(lengths), strict=True):
            assert torch.allclose(made(part, [len(part)])[0], row, atol=1e-6)
    assert together.isfinite().all() and torch.allclose(together.norm(dim=1), torch.ones(5))


def test_pooling_takes_valid_frames_and_its_slope_is_finite():
    x = torch.randn(3, 4, 6)
    x[0, 1], x[1, 0, 3:] = 0.0, 1e6
    x.requires_grad_()
    out = pool(x, torch.tensor([6, 3, 1]))
    for row, part, length in zip(out, x, (6, 3, 1), strict=True):
        kept = part[:, :length]
        deviation = kept.std(1) if length > 1 else torch.zeros(4)
        assert torch.allclose(row, torch.cat([kept.mean(1), deviation]), rtol=1e-4, atol=1e-6)
    out.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and not x.grad[1, 0, 3:].any()


def test_am_softmax_is_the_slow_formula():
    torch.manual_seed(1)
    x, speakers, labels = torch.randn(5, 16), torch.randn(16, 7), torch.tensor([0, 3, 6, 3, 2])
    total = 0.0
    for row, label in zip(x, labels.tolist(), strict=True):
        cosines = [float(F.cosine_similarity(row, speakers[:, c], dim=0)) for c in range(7)]
        right = np.exp(SCALE * (cosines[label] - MARGIN))
        total -= np.log(right / (right + sum(np.exp(SCALE * cosines[c]) for c in range(7) if c != label)))
    assert float(am_softmax(x, speakers, labels)) == pytest.approx(total / 5, rel=1e-4)


def test_every_parameter_learns():
    made = network()
    made(torch.randn(40, 2, 8), [20, 20], torch.tensor([0, 2])).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in made.parameters())


def test_a_head_whose_training_went_astray_is_the_worst_and_no_error():
    same = np.array([1, 0])
    assert figures(same, np.array([0.9, np.nan])) == {"eer": 1.0, "min_dcf": 1.0}
    assert figures(same, np.array([0.9, 0.1])) == {"eer": 0.0, "min_dcf": 0.0}


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(3, 4), nn.LSTM(4, 2)

    def forward(self, x):
        return self.two(self.one(x))[0]


def test_stacked_networks_with_weight_decay_are_those_trained_alone_by_adamw():
    rates = (1e-1, 1e-2)
    stacked = Stacked(Small, (0, 5), 2)
    adam = Adam(list(stacked.parameters()), rates, 0.1, 0.01)
    x = torch.randn(8, 6, 3)
    alone = []
    for seed in (0, 5):
        for rate in rates:
            torch.manual_seed(seed)
            one = Small()
            alone.append((one, torch.optim.AdamW(one.parameters(), rate, weight_decay=0.01)))
    for step in range(8):
        losses = [stacked.call(one, x[step]).square().mean() for group in stacked.each() for one in group]
        torch.stack(losses).sum().backward()
        adam.step()
        for one, optimizer in alone:
            optimizer.zero_grad()
            one(x[step]).square().mean().backward()
            nn.utils.clip_grad_norm_(one.parameters(), 0.1)
            optimizer.step()
    flat = [one for group in stacked.each() for one in group]
    for parameters, (one, _) in zip(flat, alone, strict=True):
        for name, value in one.named_parameters():
            assert torch.allclose(parameters[name], value, atol=1e-5)


PITCH = {"ann": 150.0, "bob": 700.0, "cat": 300.0, "dan": 1500.0, "eve": 220.0, "fay": 1000.0}


def voice(path, speaker, seed, seconds=0.4):
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * 16000)) / 16000
    wave = 0.1 * np.sin(2 * np.pi * PITCH[speaker] * time) + 0.005 * rng.standard_normal(len(time))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, 16000)


def manifest(folder, each=5):
    rows = ["path\tlabel\tsplit"]
    for n, speaker in enumerate(PITCH):
        for i in range(each):
            voice(folder / f"{speaker}{i}.wav", speaker, 100 * n + i, 0.3 + 0.03 * i)
            rows.append(f"{speaker}{i}.wav\t{speaker}\t{('train', 'dev', 'test')[n // 2]}")
    path = folder / "voices.tsv"
    path.write_text("\n".join(rows) + "\n")
    return path


def of(path, **fields):
    return dataclasses.replace(VerificationConfig(), **{**SMALL, "data": TrialCorpusConfig(path=str(path)), **fields})


def run(config, out, seeds=2, encoder="fbank_no_cmvn"):
    lines = []
    rows = suite.evaluate({"superb/asv": config}, encoder, seeds, False, out, lines.append)
    return rows, "\n".join(lines)


def test_trials_have_the_same_scores_where_clips_are_encoded_alone_and_in_a_padded_batch(tmp_path):
    config, found = of(manifest(tmp_path / "data", 3)), []
    for seconds in (0.01, 60.0):  # each clip in a batch of its own, and all of them in one
        changed = dataclasses.replace(config, store=StoreConfig(dtype="fp32", seconds=seconds))
        rows, _ = run(changed, tmp_path / f"{seconds}", 1, "random:speech/wav2vec2_tiny")
        (kept,) = (tmp_path / f"{seconds}").rglob(SCORES)
        said = json.loads(kept.read_text())["said"]
        found.append((rows[0].each[0]["eer"], list(said), np.array(list(said.values()))))
    assert found[0][:2] == found[1][:2] and found[0][2].shape == (2, 12)
    assert np.allclose(found[0][2], found[1][2], atol=1e-5)


def test_what_differs_from_s3prl_is_said(tmp_path):
    config = of(manifest(tmp_path / "data", 3))
    notes = " ".join(config.notes(config.folds()))
    assert ACROSS in notes and "pooling takes a clip's own frames" in notes and "pauses" not in notes


def test_pauses_that_are_kept_stand_among_what_is_not_published_and_have_a_store_of_their_own(tmp_path):
    path, stores = manifest(tmp_path / "data", 3), []
    for silence, said in (("cut", False), ("keep", True)):
        config = of(path, silence=silence, steps=1, evaluations=1, grid=GRID, lr=1e-4)
        rows, _ = run(config, tmp_path / "out", 1)
        assert ("silence keep (cut)" in rows[0].protocol) == said
        stores.append({one.name for one in (tmp_path / "out" / "store").iterdir()})
    assert len(stores[0]) == 1 and len(stores[1]) == 2


def test_voices_are_told_apart_and_everything_is_written(tmp_path):
    rows, said = run(of(manifest(tmp_path / "data", 3)), tmp_path / "out")
    (row,) = rows
    assert row.main == "eer" and row.scores["eer"] < 0.2 and row.split == "test"
    assert "best of test; lr of 2 by test" in row.protocol and row.chosen[0]["by"] == "median test"
    assert row.each[0].keys() == {"eer", "min_dcf"} and row.chosen[0]["judged"] == "test"  # there is no dev
    assert row.chosen[0]["grid"][0]["each"][0]["dev"] == 1.0 - row.chosen[0]["grid"][0]["each"][0]["eer"]
    assert any(note.startswith("published:") for note in row.chosen[0]["notes"])
    written = read_scores(next((tmp_path / "out" / "predictions").iterdir()) / "asv.txt")
    same = [one[:3] == one.split("_")[1][:3] for one in written]
    best = min(each["eer"] for each in row.each)
    assert equal_error_rate(np.array(same, dtype=int), list(written.values())) == best
    assert scores.read(tmp_path / "out") == rows and "3 steps of 4 (published: 200000)" in said


def test_dev_rows_that_nothing_is_chosen_by_are_neither_read_nor_shown(tmp_path):
    path = manifest(tmp_path / "data", 3)
    (fold,) = of(path).folds()
    assert not fold.parts.dev and "of which the 6 for dev are not used" in fold.parts.protocol
    (fold,) = of(path, protocol="clean").folds()
    assert len(fold.parts.dev) == 6 and "not used" not in fold.parts.protocol


def test_clean_chooses_by_speakers_held_apart(tmp_path):
    rows, _ = run(of(manifest(tmp_path / "data"), protocol="clean"), tmp_path / "out", 1)
    assert "best of dev; lr of 2 by dev" in rows[0].protocol
    (note,) = [note for note in rows[0].chosen[0]["notes"] if note.startswith("clean:")]
    assert "trials of 2 speakers" in note


def test_a_run_that_was_cut_off_ends_with_the_same_row(tmp_path, monkeypatch):
    config = of(
        manifest(tmp_path / "data", 3), store=StoreConfig(seconds=1.0), steps=2, evaluations=1, grid=GRID, lr=1e-4
    )
    whole, _ = run(config, tmp_path / "whole", 1)
    through, calls = Reading.__call__, []

    def cut(self, waves):
        calls.append(waves)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return through(self, waves)

    monkeypatch.setattr(Reading, "__call__", cut)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "cut", 1)
    again, _ = run(config, tmp_path / "cut", 1)
    assert again[0].each == whole[0].each
    third, said = run(config, tmp_path / "cut", 1)
    assert third[0].each == whole[0].each and "store:" not in said


def voxceleb(root, speakers=("id10001", "id10002", "id10003", "id10004", "id10271", "id10272")):
    for n, (speaker, pitch) in enumerate(zip(speakers, PITCH, strict=True)):
        part = "test" if speaker > "id10270" else "dev"
        for i in range(3):
            voice(root / part / "wav" / speaker / "video" / f"0000{i}.wav", pitch, 10 * n + i, 0.5)
    a, b = (f"{speaker}/video" for speaker in speakers[-2:])
    trials = [f"1 {a}/00000.wav {a}/00001.wav", f"0 {a}/00000.wav {b}/00002.wav", f"1 {b}/00002.wav {b}/00001.wav"]
    (root / "voxceleb1_test_v2.txt").write_text("\n".join(trials) + "\n")
    return root


def test_voxceleb_is_read_and_scored_in_the_leaderboards_form(tmp_path, monkeypatch):
    monkeypatch.setitem(COUNTS, "asv", Count((3,), "this test"))
    config = of(voxceleb(tmp_path / "VoxCeleb1"), steps=2, evaluations=1, longest=0.4, crops=2)
    rows, said = run(config, tmp_path / "out", 1)
    assert "SUPERB: trains on all of dev" in rows[0].protocol
    written = read_scores(next((tmp_path / "out" / "predictions").iterdir()) / "predict/sv_public/predict.txt")
    assert list(written)[1] == "id10271-video-00000_id10272-video-00002" and len(written) == 3
    assert "one of 2 fixed pieces" in " ".join(rows[0].chosen[0]["notes"])
    assert "28 clips" in said  # 12 of dev in two pieces each and 4 of trials
    assert (next((tmp_path / "out" / "predictions").iterdir()) / "predict.zip").is_file()
    clean = dataclasses.replace(config, protocol="clean").folds()[0]
    assert clean.judged == "dev" and not clean.official and len({one.speaker for one in clean.parts.dev}) == 2


def test_other_trials_than_the_published_ones_are_not_the_leaderboards(tmp_path, monkeypatch):
    root = voxceleb(tmp_path / "VoxCeleb1")
    (fold,) = of(root).folds()
    assert not fold.official and fold.parts.protocol.startswith("incomplete data: 3 of 37720 trials")
    monkeypatch.setitem(COUNTS, "asv", Count((3,), "this test"))
    list_of = root / "voxceleb1_test_v2.txt"
    names = {"voxceleb1_test_v2.txt": True, "veri_test2.txt": True, "veri_test.txt": False}
    for name, official in names.items():
        list_of = list_of.rename(root / name)
        (fold,) = of(root).folds()
        assert fold.official == official and fold.parts.protocol.startswith("SUPERB: ") == official
    named = tmp_path / "mine.txt"
    named.write_text(list_of.read_text())
    assert not of(root, data=TrialCorpusConfig(path=str(root), trials=str(named))).folds()[0].official
    with pytest.raises(ValueError, match="VoxCeleb1's test utterances are those of a list: name one"):
        of(root, data=TrialCorpusConfig(path=str(root), trials="all")).folds()


def test_what_cannot_be_used_is_said_in_one_line(tmp_path):
    path = manifest(tmp_path / "data")
    with pytest.raises(
        ValueError, match=r"training clips, without their silence, are no longer than 2 s: set --shortest"
    ):
        run(of(path, shortest=2.0), tmp_path / "out")
    with pytest.raises(MissingFiles, match="VoxCeleb1's dev/wav"):
        run(of(tmp_path), tmp_path / "out")
    (tmp_path / "data" / "eve0.wav").write_bytes(b"no audio")
    with pytest.raises(ValueError, match=r"eve0.wav.*fewer test clips"):
        run(of(path), tmp_path / "out")
    listing = tmp_path / "trials.txt"
    listing.write_text("1 fay1.wav fay2.wav\n0 fay1.wav nobody.wav\n")
    voice(tmp_path / "data" / "eve0.wav", "eve", 0)
    with pytest.raises(ValueError, match=r"line 2: nobody.wav is not one test utterance"):
        run(of(path, data=TrialCorpusConfig(path=str(path), trials=str(listing))), tmp_path / "out")
    listing.write_text("1\tfay1.wav\tfay 2.wav\n0 fay1.wav eve1.wav\n")
    with pytest.raises(ValueError, match=r"line 1: fay 2.wav is not one test utterance: none is called so"):
        run(of(path, data=TrialCorpusConfig(path=str(path), trials=str(listing))), tmp_path / "out")
    listing.write_text("1 fay1.wav fay2.wav\n1 fay1.wav eve1.wav\n0 fay2.wav eve1.wav\n")
    with pytest.raises(ValueError, match=r"trials.txt, line 2: 1, but the speakers are fay and eve"):
        of(path, data=TrialCorpusConfig(path=str(path), trials=str(listing))).folds()
    for lines, words in (
        ("1 fay1.wav fay2.wav\n1 fay1.wav fay1.wav\n0 fay2.wav eve1.wav\n", "line 2: a trial of fay1.wav with itself"),
        ("1 fay1.wav fay2.wav\n0 fay2.wav eve1.wav\n1 fay1.wav fay2.wav\n", "line 3: line 1 is the same trial"),
    ):
        listing.write_text(lines)
        with pytest.raises(ValueError, match=f"trials.txt, {words}"):
            of(path, data=TrialCorpusConfig(path=str(path), trials=str(listing))).folds()
    with pytest.raises(MissingFiles, match=r"nope.txt is missing: --data.trials names a list of trials"):
        of(path, data=TrialCorpusConfig(path=str(path), trials="nope.txt")).folds()
    with pytest.raises(ValueError, match="crops must be above 0"):
        of(path, crops=0)


def test_a_trial_of_voxceleb_that_contradicts_the_speakers_is_named(tmp_path):
    root = voxceleb(tmp_path / "VoxCeleb1")
    file = root / "voxceleb1_test_v2.txt"
    file.write_text("\n".join(f"{1 - int(line[0])}{line[1:]}" for line in file.read_text().splitlines()))
    with pytest.raises(ValueError, match=r"voxceleb1_test_v2.txt, line 1: 0, but the speakers are (\w+) and \1"):
        of(root).folds()


@real
def test_an4_is_read():
    config = of(DATA / "an4")
    (fold,) = config.folds()
    assert len(fold.parts.trials) > 100 and not fold.parts.dev_trials and fold.judged == "test"
    assert len(fold.parts.train) == 242 and not fold.parts.dev  # nothing is set apart that nobody would use
    assert not {one.speaker for one in fold.parts.train} & {one.speaker for one in fold.parts.test}
    assert "superb/asv" in tasks.names()
    (fold,) = of(DATA / "an4", data=TrialCorpusConfig(path=str(DATA / "an4"), trials="all")).folds()
    assert len(fold.parts.trials) == 65 * 64 // 2 and "all 2080 pairs of test utterances" in fold.parts.protocol
    assert not fold.official
