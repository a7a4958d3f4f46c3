# SPDX-License-Identifier: Apache-2.0
"""SD: the loss against a loop over permutations, padding, chunks and labels, layouts, protocols, what is written."""

import dataclasses
import itertools
import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from pluri.benchmarks import scores
from pluri.benchmarks.finetune import MissingFiles
from pluri.benchmarks.superb import suite
from pluri.benchmarks.superb.clips import Clips
from pluri.benchmarks.superb.featurizer import FeaturizerConfig
from pluri.benchmarks.superb.layouts.published import COUNTS, Count
from pluri.benchmarks.superb.order import ACROSS
from pluri.benchmarks.superb.sd import diarization, probe
from pluri.benchmarks.superb.sd import task as sd_task
from pluri.benchmarks.superb.sd.chunks import cut, fit
from pluri.benchmarks.superb.sd.head import Diarizer, permuted, right
from pluri.benchmarks.superb.sd.probe import read_probabilities, write_probabilities
from pluri.benchmarks.superb.sd.rttm import Turn, read_rttm
from pluri.benchmarks.superb.sd.task import DiarizationConfig
from pluri.benchmarks.superb.states import Reading
from pluri.benchmarks.superb.store import StoreConfig
from pluri.benchmarks.superb.swept import CorpusConfig
from pluri.benchmarks.superb.utterances import Utterance

DATA = Path(os.environ.get("PLURI_TRIAL_DATA", "")) / "speech"
real = pytest.mark.skipif("PLURI_TRIAL_DATA" not in os.environ, reason="needs the trial data")
SMALL = {"steps": 12, "evaluations": 3, "batch": 4, "grid": (1e-2, 1e-3), "device": "cpu", "chunk": 100}


@pytest.mark.parametrize("speakers", [1, 2, 3, 4])
def test_the_loss_is_the_least_over_all_orders_and_padding_is_no_part_of_it(speakers):
    torch.manual_seed(speakers)
    lengths = [7, 3, 1]
    logits, targets = torch.randn(3, 7, speakers) * 3, torch.rand(3, 7, speakers).round()
    for row, length in enumerate(lengths):
        targets[row, length:] = 0
    losses, orders = permuted(logits, targets, lengths)
    bce, count = nn.BCEWithLogitsLoss(), 0
    for row, length in enumerate(lengths):
        found = {}
        for order in itertools.permutations(range(speakers)):
            found[order] = float(bce(logits[row, :length], targets[row, :length][:, list(order)])) * length
        assert float(losses[row]) == pytest.approx(min(found.values()), rel=1e-5)
        best = tuple(orders[row].tolist())
        assert found[best] == pytest.approx(min(found.values()))
        said = logits[row, :length].sigmoid() > 0.5
        count += int((said == targets[row, :length][:, list(best)].bool()).sum())
    assert int(right(logits, targets, lengths).sum()) == count


def network(speakers=2):
    torch.manual_seed(0)
    return Diarizer(2, 5, speakers, FeaturizerConfig())


def test_a_clip_alone_and_in_a_padded_batch_has_the_same_logits_and_loss():
    made, lengths = network(), [9, 4, 1]
    x = torch.randn(14, 2, 5)
    targets = torch.rand(3, 9, 2).round()
    targets[1, 4:], targets[2, 1:] = 0, 0
    with torch.no_grad():
        together, total = made(x, lengths), 0.0
        for row, (part, length) in enumerate(zip(x.split(lengths), lengths, strict=True)):
            assert torch.allclose(made(part, [length])[0], together[row, :length], atol=1e-6)
            total += float(made(part, [length], targets[row : row + 1, :length])) * length
        assert float(made(x, lengths, targets)) == pytest.approx(total / 14, rel=1e-5)


def test_every_parameter_learns():
    made = network()
    made(torch.randn(9, 2, 5), [9], torch.rand(1, 9, 2).round()).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in made.parameters())


