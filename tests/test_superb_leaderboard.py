# SPDX-License-Identifier: Apache-2.0
"""The leaderboard's prediction files, read back and as its own scorer reads them, and the overall score."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from pluri.benchmarks.superb.overall import COLUMNS, CORE, REFERENCES, ROWS, overall, points, row
from pluri.benchmarks.superb.predictions import (
    FILES,
    name_of,
    pack,
    read_activity,
    read_intents,
    read_pairs,
    read_scores,
    write_activity,
    write_intents,
    write_pairs,
    write_scores,
)


def as_the_site_reads(path, separator=" "):
    """Every line's first field and the rest of it, or nothing."""
    lines = [line.strip().split(separator, maxsplit=1) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    return {fields[0]: fields[1] if len(fields) > 1 else "" for fields in lines}


@pytest.mark.parametrize("task", ["pr", "asr", "asr_lm", "sf", "ks", "sid", "er_fold1"])
def test_pairs_are_read_back_and_by_the_site(tmp_path, task):
    path = tmp_path / "predict" / FILES[task]
    rows = {"84-121123-0000": "AH0 B  ÉA", "said-nothing": "", "yes-0a_nohash_0.wav": "_unknown_"}
    write_pairs(path, rows)
    assert read_pairs(path) == as_the_site_reads(path) == rows


def test_intents_and_scores_are_read_back_and_by_the_site(tmp_path):
    intents = {"0a3129c0": ("change language", "none", "none"), "b": ("increase", "heat", "washroom")}
    write_intents(tmp_path / FILES["ic"], intents)
    assert read_intents(tmp_path / FILES["ic"]) == intents
    assert as_the_site_reads(tmp_path / FILES["ic"], ",")["b"] == "increase,heat,washroom"
    assert (tmp_path / FILES["ic"]).read_bytes() == (b"0a3129c0,change language,none,none\nb,increase,heat,washroom\n")
    own = {"a, b.wav": ("switch, on", 'the "lamp"', "none"), "c": ("é", "x", "y")}
    write_intents(tmp_path / "ic.txt", own)
    assert read_intents(tmp_path / "ic.txt") == own
    scores = [("id1-v-00001", "id2-w-00002", 1 / 3), ("a", "b", float(np.float32(-0.1)))]
    write_scores(tmp_path / FILES["asv"], scores)
    expected = {"id1-v-00001_id2-w-00002": 1 / 3, "a_b": float(np.float32(-0.1))}
    assert read_scores(tmp_path / FILES["asv"]) == expected
    assert {name: float(text) for name, text in as_the_site_reads(tmp_path / FILES["asv"]).items()} == expected


def test_activity_is_read_back(tmp_path):
    h5py = pytest.importorskip("h5py")
    folder = tmp_path / "predict" / FILES["sd"]
    probabilities = {name: np.random.default_rng(3).random((9, 2)).astype(np.float32) for name in ("one", "two.b")}
    write_activity(folder, probabilities, frame_shift=320)
    found, shift = read_activity(folder)
    assert shift == 320 and (folder / "frame_shift").read_text().strip() == "320"
    assert found.keys() == probabilities.keys()
    assert all((found[name] == frames).all() for name, frames in probabilities.items())
    with h5py.File(folder / "scoring" / "predictions" / "two.b.h5") as file:
        assert file["T_hat"].shape == (9, 2)
    with pytest.raises(ValueError, match="one has 1 dimensions"):
        write_activity(folder, {"one": np.zeros(3)}, 160)
    with pytest.raises(ValueError, match="needs scoring/predictions"):
        read_activity(tmp_path)


def test_names_are_those_of_s3prl():
    assert name_of("asr", Path("LibriSpeech/test-clean/84/121123/84-121123-0000.flac")) == "84-121123-0000"
    assert name_of("ks", Path("test/yes/0a_nohash_0.wav")) == "yes-0a_nohash_0.wav"
    assert name_of("sid", Path("VoxCeleb1/test/wav/id10270/x6u.Yq/00001.wav")) == "id10270-x6u.Yq-00001"
    assert name_of("ic", Path("wavs/speakers/s/0a3129c0.wav")) == "0a3129c0"


@pytest.mark.parametrize("name", ["", "two words", "line\nbreak", " lead"])
def test_names_that_would_not_be_read_back_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="cannot be a name there"):
        write_pairs(tmp_path / "predict.ark", {name: "A"})


