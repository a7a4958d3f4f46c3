# SPDX-License-Identifier: Apache-2.0
"""Corpora in their official form: what is the leaderboard's and what is not, and where predictions then go."""

import dataclasses
from pathlib import Path

import pytest

from pluri.benchmarks.encoders import load
from pluri.benchmarks.superb.clips import Clips
from pluri.benchmarks.superb.layouts.published import COUNTS, Count, lacks
from pluri.benchmarks.superb.layouts.speech_commands import KEYWORDS, NOISE, part_of
from pluri.benchmarks.superb.predictions import read_intents, read_pairs
from pluri.benchmarks.superb.swept import submission
from pluri.benchmarks.superb.utterance.tasks import EmotionConfig, IntentConfig, KeywordConfig
from pluri.benchmarks.superb.utterances import Parts, Trial, Utterance


def whole(monkeypatch, task, count):
    """Lets a small tree count as all that is published."""
    monkeypatch.setitem(COUNTS, task, Count((count,), "this test"))


def test_intents_are_right_when_all_three_slots_are(superb, tmp_path, monkeypatch):
    whole(monkeypatch, "ic", 4)
    config = superb.of(IntentConfig(), superb.intents(tmp_path / "data"))
    rows, _ = superb.run("superb/ic", config, tmp_path / "out")
    figures = rows[0].each[0]
    assert {"accuracy", "action", "object", "location", "dev"} == figures.keys() and figures["location"] == 1.0
    said = read_intents(next((tmp_path / "out" / "predictions").iterdir()) / "predict" / "ic_public" / "predict.csv")
    truth = {str(i): (("low", "high", "middle")[i % 3], "lights" if i % 2 else "none", "none") for i in range(4)}
    assert figures["accuracy"] <= min(figures["action"], figures["object"]) and said.keys() == truth.keys()
    assert (next((tmp_path / "out" / "predictions").iterdir()) / "predict.zip").is_file()


def speech_commands(superb, root):
    """v0.01 and its test archive, small: words are tones, noise is 10 s long."""
    corpus, archive = root / "speech_commands_v0.01", root / "speech_commands_test_set_v0.01"
    for word in ("yes", "no", "bird"):
        for i in range(40):
            superb.tone(
                corpus / word / f"{i:08x}_nohash_0.wav", {"yes": "low", "no": "high", "bird": "middle"}[word], i, 0.1
            )
    for i in range(2):
        superb.tone(corpus / NOISE / f"noise{i}.wav", "middle", i, 10.0)
    for i, label in enumerate(KEYWORDS.values):
        superb.tone(archive / label / f"{i:08x}_nohash_0.wav", "low", i, 0.1)
    return root


def test_part_of_a_corpus_is_compared_with_nothing(superb, tmp_path, monkeypatch):
    root = superb.intents(tmp_path / "data")
    rows, _ = superb.run("superb/ic", superb.of(IntentConfig(), root, steps=1), tmp_path / "out", seeds=1)
    short = "incomplete data: 4 of 3793 test clips and 16 of 26250 clips of train and dev"
    assert rows[0].protocol.startswith(f"{short}; SUPERB")
    written = tmp_path / "out" / rows[0].chosen[0]["predictions"]
    assert [path.name for path in written.iterdir()] == ["ic.txt"]  # nothing to hand in
    page = (tmp_path / "out" / "index.html").read_text()
    assert f"This run used {short}, so its figure is no leaderboard score" in page
    assert f"({short})" in page and "points)" not in page
    whole(monkeypatch, "ic", 4)
    assert IntentConfig(data=dataclasses.replace(IntentConfig().data, path=str(root))).folds()[0].official
    (root / "wavs" / "train" / "1.wav").unlink()
    (fold,) = superb.of(IntentConfig(), root).folds()
    assert not fold.official and fold.parts.protocol.startswith("incomplete data: 1 clips of train and dev missing; ")
    (fold,) = superb.of(KeywordConfig(), speech_commands(superb, tmp_path / "ks")).folds()
    assert not fold.official and fold.parts.protocol.startswith("incomplete data: 12 of 3081 test clips and ")


