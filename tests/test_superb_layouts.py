# SPDX-License-Identifier: Apache-2.0
"""Official layouts of PR, ASR, KS, IC and SF, read from small trees: splits, labels, and what is wrong in one line."""

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pluri.benchmarks.superb.layouts.an4 import an4, an4_identification, an4_verification
from pluri.benchmarks.superb.layouts.fluent import fluent_speech_commands
from pluri.benchmarks.superb.layouts.fsdd import fsdd
from pluri.benchmarks.superb.layouts.librispeech import librispeech
from pluri.benchmarks.superb.layouts.snips import VOICES, audio_snips
from pluri.benchmarks.superb.layouts.speech_commands import KEYWORDS, part_of, speech_commands
from pluri.benchmarks.superb.predictions import name_of
from pluri.benchmarks.superb.utterances import Utterance, file_lengths, fixed_crops, measured
from pluri.speech import audio

DATA = Path(os.environ.get("PLURI_TRIAL_DATA", "")) / "speech"
real = pytest.mark.skipif("PLURI_TRIAL_DATA" not in os.environ, reason="needs the trial data")


def clip(path, seconds=0.05, rate=16000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros((round(seconds * rate), channels)), rate)


def names(utterances):
    return [utterance.name for utterance in utterances]


def make_librispeech(root):
    for subset, speaker in (("train-clean-100", 19), ("dev-clean", 84), ("test-clean", 61)):
        chapter = root / subset / str(speaker) / "7"
        for i in range(3):
            clip(chapter / f"{speaker}-7-000{i}.flac")
        rows = [f"{speaker}-7-000{i} IT'S {'A ' * i}TEST" for i in range(3)]
        (chapter / f"{speaker}-7.trans.txt").write_text("\n".join(rows) + "\n")


def test_librispeech_is_read_by_subset_with_transcripts_and_speakers(tmp_path):
    make_librispeech(tmp_path)
    parts = librispeech(tmp_path)
    assert names(parts.train) == ["19-7-0000", "19-7-0001", "19-7-0002"] and names(parts.dev)[0] == "84-7-0000"
    assert parts.test[2].text == "IT'S A A TEST" and parts.test[2].speaker == "61" and not parts.skipped
    assert parts.protocol.startswith("LibriSpeech, SUPERB's") and "dev-clean" in parts.protocol
    assert name_of("asr", parts.test[2].path) == parts.test[2].name


def test_transcripts_and_audio_without_one_another_are_named_and_stop_the_test_part(tmp_path):
    make_librispeech(tmp_path)
    (tmp_path / "train-clean-100/19/7/19-7-0001.flac").unlink()
    clip(tmp_path / "train-clean-100/19/7/19-7-0009.flac")
    clip(tmp_path / "dev-clean/5/8/5-8-0000.flac")
    parts = librispeech(tmp_path)
    assert names(parts.train) == ["19-7-0000", "19-7-0002"] and len(parts.skipped) == 3
    assert "19-7.trans.txt, line 2" in parts.skipped[0][0] and "no audio" in parts.skipped[0][1]
    assert parts.skipped[1][0].endswith("19-7-0009.flac") and "5-8.trans.txt" in parts.skipped[2][1]
    (tmp_path / "test-clean/61/7/61-7-0002.flac").unlink()
    with pytest.raises(ValueError, match=r"61-7.trans.txt, line 3: there is no audio .*61-7-0002.flac"):
        librispeech(tmp_path)


def test_a_missing_subset_and_an_empty_transcript_are_named(tmp_path):
    make_librispeech(tmp_path)
    with pytest.raises(ValueError, match="train-clean-360 is missing"):
        librispeech(tmp_path, train=("train-clean-100", "train-clean-360"))
    (tmp_path / "dev-clean/84/7/84-7.trans.txt").write_text("84-7-0000 \n")
    with pytest.raises(ValueError, match="84-7.trans.txt, line 1: '84-7-0000' has no transcript"):
        librispeech(tmp_path)
    (tmp_path / "dev-clean/84/7/84-7.trans.txt").write_bytes(b"84-7-0000 OK\n84-7-0001 \xff\n")
    with pytest.raises(ValueError, match="line 2: not UTF-8"):
        librispeech(tmp_path)


