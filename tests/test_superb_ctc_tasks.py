# SPDX-License-Identifier: Apache-2.0
"""PR, ASR and SF from files to scores: layouts, learning, what is written, and what is said of wrong input."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pluri.benchmarks import scores, tasks
from pluri.benchmarks.finetune import MissingFiles
from pluri.benchmarks.superb import suite
from pluri.benchmarks.superb.ctc import probe
from pluri.benchmarks.superb.ctc.beam import BeamConfig
from pluri.benchmarks.superb.ctc.errors import greedy
from pluri.benchmarks.superb.ctc.probe import CtcProbe
from pluri.benchmarks.superb.ctc.spec_augment import SpecAugmentConfig
from pluri.benchmarks.superb.ctc.tasks import LetterConfig, PhoneConfig, SlotConfig
from pluri.benchmarks.superb.layouts.published import COUNTS, Count
from pluri.benchmarks.superb.layouts.snips import VOICES
from pluri.benchmarks.superb.predictions import read_pairs
from pluri.benchmarks.superb.store import StoreConfig
from pluri.benchmarks.superb.sweep import STATE

DATA = Path(os.environ.get("PLURI_TRIAL_DATA", "")) / "speech"
real = pytest.mark.skipif("PLURI_TRIAL_DATA" not in os.environ, reason="needs the trial data")
PITCH = {"A": 200.0, "B": 700.0, "C": 1500.0, "D": 3000.0}
PHONES = {"A": "AA0", "B": "IY1", "C": "S", "D": "T"}  # of the published ones
LEXICON = "".join(f"{word} {phone}\n" for word, phone in PHONES.items())


def say(path, words, seed, rate=16000, channels=1):
    """Each word is 0.15 s of a pitch of its own, between silences."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(0.15 * rate)) / rate
    gap = np.zeros(round(0.05 * rate))
    pieces = [gap]
    for word in words:
        pieces += [0.1 * np.sin(2 * np.pi * PITCH[word] * time), gap]
    wave = np.concatenate(pieces)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.repeat((wave + 1e-3 * rng.standard_normal(len(wave)))[:, None], channels, 1), rate)


def sentence(i):
    rng = np.random.default_rng(i)
    return [str(word) for word in rng.choice(list(PITCH), size=1 + i % 4)]


def manifest(folder, tags=False, count=36):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [("path", "text", "split", *(("tags",) if tags else ()))]
    for i in range(count):
        words = sentence(i)
        say(folder / f"{i}.wav", words, i, *((8000, 2) if i % 9 == 8 and "D" not in words else (16000, 1)))
        kinds = ["first" if word == "A" else "O" for word in words]
        split = "test" if i % 6 == 5 else "dev" if i % 6 == 4 else "train"
        rows.append((f"{i}.wav", " ".join(words), split, *((" ".join(kinds),) if tags else ())))
    path = folder / "clips.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    (folder / "lexicon.txt").write_text(LEXICON)
    return path


SMALL = {"steps": 60, "evaluations": 4, "batch": 8, "grid": (1e-2, 1e-3), "device": "cpu"}


def of(config, path, lexicon=None, **fields):
    more = {} if lexicon is None else {"lexicon": (str(lexicon),)}
    data = dataclasses.replace(config.data, path=str(path), **more)
    return dataclasses.replace(config, **{**SMALL, "data": data, **fields})


def phones(root, **fields):
    return of(PhoneConfig(), manifest(root), root / "lexicon.txt", **fields)


def letters(root, **fields):
    small = {"hidden": 24, "augmented": False, "grid": (1e-2, 3e-3)}
    return of(LetterConfig(), manifest(root), **{**small, **fields})


def run(name, config, out, encoder="fbank_no_cmvn", seeds=1):
    lines = []
    rows = suite.evaluate({name: config}, encoder, seeds, False, out, lines.append)
    return rows, "\n".join(lines)