@pytest.mark.parametrize("task", [name for name in COUNTS if name != "er"])
def test_a_whole_test_part_with_less_to_learn_from_is_incomplete(task):
    one, count = Utterance("a", Path("a.wav")), COUNTS[task]
    trials = (Trial(True, "a", "a"),) * count.test[0] if task == "asv" else ()
    parts = Parts([one] * 2, [one], [one] * count.test[0], "SUPERB", [], trials=trials)
    assert lacks(task, parts) == f"incomplete data: 3 of {count.learnt} clips of train and dev"
    assert lacks(task, parts._replace(train=[one] * (count.learnt - 1))) == ""


def test_keywords_follow_superb_with_its_test_archive(superb, tmp_path, monkeypatch):
    whole(monkeypatch, "ks", 12)
    root = speech_commands(superb, tmp_path / "data")
    config = superb.of(KeywordConfig(), root, crops=4)
    (fold,) = config.folds()
    assert fold.official and len(fold.parts.test) == 12
    clips = Clips(config.gain)
    config.prepare(fold, clips)
    noise = [piece for piece in clips.pieces if NOISE in str(piece.path)]
    assert len(noise) == 8 and {round(piece.end - piece.start, 6) for piece in noise} == {1.0}  # shared by both parts
    rows, said = superb.run("superb/ks", config, tmp_path / "out", seeds=1)
    assert (
        rows[0].protocol.startswith("SUPERB") and "drawn with replacement" in said and "one of 4 fixed seconds" in said
    )
    path = next((tmp_path / "out" / "predictions").iterdir()) / "predict" / "ks_public" / "predict.txt"
    assert len(read_pairs(path)) == 12 and "yes-00000000_nohash_0.wav" in read_pairs(path)
    assert "wav2vec 2.0 Base" in (tmp_path / "out" / "index.html").read_text()  # the leaderboard's rows


@pytest.mark.parametrize("change", ["folder", "archive", "word"])
def test_another_version_of_speech_commands_is_not_the_leaderboards(superb, tmp_path, change, monkeypatch):
    whole(monkeypatch, "ks", 12)
    root = speech_commands(superb, tmp_path / "data")
    corpus, archive = root / "speech_commands_v0.01", root / "speech_commands_test_set_v0.01"
    if change == "folder":
        corpus = corpus.rename(root / "commands")
    if change == "archive":
        archive = archive.rename(root / "archive")
    if change == "word":
        (corpus / "visual").mkdir()
    data = dataclasses.replace(KeywordConfig().data, path=str(corpus), test=str(archive))
    assert not KeywordConfig(data=data).folds()[0].official


def test_predictions_of_other_settings_or_weights_lie_apart(superb, tmp_path, monkeypatch):
    whole(monkeypatch, "ic", 4)
    root = superb.intents(tmp_path / "data")
    config = superb.of(IntentConfig(), root, steps=2)

    def to(config, encoder="fbank_no_cmvn"):
        rows, _ = superb.run("superb/ic", config, tmp_path / "out", encoder, seeds=1)
        return tmp_path / "out" / rows[0].chosen[0]["predictions"]

    first = to(config)
    assert to(dataclasses.replace(config, device="auto")) == first and (first / "predict.zip").is_file()
    others = dataclasses.replace(config, steps=3), dataclasses.replace(config, grid=(1e-1, 1e-2))
    assert len({first, *map(to, others), to(config, "mel")}) == 4
    shared = [submission("a", load("mel"), task) for task in (KeywordConfig(steps=9), EmotionConfig(steps=9))]
    assert (
        shared[0] == shared[1] != submission("a", load("mel"), KeywordConfig())
    )  # tasks of one run are packed together


def test_clean_keywords_have_noise_of_their_own_for_dev_and_count_each_class_alike(superb, tmp_path):
    config = superb.of(KeywordConfig(protocol="clean"), speech_commands(superb, tmp_path / "data"), crops=4)
    (fold,) = config.folds()
    noise = fold.parts.train[-1]
    train, dev = config.pieces("train", noise), config.pieces("dev", noise)
    assert train[0].start == 0.0 and train[-1].end == pytest.approx(8.0)
    assert dev[0].start == pytest.approx(8.0) and dev[-1].end == pytest.approx(10.0)
    with pytest.raises(ValueError, match="too short for noise of their own"):
        config.pieces("dev", noise._replace(end=4.0))
    assert config.drawing().dev == "classes" and "clean" in " ".join(config.notes([fold]))
    assert all(part_of(one.path.name) == "dev" for one in fold.parts.dev if one.crop is None)
