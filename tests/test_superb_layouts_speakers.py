# SPDX-License-Identifier: Apache-2.0
"""Official layouts of SID, ASV, QbE, SD and ER, from small trees: splits, labels, and what is wrong in one line."""

import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from pluri.benchmarks.superb import corpora
from pluri.benchmarks.superb.apart import set_apart
from pluri.benchmarks.superb.asv.trials import all_trials, draw_trials
from pluri.benchmarks.superb.layouts.ami import ami
from pluri.benchmarks.superb.layouts.emodb import emodb
from pluri.benchmarks.superb.layouts.iemocap import EMOTIONS, iemocap
from pluri.benchmarks.superb.layouts.librimix import librimix
from pluri.benchmarks.superb.layouts.published import COUNTS, Count
from pluri.benchmarks.superb.layouts.quesst14 import quesst14
from pluri.benchmarks.superb.layouts.voxceleb import voxceleb1_identification, voxceleb1_verification
from pluri.benchmarks.superb.predictions import name_of
from pluri.benchmarks.superb.sd.rttm import Turn, read_rttm, read_uem, write_rttm
from pluri.benchmarks.superb.utterances import Utterance, measured

DATA = Path(os.environ.get("PLURI_TRIAL_DATA", "")) / "speech"
real = pytest.mark.skipif("PLURI_TRIAL_DATA" not in os.environ, reason="needs the trial data")


def clip(path, seconds=0.05, rate=16000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(round(seconds * rate)), rate)


def names(utterances):
    return [utterance.name for utterance in utterances]


def make_voxceleb(root):
    """Eight dev and two test speakers with two videos of two clips each, the list of the split, and trials."""
    rows = []
    for part, voices in (("dev", range(10001, 10009)), ("test", (10270, 10300))):
        for voice in voices:
            for video in ("aAa", "b_b"):
                for i in (1, 2):
                    path = f"id{voice}/{video}/0000{i}.wav"
                    clip(root / part / "wav" / path)
                    rows.append(f"{3 if video == 'b_b' and i == 2 else i} {path}")
    (root / "iden_split.txt").write_text("\n".join(rows) + "\n")
    a, b, c = "id10270/aAa/00001.wav", "id10270/b_b/00001.wav", "id10300/aAa/00001.wav"
    (root / "veri_test.txt").write_text(f"1 {a} {b}\n0 {a} {c}\n")


def test_voxceleb_identification_follows_the_list_as_torchaudio_does(tmp_path):
    from torchaudio.datasets.voxceleb1 import _get_flist

    make_voxceleb(tmp_path)
    parts = voxceleb1_identification(tmp_path)
    for part, found in (("train", parts.train), ("dev", parts.dev), ("test", parts.test)):
        mine = sorted("/".join(utterance.path.parts[-3:]) for utterance in found)
        assert mine == _get_flist(str(tmp_path), str(tmp_path / "iden_split.txt"), part)
    assert len(parts.slots[0].values) == 1251 and parts.slots[0].values[269] == "id10270"
    assert parts.test[-1].labels == ("id10300",) and parts.test[-1].name == "id10300-b_b-00002"
    assert all(name_of("sid", u.path) == u.name for u in parts.test)


def test_speakers_that_do_not_exist_bad_rows_and_missing_clips_are_named(tmp_path):
    make_voxceleb(tmp_path)
    file = tmp_path / "iden_split.txt"
    right = file.read_text()
    for new, message in (
        ("1 id20001/a/1.wav", "line 1: id20001 is none of id10001 to id11251"),
        ("4 id10001/aAa/00001.wav", "line 1: a row is 1, 2 or 3"),
        ("1 id10001/00001.wav", "line 1: a row is 1, 2 or 3"),
        ("3 id10001/aAa/00009.wav", "line 1: there is no id10001/aAa/00009.wav in"),
    ):
        file.write_text(right.replace("1 id10001/aAa/00001.wav", new, 1))
        with pytest.raises(ValueError, match=message):
            voxceleb1_identification(tmp_path)
    file.write_text("\n")
    with pytest.raises(ValueError, match="iden_split.txt is empty"):
        voxceleb1_identification(tmp_path)
    file.unlink()
    with pytest.raises(ValueError, match="neither iden_split.txt nor veri_test_class.txt"):
        voxceleb1_identification(tmp_path)