def test_phones_are_learnt_and_everything_is_written(tmp_path):
    rows, said = run("superb/pr", phones(tmp_path / "data"), tmp_path / "out", seeds=2)
    (row,) = rows
    assert row.main == "per_greedy" and row.scores["per_greedy"] < 0.25 and row.split == "test"
    assert row.scores["dev"] > 0.75  # 1 - PER
    assert scores.read(tmp_path / "out") == rows and "71 phones, the published ones" in said
    found = read_pairs(next((tmp_path / "out" / "predictions").iterdir()) / "pr.txt")
    right = sum(found[f"{i}.wav"].split() == [PHONES[word] for word in sentence(i)] for i in range(5, 36, 6))
    assert len(found) == 6 and right >= 2
    (kept,) = (tmp_path / "out").rglob("predictions.json")
    kept = json.loads(kept.read_text())
    assert kept["references"][0] == " ".join(PHONES[word] for word in sentence(5)) and len(kept["said"]["greedy"]) == 4
    assert "superb/pr" in (tmp_path / "out" / "index.html").read_text()


def test_words_and_characters_are_scored_and_the_decoder_is_named(tmp_path):
    rows, said = run("superb/asr", letters(tmp_path / "data", steps=10), tmp_path / "out")
    assert rows[0].main == "wer_greedy" and {"wer_greedy", "cer_greedy", "dev"} == rows[0].scores.keys()
    assert "LSTMs of 24, where 1024 is published" in said and "full batch of 8 is cut into two of 4" in said
    assert "drawn together" not in said
    config = letters(tmp_path / "data", batch=25)  # of 24 utterances
    assert "train has 24 utterances, not the 25 that are drawn together: all are, every time" in config.notes(
        config.folds()
    )
    found = read_pairs(next((tmp_path / "out" / "predictions").iterdir()) / "asr.txt")
    assert len(found) == 6 and set("".join(found.values())) <= set("ABCD ")


def test_slots_are_scored_by_types_and_values(tmp_path):
    rows, _ = run("superb/sf", slots(tmp_path / "data", steps=10), tmp_path / "out")
    assert rows[0].main == "slot_type_f1_greedy" and 0.0 <= rows[0].scores["slot_type_f1_greedy"] <= 1.0
    assert "slot_value_cer_greedy" in rows[0].scores
    assert len(read_pairs(next((tmp_path / "out" / "predictions").iterdir()) / "sf.txt")) == 6


@pytest.mark.parametrize("task", ["pr", "asr"])
def test_a_sweep_that_was_cut_off_ends_with_the_same_row(tmp_path, task, monkeypatch):
    made = phones(tmp_path / "data", steps=10) if task == "pr" else letters(tmp_path / "data", steps=10, augmented=True)
    whole, _ = run(f"superb/{task}", made, tmp_path / "whole")
    through = CtcProbe.losses

    def cut(self, step):
        if step == 5:
            raise KeyboardInterrupt
        return through(self, step)

    monkeypatch.setattr(CtcProbe, "losses", cut)
    with pytest.raises(KeyboardInterrupt):
        run(f"superb/{task}", made, tmp_path / "cut")
    assert list((tmp_path / "cut").rglob(STATE))
    monkeypatch.setattr(CtcProbe, "losses", through)
    again, _ = run(f"superb/{task}", made, tmp_path / "cut")
    assert again[0].each == whole[0].each and again[0].chosen[0]["grid"] == whole[0].chosen[0]["grid"]


def slots(root, **fields):
    return of(SlotConfig(), manifest(root, tags=True), **{"hidden": 24, "augmented": False, **fields})


@pytest.mark.parametrize("task", ["pr", "asr", "sf"])
def test_a_clip_alone_and_in_a_padded_batch_gets_the_same_transcript(tmp_path, task, monkeypatch):
    def wordy(logits, lengths, blank, dropped=()):  # after six steps the blank is likeliest nearly everywhere
        silent = logits.clone()
        silent[..., [blank, *dropped]] = float("-inf")
        return greedy(silent, lengths, blank, dropped)

    monkeypatch.setattr(probe, "greedy", wordy)
    make = {"pr": phones, "asr": letters, "sf": slots}[task]
    found = []
    for seconds in (0.01, 60.0):  # each clip in a batch of its own, and all of them in one
        config = make(tmp_path / "data", steps=6, store=StoreConfig(dtype="fp32", seconds=seconds))
        run(f"superb/{task}", config, tmp_path / f"{seconds}", "random:speech/wav2vec2_tiny")
        (kept,) = (tmp_path / f"{seconds}").rglob("predictions.json")
        found.append(json.loads(kept.read_text())["said"])
    assert found[0] == found[1]
    (texts,) = found[0].values()
    assert all(texts) and len(set(texts)) > 1