@real
def test_the_real_librispeech_is_read_whole():
    parts = librispeech(DATA / "LibriSpeech", train=("dev-clean",), dev=("dev-clean",))
    assert (len(parts.train), len(parts.test), parts.skipped) == (112, 25, []) and "not SUPERB" in parts.protocol
    assert all(utterance.text and utterance.text.isupper() for utterance in parts.test)
    assert all(1.0 < (utterance.end or 0.0) < 40.0 for utterance in measured(parts).test)


def make_an4(root, suffix=".wav"):
    (root / "etc").mkdir()
    for part, speakers in (("train", "abcdefgh"), ("test", "xy")):
        ids = [f"an4{part}/{voice}/u{i}-{voice}" for voice in speakers for i in range(5)]
        for name in ids:
            clip(root / "wav" / f"{name}.wav")
            (root / "wav" / f"{name}.wav").rename(root / "wav" / f"{name}{suffix}")
        (root / "etc" / f"an4_{part}.fileids").write_text("\n".join(ids) + "\n")
        rows = [f"<s> GO <sil> {name[-1].upper()} </s> ({Path(name).name})" for name in ids]
        (root / "etc" / f"an4_{part}.transcription").write_text("\n".join(rows) + "\n")
    trials = "1 an4test/x/u0-x.wav an4test/x/u1-x.wav\n0 u0-x an4test/y/u1-y.wav\n"
    (root / "etc" / "veri_test.txt").write_text(trials)


def test_an4_keeps_dev_speakers_apart_and_drops_the_sentence_marks(tmp_path):
    make_an4(tmp_path)
    parts = an4(tmp_path)
    assert (len(parts.train), len(parts.dev), len(parts.test)) == (30, 10, 10)
    assert not {u.speaker for u in parts.train} & {u.speaker for u in parts.dev}
    assert parts.test[0].text == "GO X" and parts.test[0].name == "u0-x"
    again = an4_identification(tmp_path)
    assert (len(again.train), len(again.dev), len(again.test)) == (24, 8, 8)
    assert {u.labels for u in again.test} == {(voice,) for voice in "abcdefgh"} and len(again.slots[0].values) == 8
    trials = an4_verification(tmp_path).trials
    assert [tuple(trial) for trial in trials] == [(True, "u0-x", "u1-x"), (False, "u0-x", "u1-y")]


def test_an4_lists_that_disagree_missing_audio_and_headerless_audio_are_named(tmp_path):
    make_an4(tmp_path)
    texts = tmp_path / "etc/an4_test.transcription"
    right = texts.read_text()
    texts.write_text(right.replace("(u1-x)", "(u2-x)", 1))
    with pytest.raises(ValueError, match=r"an4_test.transcription, line 2: it should end in \(u1-x\)"):
        an4(tmp_path)
    texts.write_text(right)
    (tmp_path / "wav/an4train/a/u0-a.wav").rename(tmp_path / "wav/an4train/a/u0-a.raw")
    with pytest.raises(ValueError, match="u0-a.raw has no header: take an4_sphere"):
        an4(tmp_path)
    (tmp_path / "wav/an4train/a/u0-a.raw").unlink()
    assert len(an4(tmp_path).skipped) == 1
    (tmp_path / "etc/veri_test.txt").write_text("1 u0-x u1-x\n0 u0-x u9-y\n")
    with pytest.raises(ValueError, match="veri_test.txt, line 2: u9-y is not one test utterance: none"):
        an4_verification(tmp_path)
    clip(tmp_path / "wav/an4test/z/u0-x.wav")
    with (tmp_path / "etc/an4_test.fileids").open("a") as ids, texts.open("a") as rows:
        ids.write("an4test/z/u0-x\n")
        rows.write("GO (u0-x)\n")
    with pytest.raises(ValueError, match="two test utterances are named u0-x"):
        an4_verification(tmp_path)