def test_voxceleb_verification_trains_on_all_dev_speakers_and_the_clean_variant_keeps_some(tmp_path):
    make_voxceleb(tmp_path)
    parts = voxceleb1_verification(tmp_path)
    assert (len(parts.train), parts.dev, len(parts.slots[0].values)) == (32, [], 8)
    assert sorted(names(parts.test)) == ["id10270-aAa-00001", "id10270-b_b-00001", "id10300-aAa-00001"]
    assert [trial.same for trial in parts.trials] == [True, False] and parts.trials[1].second == "id10300-aAa-00001"
    clean = voxceleb1_verification(tmp_path, clean=True)
    voices = [{u.speaker for u in part} for part in (clean.train, clean.dev, clean.test)]
    assert [len(each) for each in voices] == [6, 2, 2] and not any(a & b for a, b in combinations(voices, 2))
    assert clean.protocol.startswith("clean") and clean.trials == parts.trials
    twice = (tmp_path / "veri_test.txt").read_text() * 2
    (tmp_path / "mine.txt").write_text(twice)
    with pytest.raises(ValueError, match="mine.txt, line 3: line 1 is the same trial"):
        voxceleb1_verification(tmp_path, tmp_path / "mine.txt")
    (tmp_path / "veri_test.txt").write_text(twice)  # published lists are as they are
    assert len(voxceleb1_verification(tmp_path).trials) == 4
    (tmp_path / "veri_test.txt").write_text("1 id10270/aAa/00001.wav id10270/b_b/00009.wav\n0 a b\n")
    with pytest.raises(ValueError, match="veri_test.txt, line 1: there is no id10270/b_b/00009.wav"):
        voxceleb1_verification(tmp_path)
    (tmp_path / "veri_test.txt").write_text("1 a b\n2 a c\n")
    with pytest.raises(ValueError, match="veri_test.txt, line 2: a trial is 1"):
        voxceleb1_verification(tmp_path)
    (tmp_path / "veri_test.txt").write_text(
        "1 id10001/aAa/00001.wav id10270/aAa/00001.wav\n0 a b\n".replace(" a b", "")
    )
    with pytest.raises(ValueError, match="line 2: a trial is 1"):
        voxceleb1_verification(tmp_path)


def test_drawn_trials_are_balanced_distinct_and_right(tmp_path):
    utterances = [Utterance(f"{v}{i}", tmp_path, speaker=v) for v in "abc" for i in range(4)]
    trials = draw_trials(utterances)
    assert len(trials) == len(set(trials)) == 2 * 18 and sum(trial.same for trial in trials) == 18
    assert all(trial.same == (trial.first[0] == trial.second[0]) and trial.first != trial.second for trial in trials)
    assert draw_trials(utterances[::-1]) == trials and len(draw_trials(utterances, 5)) == 10
    with pytest.raises(ValueError, match="no trials can be drawn from 4 utterances of 1 speaker"):
        draw_trials(utterances[:4])


def test_all_trials_are_every_pair_once(tmp_path):
    utterances = [Utterance(f"{v}{i}", tmp_path, speaker=v) for v in "abc" for i in range(4)]
    trials = all_trials(utterances)
    assert len({frozenset((trial.first, trial.second)) for trial in trials}) == len(trials) == 66
    assert sum(trial.same for trial in trials) == 18 and all(t.same == (t.first[0] == t.second[0]) for t in trials)
    assert all_trials(utterances[::-1]) == trials
    with pytest.raises(ValueError, match="4 test utterances are not of both kinds"):
        all_trials(utterances[:4])
    with pytest.raises(ValueError, match="1500 test utterances make 1124250 pairs, over 1000000"):
        all_trials([Utterance(str(i), tmp_path, speaker=str(i % 7)) for i in range(1500)])


def test_names_are_set_apart_whatever_their_order():
    voices = [f"s{i}" for i in range(20)]
    assert set_apart(voices, 0.1) == set_apart(voices[::-1], 0.1) and len(set_apart(voices, 0.1)) == 2
    assert set_apart(voices, 0.1) < set_apart(voices, 0.3) and len(set_apart(["a", "b"], 0.9)) == 1
    with pytest.raises(ValueError, match="2 of the 2 speaker"):
        set_apart(["a", "b", "b"], 0.5, least=2)