def test_the_best_state_on_dev_is_the_one_that_is_scored(tmp_path):
    rows, _ = run("superb/pr", phones(tmp_path / "data"), tmp_path / "out")
    (kept,) = (tmp_path / "out").rglob("sweep.json")
    for one in json.loads(kept.read_text())["runs"]:
        assert one["dev"] == max(point[2] for point in one["curve"]) and one["test"].keys() == {"per_greedy"}
    assert rows[0].chosen[0]["lr"] in SMALL["grid"]


def librispeech(root):
    for part, (subset, count) in enumerate((("train-clean-100", 8), ("dev-clean", 3), ("test-clean", 3))):
        for i in range(count):
            folder = root / "LibriSpeech" / subset / f"{part}{i}" / "7"
            say(folder / f"{part}{i}-7-0000.flac", sentence(i), i)
            (folder / f"{part}{i}-7.trans.txt").write_text(f"{part}{i}-7-0000 {' '.join(sentence(i))}\n")
    (root / "LibriSpeech" / "librispeech-lexicon-200k-g2p.txt").write_text(LEXICON)
    return root


def test_librispeech_is_read_as_the_leaderboard_wants_it(tmp_path, monkeypatch):
    root = librispeech(tmp_path / "data")
    for config in (of(PhoneConfig(), root), of(LetterConfig(), root)):
        (fold,) = config.folds()
        short = "incomplete data: 3 of 2620 test clips and 11 of 31242 clips of train and dev; SUPERB: "
        assert not fold.official and fold.parts.protocol.startswith(short)
    monkeypatch.setitem(COUNTS, "asr", Count((3,), "this test"))
    rows, said = run("superb/pr", of(PhoneConfig(), root, steps=4), tmp_path / "out")
    assert rows[0].protocol.startswith("SUPERB: LibriSpeech") and "71 phones" in said
    inside = next((tmp_path / "out" / "predictions").iterdir()) / "predict"
    assert read_pairs(inside / "pr_public" / "predict.ark").keys() == {"20-7-0000", "21-7-0000", "22-7-0000"}
    (foreign := tmp_path / "own.txt").write_text(LEXICON)
    assert not of(PhoneConfig(), root, lexicon=foreign).folds()[0].official  # other phones: no leaderboard score
    rows, said = run("superb/asr", of(LetterConfig(), root, steps=2, hidden=8), tmp_path / "out")
    inside = tmp_path / "out" / rows[0].chosen[0]["predictions"] / "predict"  # other steps: a folder of its own
    assert (inside / "asr_public" / "predict.ark").is_file() and "2000 samples" in said
    assert "wav2vec 2.0 Base" in (tmp_path / "out" / "index.html").read_text()  # the leaderboard's rows
    other = of(LetterConfig(), root)
    other = dataclasses.replace(other, data=dataclasses.replace(other.data, train=("dev-clean",)))
    with pytest.raises(ValueError, match="in two parts"):
        other.folds()


def snips(root):
    rows = []
    for part, voices in VOICES.items():
        for voice in voices[:2]:
            for i in range(3):
                words, name = sentence(i + 3), f"{voice}-snips-{part}-{i}"
                say(root / "SNIPS" / part / f"{name}.wav", words, i)
                kinds = " ".join("B-artist" if word == "A" else "O" for word in words)
                rows.append(f"{name} BOS {' '.join(words)} EOS\tO {kinds} PlayMusic")
    (root / "SNIPS" / "all.iob.snips.txt").write_text("\n".join(rows) + "\n")
    (root / "SNIPS" / "slots.txt").write_text("O\nB-artist\n".replace("B-", ""))
    return root


