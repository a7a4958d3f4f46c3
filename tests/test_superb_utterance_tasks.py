# SPDX-License-Identifier: Apache-2.0
"""KS, IC, SID and ER from files to scores: layouts, protocols, what is written, and what is said of wrong input."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pluri.benchmarks import scores, tasks
from pluri.benchmarks.encoders import load
from pluri.benchmarks.finetune import MissingFiles
from pluri.benchmarks.superb import suite
from pluri.benchmarks.superb.asv.task import TrialCorpusConfig, VerificationConfig
from pluri.benchmarks.superb.ctc.tasks import LetterConfig, SlotConfig
from pluri.benchmarks.superb.order import ACROSS
from pluri.benchmarks.superb.predictions import read_intents, read_pairs
from pluri.benchmarks.superb.states import Reading
from pluri.benchmarks.superb.store import StoreConfig
from pluri.benchmarks.superb.sweep import RESULT
from pluri.benchmarks.superb.utterance.tasks import EmotionConfig, IntentConfig, KeywordConfig, SpeakerConfig
from pluri.benchmarks.superb.utterances import Utterance

DATA = Path(os.environ.get("PLURI_TRIAL_DATA", "")) / "speech"
real = pytest.mark.skipif("PLURI_TRIAL_DATA" not in os.environ, reason="needs the trial data")


def manifest(superb, folder, column="label"):
    """20 tones; every other one is stereo at 8 kHz."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [("path", column, "split")]
    for i in range(20):
        label = ("low", "high")[i % 2]
        superb.tone(folder / f"{i}.wav", label, i, 0.3 + 0.01 * i, *((8000, 2) if i % 4 < 2 else (16000, 1)))
        rows.append((f"{i}.wav", label, "test" if i > 14 else "dev" if i > 10 else "train"))
    path = folder / "clips.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    return path


def test_tones_are_told_apart_and_everything_is_written(superb, tmp_path):
    rows, said = superb.run(
        "superb/sid", superb.of(SpeakerConfig(), manifest(superb, tmp_path / "data")), tmp_path / "out"
    )
    (row,) = rows
    assert row.scores["accuracy"] == 1.0 and row.main == "accuracy" and row.split == "test" and row.seeds == [0, 1]
    chosen = row.chosen[0]
    assert chosen["lr"] in superb.SMALL["grid"] and [cell["lr"] for cell in chosen["grid"]] == [1e-2, 1e-3]
    assert all(
        len(cell["each"]) == 2 and {"dev", "accuracy", "seed"} <= cell["each"][0].keys() for cell in chosen["grid"]
    )
    assert scores.read(tmp_path / "out") == rows
    said_of = read_pairs(next((tmp_path / "out" / "predictions").iterdir()) / "sid.txt")
    assert said_of == {f"{i}.wav": ("low", "high")[i % 2] for i in range(15, 20)}
    page = (tmp_path / "out" / "index.html").read_text()
    assert "superb/sid" in page and page.count("<img") == 1 and "no leaderboard score" in page
    assert "store: 20 clips" in said and "40 steps of 8 (published: 200000)" in said


def test_a_second_call_repeats_nothing_and_a_cut_off_one_ends_with_the_same_row(superb, tmp_path, monkeypatch):
    config = superb.of(KeywordConfig(), manifest(superb, tmp_path / "data"))
    rows, _ = superb.run("superb/ks", config, tmp_path / "out")
    again, said = superb.run("superb/ks", config, tmp_path / "out")
    assert "store:" not in said
    assert dataclasses.replace(again[0], seconds=0.0) == dataclasses.replace(rows[0], seconds=0.0)
    through, calls = Reading.__call__, []

    def cut(self, waves):
        calls.append(waves)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return through(self, waves)

    monkeypatch.setattr(Reading, "__call__", cut)
    small = dataclasses.replace(config, store=StoreConfig(seconds=1.0))
    with pytest.raises(KeyboardInterrupt):
        superb.run("superb/ks", small, tmp_path / "other")
    third, _ = superb.run("superb/ks", small, tmp_path / "other")
    assert third[0].each == rows[0].each and third[0].chosen[0]["grid"] == rows[0].chosen[0]["grid"]


