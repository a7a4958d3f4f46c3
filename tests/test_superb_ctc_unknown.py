# SPDX-License-Identifier: Apache-2.0
"""Letters and words of own data beside the published vocabularies: what is told apart, said, refused, and an error."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile

from pluri.benchmarks.superb import suite
from pluri.benchmarks.superb.ctc.targets import LETTERS
from pluri.benchmarks.superb.ctc.tasks import LetterConfig, PhoneConfig, SlotConfig

SMALL = {"steps": 1, "evaluations": 1, "batch": 4, "grid": (1e-2, 1e-3), "device": "cpu"}


def told(folder, config, **texts):
    """The settings for a manifest of 8, 2 and 2 rows, where `texts` are those of the first rows of parts."""
    folder.mkdir(exist_ok=True)
    rows = ["path\ttext\tsplit\ttags"]
    for part, count in (("train", 8), ("dev", 2), ("test", 2)):
        for i in range(count):
            noise = np.random.default_rng(i).standard_normal(16000)
            soundfile.write(folder / f"{part}{i}.wav", 0.1 * noise, 16000)
            text = "play the queen now" if i else texts.get(part, "play the queen now")
            tags = " ".join("name" if word == "queen" else "O" for word in text.split())
            rows.append(f"{part}{i}.wav\t{text}\t{part}\t{tags}")
    (folder / "m.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    fields = SMALL if config.task == "pr" else {**SMALL, "hidden": 8, "augmented": False}
    return dataclasses.replace(config, data=dataclasses.replace(config.data, path=str(folder / "m.tsv")), **fields)


def run(config, out):
    (row,) = suite.evaluate({f"superb/{config.task}": config}, "fbank_no_cmvn", 1, False, out, lambda line: None)
    return row, [json.loads(path.read_text())["references"] for path in out.rglob("predictions.json")]


def test_letters_of_train_come_after_the_published_ones_and_make_another_sweep(tmp_path):
    config = told(tmp_path / "data", LetterConfig())
    (fold,) = config.folds()
    assert not fold.parts.slots and config.notes([fold])[0].startswith("28 letters, the published ones; greedy")
    run(config, tmp_path / "out")
    config = told(tmp_path / "data", config, train="the café now 4", test="jazz")  # no row of train has a J or a Z
    (fold,) = config.folds()
    assert config.spelling(fold).vocabulary.symbols[4:] == (*LETTERS, "4", "É")
    notes = config.notes([fold])
    assert notes[0].startswith("30 letters, the 28 published and those of train besides; greedy")
    assert not any("unknown" in note for note in notes)
    _, references = run(config, tmp_path / "out")
    assert sorted(one[0] for one in references) == ["JAZZ", "PLAY THE QUEEN NOW"]


@pytest.mark.parametrize("part", ["dev", "test"])
def test_letters_that_train_lacks_are_said_and_are_errors(tmp_path, part):
    config = told(tmp_path / "data", LetterConfig(), **{part: "Zoë, 22"})
    (fold,) = config.folds()
    assert len(config.spelling(fold).vocabulary.symbols) == 32
    row, (references,) = run(config, tmp_path / "out")
    said = f"4 of 27 symbols of {part} are unknown ('2', 'Ë', ','), as train has none: each is an error"
    assert said in row.chosen[0]["notes"]
    assert references[0] == ("ZOË, 22" if part == "test" else "PLAY THE QUEEN NOW")


def test_a_corpus_without_a_published_letter_is_learnt_though_test_has_new_ones(tmp_path):
    config = told(tmp_path / "data", LetterConfig(), train="播放 音乐", test="播放 歌曲")
    (fold,) = config.folds()
    assert config.spelling(fold).vocabulary.symbols[-4:] == ("乐", "播", "放", "音")
    assert any("2 of 25 symbols of test are unknown ('歌', '曲')" in note for note in config.notes([fold]))


def test_slots_of_own_data_are_upper_case_and_little_of_them_may_be_unknown(tmp_path):
    config = told(tmp_path / "data", SlotConfig())
    (fold,) = config.folds()
    assert not any("unknown" in note for note in config.notes([fold]))
    _, (references,) = run(config, tmp_path / "out")
    assert references == ["PLAY THE B-name QUEEN E-name NOW"] * 2
    config = told(tmp_path / "data", config, train="play é")
    (said,) = (note for note in config.notes(config.folds()) if "unknown" in note)
    assert said == "1 of 146 symbols of train are unknown ('É'), in references too, as published"
    config = told(tmp_path / "data", config, dev="play 1234567")
    unknown = r"'1', '2', '3', '4', '5' and 2 more"
    with pytest.raises(
        ValueError, match=rf"m.tsv, line 10: 7 of 32 symbols of dev are unknown \({unknown}\), more than 5%"
    ):
        config.folds()


def test_all_words_that_a_lexicon_lacks_are_named_at_once(tmp_path):
    config = told(tmp_path / "data", PhoneConfig(), train="x y", test="z")
    (lexicon := tmp_path / "words.txt").write_text("play P\nthe DH\nqueen K\n")
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, lexicon=(str(lexicon),)))
    with pytest.raises(ValueError, match="m.tsv: the lexicon has no now, x, y, z; add a line `now PHONE ...` for each"):
        config.folds()