@real
def test_the_real_an4_is_read_whole():
    parts = an4(DATA / "an4")
    assert (len(parts.train) + len(parts.dev), len(parts.test), parts.skipped) == (242, 65, [])
    assert parts.test[0].text == "RUBOUT G M E F THREE NINE" and parts.train[0].text == "N L N S ONE SEVENTY FIVE"
    verification = an4_verification(DATA / "an4", clean=True)
    assert len(verification.trials) == 191 and {t.same for t in verification.dev_trials} == {True, False}
    assert len(an4_identification(DATA / "an4").slots[0].values) == 19


def make_speech_commands(root):
    """Both archives; speakers are numbers in hexadecimal, so that every part gets some."""
    speakers = [f"{i:08x}" for i in range(60)]
    for word in ("yes", "go", "bed"):
        for speaker in speakers:
            clip(root / "v1" / word / f"{speaker}_nohash_0.wav", 0.01)
    clip(root / "v1/_background_noise_/doing_the_dishes.wav", 3.0)
    (root / "v1/_background_noise_/README.md").write_text("noise")
    for word in ("yes", "_unknown_", "_silence_"):
        for i in range(2):
            clip(root / "test" / word / f"{i}.wav", 1.0)
    return speakers


def test_speech_commands_is_split_by_the_digest_of_the_speaker(tmp_path):
    speakers = make_speech_commands(tmp_path)
    parts = speech_commands(tmp_path / "v1", tmp_path / "test")
    expected = {"train": set(), "dev": set(), "unused": set()}
    for speaker in speakers:  # by the digest's last 27 bits, without floating point
        share = (int.from_bytes(hashlib.sha1(speaker.encode()).digest()[-4:], "big") & (2**27 - 1)) / (2**27 - 1)
        expected["dev" if share < 0.1 else "unused" if share < 0.2 else "train"].add(speaker)
    assert all(expected.values())
    for part, found in (("train", parts.train), ("dev", parts.dev)):
        spoken = [utterance for utterance in found if utterance.crop is None]
        assert {utterance.speaker for utterance in spoken} == expected[part] and len(spoken) == 3 * len(expected[part])
    assert names(parts.test) == [f"{word}-{i}.wav" for word in ("_silence_", "_unknown_", "yes") for i in range(2)]
    assert {u.labels[0] for u in parts.train} == {"yes", "go", "_unknown_", "_silence_"}
    assert parts.slots == (KEYWORDS,) and len(KEYWORDS.values) == 12
    assert all(name_of("ks", utterance.path) == utterance.name for utterance in parts.test)


def test_silence_is_cropped_from_the_background_recordings(tmp_path):
    make_speech_commands(tmp_path)
    parts = measured(speech_commands(tmp_path / "v1", tmp_path / "test"))
    (noise,) = [utterance for utterance in parts.train if utterance.crop]
    assert (noise.labels, noise.end) == (("_silence_",), 3.0)
    crops = fixed_crops(noise, 5)
    assert [(crop.start, crop.end) for crop in crops] == [(0.5 * i, 0.5 * i + 1.0) for i in range(5)]
    assert len({crop.name for crop in crops}) == 5 and all(crop.crop is None for crop in crops)
    assert len(audio.read(crops[4].path, crops[4].start, 1.0)) == 16000
    assert fixed_crops(noise, 1)[0].start == 0.0