def test_online_and_stored_states_give_the_same_predictions(superb, tmp_path):
    config = superb.of(SpeakerConfig(), manifest(superb, tmp_path / "data"), steps=10)
    stored, _ = superb.run("superb/sid", dataclasses.replace(config, store=StoreConfig(dtype="fp32")), tmp_path / "a")
    online, said = superb.run(
        "superb/sid", dataclasses.replace(config, store=StoreConfig(gigabytes=0.0)), tmp_path / "b"
    )
    assert "runs online" in said and any("online" in note for note in online[0].chosen[0]["notes"])
    assert online[0].each == stored[0].each and not list((tmp_path / "b").rglob("*.bin"))


@pytest.mark.parametrize("task", ["sid", "ks", "ic", "er"])
def test_a_clip_alone_and_in_a_padded_batch_gets_the_same_prediction(superb, tmp_path, task):
    config = {"sid": SpeakerConfig, "ks": KeywordConfig, "ic": IntentConfig, "er": EmotionConfig}[task]()
    config = superb.of(
        config, superb.intents(tmp_path / "data") if task == "ic" else manifest(superb, tmp_path / "data")
    )
    found = []
    for seconds in (0.01, 60.0):  # each clip in a batch of its own, and all of them in one
        changed = dataclasses.replace(config, store=StoreConfig(dtype="fp32", seconds=seconds))
        rows, _ = superb.run(f"superb/{task}", changed, tmp_path / f"{seconds}", "random:speech/wav2vec2_tiny")
        (kept,) = (tmp_path / f"{seconds}").rglob("predictions.json")
        found.append((rows[0].each, json.loads(kept.read_text())["said"]))
    assert found[0] == found[1]


def test_epochs_that_flow_into_one_another_are_noted_where_there_are_epochs(superb, tmp_path):
    path = manifest(superb, tmp_path / "data")
    for config in (
        superb.of(SpeakerConfig(), path),
        superb.of(EmotionConfig(), path),
        superb.of(SpeakerConfig(), path, longest=0.1),
    ):
        assert ACROSS in config.notes(config.folds())
    config = superb.of(IntentConfig(), superb.intents(tmp_path / "intents"))
    assert config.notes(config.folds()) == [ACROSS]
    config = superb.of(KeywordConfig(), path)
    assert ACROSS not in config.notes(config.folds())  # drawn with replacement


def test_an_encoder_s_layers_have_shares_and_its_twin_stands_beside_it(superb, tmp_path):
    config = superb.of(SpeakerConfig(), manifest(superb, tmp_path / "data"), steps=10)
    rows, _ = superb.run("superb/sid", config, tmp_path / "out", "random:speech/mockingjay_tiny", beside=True)
    twin = "random twin of random-speech-mockingjay_tiny"
    assert [row.encoder for row in rows] == ["random:speech/mockingjay_tiny", twin, "fbank_no_cmvn"]
    shares = rows[0].chosen[0]["layers"]
    assert len(shares) == 2 and all(sum(one) == pytest.approx(1.0, abs=1e-4) and len(one) > 1 for one in shares)
    assert len(rows[1].chosen[0]["sweeps"]) == 2 and len(rows[1].each) == 2  # a network of its own for each seed
    assert (tmp_path / "out" / "index.html").read_text().count("<img") == 5