def test_audio_snips_is_read_as_the_leaderboard_wants_it(tmp_path, monkeypatch):
    monkeypatch.setitem(COUNTS, "sf", Count((6,), "this test"))
    config = of(SlotConfig(), snips(tmp_path / "data"), steps=2, hidden=8)
    rows, _ = run("superb/sf", config, tmp_path / "out")
    assert rows[0].protocol.startswith("SUPERB") and rows[0].seeds == [0]
    path = next((tmp_path / "out" / "predictions").iterdir()) / "predict" / "sf_public" / "predict.ark"
    assert len(read_pairs(path)) == 6


def test_what_is_wrong_is_said_in_one_line(tmp_path):
    path = manifest(tmp_path / "data")
    for config, words in (
        (of(PhoneConfig(), path), "set --data.lexicon"),
        (of(PhoneConfig(), path, tmp_path / "none.txt"), "none.txt is missing"),
        (of(LetterConfig(), tmp_path), "holds none of what the task can read"),
        (of(SlotConfig(), tmp_path), "all.iob.snips.txt"),
    ):
        with pytest.raises(MissingFiles, match=words):
            config.folds()
    short = tmp_path / "short.txt"
    short.write_text(LEXICON.replace("A AA0\n", ""))
    with pytest.raises(ValueError, match=r"clips.tsv: the lexicon has no A; add a line"):
        run("superb/pr", of(PhoneConfig(), path, short), tmp_path / "out")
    subsets = of(LetterConfig(), path)
    subsets = dataclasses.replace(subsets, data=dataclasses.replace(subsets.data, train=("train-other-500",)))
    with pytest.raises(ValueError, match="not LibriSpeech"):
        subsets.folds()
    with pytest.raises(ValueError, match="windows of one size"):
        PhoneConfig(batch=9)
    with pytest.raises(ValueError, match="augment has no effect"):
        LetterConfig(augmented=False, augment=SpecAugmentConfig(window=0))
    with pytest.raises(ValueError, match=r"beam\.size has no effect"):
        BeamConfig(size=9)


def test_clips_with_fewer_frames_than_symbols_are_counted_and_if_they_are_most_refused(tmp_path):
    path = manifest(tmp_path / "data")
    header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    train = [row for row in rows if row[2] == "train"]
    config = of(LetterConfig(), path, hidden=8, steps=2, evaluations=1)
    for many in (1, len(train)):
        for row in train[:many]:
            row[1] = " ".join("ABCD" * 60)
        path.write_text("\n".join("\t".join(row) for row in (header, *rows)))
        words = rf"{many} of {len(train)} training clips, first \S*{train[0][0]}, have fewer frames"
        if many > 1:
            with pytest.raises(ValueError, match=words):
                run("superb/asr", config, tmp_path / "out")
            continue
        for _ in range(2):  # trained, and read again
            (row,), said = run("superb/asr", config, tmp_path / "out")
            assert re.search(words, said) and any(re.match(words, note) for note in row.chosen[0]["notes"])
            (tmp_path / "out" / "scores.jsonl").unlink()


def test_another_lexicon_or_transcript_is_another_sweep(tmp_path):
    config = phones(tmp_path / "data", steps=2)
    run("superb/pr", config, tmp_path / "out")
    lexicon = tmp_path / "data" / "lexicon.txt"
    lexicon.write_text(lexicon.read_text().replace("A AA0", "A EH2"))
    _, said = run("superb/pr", config, tmp_path / "out")
    assert "0 to be encoded" in said and len(list((tmp_path / "out").rglob("sweep.json"))) == 2


def test_a_phone_that_nobody_says_makes_another_head_and_so_another_sweep(tmp_path):
    config = phones(tmp_path / "data", steps=2)
    for phone in ("AA0", "new"):  # no longer the published phones, but the lexicon's own
        (tmp_path / "data" / "lexicon.txt").write_text(f"{LEXICON}E {phone}\n")
        _, said = run("superb/pr", config, tmp_path / "out")
    assert "5 phones, the lexicon's own" in said and len(list((tmp_path / "out").rglob("sweep.json"))) == 2


