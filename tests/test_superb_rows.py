# SPDX-License-Identifier: Apache-2.0
"""What rows, tables and pages of SUPERB say of themselves: whose a line is, level choices, data that were changed."""

import dataclasses
import re

import numpy as np
import pytest
import soundfile
import torch

from pluri.benchmarks import report, scores
from pluri.benchmarks.superb import suite, swept
from pluri.benchmarks.superb.featurizer import FeaturizerConfig
from pluri.benchmarks.superb.order import balanced
from pluri.benchmarks.superb.store import StoreConfig
from pluri.benchmarks.superb.sweep import Plan
from pluri.benchmarks.superb.utterance.probe import Drawing, Labelled, UtteranceProbe
from pluri.benchmarks.superb.utterance.tasks import SpeakerConfig

TINY = "random:speech/mockingjay_tiny"


@pytest.fixture
def clips(tmp_path):
    """A manifest of 20 tones of two pitches."""
    rows, rng = ["path\tlabel\tsplit"], np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for i in range(20):
        wave = 0.1 * np.sin(2 * np.pi * (120.0, 900.0)[i % 2] * np.arange(4800) / 16000)
        soundfile.write(tmp_path / "data" / f"{i}.wav", wave + 0.01 * rng.standard_normal(4800), 16000)
        rows.append(f"{i}.wav\t{('low', 'high')[i % 2]}\t{'test' if i > 14 else 'dev' if i > 10 else 'train'}")
    path = tmp_path / "data" / "clips.tsv"
    path.write_text("\n".join(rows) + "\n")
    return path


def of(clips, **fields):
    data = dataclasses.replace(SpeakerConfig().data, path=str(clips))
    small = {"steps": 12, "evaluations": 3, "batch": 8, "grid": (1e-2, 1e-3), "device": "cpu"}
    return dataclasses.replace(SpeakerConfig(), data=data, **{**small, **fields})


def run(config, out, encoder="fbank_no_cmvn", beside=False, seeds=1):
    lines = []
    return suite.evaluate({"superb/sid": config}, encoder, seeds, beside, out, lines.append), "\n".join(lines)


def relabel(clips):
    clips.write_text(clips.read_text().replace("2.wav\tlow\ttrain", "2.wav\thigh\ttrain"))


def test_rates_that_are_level_are_called_so_and_no_end_of_the_grid():
    found = {0.1: 0.5, 0.01: 0.9, 1e-3: 0.9, 1e-4: 0.9}
    (level,) = suite._how_chosen(0.01, found, "dev")
    assert level == "learning rate 0.01, the first of 3 that are level at the best median dev of 4: 0.01, 0.001, 0.0001"
    best, end = suite._how_chosen(0.1, {**found, 0.1: 0.95}, "dev")
    assert best == "learning rate 0.1, the best of 4 by median dev" and end.startswith("0.1 is the end of the grid")
    assert suite._how_chosen(0.01, {**found, 0.01: 0.95}, "test") == [
        "learning rate 0.01, the best of 4 by median test"
    ]
    assert suite._how_chosen(0.1, {0.1: 0.5}, "dev") == ["learning rate 0.1"]
    level, end = suite._how_chosen(0.1, {0.1: 0.9, 0.01: 0.9, 1e-3: 0.8}, "dev")
    assert "the first of 2" in level and end.startswith("0.1 is the end of the grid")
    assert len(suite._how_chosen(0.1, {0.1: 0.9, 0.01: 0.9, 1e-3: 0.9}, "dev")) == 1  # nowhere is better