def test_a_recording_is_cut_into_chunks_whose_labels_are_those_of_a_slow_loop():
    turns = (Turn("b", 0.0, 1.0), Turn("a", 0.504, 3.0), Turn("b", 2.5, 2.503))
    for seconds, frames in ((3.0, [100, 100, 100]), (2.05, [100, 105]), (2.1, [100, 100, 10]), (0.02, [2])):
        clips = Clips(hop=160)
        recording = cut(Utterance("one", Path("one.wav"), end=seconds, turns=turns), clips, 100, 3)
        assert [chunk.frames for chunk in recording.chunks] == frames
        assert [round(clips.seconds(i), 6) for i in range(len(clips))] == [f / 100 for f in frames]
        labels = np.concatenate([chunk.labels for chunk in recording.chunks])
        for frame, row in enumerate(labels):  # a turn begins and ends at the nearest frame; speakers by name
            spoken = [
                {t.speaker for t in turns if np.rint(t.start * 100) <= frame < np.rint(t.end * 100)} >= {s}
                for s in "ab"
            ]
            assert row.tolist() == [*spoken, 0]
    whole = cut(Utterance("one", Path("one.wav"), end=3.0, turns=turns), Clips(hop=320), None, None)
    assert [chunk.frames for chunk in whole.chunks] == [150]


def test_states_are_fitted_to_labels_clip_by_clip():
    x = torch.arange(6.0).view(6, 1, 1)
    assert fit(x, [4, 2], [3, 4]).flatten().tolist() == [0, 1, 2, 4, 5, 5, 5]


def test_probabilities_come_back_by_name(tmp_path):
    found = {"file": np.random.rand(4, 2), "a/b c": np.random.rand(3, 2)}
    write_probabilities(tmp_path, 0, 1e-3, found)
    again = read_probabilities(tmp_path, 0, 1e-3)
    assert list(again) == list(found)
    assert all(np.allclose(again[name], found[name], atol=1e-3) for name in found)


def talk(path, turns, seconds, seed):
    """A low voice and a high one."""
    rng, time = np.random.default_rng(seed), np.arange(round(seconds * 16000)) / 16000
    wave = 0.003 * rng.standard_normal(len(time))
    for speaker, start, end in turns:
        wave += (time >= start) * (time < end) * 0.1 * np.sin(2 * np.pi * {"low": 200, "high": 2000}[speaker] * time)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, 16000)


def turns_of(seed):
    rng = np.random.default_rng(seed)
    middle, end = rng.uniform(0.3, 0.7), rng.uniform(0.9, 1.2)
    return [("low", 0.1, round(middle + 0.2, 2)), ("high", round(middle, 2), round(end, 2))]


def manifest(folder):
    rows = ["path\tlabel\tstart\tend\tsplit"]
    for i in range(12):
        talk(folder / f"{i}.wav", turns_of(i), 1.3, i)
        split = "test" if i > 9 else "dev" if i > 7 else "train"
        rows += [f"{i}.wav\t{speaker}\t{start}\t{end}\t{split}" for speaker, start, end in turns_of(i)]
    path = folder / "talk.tsv"
    path.write_text("\n".join(rows) + "\n")
    return path


def of(path, **fields):
    return dataclasses.replace(DiarizationConfig(), **{**SMALL, "data": CorpusConfig(path=str(path)), **fields})


def run(config, out, seeds=1, encoder="fbank_no_cmvn"):
    lines = []
    rows = suite.evaluate({"superb/sd": config}, encoder, seeds, False, out, lines.append)
    return rows, "\n".join(lines)


def test_speakers_are_said_alike_where_chunks_are_encoded_alone_and_in_a_padded_batch(tmp_path):
    config, found = of(manifest(tmp_path / "data"), steps=2, evaluations=1), []
    for seconds in (0.01, 60.0):  # each chunk in a batch of its own, and all of them in one
        changed = dataclasses.replace(config, store=StoreConfig(dtype="fp32", seconds=seconds))
        rows, _ = run(changed, tmp_path / f"{seconds}", 1, "random:speech/wav2vec2_tiny")
        found.append(
            [
                read_probabilities(tmp_path / f"{seconds}" / rows[0].chosen[0]["sweeps"][0], 0, rate)
                for rate in SMALL["grid"]
            ]
        )
    for alone, together in zip(*found, strict=True):
        assert list(alone) == list(together) == ["10.wav", "11.wav"]
        assert all(np.allclose(alone[name], together[name], atol=1e-3) for name in alone)  # kept at half precision


