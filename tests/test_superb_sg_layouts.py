# SPDX-License-Identifier: Apache-2.0
"""SUPERB-SG's official layouts, each read from a small tree, with its split rules and what can be wrong with it."""

import random

import numpy as np
import pytest
import soundfile

from pluri.benchmarks.superb_sg import mixtures
from pluri.benchmarks.superb_sg.accents import cleaned, common_voice, sbcsae
from pluri.benchmarks.superb_sg.conversion import DEV, SOURCES, TEST, TRAIN, spoken_by_target, vcc2020
from pluri.benchmarks.superb_sg.mixtures import libri2mix, speakers_apart, voicebank, without_noise
from pluri.benchmarks.superb_sg.translation import covost2, source_text, usable


def names(utterances):
    return [utterance.name for utterance in utterances]


def clip(path, samples=1600):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(samples), 16000)


def mixed(root, train=2, dev=7):
    for part, number in (("train-100", train), ("dev", dev), ("test", 2)):
        for i in range(number):
            for folder in ("mix_clean", "s1", "s2"):
                clip(root / part / folder / f"{i}-1_{i}-2.wav")
    return root


def test_libri2mix_takes_of_dev_what_s3prls_shuffle_leaves_first(tmp_path, monkeypatch):
    monkeypatch.setattr(mixtures, "DEV_MIXTURES", 3)
    parts = libri2mix(mixed(tmp_path))
    expected = sorted(f"{i}-1_{i}-2" for i in range(7))
    random.seed(7)
    random.shuffle(expected)
    assert names(parts.dev) == sorted(expected[:3])
    assert names(parts.train) == names(parts.test) == ["0-1_0-2", "1-1_1-2"]
    assert all(path.is_file() for one in parts.test for path in speakers_apart(one.path))
    assert parts.protocol.startswith("SUPERB-SG: Libri2Mix")


def test_a_source_that_is_missing_broken_or_another_one_long_is_named(tmp_path):
    root = mixed(tmp_path, 20, 40)
    (root / "train-100" / "s1" / "0-1_0-2.wav").unlink()
    clip(root / "dev" / "s2" / "3-1_3-2.wav", 1500)
    (root / "dev" / "s1" / "4-1_4-2.wav").write_bytes(b"no audio")
    parts = libri2mix(root)
    assert len(parts.train) == 19 and len(parts.dev) == 38
    reasons = [f"{place} {why}" for place, why in parts.skipped]
    for place, why in (("s1/0-1_0-2.wav", "is missing"), ("s2/3-1_3-2.wav", "lasts"), ("s1/4-1_4-2.wav", "no audio")):
        assert any(place in reason and why in reason for reason in reasons)
    (root / "test" / "s2" / "1-1_1-2.wav").unlink()
    with pytest.raises(ValueError, match=r"s2.1-1_1-2.wav.*is missing.*fewer test clips"):
        libri2mix(root)


@pytest.mark.parametrize(("part", "folder"), [("train", "train-100"), ("dev", "dev")])
def test_more_than_a_twentieth_without_usable_sources_stops_the_reading(tmp_path, part, folder):
    root = mixed(tmp_path, 20, 20)
    (root / folder / "s1" / "3-1_3-2.wav").unlink()
    libri2mix(root)
    (root / folder / "mix_clean" / "5-1_5-2.wav").write_bytes(b"no audio")
    said = rf"2 of 20 clips of {part} cannot be used, more than 5 %.*s1/3-1_3-2.wav: is missing, a source of .*"
    with pytest.raises(ValueError, match=said) as error:
        libri2mix(root)
    assert "\n" not in str(error.value)


def test_voicebank_sets_two_speakers_apart(tmp_path):
    for kind in ("noisy", "clean"):
        for name in ("p226_001", "p287_002", "p228_003"):
            clip(tmp_path / f"{kind}_trainset_28spk_wav_16k" / f"{name}.wav")
        clip(tmp_path / f"{kind}_testset_wav_16k" / "p232_001.wav")
    parts = voicebank(tmp_path)
    assert names(parts.dev) == ["p226_001", "p287_002"] and names(parts.train) == ["p228_003"]
    (clean,) = without_noise(parts.test[0].path)
    assert clean == tmp_path / "clean_testset_wav_16k" / "p232_001.wav"