def test_other_folders_than_the_twelve_classes_are_refused_in_the_test_archive(tmp_path):
    make_speech_commands(tmp_path)
    (tmp_path / "v1/_background_noise_/doing_the_dishes.wav").unlink()
    with pytest.raises(ValueError, match="_background_noise_ holds no .wav"):
        speech_commands(tmp_path / "v1", tmp_path / "test")
    clip(tmp_path / "test/bed/0.wav")
    with pytest.raises(ValueError, match="bed is none of the classes yes, no"):
        speech_commands(tmp_path / "v1", tmp_path / "test")
    with pytest.raises(ValueError, match="v1/validation_list.txt is missing"):
        speech_commands(tmp_path / "v1")


@real
def test_the_real_test_archive_agrees_with_the_digest_rule_and_can_be_split_by_its_lists():
    root = DATA / "speech_commands_test_set_v0.02"
    words = [p for p in root.glob("*/*_nohash_*.wav") if not p.parent.name.startswith("_")]
    assert len(words) == 450 and {part_of(path.name) for path in words} == {"test"}
    parts = speech_commands(root)
    listed = {name: (root / f"{name}_list.txt").read_text().split() for name in ("validation", "testing")}
    for part, name in ((parts.dev, "validation"), (parts.test, "testing")):
        assert sorted(f"{u.path.parent.name}/{u.path.name}" for u in part) == sorted(listed[name])
    assert len(parts.train) == 540 - 60 - 99 and {u.labels[0] for u in parts.test} == set(KEYWORDS.values)
    assert "not SUPERB" in parts.protocol


@pytest.mark.parametrize("target", ["digit", "speaker"])
def test_fsdd_is_split_by_index(tmp_path, target):
    for digit in range(2):
        for voice in ("jo", "max"):
            for i in range(10):
                clip(tmp_path / "recordings" / f"{digit}_{voice}_{i}.wav", rate=8000)
    parts = fsdd(tmp_path, target)
    indices = [{int(u.name.split("_")[2]) for u in part} for part in (parts.train, parts.dev, parts.test)]
    assert indices == [{7, 8, 9}, {5, 6}, {0, 1, 2, 3, 4}]
    assert parts.slots[0].values == (("0", "1") if target == "digit" else ("jo", "max"))
    assert parts.test[0].labels == (("0",) if target == "digit" else ("jo",))
    clip(tmp_path / "recordings/jo_1.wav")
    with pytest.raises(ValueError, match="jo_1.wav: FSDD's names"):
        fsdd(tmp_path)


@real
def test_the_real_fsdd_has_ten_digits_and_six_speakers():
    parts = fsdd(DATA / "fsdd")
    assert [len(part) for part in (parts.train, parts.dev, parts.test)] == [780, 120, 300]
    assert len(parts.slots[0].values) == 10 and len(fsdd(DATA / "fsdd", "speaker").slots[0].values) == 6


def make_fluent(root):
    header = ",path,speakerId,transcription,action,object,location\n"
    rows = [("turn on", "lights", "kitchen"), ("bring", "shoes", "none"), ("turn on", "music", "none")]
    (root / "data").mkdir(parents=True)
    for part in ("train", "valid", "test"):
        lines = []
        for i, slots in enumerate(rows):
            path = f"wavs/speakers/v{i}/{part}-{i}.wav"
            clip(root / path)
            lines.append(f'{i},{path},v{i},"Say ""it"", please",{",".join(slots)}\n')
        (root / "data" / f"{part}_data.csv").write_text(header + "".join(lines))


def test_fluent_speech_commands_equal_torchaudios_rows(tmp_path):
    from torchaudio.datasets import FluentSpeechCommands

    root = tmp_path / "fluent_speech_commands_dataset"
    make_fluent(root)
    parts = fluent_speech_commands(root)
    values = ("turn on", "bring"), ("lights", "shoes", "music"), ("kitchen", "none")
    assert parts.slots == tuple(zip(("action", "object", "location"), values, strict=True))
    for subset, found in (("train", parts.train), ("valid", parts.dev), ("test", parts.test)):
        theirs = FluentSpeechCommands(tmp_path, subset)
        rows = [theirs.get_metadata(i) for i in range(len(theirs))]
        assert [(str(u.path.relative_to(root)), u.name, u.speaker, u.text, *u.labels) for u in found] == [
            (path, name, voice, text, *slots) for path, _, name, voice, text, *slots in rows
        ]