def test_what_differs_from_s3prl_is_said(tmp_path):
    config = of(manifest(tmp_path / "data"))
    notes = config.notes(config.folds())
    assert ACROSS in notes and "a rest of less than 10 frames" in " ".join(notes)


@pytest.mark.parametrize("part", ["test", "development"])
def test_a_part_in_which_nobody_speaks_is_refused_before_training(tmp_path, part):
    for number, name in enumerate(("train", "development", "test")):
        talk(tmp_path / f"{name}.wav", turns_of(number), 1.3, number)
        (tmp_path / f"a.{name}.lst").write_text(f"{name}\n")
        rows = [f"SPEAKER {name} 1 {start} {end - start:.2f} <NA> <NA> {who}" for who, start, end in turns_of(number)]
        (tmp_path / f"a.{name}.rttm").write_text("".join(f"{row} <NA> <NA>\n" for row in rows))
    assert of(tmp_path, protocol="clean").folds()
    (tmp_path / f"a.{part}.uem").write_text(f"{part} 1 0.0 0.05\n")  # before anybody speaks
    with pytest.raises(ValueError, match=f"nobody speaks in the 1 recordings of {part[:3]}"):
        of(tmp_path, protocol="clean").folds()
    if part == "development":
        assert of(tmp_path).folds()  # counts there only frames that are right
    with (tmp_path / "a.train.rttm").open("a") as file:
        file.write("SPEAKER train 1 1.0 4.0 <NA> <NA> low <NA> <NA>\n")
    with pytest.raises(ValueError, match=r"a.train.rttm, line 3: low's turn ends at 5 seconds, and .*train.wav at 1.3"):
        of(tmp_path).folds()
    for passed_over in ("", "other 1 0.0 1.3\n"):
        (tmp_path / "a.train.uem").write_text(passed_over)
        with pytest.raises(ValueError, match=r"a.train.lst, line 1: a.train.uem does not say what to score of train"):
            of(tmp_path).folds()
    (tmp_path / "a.train.uem").write_text(";; a comment\ntrain 1 0.0 1.3\n")  # a slice of a longer recording
    if part == "development":
        assert of(tmp_path).folds()


def test_voices_are_told_apart_and_everything_is_written(tmp_path):
    path = manifest(tmp_path / "data")
    rows, _ = run(of(path), tmp_path / "out")
    (row,) = rows
    assert row.main == "der" and row.scores["der"] < 0.3 and row.scores["dev"] > 0.7
    assert row.scores["der"] == pytest.approx(sum(row.scores[n] for n in ("missed", "false_alarm", "confused")))
    assert "best of dev" in row.protocol and "lowest error on test" in " ".join(row.chosen[0]["notes"])
    said = read_rttm(next((tmp_path / "out" / "predictions").iterdir()) / "sd.rttm")
    truth = {f"{i}.wav": [Turn(*turn) for turn in turns_of(i)] for i in (10, 11)}
    assert diarization.score(truth, said).rate == pytest.approx(row.scores["der"], abs=1e-9)
    assert scores.read(tmp_path / "out") == rows
    folder = tmp_path / "out" / row.chosen[0]["sweeps"][0]
    tallies = diarization.sweep(read_probabilities(folder, 0, row.chosen[0]["lr"]), truth, 0.01)
    assert min(tally.rate for tally in tallies.values()) == row.scores["der"]
    assert row.scores.keys() == row.each[0].keys() == {"der", "missed", "false_alarm", "confused", "dev"}
    assert any(re.fullmatch(r"seed 0: threshold 0\.\d+, median \d+", note) for note in row.chosen[0]["notes"])