def make_quesst(root):
    lists = {"utterances": [], "dev": [], "eval": []}
    for kind, folder in (("utterances", "Audio"), ("dev", "dev_queries"), ("eval", "eval_queries")):
        for i, language in enumerate(("nnenglish", "albanian", "nnenglish")):
            clip(root / folder / f"{kind}_{i}.wav", rate=8000)
            lists[kind].append(f"quesst14Database/{folder}/{kind}_{i}.wav {language}")
        (root / "scoring").mkdir(exist_ok=True)
        (root / "scoring" / f"language_key_{kind}.lst").write_text("\n".join(lists[kind]) + "\n")


def test_quesst_keeps_the_english_part_as_torchaudio_does(tmp_path):
    from torchaudio.datasets.quesst14 import filter_audio_paths

    make_quesst(tmp_path)
    search = quesst14(tmp_path)
    for found, kind in ((search.documents, "utterances"), (search.dev, "dev"), (search.test, "eval")):
        theirs = filter_audio_paths(str(tmp_path), "nnenglish", f"language_key_{kind}.lst")
        assert [utterance.path for utterance in found] == theirs and len(theirs) == 2
    assert search.recordings == ["utterances_0", "utterances_1", "utterances_2"] and search.dev_truth is None


def test_the_truth_of_quesst_is_read_for_all_languages_and_bad_rows_are_named(tmp_path):
    make_quesst(tmp_path)
    folder = tmp_path / "scoring/groundtruth_quesst14_dev"
    folder.mkdir()
    rows = ["LEXEME utterances_0 1 0.0 1.0 dev_0 x x x", "LEXEME utterances_1 1 0.0 1.0 dev_1 x x x"]
    rows += ["LEXEME utterances_2 1 0.0 1.0 NO_KEYWORD x x x", "LEXEME utterances_2 1 0.0 1.0 dev_0 x x x"]
    (folder / "quesst14_dev.rttm").write_text("\n".join(rows) + "\n")
    assert quesst14(tmp_path).dev_truth == {"dev_0": {"utterances_0", "utterances_2"}, "dev_1": {"utterances_1"}}
    (folder / "quesst14_dev.rttm").write_text("LEXEME nowhere 1 0 1 dev_0\n")
    with pytest.raises(ValueError, match="quesst14_dev.rttm, line 1: a LEXEME row has a listed document"):
        quesst14(tmp_path)
    (tmp_path / "dev_queries/dev_1.wav").unlink()  # of another language
    (tmp_path / "dev_queries/dev_2.wav").unlink()
    with pytest.raises(ValueError, match="language_key_dev.lst, line 3: there is no audio .*dev_2.wav"):
        quesst14(tmp_path)


def make_kaldi(folder, count=2):
    """Recordings of 2 s, in which two speakers begin together, so that the names of their first segments are one."""
    rows = {name: [] for name in ("wav.scp", "segments", "utt2spk", "reco2dur", "rttm", "spk2utt")}
    for i in range(count):
        name = f"19-1-{i}_26-2-{i}"
        clip(folder / f"wav/{name}.wav", 2.0)
        rows["wav.scp"].append(f"{name} wav/{name}.wav")
        rows["reco2dur"].append(f"{name} 2.0")
        for speaker, start, end in (("19", 0.5, 1.0), ("19", 1.2, 1.5), ("26", 0.5, 1.0)):
            segment = f"{name}_{int(start * 1000):06d}_{int(end * 1000):06d}"
            rows["segments"].append(f"{segment} {name} {start} {end}")
            rows["utt2spk"].append(f"{segment} {speaker}")
            rows["rttm"].append(f"SPEAKER\t{name}\t1\t{start}\t{end - start}\t<NA>\t<NA>\t{speaker}\t<NA>")
    rows["spk2utt"] = ["19 a", "26 a"]
    for name, lines in rows.items():
        (folder / name).write_text("\n".join(lines) + "\n")


