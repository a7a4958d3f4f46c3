# SPDX-License-Identifier: Apache-2.0
"""Manifests of anybody's data: splits named or drawn, pieces, tags, turns, queries, and what is wrong in one line."""

import json
from itertools import combinations

import numpy as np
import pytest
import soundfile

from pluri.benchmarks.superb import corpora, suite
from pluri.benchmarks.superb.layouts.manifest import diarized, labelled, searched, transcribed, verified
from pluri.benchmarks.superb.sd.rttm import Turn
from pluri.benchmarks.superb.utterance.tasks import KeywordConfig, KeywordCorpusConfig
from pluri.benchmarks.superb.utterances import measured


def write(path, rows):
    """A manifest of these rows, with a clip of half a second for each path."""
    header = list(rows[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    for row in rows:
        if not (path.parent / row["path"]).exists():
            (path.parent / row["path"]).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path.parent / row["path"], np.zeros(4000), 8000)
    if path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        join = "\t" if path.suffix == ".tsv" else ","
        path.write_text("\n".join([join.join(header), *(join.join(map(str, row.values())) for row in rows)]) + "\n")
    return path


def speakers(part):
    return {utterance.speaker for utterance in part}


def names(part):
    return [utterance.name for utterance in part]


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl"])
def test_named_splits_are_kept_and_pieces_are_named_by_their_times(tmp_path, suffix):
    rows = [
        {"path": "a b.wav", "label": 'x"', "split": "train", "start": 0, "end": 0.25},
        {"path": "a b.wav", "label": "y", "split": "train", "start": 0.25, "end": ""},
        {"path": "c.wav", "label": "y", "split": "valid", "start": "", "end": ""},
        {"path": "d/é.wav", "label": 'x"', "split": "test", "start": "", "end": 9},
    ]
    if suffix == "csv":
        rows = [{**row, "label": row["label"].replace('"', "")} for row in rows]
    parts = labelled(write(tmp_path / f"all.{suffix}", rows))
    assert names(parts.train) == ["a_b.wav:0-0.25", "a_b.wav:0.25-"]
    assert (names(parts.dev), names(parts.test)) == (["c.wav"], ["d/é.wav:0-9"])
    assert parts.slots[0].values == ("x" if suffix == "csv" else 'x"', "y") and parts.test[0].path.is_file()
    assert [(u.start, u.end) for u in measured(parts).train] == [(0.0, 0.25), (0.25, 0.5)]
    assert measured(parts).test[0].end == 0.5 and "splits of all." in parts.protocol


def test_without_a_split_names_decide_and_nothing_moves_when_rows_are_added(tmp_path):
    rows = [{"path": f"{i}.wav", "label": "ab"[i % 2]} for i in range(120)]
    parts = labelled(write(tmp_path / "m.tsv", rows))
    sizes = [len(part) for part in (parts.train, parts.dev, parts.test)]
    assert sum(sizes) == 120 and sizes[1] in range(4, 22) and sizes[2] in range(12, 37)
    fewer = labelled(write(tmp_path / "m.tsv", rows[::-1][:100]))
    assert all(set(names(a)) <= set(names(b)) for a, b in zip(fewer[:3], parts[:3], strict=True))
    assert "by name, by file" in parts.protocol


def test_without_a_split_train_has_a_clip_of_each_label_however_rare(tmp_path):
    rows = [{"path": f"{i}.wav", "label": f"s{i // 2}", "room": str(i // 3)} for i in range(60)]
    one = labelled(write(tmp_path / "m.tsv", rows))
    assert len({u.labels for u in one.train}) == 30 and one.dev and one.test and "went back to train" in one.protocol
    two = labelled(tmp_path / "m.tsv", ("label", "room"))
    for number, count in enumerate((30, 20)):
        assert len({u.labels[number] for u in two.train}) == count
    assert set(names(one.train)) <= set(names(two.train))
    rows = [{**row, "speaker": f"v{i % 3}", "label": f"s{i % 3}"} for i, row in enumerate(rows)]
    with pytest.raises(ValueError, match=r"training has the label 's\d': name train, dev and test in a column split"):
        labelled(write(tmp_path / "m.tsv", rows), apart=True)


def test_pieces_late_in_a_long_recording_have_names_of_their_own(tmp_path):
    rows = []
    for i, split in enumerate(("train", "train", "dev", "test")):
        start, end = f"{10_000 + 0.03 * i:.2f}", f"{10_000.03 + 0.03 * i:.2f}"
        rows.append({"path": "a.wav", "label": "xy"[i % 2], "start": start, "end": end, "split": split})
    assert names(labelled(write(tmp_path / "m.tsv", rows)).train) == ["a.wav:10000-10000.03", "a.wav:10000.03-10000.06"]


def test_rows_of_empty_cells_are_no_rows(tmp_path):
    rows = [{"path": f"{i}.wav", "label": "xy"[i % 2]} for i in range(60)]
    for name, blank in ("m.csv", ",\n"), ("m.tsv", "\t\n \t \n"):
        path = write(tmp_path / name, rows)
        whole = labelled(path)
        path.write_text(path.read_text() + blank)
        assert labelled(path) == whole


def test_speakers_are_kept_apart_where_the_task_needs_it(tmp_path):
    rows = [{"path": f"{i}.wav", "text": "SO", "label": "ab"[i % 2], "speaker": f"s{i % 10}"} for i in range(60)]
    path = write(tmp_path / "m.tsv", [{**row, "label": "a"} for row in rows])
    for parts in (transcribed(path), labelled(path, apart=True)):
        voices = [speakers(part) for part in (parts.train, parts.dev, parts.test)]
        assert [len(each) for each in voices] == [7, 1, 2] and not any(a & b for a, b in combinations(voices, 2))
    assert speakers(labelled(path).test) & speakers(labelled(path).train)
    path = write(tmp_path / "n.tsv", [{**row, "split": "test" if row["speaker"] == "s0" else "train"} for row in rows])
    parts = transcribed(path)
    assert speakers(parts.test) == {"s0"} and len(speakers(parts.dev)) == 1 and "a tenth is dev" in parts.protocol


@pytest.mark.parametrize("read", [transcribed, lambda path: labelled(path, apart=True)])
def test_named_splits_and_half_filled_columns_that_mix_speakers_are_refused(tmp_path, read):
    row = {"text": "SO", "label": "a"}
    rows = [
        {"path": f"{i}.wav", **row, "speaker": f"s{i}", "split": split}
        for i, split in enumerate(("train", "train", "dev", "test"))
    ]
    assert len(read(write(tmp_path / "m.tsv", rows)).train) == 2
    path = write(tmp_path / "m.tsv", [*rows[:3], {**rows[3], "speaker": "s1"}])
    with pytest.raises(
        ValueError, match=r"m.tsv, line 5: s1 is in test, and in train by .*m.tsv, line 3; .*column spea"
    ):
        read(path)
    assert len(labelled(path).test) == 1  # KS and SID hear the same speakers
    rows = [{"path": f"{i}.wav", **row, "speaker": f"s{i % 10}" if i != 7 else ""} for i in range(60)]
    for named in (rows, [{**one, "split": "test" if one["speaker"] == "s0" else "train"} for one in rows]):
        path = write(tmp_path / "n.tsv", named)
        with pytest.raises(ValueError, match="n.tsv, line 9: no speaker, which other rows have: fill the column in"):
            read(path)
        assert labelled(path).test


def test_words_and_tags_may_be_lists_in_json_and_nothing_else_may(tmp_path):
    rows = [
        {"path": f"{i}.wav", "split": split, "text": "PLAY QUEEN NOW", "tags": "O artist O", "label": "a"}
        for i, split in enumerate(("train", "dev", "test"))
    ]
    told = transcribed(write(tmp_path / "m.jsonl", rows), tags=True)
    lists = [{**row, "text": row["text"].split(), "tags": row["tags"].split(), "more": {"a": [1]}} for row in rows]
    path = write(tmp_path / "m.jsonl", lists)
    assert transcribed(path, tags=True) == told and told.slots[0].values == ("artist",)
    assert labelled(path).slots[0].values == ("a",)
    for change, said in (
        ({"tags": [0, 1, 0]}, r"tags is no text but \[0, 1, 0\]"),
        ({"text": {"a": "b"}}, "text is no text but {'a': 'b'}"),
        ({"split": ["train"]}, r"split is no text but \['train'\]"),
    ):
        write(path, [lists[0], {**lists[1], **change}, lists[2]])
        with pytest.raises(ValueError, match=f"m.jsonl, line 2: {said}: write it as text"):
            transcribed(path, tags=True)
    with pytest.raises(ValueError, match=r"line 1: label is no text but \['a', 'b'\]"):
        labelled(write(path, [{**lists[0], "label": ["a", "b"]}, *lists[1:]]))


@pytest.mark.parametrize("name", ["M.TSV", "m.Csv", "m.JSONL"])
def test_a_manifest_s_ending_may_be_upper_case(tmp_path, name):
    rows = [{"path": f"{i}.wav", "label": "x", "split": split} for i, split in enumerate(("train", "dev", "test"))]
    write(tmp_path / name.lower(), rows).rename(tmp_path / name)
    (fold,) = corpora.keywords(str(tmp_path / name), "")
    assert names(fold.parts.test) == ["2.wav"]
    assert corpora.place(str(tmp_path / name), fold.parts.test[0]).endswith("line 3" if "J" in name else "line 4")


def test_verification_has_speakers_in_one_part_each_and_trials(tmp_path):
    rows = [{"path": f"{v}/{i}.wav", "label": f"v{v}"} for v in range(10) for i in range(4)]
    parts = verified(write(tmp_path / "m.tsv", rows))
    voices = [speakers(part) for part in (parts.train, parts.dev, parts.test)]
    assert [len(each) for each in voices] == [6, 2, 2] and not any(a & b for a, b in combinations(voices, 2))
    assert set(parts.slots[0].values) == voices[0] and parts.train[0].labels == (parts.train[0].speaker,)
    for trials, part in ((parts.trials, parts.test), (parts.dev_trials, parts.dev)):
        assert {name for trial in trials for name in trial[1:]} <= set(names(part))
        assert sum(trial.same for trial in trials) == len(trials) / 2 == 12
    a, b, c = parts.test[0], parts.test[1], parts.test[-1]
    (tmp_path / "trials.txt").write_text(f"1 {a.name} {b.name}\n0 {a.name} {c.name}\n")
    given = verified(tmp_path / "m.tsv", tmp_path / "trials.txt")
    assert len(given.trials) == 2 and given.trials[0].same and "2 trials of trials.txt" in given.protocol
    (tmp_path / "trials.txt").write_text(f"1 {a.path.name} {b.name}\n0 {a.name} {c.name}\n")
    with pytest.raises(ValueError, match=r"trials.txt, line 1: 0.wav is not one test utterance: it could be \d/0.wav"):
        verified(tmp_path / "m.tsv", tmp_path / "trials.txt")
    bad = parts.dev[0]
    many = [bad._replace(name=f"{i}", path=parts.dev[1].path) for i in range(12)]
    bad.path.write_bytes(b"")
    left = measured(parts._replace(dev=[*parts.dev, *many]))
    assert len(left.dev) == 19 and len(left.dev_trials) < 24
    assert not any(bad.name in trial for trial in left.dev_trials)
    rows = [{**row, "split": "test" if row["path"].endswith("3.wav") else "train"} for row in rows]
    with pytest.raises(ValueError, match="line 5: v0 is in test, and in train by .*m.tsv, line 2; this task .* split$"):
        verified(write(tmp_path / "m.tsv", rows))


@pytest.mark.parametrize("spoil", ["nonsense", "missing", "both"])
def test_more_than_a_twentieth_of_a_manifest_s_clips_may_not_be_missing_or_no_audio(tmp_path, spoil):
    rows = [{"path": f"{i}.wav", "label": "x", "split": "train"} for i in range(40)]
    rows += [{"path": f"{split}.wav", "label": "x", "split": split} for split in ("dev", "test")]
    path = write(tmp_path / "m.tsv", rows)

    def spoiled(count):
        for i in range(count):
            (tmp_path / f"{i}.wav").unlink(missing_ok=True)
            if spoil == "nonsense" or (spoil == "both" and i % 2):
                (tmp_path / f"{i}.wav").write_bytes(b"nonsense")
        return measured(labelled(path))

    parts = spoiled(2)
    assert len(parts.train) == 38 and len({place for place, _ in parts.skipped}) == 2
    first = "0.wav: no audio" if spoil == "nonsense" else "m.tsv, line 2: there is no audio .*0.wav"
    for count in (3, 16):
        with pytest.raises(ValueError, match=f"^{count} of 40 clips of train cannot be used, .*: .*{first}") as caught:
            spoiled(count)
        assert "\n" not in str(caught.value)


def test_intents_take_several_columns_and_slots_take_tags(tmp_path):
    tagged = {"text": "GO TO BONN", "tags": "O O B-city"}
    rows = [
        {"path": f"{i}.wav", "split": split, "act": "on", "where": "ab"[i % 2], **tagged}
        for i, split in enumerate(["train"] * 4 + ["dev"] * 2 + ["test"] * 2)
    ]
    path = write(tmp_path / "m.tsv", rows)
    parts = labelled(path, ("act", "where"))
    assert parts.test[1].labels == ("on", "b") and [slot.values for slot in parts.slots] == [("on",), ("a", "b")]
    parts = transcribed(path, tags=True)
    assert parts.test[0].tags == ("O", "O", "B-city") and parts.slots[0].values == ("city",)
    write(path, [{**row, "text": "Go to bonn"} for row in rows])
    assert transcribed(path, tags=True) == parts and transcribed(path).test[0].text == "Go to bonn"
    write(path, [{**row, "tags": "O O"} for row in rows])
    with pytest.raises(ValueError, match="m.tsv, line 2: 2 tags for 3 words"):
        transcribed(path, tags=True)


def test_turns_of_a_recording_are_gathered(tmp_path):
    rows = [
        {"path": f"{name}.wav", "label": speaker, "start": start, "end": start + 0.25, "split": name}
        for name in ("train", "dev", "test")
        for speaker, start in (("a", 0), ("b", 0.125))
    ]
    path = write(tmp_path / "m.tsv", rows)
    parts = diarized(path)
    assert parts.test[0].turns == (Turn("a", 0.0, 0.25), Turn("b", 0.125, 0.375)) and parts.test[0].end is None
    write(path, [*rows, {**rows[0], "split": "test"}])
    with pytest.raises(ValueError, match="m.tsv, line 8: train.wav is in 'train' and 'test'"):
        diarized(path)
    write(path, [{**row, "end": ""} for row in rows])
    with pytest.raises(ValueError, match="line 2: a turn needs start and end"):
        diarized(path)


def test_queries_and_documents_match_by_their_terms(tmp_path):
    rows = [
        {"path": "q1.wav", "label": "one", "split": "dev"},
        {"path": "q2.wav", "label": "two", "split": "test"},
        {"path": "d1.wav", "label": "one two", "split": "document"},
        {"path": "d2.wav", "label": "twofold", "split": "document"},
    ]
    path = write(tmp_path / "m.tsv", rows)
    search = searched(path)
    assert search.dev_truth == {"q1.wav": {"d1.wav"}} and search.test_truth == {"q2.wav": {"d1.wav"}}
    assert names(search.documents) == search.recordings == ["d1.wav", "d2.wav"]
    apart = [{**rows[2], "label": "one"}, rows[3], {**rows[2], "label": "two"}]  # a row for each term
    assert searched(write(path, [*rows[:2], *apart])) == search
    for again in ({**rows[0], "label": "two"}, rows[0]):
        with pytest.raises(ValueError, match=r"m.tsv, line 6: a dev row above has the name q1.wav already"):
            searched(write(path, [*rows, again]))
    with pytest.raises(ValueError, match=r"m.tsv, line 7: a document row above has the name d_1.wav already"):
        searched(write(path, [*rows, {**rows[2], "path": "d 1.wav"}, {**rows[2], "path": "d_1.wav"}]))
    write(path, [{**rows[0], "label": "one two"}, *rows[1:]])
    with pytest.raises(ValueError, match="line 2: a query has one term as its label, without spaces, not 'one two'"):
        searched(path)
    silent = searched(write(path, [*rows, {**rows[2], "path": "d3.wav", "label": ""}]))
    assert silent.recordings == ["d1.wav", "d2.wav", "d3.wav"] and silent.test_truth == search.test_truth
    write(path, [{**row, "split": "train"} for row in rows])
    with pytest.raises(ValueError, match="line 2: split is dev or test"):
        searched(path)
    write(path, rows[1:])
    with pytest.raises(ValueError, match="no row has the split dev"):
        searched(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": ""}, "m.tsv, line 3: no label; the row has"),
        ({"split": "heldout"}, "m.tsv, line 3: split is one of train, dev, .* not 'heldout'"),
        ({"start": "-1"}, "m.tsv, line 3: '-1' is no time in seconds"),
        ({"start": "soon"}, "m.tsv, line 3: 'soon' is no time in seconds"),
        ({"start": "2", "end": "1"}, "m.tsv, line 3: the piece ends at 1 seconds, before it starts at 2"),
        ({"split": "test", "label": "z"}, "m.tsv, line 3: no row for training has the label 'z'"),
        ({"label": "x\textra"}, "m.tsv, line 3: 7 values for 6 columns"),
        ({"label": "x\u2028y"}, "m.tsv, line 3: the label has a line break: remove it"),
        ({"path": "./c.wav"}, "m.tsv, line 4: this clip is in test, and in train by .*m.tsv, line 3: remove one row"),
    ],
)
def test_bad_rows_are_named(tmp_path, change, message):
    row = {"path": "a.wav", "label": "x", "split": "train", "start": "", "end": "", "speaker": ""}
    rows = [row, {**row, "path": "b.wav", **change}, {**row, "path": "c.wav", "split": "test"}]
    with pytest.raises(ValueError, match=message) as caught:
        labelled(write(tmp_path / "m.tsv", [*rows, {**row, "path": "d.wav", "split": "dev"}]))
    assert "\n" not in str(caught.value)


def test_spaces_at_the_ends_of_names_and_values_count_for_nothing(tmp_path):
    for name in "abc":
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(4000), 8000)
    (tmp_path / "m.csv").write_text("path, label, split\na.wav , hi , train\n b.wav,hi,dev \nc.wav,hi , test\n")
    parts = labelled(tmp_path / "m.csv")
    assert parts.slots[0].values == ("hi",) and names([*parts.train, *parts.dev, *parts.test]) == [
        f"{name}.wav" for name in "abc"
    ]


def test_pieces_of_one_file_may_be_in_several_parts_but_not_one_piece(tmp_path):
    row = {"path": "a.wav", "text": "SO", "start": 0, "end": 0.2, "split": "train"}
    rows = [row, {**row, "start": 0.2, "end": 0.4, "split": "dev"}, {**row, "start": 0.1, "split": "test"}]
    assert len(transcribed(write(tmp_path / "m.tsv", rows)).test) == 1
    with pytest.raises(ValueError, match="line 5: this clip is in test, and in train by .*m.tsv, line 2: remove one"):
        transcribed(write(tmp_path / "m.tsv", [*rows, {**row, "text": "NO", "split": "test"}]))


def test_one_clip_under_two_spellings_of_its_path_is_one_clip(tmp_path):
    row = {"path": "a.wav", "label": "x", "split": "train"}
    rows = [row, {**row, "path": "b.wav", "split": "dev"}, {**row, "path": "c.wav", "split": "test"}]
    with pytest.raises(ValueError, match="line 5: this clip is in train, and in train by .*m.tsv, line 2: remove one"):
        labelled(write(tmp_path / "m.tsv", [*rows, {**row, "path": "more/../a.wav"}]))
    turns = [{**row, "start": 0, "end": 0.1} for row in rows]
    parts = diarized(write(tmp_path / "m.tsv", [*turns, {**turns[0], "path": "./a.wav", "label": "y"}]))
    assert [[turn.speaker for turn in one.turns] for one in parts.train] == [["x", "y"]]


def test_a_slot_that_training_lacks_is_refused(tmp_path):
    row = {"path": "a.wav", "text": "GO TO BONN", "tags": "O O B-city", "split": "train"}
    rows = [row, {**row, "path": "b.wav", "split": "dev"}, {**row, "path": "c.wav", "split": "test"}]
    assert transcribed(write(tmp_path / "m.tsv", rows), tags=True).slots[0].values == ("city",)
    rows[2]["tags"] = "O B-place I-city"
    with pytest.raises(ValueError, match="line 4: no row for training has the slot 'place'"):
        transcribed(write(tmp_path / "m.tsv", rows), tags=True)


def test_missing_files_empty_manifests_and_other_kinds_are_named(tmp_path):
    row = {"path": "a.wav", "label": "x"}
    rows = [{**row, "path": f"{i}.wav", "split": split} for i, split in enumerate(("train", "train", "dev", "test"))]
    path = write(tmp_path / "m.tsv", rows)
    (tmp_path / "1.wav").unlink()
    ((place, why),) = labelled(path).skipped
    assert place.endswith("m.tsv, line 3") and why.endswith("1.wav")
    (tmp_path / "3.wav").unlink()
    with pytest.raises(ValueError, match="m.tsv, line 5: there is no audio"):
        labelled(path)
    path.write_text("path\tlabel\n")
    with pytest.raises(ValueError, match="m.tsv has no rows below its header"):
        labelled(path)
    with pytest.raises(ValueError, match="x.tsv is missing"):
        labelled(tmp_path / "x.tsv")
    with pytest.raises(ValueError, match="is no table: a manifest ends in .tsv, .csv or .jsonl"):
        labelled(tmp_path)
    with pytest.raises(ValueError, match="leaves nothing for dev"):
        labelled(write(tmp_path / "m.tsv", [{**row, "split": "train"}]))


def test_verification_sets_dev_speakers_apart_only_where_they_choose(tmp_path):
    rows = [{"path": f"{v}{i}.wav", "label": v} for v in "abcdefgh" for i in range(3)]
    path = write(tmp_path / "m.tsv", rows)
    published = corpora.verification(str(path), "", False)[0].parts
    assert not published.dev and not published.dev_trials and len(speakers(published.train)) == 6
    clean = corpora.verification(str(path), "", True)[0].parts
    assert len(speakers(clean.dev)) == 2 and clean.dev_trials and len(speakers(clean.train)) == 4
    assert published.test == clean.test and published.trials == clean.trials

    few = [{**row, "split": "test" if row["label"] in "gh" else "train"} for row in rows if row["label"] in "abgh"]
    path = write(tmp_path / "few.tsv", few)
    assert len(speakers(corpora.verification(str(path), "", False)[0].parts.train)) == 2
    with pytest.raises(ValueError, match=r"few.tsv: of 2 speaker\(s\) 2 cannot be set apart for dev"):
        corpora.verification(str(path), "", True)
    lone = [{**row, "split": {"a": "train", "b": "train", "c": "dev"}.get(row["label"], "test")} for row in rows]
    path = write(tmp_path / "lone.tsv", lone)
    assert corpora.verification(str(path), "", False)[0].parts.trials
    with pytest.raises(ValueError, match=r"lone.tsv, dev: no trials can be drawn from 3 utterances of 1 speaker"):
        corpora.verification(str(path), "", True)


def test_what_teaches_nothing_or_is_said_twice_is_refused(tmp_path):
    rows = [{"path": f"{i}.wav", "label": "yes"} for i in range(40)]
    path = write(tmp_path / "one.tsv", rows)
    with pytest.raises(ValueError, match=r"one.tsv: training has one label only, 'yes'"):
        suite.evaluate(
            {"superb/ks": KeywordConfig(data=KeywordCorpusConfig(path=str(path)))}, "fbank", 1, False, tmp_path, print
        )
    voices = [{"path": f"{i}.wav", "label": "abc"[i % 3], "split": "train" if i % 3 == 0 else "test"} for i in range(9)]
    with pytest.raises(ValueError, match=r"one.tsv: training has one speaker only, 'a'"):
        verified(write(tmp_path / "one.tsv", voices), clean=False)
    (tmp_path / "twice.csv").write_text("path,label, label\n0.wav,a,train\n")
    with pytest.raises(ValueError, match=r"twice.csv: the column 'label' stands there twice"):
        labelled(tmp_path / "twice.csv")
    with pytest.raises(ValueError, match=r"--data.test has no use with .*one.tsv: leave it away"):
        corpora.keywords(str(path), "archive")
    with pytest.raises(ValueError, match=r"--data.listing has no use with .*one.tsv: leave it away"):
        corpora.speakers(str(path), "list.txt")
    (tmp_path / "list.txt").write_text("no folder\n")
    with pytest.raises(ValueError, match=r"list.txt is a file: name the corpus's folder, or a manifest"):
        corpora.speakers(str(tmp_path / "list.txt"), "")