def test_what_is_scored_is_what_is_kept_to_the_last_bit(tmp_path, monkeypatch):
    through, scored = probe.rates, []

    def rates(found, recordings, hop):
        scored.append(found)
        return through(found, recordings, hop)

    monkeypatch.setattr(probe, "rates", rates)
    run(of(manifest(tmp_path / "data"), steps=2, evaluations=1), tmp_path / "out")
    folder = next((tmp_path / "out").rglob("activity-*")).parent
    for found, rate in zip(scored, SMALL["grid"], strict=True):
        kept = read_probabilities(folder, 0, rate)
        assert list(found) == list(kept) and all(np.array_equal(found[name], kept[name]) for name in kept)


def test_clean_hears_test_whole_and_chooses_on_dev(tmp_path):
    path = manifest(tmp_path / "data")
    rows, said = run(of(path, protocol="clean"), tmp_path / "out")
    assert any("chosen on dev" in note for note in rows[0].chosen[0]["notes"])
    assert "24 clips" in said  # 10 recordings in two chunks, and dev and test whole


def test_a_run_that_was_cut_off_ends_with_the_same_row(tmp_path, monkeypatch):
    config = of(manifest(tmp_path / "data"), store=StoreConfig(seconds=2.0), steps=3)
    whole, _ = run(config, tmp_path / "whole")
    through, calls = Reading.__call__, []

    def stop(self, waves):
        calls.append(waves)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return through(self, waves)

    monkeypatch.setattr(Reading, "__call__", stop)
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "cut")
    again, _ = run(config, tmp_path / "cut")
    assert again[0].each == whole[0].each
    third, said = run(config, tmp_path / "cut")
    assert third[0].each == whole[0].each and "store:" not in said


def kaldi(root):
    """Libri2Mix's folders as prepare_diarization.py leaves them."""
    for part, number in (("train", 3), ("dev", 2), ("test", 2)):
        folder, rows = (
            root / "data" / part,
            {name: [] for name in ("wav.scp", "segments", "utt2spk", "rttm", "reco2dur")},
        )
        for i in range(number):
            name = f"{number}-{i}-0001_84-121123-000{i}"
            talk(folder / f"{name}.wav", turns_of(i), 1.3, i)
            rows["wav.scp"].append(f"{name} {name}.wav")
            rows["reco2dur"].append(f"{name} 1.3")
            for speaker, start, end in turns_of(i):
                rows["segments"].append(f"{name}_{speaker} {name} {start} {end}")
                rows["utt2spk"].append(f"{name}_{speaker} {speaker}")
                rows["rttm"].append(f"SPEAKER {name} 1 {start} {end - start:.2f} <NA> <NA> {speaker} <NA>")
        rows["spk2utt"] = [f"{speaker} x" for speaker in ("low", "high")]
        for file, lines in rows.items():
            (folder / file).write_text("\n".join(lines) + "\n")
    return root


def test_libri2mix_is_read_and_written_in_the_leaderboards_form_if_that_is_possible(tmp_path, monkeypatch):
    config = of(kaldi(tmp_path / "mix"), steps=1, evaluations=1)
    monkeypatch.setitem(COUNTS, "sd", Count((2,), "this test"))
    monkeypatch.setattr(sd_task, "find_spec", lambda name: None)
    rows, _ = run(config, tmp_path / "out")
    assert "pip install h5py" in " ".join(rows[0].chosen[0]["notes"])
    assert rows[0].protocol.startswith("SUPERB: Libri2Mix")
    assert (next((tmp_path / "out" / "predictions").iterdir()) / "sd.rttm").is_file()
    kept = {}
    monkeypatch.setattr(sd_task, "find_spec", lambda name: True)
    monkeypatch.setattr(sd_task, "write_activity", lambda folder, found, hop: kept.update({folder: (found, hop)}))
    rows, _ = run(config, tmp_path / "out")
    ((folder, (found, hop)),) = kept.items()
    assert folder.name == "sd_public" and list(found) == [f"2-{i}-0001_84-121123-000{i}" for i in (0, 1)] and hop == 160
    assert next(iter(found.values())).shape == (130, 2) and "h5py" not in " ".join(rows[0].chosen[0]["notes"])