def test_what_no_prediction_file_can_hold_is_found_before_training(superb, tmp_path):
    (tmp_path / "own").mkdir()
    rows = ['"path", action,object,location,split']
    for i, split in enumerate(["train"] * 6 + ["dev"] * 3 + ["test"] * 3):
        superb.tone(tmp_path / "own" / f"{i}, a.wav", ("low", "high")[i % 2], i)
        rows.append(f'"{i}, a.wav",{("off", chr(34) + "switch, on " + chr(34))[i % 2]}, it ,here,{split}')
    (tmp_path / "own" / "m.csv").write_text("\n".join(rows) + "\n")
    made, _ = superb.run(
        "superb/ic", superb.of(IntentConfig(), tmp_path / "own" / "m.csv", steps=1), tmp_path / "out", seeds=1
    )
    said = read_intents(tmp_path / "out" / made[0].chosen[0]["predictions"] / "ic.txt")
    assert list(said) == [f"{i},_a.wav" for i in (9, 10, 11)] and {one[1:] for one in said.values()} == {("it", "here")}
    path = manifest(superb, tmp_path / "data")
    path.write_text(path.read_text().replace("\thigh\t", "\thigh \t"))
    made, _ = superb.run("superb/ks", superb.of(KeywordConfig(), path, steps=1), tmp_path / "out", seeds=1)
    said = read_pairs(tmp_path / "out" / made[0].chosen[0]["predictions"] / "ks.txt")
    assert set(said.values()) <= {"low", "high"}
    for i in range(9):
        superb.tone(tmp_path / "fsdd" / "recordings" / f"0_john smith_{i}.wav", "low", i, 0.1)
    with pytest.raises(ValueError, match=r"0_john smith_0.wav: '0_john smith_0' cannot be a name there"):
        superb.of(KeywordConfig(), tmp_path / "fsdd").folds()


def test_intents_of_a_manifest_without_actions_are_its_labels(superb, tmp_path):
    config = superb.of(IntentConfig(), manifest(superb, tmp_path / "data"), steps=1)
    rows, said = superb.run("superb/ic", config, tmp_path / "out", seeds=1)
    assert {"accuracy", "dev"} <= rows[0].scores.keys() and "an intent is the one label of a clip" in said
    assert len(read_pairs(tmp_path / "out" / rows[0].chosen[0]["predictions"] / "ic.txt")) == 5
    with pytest.raises(ValueError, match="no object and no location"):
        superb.of(IntentConfig(), manifest(superb, tmp_path / "other", "action")).folds()


def test_a_baseline_that_is_called_as_another_of_s3prls_is_told_apart(superb, tmp_path):
    config = superb.of(SpeakerConfig(), manifest(superb, tmp_path / "data"), steps=1)
    for encoder, other in (("fbank", "fbank_cmvn"), ("mfcc", "mfcc_cmvn")):
        rows, said = superb.run("superb/sid", config, tmp_path / "out", encoder, seeds=1)
        (note,) = [note for note in rows[0].chosen[0]["notes"] if note.startswith(f"{encoder} is pluri's")]
        assert other in note and note in said and f"({load(encoder).front_end.width})" in note
    rows, _ = superb.run("superb/sid", config, tmp_path / "out", "fbank_cmvn", seeds=1)
    assert not any("is pluri's" in note for note in rows[0].chosen[0]["notes"])


def test_long_training_clips_of_sid_are_cut_and_others_are_whole():
    config = SpeakerConfig(crops=3)
    clip = Utterance("a", Path("a.wav"), end=20.0)
    assert [(piece.start, piece.end) for piece in config.pieces("train", clip)] == [(0, 8), (6, 14), (12, 20)]
    assert config.pieces("test", clip) == [clip] and len(config.pieces("train", clip._replace(end=8.0))) == 1


def test_emotions_are_the_mean_over_folds(superb, tmp_path):
    root = tmp_path / "data"
    for speaker in ("03", "08", "09"):
        for i, (emotion, label) in enumerate((("W", "low"), ("T", "high"), ("F", "middle"))):
            superb.tone(root / "wav" / f"{speaker}a0{i}{emotion}a.wav", label, i)
    rows, said = superb.run("superb/er", superb.of(EmotionConfig(), root), tmp_path / "out")
    folds = rows[0].chosen[0]["folds"]
    assert list(folds) == ["fold1", "fold2", "fold3"] and "mean of 3 folds" in said
    for seed in range(2):
        each = [fold[seed]["accuracy"] for fold in folds.values()]
        assert rows[0].each[seed]["accuracy"] == pytest.approx(sum(each) / 3)
    assert len(list((tmp_path / "out").rglob(RESULT))) == 3
    assert len(list((tmp_path / "out" / "store").iterdir())) == 1  # the folds share their states
    names = {path.name for path in (next((tmp_path / "out" / "predictions").iterdir())).iterdir()}
    assert names == {"er_fold1.txt", "er_fold2.txt", "er_fold3.txt"}