def test_librimix_is_read_from_its_kaldi_folders(tmp_path):
    for part in ("train", "dev", "test"):
        make_kaldi(tmp_path / part)
    parts = measured(librimix(tmp_path))
    for part in (parts.train, parts.dev, parts.test):
        assert names(part) == ["19-1-0_26-2-0", "19-1-1_26-2-1"] and part[0].end == 2.0
        spoken = np.array([(int(turn.speaker), turn.start, turn.end) for turn in part[0].turns])
        assert spoken == pytest.approx(np.array([(19, 0.5, 1.0), (19, 1.2, 1.5), (26, 0.5, 1.0)]))
    wav = (tmp_path / "test/wav.scp").read_text()
    (tmp_path / "test/wav.scp").write_text(wav.replace("wav/", f"{tmp_path}/test/wav/"))
    assert librimix(tmp_path).test[0].path.is_file()


def test_kaldi_files_that_contradict_one_another_are_named(tmp_path):
    for part in ("train", "dev", "test"):
        make_kaldi(tmp_path / part)
    name = "19-1-1_26-2-1"
    for file, old, new, message in (
        ("wav.scp", f"wav/{name}.wav", f"sox wav/{name}.wav -t wav - |", "wav.scp, line 2: .* is a command"),
        ("wav.scp", f"wav/{name}.wav", "", "wav.scp, line 2: 19-1-1_26-2-1 has no value"),
        ("wav.scp", f"wav/{name}.wav", "wav/x.wav", "wav.scp, line 2: there is no audio .*x.wav"),
        ("reco2dur", f"{name} 2.0\n", "", "reco2dur has no length of 19-1-1_26-2-1"),
        ("reco2dur", f"{name} 2.0", f"{name} nan", "reco2dur, line 2: 'nan' is no time in seconds"),
        ("segments", f" {name} 1.2", " x 1.2", "segments, line 5: wav.scp has no recording x"),
        ("segments", f" {name} 1.2", f" {name} 2.2", "segments, line 5: .* ends before it starts"),
        ("segments", f"{name}_001200", "y", "segments, line 5: utt2spk has no speaker of y"),
        ("spk2utt", "26 a", "27 a", "spk2utt: 26 is not in both"),
        (
            "rttm",
            f"{name}\t1\t0.5\t0.5\t<NA>\t<NA>\t26",
            f"{name}\t1\t0.5\t0.5\t<NA>\t<NA>\t9",
            "rttm: 19-1-1_26-2-1 has",
        ),
    ):
        right = (tmp_path / "test" / file).read_text()
        assert old in right
        (tmp_path / "test" / file).write_text(right.replace(old, new))
        with pytest.raises(ValueError, match=message):
            librimix(tmp_path)
        (tmp_path / "test" / file).write_text(right)
    (tmp_path / "dev/segments").unlink()
    with pytest.raises(ValueError, match="dev/segments is missing"):
        librimix(tmp_path)


def test_rttm_is_read_as_it_was_written_and_bad_rows_are_named(tmp_path):
    file = tmp_path / "x.rttm"
    turns = {"a": [Turn("Zoë", 0.0, 1.25), Turn("b", 1.0, 2.0)], "b": [Turn("b", 3.5, 4.0)]}
    write_rttm(file, turns)
    assert read_rttm(file) == turns
    for row, message in (
        ("SPEAKER a 1 0.0 x <NA> <NA> b", "line 2: 'x' is no time"),
        ("SPEAKER a 1 -1 1 <NA> <NA> b", "line 2: '-1' is no time"),
        ("SPEAKER a 1 0.0 1.0", "line 2: a SPEAKER row has"),
    ):
        file.write_text(f"SPKR-INFO a 1 <NA>\n{row}\n")
        with pytest.raises(ValueError, match=f"x.rttm, {message}"):
            read_rttm(file)
    (tmp_path / "x.uem").write_text("a NA 0.0 1.0\na NA 2.0 3.0\n")
    assert read_uem(tmp_path / "x.uem") == {"a": [(0.0, 1.0), (2.0, 3.0)]}
    (tmp_path / "x.uem").write_text("a NA 1.0 1.0\n")
    with pytest.raises(ValueError, match="x.uem, line 1: the stretch ends"):
        read_uem(tmp_path / "x.uem")