def test_a_turn_that_ends_after_its_audio_is_named_by_its_row(tmp_path):
    path = manifest(tmp_path / "data")
    lines = path.read_text().splitlines()
    for row, end, wrong in ((6, "1.39", False), (6, "200", True), (24, "1.5", True)):  # 0.1 s are forgiven
        changed = [
            *lines[:row],
            "\t".join([*lines[row].split("\t")[:3], end, *lines[row].split("\t")[4:]]),
            *lines[row + 1 :],
        ]
        path.write_text("\n".join(changed) + "\n")
        if wrong:
            with pytest.raises(
                ValueError, match=rf"talk.tsv, line {row + 1}: high's turn ends at {end} .*wav at 1.3: mend"
            ):
                of(path).folds()
        else:
            assert of(path).folds()
    root = kaldi(tmp_path / "mix")
    for name, number in (("test/rttm", 2), ("train/segments", 0)):
        file = root / "data" / name
        right = file.read_text()
        rows = right.splitlines()
        rows[number] = (
            rows[number].rsplit(" ", 1)[0] + " 9.5" if "seg" in name else rows[number].replace(" 1 0.1 ", " 1 9.1 ")
        )
        file.write_text("\n".join(rows) + "\n")
        where = "test/rttm, line 3" if "rttm" in name else "mix/data"  # of segments none has the row in RTTM
        with pytest.raises(ValueError, match=rf"{where}: low's turn ends at 9\.\d+ seconds, and .*wav at 1.3: mend"):
            of(root).folds()
        file.write_text(right)
    assert of(root).folds()


def test_what_cannot_be_used_is_said_in_one_line(tmp_path):
    path = manifest(tmp_path / "data")
    with pytest.raises(ValueError, match=r"0.wav has 2 speakers: set --speakers 2"):
        run(of(path, speakers=1), tmp_path / "out")
    more = tmp_path / "data" / "more.tsv"
    more.write_text(path.read_text() + "11.wav\tthird\t0.1\t0.3\ttest\n")
    with pytest.raises(ValueError, match=r"11.wav has 3 speakers: set --speakers 3"):
        run(of(more), tmp_path / "out")
    with pytest.raises(ValueError, match="--speakers is 1 to 6"):
        of(path, speakers=9)
    with pytest.raises(ValueError, match="--chunk is 100 frames or more"):
        of(path, chunk=1)
    with pytest.raises(MissingFiles, match=r"AMI's \*.train.lst"):
        run(of(tmp_path), tmp_path / "out")
    (tmp_path / "data" / "11.wav").write_bytes(b"no audio")
    with pytest.raises(ValueError, match=r"11.wav.*fewer test clips"):
        run(of(path), tmp_path / "out")


def test_kaldi_folders_of_other_or_fewer_recordings_are_not_the_leaderboards(tmp_path, monkeypatch):
    root = kaldi(tmp_path / "mix")
    said = of(root).folds()[0].parts.protocol
    assert said.startswith("incomplete data: 2 of 3000 test clips and ") and " clips of train and dev; SUPERB: " in said
    monkeypatch.setitem(COUNTS, "sd", Count((2,), "this test"))
    (published,) = of(root).folds()
    for path in (root / "data" / "test").iterdir():
        if path.suffix != ".wav":
            path.write_text(path.read_text().replace("_84-121123-000", "_meeting"))
    for path in (root / "data" / "test").glob("*.wav"):
        path.rename(str(path).replace("_84-121123-000", "_meeting"))
    (other,) = of(root).folds()
    assert published.official and not other.official and "not called as those of Libri2Mix" in other.parts.protocol


@real
def test_ami_is_read_with_the_stretches_that_are_scored():
    (fold,) = of(DATA / "ami_debug", speakers=4).folds()
    assert all(one.turns and one.scored for one in fold.parts.test)
    clips = Clips(hop=160)
    recordings = [cut(one, clips, 2000, 4) for one in fold.parts.train]
    assert all(sum(chunk.frames for chunk in one.chunks) == 3000 for one in recordings)