def test_a_sweep_by_earlier_rules_is_not_gone_on_with(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(swept, "RULES", swept.RULES - 1)
    (before,), _ = run(of(clips), tmp_path / "out")
    monkeypatch.undo()
    (row,), said = run(of(clips), tmp_path / "out")
    assert row.chosen[0]["sweeps"] != before.chosen[0]["sweeps"] and " 0 to be encoded" in said
    assert (
        row.each == before.each
        and run(of(clips), tmp_path / "out")[0][0].chosen[0]["sweeps"] == row.chosen[0]["sweeps"]
    )


def test_earlier_rows_of_weights_that_were_no_numbers_have_a_page(clips, tmp_path):
    (row,), _ = run(of(clips), tmp_path / "out", TINY)
    chosen = {name: value for name, value in row.chosen[0].items() if name != "judged"} | {"by": "median test"}
    chosen["layers"] = [[None] * 4, *chosen["layers"]]
    scores.write(tmp_path / "out", [dataclasses.replace(row, chosen=[chosen])])
    suite.page(tmp_path / "out")
    assert "chosen by, on test (medians" in (tmp_path / "out" / "index.html").read_text()


def test_a_line_that_is_not_of_all_rows_says_whose_it_is(clips, tmp_path):
    run(of(clips), tmp_path / "out", "mel")
    (other,), _ = run(of(clips, steps=13), tmp_path / "out")
    rows = scores.read(tmp_path / "out")
    report.main([str(tmp_path / "out"), "--out", str(tmp_path / "report.html")])
    texts = {
        "table": scores.table(rows),
        "page": (tmp_path / "out" / "index.html").read_text(),
        "report": (tmp_path / "report.html").read_text(),
    }
    for text in texts.values():
        for row in rows:
            assert len(re.findall(rf"{row.encoder}: (?:protocol: )?the splits of clips.tsv", text)) == 1
    assert (
        "fbank_no_cmvn: what every learning rate is judged by, over the steps; a line for each seed<" in texts["page"]
    )
    same = [dataclasses.replace(row, protocol=other.protocol) for row in rows]
    assert "\n  protocol: the splits of clips.tsv" in scores.table(same)


def test_rows_of_a_manifest_before_and_after_it_was_edited_do_not_stand_side_by_side(clips, tmp_path):
    (first,), said = run(of(clips), tmp_path / "out")
    assert "takes its place" not in said
    relabel(clips)
    words = rf"has a row of superb/sid on other data, --data.path {clips} before it was changed: choose another --out"
    with pytest.raises(ValueError, match=words):
        run(of(clips), tmp_path / "out", "mel")
    assert scores.read(tmp_path / "out") == [first]
    rows, said = run(of(clips), tmp_path / "out")  # the only row there is is scored anew
    was = f"had {first.scores['accuracy']:.4f}, on data since changed; this row takes its place"
    assert f"superb/sid: fbank_no_cmvn {was}" in said and scores.read(tmp_path / "out") == rows
    (row,) = rows
    for data in ({"path": str(clips)}, None):  # as earlier versions kept it
        earlier = {name: value for name, value in row.chosen[0].items() if name != "data"} | (
            {"data": data} if data else {}
        )
        scores.write(tmp_path / "out", [dataclasses.replace(row, chosen=[earlier])])
        assert "takes its place" not in run(of(clips), tmp_path / "out")[1]


def test_a_row_tells_the_data_that_it_was_scored_on_and_not_what_became_of_them_meanwhile(clips, tmp_path, monkeypatch):
    before, through = scores.whereabouts({"path": str(clips)}), suite.evaluate_one

    def edited(*words):
        relabel(clips)
        return through(*words)

    monkeypatch.setattr(suite, "evaluate_one", edited)
    (row,), _ = run(of(clips), tmp_path / "out")
    assert (
        row.chosen[0]["data"]["contents"] == before["contents"] != scores.whereabouts({"path": str(clips)})["contents"]
    )


def test_pages_of_earlier_rows_say_whose_data_were_which(clips, tmp_path):
    run(of(clips), tmp_path / "out")
    relabel(clips)
    file = tmp_path / "out" / scores.FILE
    kept = file.read_text()
    file.unlink()
    run(of(clips), tmp_path / "out", "mel")
    file.write_text(kept + file.read_text())
    suite.page(tmp_path / "out")
    text = (tmp_path / "out" / "index.html").read_text()
    assert text.count("Of fbank_no_cmvn:") == text.count("Of mel:") == 1


def test_a_twin_that_is_the_encoder_itself_leaves_it_its_store(clips, tmp_path):
    config = of(clips, store=StoreConfig(keep=True))
    _, said = run(config, tmp_path / "out", TINY, beside=True, seeds=2)
    assert said.count(" 20 to be encoded") == 3  # the encoder with its first twin, the second, and filter banks
    assert len(list((tmp_path / "out" / "store").glob("*/states.bin"))) == 2
    _, said = run(of(clips, steps=13), tmp_path / "out", TINY)
    assert " 0 to be encoded" in said


def test_all_layers_by_their_numbers_are_no_departure_and_the_same_sweep(clips, tmp_path):
    (row,), _ = run(of(clips), tmp_path / "out", TINY)
    named = of(clips, featurizer=FeaturizerConfig(layers=(0, 1, 2, 3)))
    (again,), said = run(named, tmp_path / "out", TINY)
    assert again.protocol == row.protocol and again.chosen == row.chosen and "encoded" not in said
    assert not any("featurizer" in name for name in again.chosen[0]["changed"])


def test_without_room_for_a_store_by_ones_own_wish_the_row_says_so(clips, tmp_path):
    (row,), _ = run(of(clips, store=StoreConfig(gigabytes=0.0)), tmp_path / "out")
    assert "states were computed online, as --store.gigabytes is 0" in row.chosen[0]["notes"]


def test_a_rate_that_is_given_is_not_called_chosen(clips, tmp_path):
    run(of(clips, grid=SpeakerConfig().grid, lr=0.01), tmp_path / "out")
    text = (tmp_path / "out" / "index.html").read_text()
    assert "The learning rate was given; what it reached on dev (medians" in text and "is chosen by" not in text
    run(of(clips), tmp_path / "swept")
    assert "What the learning rate is chosen by, on dev (medians" in (tmp_path / "swept" / "index.html").read_text()


@pytest.mark.parametrize("dev", ["all", "drawn", "classes"])
def test_equal_shares_of_dev_are_equal_whichever_clips_they_are_of(dev, monkeypatch):
    """Of 37 clips of three classes, heads that are right on as many add other weights up, as whole numbers tell."""
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, 3, 37))[:, None]
    probe = object.__new__(UtteranceProbe)
    probe.dev_part = Labelled([str(i) for i in range(37)], [[i] for i in range(37)], labels)
    probe.drawing = Drawing(8, dev=dev)
    probe.plan = Plan((0.1,), (0,), 1, 1, 1.0)
    probe._dev_pieces, probe._dev_weights = probe._weigh_dev()
    counts = np.zeros(37, dtype=int)
    if dev == "drawn":
        np.add.at(counts, balanced([np.flatnonzero(labels[:, 0] == one) for one in range(3)], 37, 0, "dev"), 1)
    right = torch.from_numpy(rng.random((400, 37)) < 0.5)
    said = torch.from_numpy(labels[:, 0]) + (~right).long()
    monkeypatch.setattr(probe, "_predict", lambda pieces: said[None, :, :, None])
    found = probe.dev()[0].tolist()
    exact = {}
    for value, one in zip(found, right.numpy(), strict=True):
        sizes = np.bincount(labels[:, 0])
        each = [int(one[labels[:, 0] == c].sum()) for c in range(3)]
        whole = {
            "all": int(one.sum()),
            "drawn": int(counts[one].sum()),
            "classes": sum(n * int(np.prod(sizes)) // int(size) for n, size in zip(each, sizes, strict=True)),
        }
        exact.setdefault(whole[dev], set()).add(value)
    assert max(map(len, exact.values())) == 1 < len(exact)
    assert len({value for values in exact.values() for value in values}) == len(exact)