def test_unknown_slot_values_missing_columns_and_missing_audio_are_named(tmp_path):
    make_fluent(tmp_path)
    file = tmp_path / "data/valid_data.csv"
    right = file.read_text()
    file.write_text(right.replace("shoes", "juice"))
    with pytest.raises(ValueError, match="valid_data.csv, line 3: the object 'juice' is not in train_data.csv"):
        fluent_speech_commands(tmp_path)
    file.write_text(right.replace("location", "place"))
    with pytest.raises(ValueError, match="valid_data.csv, line 2: no location; a row has path"):
        fluent_speech_commands(tmp_path)
    file.write_text(right.replace(",none", ""))
    with pytest.raises(ValueError, match="valid_data.csv, line 3: 6 values for 7 columns"):
        fluent_speech_commands(tmp_path)
    file.write_text(right)
    (tmp_path / "wavs/speakers/v1/valid-1.wav").unlink()
    ((place, why),) = fluent_speech_commands(tmp_path).skipped
    assert place.endswith("valid_data.csv, line 3") and why.endswith("valid-1.wav")
    (tmp_path / "wavs/speakers/v1/test-1.wav").unlink()
    with pytest.raises(ValueError, match="test_data.csv, line 3: there is no audio"):
        fluent_speech_commands(tmp_path)


def test_fluent_needs_no_more_columns_than_s3prl_reads(tmp_path):
    make_fluent(tmp_path)
    whole = fluent_speech_commands(tmp_path)
    for part in ("train", "valid", "test"):
        file = tmp_path / f"data/{part}_data.csv"
        file.write_text(re.sub(r',"Say ""it"", please"|,v\d(?=,")|,speakerId,transcription', "", file.read_text()))
    bare = fluent_speech_commands(tmp_path)
    assert [utterance.labels for utterance in bare.test] == [utterance.labels for utterance in whole.test]
    assert not bare.train[0].text and not bare.train[0].speaker


def make_snips(root):
    rows = []
    for part, voices in VOICES.items():
        for voice in (*voices, "Stranger"):
            name = f"{voice}-snips-{part}-0"
            clip(root / part / f"{name}.wav")
            rows.append(f"{name} BOS PLAY THE QUEEN EOS\tO O artist artist PlayMusic\n")
    clip(root / "train" / "Aditi-snips-train-0.wav")  # a voice of another part
    (root / "all.iob.snips.txt").write_text("".join(rows))
    (root / "slots.txt").write_text("O\nartist\ncity\n")


def test_audio_snips_keeps_voices_apart_and_reads_what_torchaudio_reads(tmp_path):
    from torchaudio.datasets import Snips

    root = tmp_path / "SNIPS"
    make_snips(root)
    parts = audio_snips(root)
    for part, found in (("train", parts.train), ("valid", parts.dev), ("test", parts.test)):
        assert [u.speaker for u in found] == sorted(VOICES[part])
        theirs = Snips(tmp_path, part, list(VOICES[part]), "wav")
        rows = [theirs.get_metadata(i) for i in range(len(theirs))]
        mine = [(str(u.path.relative_to(root)), u.name, u.text, " ".join(u.tags)) for u in found]
        assert mine == [(row[0], *row[2:5]) for row in rows]
    assert parts.slots[0].values == ("artist", "city")