def test_another_language_model_in_the_same_file_is_another_sweep(tmp_path, monkeypatch):
    monkeypatch.setattr(BeamConfig, "build", lambda self, vocabulary: lambda row: Path(self.lm).read_text())
    model = tmp_path / "lm.arpa"
    config = letters(tmp_path / "data", steps=2, beam=BeamConfig(lm=str(model)))
    for said in ("A", "B", "B"):
        model.write_text(said)
        run("superb/asr", config, tmp_path / "out")
        written = [read_pairs(path) for path in (tmp_path / "out").rglob("asr_lm.txt")]
        assert said in {text for one in written for text in one.values()}
    assert len(list((tmp_path / "out").rglob("sweep.json"))) == 2


def test_masks_of_features_are_the_published_ones_in_both_tasks():
    published = SpecAugmentConfig(window=5, time_masks=2, time_width=40, channel_masks=4, channel_width=50, adaptive=0)
    assert LetterConfig().augment == SlotConfig().augment == published


def test_what_differs_from_s3prl_is_said_of_each_task(tmp_path):
    configs = phones(tmp_path / "pr"), letters(tmp_path / "asr", augmented=True), slots(tmp_path / "sf", augmented=True)
    pr, asr, sf = (" ".join(config.notes(config.folds())) for config in configs)
    assert all("the first lasts more than 18.75 s" in said for said in (pr, sf))
    assert all("SpecAugment goes by each row's length" in said for said in (asr, sf))
    plain = letters(tmp_path / "asr")
    assert "SpecAugment" not in " ".join(plain.notes(plain.folds())) and "all sentences end" in sf


def test_slots_that_cannot_be_scored_are_refused_before_training(tmp_path):
    path = manifest(tmp_path / "data", tags=True)
    lines = [line.replace("first", "O") if "\ttest\t" in line else line for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"clips.tsv: none of the 6 test utterances has a slot's value"):
        of(SlotConfig(), path).folds()
    of(SlotConfig(), manifest(tmp_path / "data", tags=True)).folds()


def test_the_tasks_are_listed_with_the_learning_rates_around_the_published_ones():
    assert {"superb/pr", "superb/asr", "superb/sf"} <= tasks.names().keys()
    for task, middle, steps in (
        (PhoneConfig(), 1e-2, 100_000),
        (LetterConfig(), 1e-4, 200_000),
        (SlotConfig(), 1e-4, 200_000),
    ):
        assert task.rates()[2] == middle and len(task.rates()) == 5 and task.steps == steps and task.batch == 32


def test_clean_recognition_keeps_its_batches_whole(tmp_path):
    config = letters(tmp_path / "data")
    targets, seconds = [[3]] * 16, [1.0] * 16
    assert [len(one) for one in config.batches(targets, seconds).groups] == [4] * 4
    clean = dataclasses.replace(config, protocol="clean")
    assert [len(one) for one in clean.batches(targets, seconds).groups] == [8] * 2
    assert any("clean: batches of 8" in note for note in clean.notes(clean.folds()))


@real
def test_an4_is_read_with_its_own_phones():
    config = of(PhoneConfig(), DATA / "an4")
    (fold,) = config.folds()
    assert not fold.official and "33 phones, the lexicon's own" in config.notes([fold])[0]
    spelling = config.spelling(fold)
    assert all(spelling.vocabulary.encode(spelling.symbols(one)) for one in (*fold.parts.train, *fold.parts.test))
    everyone = (*fold.parts.train, *fold.parts.dev, *fold.parts.test)
    assert "EY EH L EY EH N" in [one.text for one in everyone]  # A L A N, spelled


def test_an_error_of_the_command_is_one_line(tmp_path):
    path = manifest(tmp_path / "data")
    where = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / ".typing"), "OMP_NUM_THREADS": "1"}
    words = ["evaluate", "superb/pr", "fbank_no_cmvn", "--data.path", str(path), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-m", "pluri", *words], capture_output=True, text=True, env=where)
    assert done.returncode != 0 and len(done.stderr.strip().splitlines()) == 1 and "--data.lexicon" in done.stderr