def test_texts_that_would_not_be_read_back_are_refused(tmp_path):
    with pytest.raises(ValueError, match="utt has a text with line breaks"):
        write_pairs(tmp_path / "predict.ark", {"utt": "A\nB"})
    with pytest.raises(ValueError, match="utt needs action, object and location"):
        write_intents(tmp_path / "predict.csv", {"utt": ("a", "c ", "d")})
    with pytest.raises(ValueError, match="a and b have the score nan"):
        write_scores(tmp_path / "predict.txt", [("a", "b", float("nan"))])


@pytest.mark.parametrize(
    ("reader", "text", "message"),
    [
        (read_pairs, "a 1\n\na 2\n", "line 3: a comes twice"),
        (read_scores, "a_b x\n", "a_b has the score 'x'"),
        (read_intents, "a,b,c\n", "a has 2 slots"),
        (read_intents, "a,b,c,d\n\na,b,c,d\n", "line 3: a comes twice"),
        (read_pairs, b"a \xff\n", "line 1: not UTF-8"),
    ],
)
def test_broken_predictions_are_named(tmp_path, reader, text, message):
    path = tmp_path / "predict.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message) as caught:
        reader(path)
    assert str(path) in str(caught.value)


def test_predictions_are_packed_as_the_site_takes_them(tmp_path):
    with pytest.raises(ValueError, match="holds no prediction"):
        pack(tmp_path)
    for task in ("ks", "er_fold5"):
        write_pairs(tmp_path / "predict" / FILES[task], {"a": "b"})
    with zipfile.ZipFile(pack(tmp_path)) as packed:
        assert packed.namelist() == ["predict/er_fold5_public/predict.txt", "predict/ks_public/predict.txt"]


def test_reference_points_are_worth_nought_and_a_thousand():
    for end, worth in (("base", 0), ("top", 1000)):
        figures = {f"{each.task}/{each.metric}": each.base if end == "base" else each.top for each in REFERENCES}
        assert all(gained == pytest.approx(worth) for gained in points(figures).values())
        assert overall(figures) == pytest.approx(worth)


def test_the_overall_score_is_a_mean_of_tasks_in_which_a_task_is_a_mean_of_metrics():
    figures = row("HuBERT Base")
    filling = (1000 * (88.53 - 69.64) / (89.81 - 69.64) + 1000 * (52.94 - 25.20) / (52.94 - 21.76)) / 2
    assert points(figures)["sf"] == pytest.approx(filling)
    slow = sum(points({name: figures[name] for name in COLUMNS if name.startswith(f"{t}/")})[t] for t in CORE) / 10
    assert overall(figures) == pytest.approx(slow)
    assert overall(row("FBANK")) == 0
    assert overall(row("HuBERT Base")) > overall(row("wav2vec 2.0 Base")) > overall(row("TERA"))


def test_a_score_without_all_tasks_is_refused():
    figures = {name: value for name, value in row("APC").items() if not name.startswith(("qbe", "sd"))}
    with pytest.raises(ValueError, match="no overall score without qbe, sd"):
        overall(figures)
    assert overall(figures, ("pr", "asr")) == pytest.approx((points(figures)["pr"] + points(figures)["asr"]) / 2)
    with pytest.raises(ValueError, match="sf is scored by sf/slot_value_cer too"):
        points({"sf/slot_type_f1": 80.0})
    with pytest.raises(ValueError, match="pr/wer is no figure of SUPERB"):
        points({"pr/wer": 3.0})


def test_the_rows_are_whole_and_the_best_are_the_reference_points():
    assert len(ROWS) == len({each.model for each in ROWS}) == 15
    assert all(len(each.figures) == len(COLUMNS) for each in ROWS)
    for each in REFERENCES:
        column = [row(model.model)[f"{each.task}/{each.metric}"] for model in ROWS]
        best = max(column) if each.top > each.base else min(column)
        assert best == pytest.approx(each.top, abs=0.04)
        assert row("FBANK")[f"{each.task}/{each.metric}"] == each.base
    with pytest.raises(ValueError, match="has no WavLM"):
        row("WavLM")