def test_ami_lists_are_read_and_recordings_without_turns_are_named(tmp_path):
    for name, recording in (("train", "t"), ("development", "d"), ("test", "e")):
        clip(tmp_path / f"{recording}.wav", 2.0)
        (tmp_path / f"small.{name}.lst").write_text(f"{recording}\n")
        (tmp_path / f"small.{name}.rttm").write_text(f"SPEAKER {recording} 1 0.5 1.0 <NA> <NA> anna <NA> <NA>\n")
    (tmp_path / "small.test.uem").write_text("e NA 0.25 2.0\n")
    parts = ami(tmp_path)
    assert (parts.test[0].scored, parts.train[0].scored) == (((0.25, 2.0),), ())
    assert parts.dev[0].turns == (Turn("anna", 0.5, 1.5),)
    (tmp_path / "small.train.lst").write_text("t\nu\n")
    with pytest.raises(ValueError, match="small.train.lst, line 2: small.train.rttm has no turns of u"):
        ami(tmp_path)
    (tmp_path / "small.train.lst").unlink()
    with pytest.raises(ValueError, match=r"needs one file \*.train.lst and has 0"):
        ami(tmp_path)


@real
def test_the_real_ami_excerpts_are_read_whole():
    parts = measured(ami(DATA / "ami_debug"))
    assert [names(part) for part in (parts.train, parts.dev, parts.test)] == [
        ["trn01", "trn02", "trn03", "trn04"],
        ["dev00"],
        ["tst00"],
    ]
    everything = (*parts.train, *parts.dev, *parts.test)
    assert all(u.scored == ((0.0, 30.0),) and u.end == pytest.approx(30.0, abs=1e-3) for u in everything)
    rows = [line for line in (DATA / "ami_debug/debug.train.rttm").read_text().split("\n") if line]
    assert sum(len(u.turns) for u in parts.train) == len(rows) and all(u.turns for u in parts.train)


def make_iemocap(root):
    """Five sessions of two dialogues with twelve turns each, one of which has no label that is used."""
    for session in range(1, 6):
        for dialogue in ("impro01", "script02_1"):
            stem = f"Ses0{session}F_{dialogue}"
            rows = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
            for i in range(12):
                name = f"{stem}_{'FM'[i % 2]}{i:03d}"
                emotion = ("neu", "exc", "ang", "sad", "hap", "xxx")[i % 6]
                rows += [f"[{i}.0 - {i}.5]\t{name}\t{emotion}\t[2.5000, 2.5000, 2.5000]", "C-E2:\tNeutral;\t()", ""]
                clip(root / f"Session{session}/sentences/wav/{stem}/{name}.wav", 0.01)
            labels = root / f"Session{session}/dialog/EmoEvaluation"
            labels.mkdir(parents=True, exist_ok=True)
            (labels / f"{stem}.txt").write_bytes("\n".join(rows).encode() + "\nC-E3:\té\n".encode("latin-1"))
            (labels / f"._{stem}.txt").write_bytes(b"\x00[\x05")
    (root / "Session1/dialog/EmoEvaluation/Categorical").mkdir()


@pytest.mark.parametrize("fold", [1, 5])
def test_iemocap_tests_one_session_and_draws_dev_as_random_split_does(tmp_path, fold):
    make_iemocap(tmp_path)
    parts = iemocap(tmp_path, fold)
    assert len(parts.test) == 20 and {u.speaker[:5] for u in parts.test} == {f"Ses0{fold}"}
    assert (len(parts.train), len(parts.dev), parts.slots) == (64, 16, (EMOTIONS,))
    ordered = [  # script02_1 stands before impro01 in the published lists of sessions 2 to 4, and after it in session 1
        f"Ses0{session}F_{dialogue}_{'FM'[i % 2]}{i:03d}"
        for session in range(1, 6)
        if session != fold
        for dialogue in (("script02_1", "impro01") if session in (2, 3) else ("impro01", "script02_1"))
        for i in range(12)
        if i % 6 != 5
    ]
    torch.manual_seed(0)
    expected = torch.utils.data.random_split(range(80), [64, 16])  # pyright: ignore[reportArgumentType]
    assert [names(parts.train), names(parts.dev)] == [[ordered[i] for i in part.indices] for part in expected]
    labels = {u.name[-3:]: u.labels[0] for u in parts.test}
    assert [labels[f"{i:03d}"] for i in range(5)] == ["neu", "hap", "ang", "sad", "hap"]