def test_no_score_without_a_sweep_unless_a_rate_is_given(superb, tmp_path):
    with pytest.raises(ValueError, match="is no sweep: name one by --lr"):
        KeywordConfig(grid=(1e-3,))
    config = superb.of(
        KeywordConfig(), manifest(superb, tmp_path / "data"), lr=1e-2, grid=KeywordConfig().grid, steps=4
    )
    rows, said = superb.run("superb/ks", config, tmp_path / "out", seeds=1)
    assert "lr 0.01 as given, no sweep" in said and rows[0].chosen[0]["by"] == "given"


@pytest.mark.parametrize(
    ("make", "setting"),
    [
        (KeywordConfig, {"clip": -1.0}),
        (KeywordConfig, {"clip": float("nan")}),
        (KeywordConfig, {"grid": (0.1, 0.01, float("nan"))}),
        (KeywordConfig, {"lr": float("inf")}),
        (KeywordConfig, {"crops": 0}),
        (SpeakerConfig, {"longest": -1.0}),
        (SpeakerConfig, {"crops": 0}),
        (LetterConfig, {"hidden": 0}),
        (StoreConfig, {"gigabytes": float("nan")}),
        (StoreConfig, {"threads": 0}),
        (StoreConfig, {"seconds": 0.0}),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_is_read(make, setting):
    with pytest.raises(ValueError, match="above 0"):
        make(**setting)


@pytest.mark.parametrize(
    ("make", "setting", "words"),
    [
        (KeywordConfig, {"lr": 0.01, "grid": (0.1, 0.01)}, "a grid has no effect beside --lr"),
        (KeywordConfig, {"grid": (0.1, 0.10000001, 0.01)}, "told apart by six digits: --grid 0.10000001 0.1 0.01"),
        (EmotionConfig, {"folds_used": (2, 1, 2)}, "--folds-used 2 1 2: name each fold once"),
    ],
)
def test_settings_that_would_be_passed_over_are_refused(make, setting, words):
    with pytest.raises(ValueError, match=words):
        make(**setting)


@pytest.mark.parametrize("spoil", ["train", "test", "missing"])
def test_clips_that_cannot_be_read_are_named_in_one_line(superb, tmp_path, spoil):
    path = manifest(superb, tmp_path / "data")
    clip = path.parent / {"train": "3.wav", "test": "16.wav", "missing": "16.wav"}[spoil]
    wave, rate = soundfile.read(clip)
    clip.unlink()
    if spoil != "missing":
        wave[100] = np.nan
        soundfile.write(clip, wave, rate, subtype="FLOAT")
    config = superb.of(SpeakerConfig(), path, steps=2)
    with pytest.raises(ValueError) as error:
        superb.run("superb/sid", config, tmp_path / "out")
    assert str(clip) in str(error.value) and "\n" not in str(error.value)


def test_one_bad_clip_among_many_is_left_out_and_counted(superb, tmp_path):
    path = manifest(superb, tmp_path / "data")
    text = path.read_text()
    for i in range(100, 120):
        superb.tone(path.parent / f"{i}.wav", "low", i, 0.1)
        text += f"{i}.wav\tlow\ttrain\n"
    path.write_text(text)
    wave, rate = soundfile.read(path.parent / "100.wav")
    soundfile.write(path.parent / "100.wav", wave * np.inf, rate, subtype="FLOAT")
    rows, said = superb.run("superb/sid", superb.of(SpeakerConfig(), path, steps=2), tmp_path / "out")
    assert rows[0].chosen[0]["bad"] == 1 and "1 items could not be read" in said


def test_labels_that_training_never_sees_are_named(superb, tmp_path):
    path = manifest(superb, tmp_path / "data")
    path.write_text(path.read_text().replace("19.wav\thigh", "19.wav\tshrill"))
    with pytest.raises(ValueError, match="line 21: no row for training has the label 'shrill'"):
        superb.run("superb/sid", superb.of(SpeakerConfig(), path), tmp_path / "out")


def test_a_folder_of_something_else_is_said_to_be_that(superb, tmp_path):
    for config in (KeywordConfig(), IntentConfig(), SpeakerConfig(), EmotionConfig()):
        with pytest.raises(MissingFiles, match="holds none of what the task can read"):
            superb.of(config, tmp_path).folds()
        with pytest.raises(ValueError, match="no data named: set --data.path"):
            config.folds()
        with pytest.raises(ValueError, match="is missing"):
            superb.of(config, tmp_path / "nowhere").folds()


def test_a_suite_leaves_out_the_tasks_whose_files_are_not_there(superb, tmp_path):
    root = tmp_path / "data"
    for i in range(4):
        superb.tone(root / "recordings" / f"{i % 2}_{'ab'[i % 2]}_{9 - i}.wav", ("low", "high")[i % 2], i)
    for i in range(4):
        superb.tone(root / "recordings" / f"{i % 2}_{'ab'[i % 2]}_{i // 2 * 5}.wav", ("low", "high")[i % 2], i)
    for i in range(2):
        superb.tone(root / "recordings" / f"{i}_{'ab'[i]}_5.wav", ("low", "high")[i], i)
    lines = []
    names = ("superb/ks", "superb/ic", "superb/sid", "superb/er")
    assert {name: tasks.TASKS[name]() for name in names}.items() <= tasks.find("superb").items()
    known = (KeywordConfig(), IntentConfig(), SpeakerConfig(), EmotionConfig())
    configs = {name: superb.of(config, root, steps=2) for name, config in zip(names, known, strict=True)}
    rows = suite.evaluate(configs, "fbank", 1, False, tmp_path / "out", lines.append)
    assert [row.task for row in rows] == ["superb/ks", "superb/sid"]
    assert [line.split(":")[0] for line in lines if "left out" in line] == ["superb/ic", "superb/er"]
    superb.tone(root / "wav" / "clip.wav", "low", 0)  # as EMO-DB's folder is called, and AN4's
    with pytest.raises(ValueError, match="EMO-DB's wav, or a manifest"):
        configs["superb/er"].folds()


def test_all_data_are_read_before_anything_is_trained_and_a_manifest_serves_the_tasks_that_it_can(superb, tmp_path):
    path, lines = manifest(superb, tmp_path / "data"), []
    configs = {
        "superb/sid": superb.of(SpeakerConfig(), path, steps=2),
        "superb/sf": superb.of(SlotConfig(), path, steps=2),
    }
    configs["superb/asv"] = dataclasses.replace(VerificationConfig(), data=TrialCorpusConfig(path=str(path)))
    rows = suite.evaluate(configs, "fbank", 1, False, tmp_path / "out", lines.append)
    assert [row.task for row in rows] == ["superb/sid"]
    assert "superb/sf: left out" in lines[0] and "no text and no tags" in lines[0]
    assert "superb/asv: left out" in lines[1] and "this task needs other speakers there" in lines[1]
    root = superb.intents(tmp_path / "intents")
    (root / "data" / "test_data.csv").write_text("no,such,columns\n1,2,3\n")
    broken = {"superb/sid": configs["superb/sid"], "superb/ic": superb.of(IntentConfig(), root, steps=2)}
    with pytest.raises(ValueError, match="test_data.csv"):  # a corpus that is there, and cannot be used
        suite.evaluate(broken, "fbank", 1, False, tmp_path / "new", lines.append)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="none of superb/sf, superb/asv can be scored on these data"):
        suite.evaluate({n: configs[n] for n in ("superb/sf", "superb/asv")}, "fbank", 1, False, tmp_path, lines.append)


def test_a_label_that_tasks_take_for_different_things_is_no_ones_until_one_is_named(superb, tmp_path):
    path, lines = manifest(superb, tmp_path / "data"), []
    configs = {
        f"superb/{config.task}": superb.of(config, path, steps=2)
        for config in (KeywordConfig(), IntentConfig(), SpeakerConfig(), EmotionConfig())
    }
    with pytest.raises(ValueError, match="none of superb/ks, superb/ic, superb/sid, superb/er can be"):
        suite.evaluate(configs, "fbank", 1, False, tmp_path / "out", lines.append)
    assert lines[0].startswith("superb/ks: left out: superb/ic, superb/sid, superb/er would not take `label` for the")
    assert len(lines) == 4 and all("as in `pluri evaluate superb/ks`" in line for line in lines)
    words = [line.split("\t") for line in path.read_text().splitlines()]  # now IC has columns of its own
    heads = {"label": ["action", "object", "location"], "low": ["on", "a", "b"], "high": ["off", "a", "b"]}
    path.write_text("".join("\t".join([*row, *heads[row[1]]]) + "\n" for row in words))
    two = {name: configs[name] for name in ("superb/ks", "superb/ic")}
    assert [row.task for row in suite.evaluate(two, "fbank", 1, False, tmp_path / "out", lines.append)] == list(two)


def test_what_only_audio_tells_against_a_task_does_not_end_those_behind_it(superb, tmp_path):
    path, lines = manifest(superb, tmp_path / "data"), []
    (alone := path.with_name("voices.tsv")).write_text(
        "path\tlabel\n" + "".join(f"{i}.wav\tv{i % 6}\n" for i in range(20))
    )
    data = TrialCorpusConfig(path=str(alone))
    asv = dataclasses.replace(VerificationConfig(), data=data, shortest=7.0)  # the clips are shorter
    configs = {"superb/asv": asv, "superb/sid": superb.of(SpeakerConfig(), path, steps=2)}
    rows = suite.evaluate(configs, "fbank", 1, False, tmp_path / "out", lines.append)
    assert [row.task for row in rows] == ["superb/sid"] and (tmp_path / "out" / "index.html").is_file()
    assert any(line.startswith("superb/asv: left out") and "no longer than 7 s" in line for line in lines)
    with pytest.raises(ValueError, match="no longer than 7 s"):
        suite.evaluate({"superb/asv": asv}, "fbank", 1, False, tmp_path / "one", lines.append)


@pytest.mark.parametrize(
    ("text", "why"),
    [("path;label\na.wav;x\n", "separated by commas in a .csv"), ("Path,Label\na.wav,x\n", "names in lower case")],
)
def test_a_manifest_of_another_form_is_told_apart(superb, tmp_path, text, why):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ValueError, match=why):
        superb.of(SpeakerConfig(), tmp_path / "m.csv").folds()


@real
def test_the_command_scores_fsdd_at_8_khz(superb, tmp_path):
    root = tmp_path / "data"
    for path in sorted((DATA / "fsdd" / "recordings").glob("[01]_*_?.wav")):
        (root / "recordings").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / "recordings")
    rows, _ = superb.run("superb/ks", superb.of(KeywordConfig(), root, steps=60), tmp_path / "out", seeds=1)
    assert rows[0].scores["accuracy"] > 0.6


def test_the_command_line_takes_the_settings_and_refuses_an_encoder_of_text(superb, tmp_path, small_bert):
    path = manifest(superb, tmp_path / "data")
    place = Path(__file__).resolve().parents[1] / ".typing"
    command = [sys.executable, "-m", "pluri", "evaluate", "superb/ks", str(small_bert), "--data.path", str(path)]
    done = subprocess.run(
        [*command, "--steps", "2"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(place)},
    )
    assert done.returncode == 2 and "SUPERB needs an encoder of speech; this one takes text" in done.stderr
