# SPDX-License-Identifier: Apache-2.0
"""What SUPERB's page is drawn from: found from every working directory, whole or not there, and what bars a row."""

import dataclasses
import html
from pathlib import Path

import pytest

from pluri.benchmarks import scores
from pluri.benchmarks.superb.ctc.beam import BeamConfig
from pluri.benchmarks.superb.ctc.tasks import LetterConfig
from pluri.benchmarks.superb.page import data_card, mistakes
from pluri.benchmarks.superb.page.data_card import Card
from pluri.benchmarks.superb.page.pictures import page
from pluri.benchmarks.superb.page.spectrogram import Sound
from pluri.benchmarks.superb.swept import departures
from pluri.benchmarks.superb.utterance.tasks import SpeakerConfig


def write_tones(superb, folder, labels):
    """20 clips of two pitches under two labels, of which the last has the wrong one."""
    rows = ["path\tlabel\tsplit"]
    for i in range(20):
        superb.tone(folder / f"{i}.wav", ("low", "high")[i % 2], i)
        rows.append(f"{i}.wav\t{labels[(i + (i == 19)) % 2]}\t{'test' if i > 14 else 'dev' if i > 10 else 'train'}")
    (folder / "clips.tsv").write_text("\n".join(rows) + "\n")


def test_sounds_are_found_from_every_working_directory(superb, tmp_path, monkeypatch):
    folder, inside = tmp_path / "out" / "sweep", Path("out/sweep")
    for path in (tmp_path / "a.wav", folder / "b.wav"):
        superb.tone(path, "low", 0)
    monkeypatch.chdir(tmp_path)
    sounds = Sound("a.wav", 0.0, 0.4), Sound("out/sweep/b.wav", 0.0, 0.4)
    mistakes.write(inside, [mistakes.Mistakes("all", [mistakes.Example("wrong", sounds)])])
    assert mistakes.read(inside)[0].examples[0].sounds[1].path == "out/sweep/b.wav"
    monkeypatch.chdir(tmp_path / "out")
    (example,) = mistakes.read(folder)[0].examples
    assert [one.path for one in example.sounds] == [str(tmp_path / "a.wav"), str(folder / "b.wav")]
    text = (folder / mistakes.FILE).read_text()
    (folder / mistakes.FILE).write_text(text.replace(str(tmp_path / "a.wav"), "a.wav"))  # as earlier sweeps named it
    monkeypatch.chdir(tmp_path)
    assert mistakes.read(folder)[0].examples[0].sounds[0].path == "a.wav"


def test_a_page_is_the_same_from_another_working_directory(superb, tmp_path, monkeypatch):
    write_tones(superb, tmp_path / "data", ("low", "high"))
    monkeypatch.chdir(tmp_path)
    ((one,), _) = superb.run("superb/sid", superb.of(SpeakerConfig(), Path("data/clips.tsv")), Path("out"), seeds=1)
    text = (tmp_path / "out" / "index.html").read_text()
    assert text.count("<img") == 2 and "own manifest clips.tsv" in text
    told = one.chosen[0]
    assert told["sweeps"][0].startswith("superb-sid/") and told["predictions"].startswith("predictions/")
    before = {**told, "sweeps": [f"out/{told['sweeps'][0]}"]}  # as earlier runs wrote it
    for folder in (tmp_path, tmp_path / "data"):
        monkeypatch.chdir(folder)
        for chosen in (told, before):
            scores.write(tmp_path / "out", [dataclasses.replace(one, chosen=[chosen])])
            page(tmp_path / "out")
            assert (tmp_path / "out" / "index.html").read_text() == text


def test_a_dollar_in_a_label_is_a_dollar(superb, tmp_path):
    write_tones(superb, tmp_path / "data", ("US$__low", "AU$%"))
    superb.run("superb/sid", superb.of(SpeakerConfig(), tmp_path / "data/clips.tsv"), tmp_path / "out", seeds=1)
    assert (tmp_path / "out" / "index.html").read_text().count("<img") == 2


def test_cards_and_mistakes_are_whole_or_as_they_were(tmp_path, monkeypatch):
    cards = [Card(name, "there", False, "made up", 1, 0, "words", []) for name in ("first", "second")]
    found = [[mistakes.Mistakes(name, [])] for name in ("first", "second")]
    data_card.write(tmp_path, cards[0])
    mistakes.write(tmp_path, found[0])

    def cut(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        data_card.write(tmp_path, cards[1])
    with pytest.raises(KeyboardInterrupt):
        mistakes.write(tmp_path, found[1])
    assert data_card.read(tmp_path) == cards[0] and mistakes.read(tmp_path) == found[0]


def test_a_note_that_is_not_of_all_rows_says_of_which(superb, tmp_path):
    write_tones(superb, tmp_path / "data", ("low", "high"))
    out = tmp_path / "out"
    ((one,), _) = superb.run("superb/sid", superb.of(SpeakerConfig(), tmp_path / "data/clips.tsv"), out, seeds=1)
    shared = one.chosen[0]["notes"]
    other = [{**one.chosen[0], "notes": [*shared[1:], "learning rate 7"]}]
    scores.write(out, [dataclasses.replace(one, encoder="another", chosen=other)])
    page(out)
    text = (out / "index.html").read_text()
    assert f"<p class=note>fbank_no_cmvn: {shared[0]}</p>" in text and "<p class=note>another: learning rate 7" in text
    assert len(shared) > 1 and all(f"<p class=note>{html.escape(note)}</p>" in text for note in shared[1:])


def test_another_language_model_or_grid_is_a_departure():
    own = BeamConfig(lm="models/my_own.arpa", words="models/my_own.txt")
    assert departures(LetterConfig(grid=(1e-2, 1e-3), beam=own)) == {
        "grid": "(0.01, 0.001) (5 evenly on a log scale)",
        "beam.lm": "my_own.arpa (4-gram.arpa)",
        "beam.words": "my_own.txt (librispeech_lexicon.lst)",
    }
    assert departures(LetterConfig(grid=(1e-1, 1e-2, 1e-3, 1e-4, 2e-5))).keys() == {"grid"}
    assert "grid (0.01, 0.001) (5 evenly on a log scale)" in SpeakerConfig(grid=(1e-2, 1e-3)).rules()