def test_bad_rows_of_snips_are_named(tmp_path):
    make_snips(tmp_path)
    file = tmp_path / "all.iob.snips.txt"
    right = file.read_text()
    for old, new, message in (
        ("O O artist artist", "O O artist", "line 1: a row is an id"),
        ("O O artist artist", "O O artist genre", "line 1: slots.txt has no slot genre"),
        ("Joanna-snips", "Ivy-snips", "line 2: Ivy-snips-train-0 has a row already"),
    ):
        file.write_text(right.replace(old, new, 1))
        with pytest.raises(ValueError, match=message):
            audio_snips(tmp_path)
    file.write_text(right.replace("Joey-snips-train-0 ", "Joey-snips-train-1 "))
    parts = audio_snips(tmp_path)
    assert "all.iob.snips.txt has no row" in parts.skipped[0][1] and "no audio" in parts.skipped[1][1]
    (tmp_path / "slots.txt").write_text("")
    with pytest.raises(ValueError, match="slots.txt is empty"):
        audio_snips(tmp_path)
    (tmp_path / "slots.txt").write_text("artist\n")
    with pytest.raises(ValueError, match="slots.txt: the first line should be O"):
        audio_snips(tmp_path)


def test_corrupt_and_too_short_files_are_skipped_in_train_and_stop_in_test(tmp_path):
    make_librispeech(tmp_path)
    (tmp_path / "train-clean-100/19/7/19-7-0001.flac").write_bytes(b"fLaC, but no more")
    read = librispeech(tmp_path)
    good, broken, _ = read.train
    many = [good._replace(name=f"{i}") for i in range(19)]
    parts = measured(read._replace(train=[*many, broken]))
    assert names(parts.train) == names(many) and parts.train[0].end == 0.05
    assert parts.skipped[0][0].endswith("19-7-0001.flac") and parts.skipped[0][1].startswith("no audio")
    with pytest.raises(ValueError, match=r"1 of 19 clips of train cannot be used, .*: .*19-7-0001.flac: no"):
        measured(read._replace(train=[*many[1:], broken]))
    with pytest.raises(ValueError, match=r"1 of 4 clips of dev cannot be used, .*: .*19-7-0001.flac: no"):
        measured(read._replace(train=many, dev=[*read.dev, broken]))
    (tmp_path / "test-clean/61/7/61-7-0000.flac").write_bytes(b"")
    with pytest.raises(ValueError, match=r"61-7-0000.flac: no audio.*so restore it") as caught:
        measured(read._replace(train=many))
    assert "\n" not in str(caught.value)


def test_files_that_published_lists_name_may_be_missing_but_not_be_no_audio(tmp_path):
    make_an4(tmp_path)
    lost = sorted((tmp_path / "wav/an4train").glob("*/*.wav"))[::3]
    for path in lost:
        path.unlink()
    parts = measured(an4(tmp_path))
    assert len(parts.skipped) == len(lost) == 14 and len(parts.train) + len(parts.dev) == 26
    for path in lost:
        path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"of 30 clips of train cannot be used, .*: .*u0-a.wav: no audio"):
        measured(an4(tmp_path))


def test_pieces_beyond_the_end_are_cut_or_named(tmp_path):
    clip(tmp_path / "a.wav", 1.0, 8000, 2)
    assert file_lengths([tmp_path / "a.wav"]) == {tmp_path / "a.wav": 1.0}
    make_librispeech(tmp_path)
    parts = librispeech(tmp_path)
    inside = Utterance("in", tmp_path / "a.wav", 0.5, 2.0)
    beyond = Utterance("out", tmp_path / "a.wav", 1.0)
    many = [inside._replace(name=f"{i}") for i in range(19)]
    parts = measured(parts._replace(train=[*many, beyond]))
    assert parts.train[0].end == 1.0
    assert parts.skipped == [(f"{tmp_path / 'a.wav'} from 1 s", "lasts 1.000 seconds, too few for a piece from 1")]
    assert len(audio.read(inside.path, inside.start)) == 8000  # stereo and 8 kHz: one channel at 16 kHz
    with pytest.raises(ValueError, match="the lists of train name .*a.wav twice: remove one row"):
        measured(parts._replace(train=[inside, inside]))