def test_no_fold_of_iemocap_is_the_leaderboards_where_one_lacks_clips(tmp_path, monkeypatch):
    make_iemocap(tmp_path)
    for counts, why in (((20,) * 5, ""), ((20, 20, 20, 21, 20), "20 of 21 test clips"), ((20,) * 4 + (1241,), "20 of")):
        monkeypatch.setitem(COUNTS, "er", Count(counts, "this test"))
        folds = corpora.emotions(str(tmp_path), False, ())
        assert all(fold.official is not bool(why) for fold in folds) and len(folds) == 5
        assert folds[0].parts.protocol.startswith(f"incomplete data: {why}" if why else "SUPERB, fold 1")
    assert corpora.emotions(str(tmp_path), False, (2, 3))[0].official
    assert not corpora.emotions(str(tmp_path), False, (5,))[0].official


def test_the_clean_folds_of_iemocap_share_no_speaker(tmp_path):
    make_iemocap(tmp_path)
    for fold in (1, 5):
        parts = iemocap(tmp_path, fold, clean=True)
        voices = [{u.speaker for u in part} for part in (parts.train, parts.dev, parts.test)]
        assert [len(each) for each in voices] == [6, 2, 2] and not any(a & b for a, b in combinations(voices, 2))
        assert voices[1] == {f"Ses0{fold % 5 + 1}{gender}" for gender in "FM"}


def test_missing_sessions_bad_rows_and_missing_audio_of_iemocap_are_named(tmp_path):
    make_iemocap(tmp_path)
    with pytest.raises(ValueError, match="not 6"):
        iemocap(tmp_path, 6)
    (tmp_path / "Session2/sentences/wav/Ses02F_impro01/Ses02F_impro01_F000.wav").unlink()
    ((place, why),) = iemocap(tmp_path, 1).skipped
    assert place.endswith("Ses02F_impro01.txt, line 3") and why.startswith("there is no audio")
    with pytest.raises(ValueError, match="Ses02F_impro01.txt, line 3: there is no audio"):
        iemocap(tmp_path, 2)
    file = tmp_path / "Session3/dialog/EmoEvaluation/Ses03F_impro01.txt"
    file.write_text(file.read_text(encoding="latin-1").replace("\tneu\t", " neu "))
    with pytest.raises(ValueError, match=r"Ses03F_impro01.txt, line 3: a row is \[start - stop\]"):
        iemocap(tmp_path, 1)
    (tmp_path / "Session1").rename(tmp_path / "Session6")
    with pytest.raises(ValueError, match="Session1/dialog/EmoEvaluation is missing"):
        iemocap(tmp_path, 4)


def test_emodb_leaves_one_speaker_out_and_names_strange_files(tmp_path):
    for voice in ("03", "08", "10", "14"):
        for emotion in "WLN":
            clip(tmp_path / "wav" / f"{voice}a01{emotion}a.wav", rate=22050)
    parts = emodb(tmp_path, 4)
    assert [{u.speaker for u in part} for part in (parts.train, parts.dev, parts.test)] == [
        {"08", "10"},
        {"03"},
        {"14"},
    ]
    assert {u.labels[0] for u in parts.test} == {"anger", "boredom", "neutral"} and len(parts.slots[0].values) == 7
    with pytest.raises(ValueError, match="folds 1 to 4, one for each speaker, not 5"):
        emodb(tmp_path, 5)
    clip(tmp_path / "wav/03a01Xa.wav")
    with pytest.raises(ValueError, match="03a01Xa.wav: EMO-DB's names are"):
        emodb(tmp_path, 1)


@real
def test_the_real_emodb_has_four_folds():
    parts = [emodb(DATA / "emodb", fold) for fold in (1, 2, 3, 4)]
    assert sorted(len(part.test) for part in parts) == [38, 49, 58, 69] and len(measured(parts[0]).train) > 80
