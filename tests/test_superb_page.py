# SPDX-License-Identifier: Apache-2.0
"""SUPERB's page: scores beside the leaderboard's, what the data was, and mistakes with their spectrograms."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import soundfile

from pluri.benchmarks import scores
from pluri.benchmarks.report import Page, new_figure
from pluri.benchmarks.scores import Row
from pluri.benchmarks.superb import overall, suite
from pluri.benchmarks.superb.asv.task import VerificationConfig
from pluri.benchmarks.superb.ctc.beam import BeamConfig
from pluri.benchmarks.superb.ctc.errors import edits
from pluri.benchmarks.superb.ctc.tasks import LetterConfig
from pluri.benchmarks.superb.featurizer import FeaturizerConfig
from pluri.benchmarks.superb.layouts.quesst14 import Search
from pluri.benchmarks.superb.page import comparison, data_card, mistakes, worst
from pluri.benchmarks.superb.page.alignment import align, marked
from pluri.benchmarks.superb.page.data_card import Card
from pluri.benchmarks.superb.page.pictures import page
from pluri.benchmarks.superb.page.spectrogram import BINS, Sound, decibels, draw, height
from pluri.benchmarks.superb.qbe.search import SearchConfig
from pluri.benchmarks.superb.sd.chunks import RATE
from pluri.benchmarks.superb.sd.diarization import tally_frames, turns_of
from pluri.benchmarks.superb.sd.probe import HOP, write_probabilities
from pluri.benchmarks.superb.sd.rttm import Turn
from pluri.benchmarks.superb.sd.task import DiarizationConfig
from pluri.benchmarks.superb.store import StoreConfig
from pluri.benchmarks.superb.sweep import Run
from pluri.benchmarks.superb.swept import Fold, departures
from pluri.benchmarks.superb.utterance.tasks import IntentConfig, KeywordConfig, SpeakerConfig
from pluri.benchmarks.superb.utterances import Parts, Slot, Trial, Utterance, measured

RUN = Run(1e-3, 0, 0.5, 10, {"threshold": 0.5, "median": 1.0}, [], [])


def tone(path, hertz, rate=16000, channels=1, seconds=0.4):
    time = np.arange(round(seconds * rate)) / rate
    wave = 0.1 * np.sin(2 * np.pi * hertz * time) + 1e-4 * np.random.default_rng(0).standard_normal(len(time))
    soundfile.write(path, np.repeat(wave[:, None], channels, 1), rate)


def fold(test, **fields):
    return Fold("", Parts(test, [], test, "made up", [], **fields), False)


def utterances(tmp_path, count, **fields):
    made = []
    for i in range(count):
        tone(tmp_path / f"{i}.wav", 300 + 50 * i)
        made.append(Utterance(f"{i}", tmp_path / f"{i}.wav", end=0.4, **{k: v[i] for k, v in fields.items()}))
    return made


@pytest.mark.parametrize("hertz", [200.0, 700.0, 1000.0, 2500.0, 6000.0])
def test_a_tone_is_brightest_where_the_axis_of_frequency_says(tmp_path, hertz):
    tone(tmp_path / "a.wav", hertz)
    level = decibels(Sound(str(tmp_path / "a.wav"), 0.0, 0.4))
    assert len(level) == 41 and abs(level[20].argmax() - height(hertz)) < 1.0


def test_the_axis_of_frequency_is_that_of_torchaudios_filters():
    functional = pytest.importorskip("torchaudio.functional")
    filters = functional.melscale_fbanks(8001, 0.0, 8000.0, BINS, 16000, mel_scale="slaney")  # a row for each hertz
    assert [height(float(hertz)) for hertz in filters.argmax(0)] == pytest.approx(range(BINS), abs=0.02)


def test_a_click_stands_at_its_second_in_a_piece_of_a_file(tmp_path):
    wave = np.zeros(32000)
    wave[24000:24016] = 0.5
    soundfile.write(tmp_path / "a.wav", wave, 16000)
    figure = new_figure()
    axes = figure.add_subplot()
    draw(axes, Sound(str(tmp_path / "a.wav"), 1.0, 2.0))
    (image,) = axes.get_images()
    left, right, _, _ = image.get_extent()
    shown = np.asarray(image.get_array()).sum(0)
    times = left + (np.arange(len(shown)) + 0.5) * (right - left) / len(shown)
    assert times[shown.argmax()] == pytest.approx(1.5, abs=0.011)
    assert axes.get_xlim() == (1.0, 2.0)


def test_audio_that_is_gone_is_named_in_the_pictures_place(tmp_path):
    axes = new_figure().add_subplot()
    draw(axes, Sound(str(tmp_path / "gone.wav"), 0.0, 1.0))
    assert "gone.wav" in axes.texts[0].get_text() and not axes.get_images()


@pytest.mark.parametrize("seed", range(20))
def test_an_alignment_holds_both_sides_in_order_with_the_fewest_edits(seed):
    rng = np.random.default_rng(seed)
    said, right = (["abcd"[i] for i in rng.integers(0, 4, rng.integers(0, 9))] for _ in range(2))
    pairs = align(said, right)
    assert [one for one, _ in pairs if one is not None] == said
    assert [other for _, other in pairs if other is not None] == right
    assert sum(one != other for one, other in pairs) == edits(said, right)


def test_marks_escape_what_is_said_and_only_differences_are_marked():
    text = marked(["<b>", "ü"], ["<b>", "u", "今天"])
    assert "&lt;b&gt;" in text and "<span><b></span>" not in text
    assert re.findall(r"<mark class=wrong>(.*?)</mark>", text) in (["ü", "∅"], ["∅", "ü"])


@pytest.mark.parametrize("slots", [1, 2])
def test_wrong_classes_come_with_the_surest_first(tmp_path, slots):
    values = Slot("digit", ("one", "two")), Slot("speaker", ("a", "b"))
    labels = [("one", "a")[:slots]] * 4
    test = utterances(tmp_path, 4, labels=labels)
    said = [[1] * slots, [0] * slots, [1] + [0] * (slots - 1), [1] * slots]
    kept = {"names": ["0", "1", "2", "3"], "said": {"0 0.001": said}, "sure": {"0 0.001": [0.6, 0.99, 0.7, 0.6]}}
    (tmp_path / "predictions.json").write_text(json.dumps(kept))
    config = SpeakerConfig() if slots == 1 else IntentConfig()
    found = worst.find(config, fold(test, slots=values[:slots]), tmp_path, RUN)
    assert found is not None and found.words.startswith("3 of 4 test clips are wrong")
    assert [example.words.split("\n")[1] for example in found.examples] == ["2", "0", "3"]
    assert "said two" in found.examples[0].words and "(0.70)" in found.examples[0].words
    del kept["sure"]  # a sweep from before they were kept
    (tmp_path / "predictions.json").write_text(json.dumps(kept))
    old = worst.find(config, fold(test, slots=values[:slots]), tmp_path, RUN)
    assert old is not None and [one.words.split("\n")[1] for one in old.examples] == ["0", "2", "3"]


def test_transcripts_come_with_the_highest_error_rate_first_and_right_ones_not_at_all(tmp_path):
    test = utterances(tmp_path, 4)
    texts = ["A B", "A B C D", "", "A"]
    said = {"greedy": {"0 0.001": ["A C", "X Y Z", "", ""]}}
    kept = {"names": ["0", "1", "2", "3"], "references": texts, "said": said}
    (tmp_path / "predictions.json").write_text(json.dumps(kept))
    found = worst.find(LetterConfig(), fold(test), tmp_path, RUN)
    assert found is not None and [one.words.split(":")[0] for one in found.examples] == ["1", "3", "0"]
    assert found.words.startswith("3 of 4") and found.examples[1].said == () and found.examples[1].right == ("A",)


def test_trials_are_the_likest_of_two_and_the_unlikest_of_one_each_pair_once(tmp_path):
    test = utterances(tmp_path, 6, speaker=["a", "a", "a", "b", "b", "b"])
    rng = np.random.default_rng(3)
    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    cosine = {tuple(sorted(pair)): float(rng.uniform(-1, 1)) for pair in pairs}
    trials = tuple(Trial(test[i].speaker == test[j].speaker, f"{i}", f"{j}") for i, j in pairs)
    scores = [cosine[tuple(sorted(pair))] for pair in pairs]
    kept = {"names": [(t.first, t.second) for t in trials], "said": {"0 0.001": scores}}
    (tmp_path / "trials.json").write_text(json.dumps(kept))
    found = worst.find(VerificationConfig(), fold(test, trials=trials), tmp_path, RUN)
    assert found is not None and "6 pairs of one speaker and 9 of two" in found.words
    shown = [tuple(int(sound.path[-5]) for sound in example.sounds) for example in found.examples]
    same = sorted((score, pair) for pair, score in cosine.items() if (pair[0] < 3) == (pair[1] < 3))
    two = sorted((score, pair) for pair, score in cosine.items() if (pair[0] < 3) != (pair[1] < 3))
    assert shown == [two[-1][1], two[-2][1], same[0][1], same[1][1]]
    lower = sum(score < two[-1][0] for score, _ in same) / len(same)
    assert f"{100 * lower:.0f} % of the pairs of one are lower" in found.examples[0].words


@pytest.mark.parametrize("seed", range(5))
def test_errors_of_frames_sum_to_the_error_rates(seed):
    rng = np.random.default_rng(seed)
    spoken, active = rng.random((40, 3)) < 0.4, rng.random((40, 2 + seed % 3)) < 0.4
    turns = tuple(Turn(turn.speaker, turn.start, turn.end) for turn in turns_of(spoken, 0.5, "r"))
    names, wrong = worst.matched(Utterance("r", None, end=20.0, turns=turns), active, 0.5)  # pyright: ignore
    tally = tally_frames(spoken, active, 0.5)
    assert wrong.sum() * 0.5 == pytest.approx(tally.missed + tally.false_alarm + tally.confused)
    assert len(names) == active.shape[1] == len(set(names))
    scored = Utterance("r", None, end=20.0, turns=turns, scored=((5.0, 10.0),))  # pyright: ignore
    part = worst.matched(scored, active, 0.5)[1]
    assert (part[10:20] == wrong[10:20]).all() and not part[:10].any() and not part[20:].any()


def test_the_worst_chunk_of_a_recording_is_the_one_that_is_wrong(tmp_path):
    tone(tmp_path / "r.wav", 300, seconds=3.0)
    hop, size = RATE // 100, 100
    test = [Utterance("r", tmp_path / "r.wav", end=3.0, turns=(Turn("anna", 0.0, 3.0), Turn("bert", 0.0, 0.5)))]
    said = np.zeros((300, 2), dtype=np.float32)
    said[:, 1], said[:50, 0] = 1.0, 1.0
    said[120:180] = 0.0
    write_probabilities(tmp_path, 0, 1e-3, {"r": said})
    (tmp_path / HOP).write_text(f"{hop}\n")
    found = worst.find(DiarizationConfig(chunk=size), fold(test), tmp_path, RUN)
    assert found is not None
    (example,) = found.examples
    assert example.sounds == (Sound(str(tmp_path / "r.wav"), 1.0, 2.0),) and "0.6 speaker-seconds" in example.words
    assert example.spoken == (Turn("anna", 1.0, 2.0),)
    assert [(turn.speaker, turn.start, turn.end) for turn in example.heard] == [("anna", 1.0, 1.2), ("anna", 1.8, 2.0)]


def test_a_false_alarm_is_a_document_that_does_not_hold_the_query(tmp_path):
    one, two, three = utterances(tmp_path, 3)
    wanted = Search([one], [one], [two, three], {}, {"0": {"1"}}, ["1", "2"], "made up")
    found = worst.false_alarms(wanted, {"0": {"1": 9.0, "2": 3.5}})
    (example,) = found.examples
    assert example.words == "2 does not hold 0, but scores 3.50"
    assert [sound.path[-5] for sound in example.sounds] == ["0", "2"]
    nothing = worst.false_alarms(wanted, {"0": {"1": 9.0}})
    assert nothing.examples == []


def test_mistakes_and_cards_are_read_as_they_were_written(tmp_path):
    assert mistakes.read(tmp_path) == [] and data_card.read(tmp_path) is None
    sounds = (Sound(str(tmp_path / "a.wav"), 0.5, 1.0),)
    example = mistakes.Example("今天 wrong", sounds, ("a",), ("b", "c"), (Turn("x", 0.0, 1.0),), (), ("mixture",))
    mistakes.write(tmp_path, [mistakes.Mistakes("all", [example]), mistakes.Mistakes("none", [])])
    assert mistakes.read(tmp_path) == [mistakes.Mistakes("all", [example]), mistakes.Mistakes("none", [])]
    tone(tmp_path / "a.wav", 300)
    parts = measured(fold([Utterance("a", tmp_path / "a.wav", labels=("x",))], slots=(Slot("kind", ("x",)),)).parts)
    card = data_card.card(str(tmp_path), [Fold("", parts, False)], "words")
    data_card.write(tmp_path, card)
    assert data_card.read(tmp_path) == card


def test_a_card_counts_rates_channels_speakers_and_labels(tmp_path):
    tone(tmp_path / "a.wav", 300, 8000)
    tone(tmp_path / "b.wav", 300, 16000, 2, seconds=1.0)
    train = [
        Utterance("a", tmp_path / "a.wav", end=0.4, labels=("x",), speaker="s", text="one two"),
        Utterance("b1", tmp_path / "b.wav", end=0.5, labels=("y",), speaker="t", text="three"),
        Utterance("b2", tmp_path / "b.wav", start=0.5, end=1.0, labels=("y",), speaker="t", text=""),
    ]
    parts = Parts(train, [], train[:1], "made up", [("c", "is gone")], (Slot("kind", ("x", "y")),))
    card = data_card.card(str(tmp_path), [Fold("", parts, False)], "words")
    first, last = card.parts
    assert (first.clips, first.files, first.speakers, first.words, first.resampled, first.mixed) == (3, 2, 2, 3, 1, 1)
    assert first.rates == {"8000": 1, "16000": 1} and first.seconds == pytest.approx(1.4)
    assert first.labels == {"kind": {"x": 1, "y": 2}} and last.labels == {"kind": {"x": 1}}
    made = Page("")
    data_card.show(made, card)
    text = "".join(made.parts)
    assert "<td>8000 Hz: 1, 16000 Hz: 1</td><td>1</td><td>1</td>" in text and "1 clips of train and dev are" in text
    assert "<td>y</td><td>2</td><td>0</td>" in text and tmp_path.name in text


def row(task, **figures):
    scores = {"accuracy": 0.5, **figures} if not figures else figures
    chosen = [{"sweeps": ["runs/x"], "notes": [], "lr": 1e-3, "grid": [], "layers": [], "changed": {}}]
    rules = ("made up", "test")
    return Row.of((f"superb/{task}", "mine"), next(iter(scores)), [scores], chosen, 0.0, {}, rules, [])


def card(official):
    return Card("clips of mine", "/data/mine", official, "made up", 1, 0, "words", [])


@pytest.mark.parametrize("task", [*overall.CORE, "ss", "se"])
def test_every_cell_of_the_leaderboard_is_a_link_to_its_source(task):
    made = Page("")
    comparison.show(made, [row(task)], [card(False)])
    text = "".join(made.parts)
    columns = [place for place, name in enumerate(overall.COLUMNS) if name.split("/")[0] == task]
    cells = re.findall(r'<td><a href="(https://[^"]+)" title="([^"]+)">([\d.]+)</a></td>', text)
    assert [value for _, _, value in cells] == [
        f"{one.figures[place]:.2f}" for one in overall.ROWS for place in columns
    ]
    assert all("website-react" in where and "@cacb90e" in title for where, title, _ in cells)
    assert "comparable only on the official data set" in text and "clips of mine" in text and "other data" in text


def test_every_cell_of_ones_own_leads_to_its_sweep_without_a_path_of_the_machine():
    made, one = Page(""), row("ks")
    sweeps = ["/home/me/out/superb-ks/a#b-1", "/home/me/out/superb-ks/c-2"]
    one.chosen[0]["sweeps"] = sweeps[:1]
    one.chosen.append({**one.chosen[0], "sweeps": sweeps[1:]})  # QbE's twins
    comparison.show(made, [one], [card(False)])
    comparison.summary(made, [one], [card(False)])
    text = "".join(made.parts)
    title = "scores.jsonl, superb/ks, mine: superb-ks/a#b-1, superb-ks/c-2"
    for cell in ("<b>50.00</b>", "50.00 (other data)"):
        assert f'<td><a href="superb-ks/a%23b-1/" title="{title}">{cell}</a></td>' in text
    assert "/home/me" not in text


def test_figures_are_in_percent_by_the_leaderboards_names():
    assert comparison.figures(row("asr", wer_greedy=0.25, cer_greedy=0.1, wer_beam=0.125, dev=0.7)) == {
        "asr/wer": 25.0,
        "asr/wer_lm": 12.5,
    }
    assert comparison.figures(row("sf", slot_type_f1_greedy=0.5, slot_value_cer_greedy=0.75)) == {
        "sf/slot_type_f1": 50.0,
        "sf/slot_value_cer": 75.0,
    }
    assert comparison.figures(row("se", pesq=2.5, stoi=0.9)) == {"se/pesq": 2.5, "se/stoi": 90.0}


def test_the_overall_score_is_given_for_all_ten_tasks_on_official_data_alone():
    found = overall.row("HuBERT Base")
    said = comparison.total("mine", found, {})
    assert f" {overall.overall(found):.0f} points" in said
    assert "published: er: other data." in comparison.total("mine", found, {"er": "other data"})
    part = {name: value for name, value in found.items() if not name.startswith("sf/")}
    assert "no overall score" in comparison.total("mine", part, {})
    made = Page("")
    comparison.summary(made, [row("ks"), row("sid")], [card(True), card(False)])
    text = "".join(made.parts)
    assert "50.00 (156 points)" in text and "50.00 (other data)" in text  # (50 - 41.38) / (96.66 - 41.38)


def test_a_row_of_part_of_the_official_data_is_compared_with_nothing():
    protocol = "incomplete data: 2 of 2620 test clips; SUPERB: LibriSpeech"
    part, made = card(False)._replace(protocol=protocol), Page("")
    comparison.show(made, [row("asr", wer_greedy=0.25)], [part])
    comparison.summary(made, [row("asr", wer_greedy=0.25)], [part])
    text = "".join(made.parts)
    assert "This run used incomplete data: 2 of 2620 test clips, so its figure is no leaderboard score." in text
    assert "clips of mine; incomplete data: 2 of 2620 test clips" in text
    assert "25.00 (incomplete data: 2 of 2620 test clips)" in text and "points)" not in text


def test_a_row_of_official_data_is_no_score_of_superbs_if_a_setting_is_not_the_published_one():
    small, old, made = row("ks"), row("ks"), Page("")
    small.chosen[0]["changed"] = departures(KeywordConfig(steps=3000, protocol="clean"))
    del old.chosen[0]["changed"]
    why = "other settings, steps 3000 (200000), protocol clean (published)"
    assert comparison.bar(small, card(True)) == why and comparison.bar(row("ks"), card(True)) == ""
    assert comparison.bar(old, card(True)) == "unknown settings"
    assert f"mine used the official data set (Speech Commands v0.01 with its test archive), but {why}" in (
        comparison.verdict(small, card(True))
    )
    clean = dataclasses.replace(small, variant="clean")
    comparison.summary(made, [row("ks"), clean], [card(True), card(True)])
    comparison.show(made, [row("ks"), clean], [card(True), card(True)])
    text = "".join(made.parts)
    assert "50.00 (156 points)" in text and f"50.00 ({why})" in text and f"; ks: {why}" not in text
    assert (
        f"mine (clean): no overall score, as it needs all ten tasks on official data, as published: ks: {why}" in text
    )
    assert f"clips of mine; {why}" in text


def test_only_what_decides_a_figure_is_a_departure():
    data = dataclasses.replace(LetterConfig().data, path="somewhere")
    store = StoreConfig(dtype="fp32")
    lm = BeamConfig(lm="models/4-gram.arpa.gz", words="librispeech_lexicon.lst")
    free = LetterConfig(data=data, store=store, device="cpu", grid=(0.3, 0.03, 3e-3, 3e-4, 3e-5), beam=lm)
    assert departures(free) == {} and departures(SearchConfig(device="cpu")) == {}
    beam, layer = BeamConfig(lm="4-gram.arpa", size=50), FeaturizerConfig(kind="layer", layer=3)
    assert departures(LetterConfig(hidden=64, lr=1e-3, beam=beam, featurizer=layer)) == {
        "featurizer.kind": "layer (weighted)",
        "featurizer.layer": "3 (0)",
        "lr": "0.001 (a sweep)",
        "hidden": "64 (1024)",
        "beam.size": "50 (5)",
    }
    assert departures(SearchConfig(layers=(3,))) == {"layers": "(3,) (all)"}


def test_rules_name_all_changed_settings():
    said = KeywordConfig(batch=8, clip=2.0, crops=4, lr=1e-3).rules()
    assert said.endswith("lr 0.001 as given, no sweep; not as published: batch 8 (32), clip 2.0 (1.0), crops 4 (64)")
    assert "not as published" not in KeywordConfig(device="cpu").rules()


def test_rows_of_twins_and_of_another_protocol_stand_side_by_side(tmp_path):
    first = dataclasses.replace(row("ks"), encoder="random twin of one")
    second = dataclasses.replace(first, encoder="random twin of two")
    clean = dataclasses.replace(first, variant="clean")
    again = dataclasses.replace(first, seconds=5.0)
    scores.write(tmp_path, [first, second])
    scores.write(tmp_path, [clean, again])
    assert scores.read(tmp_path) == [again, second, clean]
    assert [one.called for one in scores.read(tmp_path)][-1] == "random twin of one (clean)"
    assert "random twin of one (clean)" in scores.table([first, clean])


def manifest(folder):
    """Twenty tones of two pitches; the last is called what it is not."""
    folder.mkdir()
    rows = [("path", "label", "split")]
    for i in range(20):
        tone(folder / f"{i}.wav", (120, 900)[i % 2], *((8000, 2) if i % 4 < 2 else (16000, 1)), 0.3 + 0.01 * i)
        label = ("low", "high")[(i + (i == 19)) % 2]
        rows.append((f"{i}.wav", label, "test" if i > 14 else "dev" if i > 10 else "train"))
    (folder / "clips.tsv").write_text("".join("\t".join(one) + "\n" for one in rows))
    return folder / "clips.tsv"


def test_a_page_names_its_data_shows_its_mistake_and_is_drawn_again_without_the_store(tmp_path):
    data = dataclasses.replace(SpeakerConfig().data, path=str(manifest(tmp_path / "data")))
    config = SpeakerConfig(data=data, steps=40, evaluations=4, batch=8, grid=(1e-2, 1e-3), device="cpu")
    suite.evaluate({"superb/sid": config}, "fbank_no_cmvn", 1, False, tmp_path / "out", lambda line: None)
    text = (tmp_path / "out" / "index.html").read_text()
    assert "1 of 5 test clips are wrong" in text and text.count("<img") == 2
    assert "own manifest clips.tsv" in text and "no leaderboard score" in text
    assert "<td>8000 Hz: 6, 16000 Hz: 5</td><td>6</td><td>6</td>" in text  # train is 0 to 10
    links = re.findall(r'<a href="(superb-sid/[^"]+)" title="scores.jsonl, superb/sid, fbank_no_cmvn: ', text)
    assert len(links) == 3 and all((tmp_path / "out" / link / "sweep.json").is_file() for link in links)
    shutil.rmtree(tmp_path / "out" / "store")
    (tmp_path / "out" / "index.html").unlink()
    page(tmp_path / "out")
    assert (tmp_path / "out" / "index.html").read_text() == text