def covost(root, rows):
    for part in ("train", "dev", "test"):
        lines = ["path\tsentence\ttranslation\tclient_id", *rows]
        (root / f"covost_v2.en_de.{part}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def test_covost_is_cleaned_and_its_quotes_are_characters(tmp_path):
    clip(tmp_path / "clips" / "common_voice_en_1.mp3.wav")
    (tmp_path / "clips" / "common_voice_en_1.mp3.wav").rename(tmp_path / "clips" / "a.mp3")
    kept = 'a.mp3\t"It\'s a well-known Test," he said.\tEs ist „bekannt“.\tx'
    parts = covost2(covost(tmp_path, [kept, "a.mp3\tREMOVE\tweg\tx", "a.mp3\tone\t1 2 3 4 5 6\tx"]))
    assert [(one.name, one.text, one.labels) for one in parts.test] == [
        ("a", "it's a well-known test he said", ("Es ist „bekannt“.",))
    ]
    assert len(parts.train) == len(parts.dev) == 1
    with pytest.raises(ValueError, match=r"test.tsv, line 3: there is no audio .*gone.mp3"):
        covost2(covost(tmp_path, [kept, "gone.mp3\ta\tb\tx"]))
    (tmp_path / "covost_v2.en_de.dev.tsv").write_text("path\tsentence\na.mp3\tone\n")
    with pytest.raises(ValueError, match=r"dev.tsv, line 2: there is no column translation"):
        covost2(tmp_path)


def test_pairs_are_kept_up_to_five_words_to_one():
    assert usable("a", "1 2 3 4 5") and not usable("a", "1 2 3 4 5 6") and not usable("1 2 3 4 5 6", "a")
    assert not usable("", "") and not usable("a", " ") and not usable("REMOVED", "b")
    assert source_text(" Don't;  (stop) - NOW!") == "don't stop - now"


@pytest.mark.parametrize(
    ("language", "sentence", "text"),
    [
        ("es", "¿Qué  tal, Año?", "QUÉ TAL AÑO"),
        ("es", "eso es l’amour", "ESO ES L'AMOUR"),
        ("es", "un 箱", ""),
        ("zh-CN", "今天，天气 很好。", "今天天气很好"),
        ("zh-CN", "ㄧ个", "一个"),
        ("zh-CN", "Ａ座", ""),
        ("zh-CN", "カ", ""),
        ("ar", "مرحبا، كيف؟", "مرحبا كيف"),
        ("ar", "abc", ""),
        ("es", "...", ""),
    ],
)
def test_sentences_are_cleaned_or_left_out(language, sentence, text):
    assert cleaned(sentence, language) == text


def voices(root, language, rows):
    for part in ("train", "dev", "test"):
        path = root / language / f"{part}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["client_id\tpath\tsentence\taccent", *rows]) + "\n", encoding="utf-8")
    return root


def test_common_voice_takes_mexican_spanish_and_prefers_wav(tmp_path):
    rows = ["c\ta.mp3\tHola.\tmexicano", "c\ta.mp3\tAdiós\tandino", "c\tb.mp3\t?\tmexicano"]
    clip(tmp_path / "es" / "clips" / "a.wav")
    parts = common_voice(voices(tmp_path, "es", rows), "es")
    assert [(one.name, one.text, one.path.suffix) for one in parts.test] == [("a", "HOLA", ".wav")]
    assert "mexicano" in parts.protocol
    with pytest.raises(ValueError, match=r"test.tsv, line 5: there is no audio .*c.mp3"):
        common_voice(voices(tmp_path, "es", [*rows, "c\tc.mp3\tSí\tmexicano"]), "es")
    with pytest.raises(ValueError, match="no rules for fr: OOD-ASR has es, zh-CN, ar"):
        common_voice(tmp_path, "fr")
    (tmp_path / "es" / "train.tsv").write_text("path\tsentence\na.mp3\tHola\n")
    with pytest.raises(ValueError, match=r"train.tsv, line 2: there is no column accent"):
        common_voice(tmp_path, "es")


def test_sbcsae_is_read_as_its_tables_have_it(tmp_path):
    clip(tmp_path / "wav" / "SBC001" / "1.wav")
    for part in ("train", "dev", "test"):
        (tmp_path / f"{part}.tsv").write_text("path\tsentence\nSBC001/1.wav\tI'M SO TIRED \n")
    assert [one.text for one in sbcsae(tmp_path).test] == ["I'M SO TIRED"]
    (tmp_path / "test.tsv").write_text("file\tsentence\nSBC001/1.wav\tA\n")
    with pytest.raises(ValueError, match=r"test.tsv, line 2: there is no column path"):
        sbcsae(tmp_path)


def conversions(root):
    for name in (*TRAIN[:3], TRAIN[60], DEV[0], *TEST):
        clip(root / "TEF1" / f"{name}.wav")
    for who in SOURCES:
        for name in TEST:
            clip(root / who / f"{name}.wav")
    prompts = root / "prompts" / "Eng_transcriptions.txt"
    prompts.parent.mkdir()
    prompts.write_text("".join(f"{name} Some words.\n" for name in TEST))
    return root


def test_vcc2020_learns_a_target_and_tests_every_source(tmp_path):
    parts = vcc2020(conversions(tmp_path), "TEF1")
    assert names(parts.train) == ["E10001", "E10002", "E10003", "E20001"] and names(parts.dev) == ["E10061"]
    assert len(TRAIN) == 110 and len(DEV) == 10 and len(parts.test) == 100
    first = parts.test[0]
    assert (first.name, first.text, first.speaker) == ("SEF1_E30001", "Some words.", "SEF1")
    assert spoken_by_target(tmp_path, "TEF1", "E30001").is_file()
    with pytest.raises(ValueError, match="no target TEF3: VCC2020's first task has TEF1"):
        vcc2020(tmp_path, "TEF3")
    (tmp_path / "SEM2" / "E30025.wav").unlink()
    with pytest.raises(ValueError, match=r"SEM2.E30025.wav: there is no such audio"):
        vcc2020(tmp_path, "TEF1")
    (tmp_path / "prompts" / "Eng_transcriptions.txt").write_text("E30001 a\nE30002\n")
    with pytest.raises(ValueError, match=r"Eng_transcriptions.txt, line 2: E30002 has no words"):
        vcc2020(tmp_path, "TEF1")
