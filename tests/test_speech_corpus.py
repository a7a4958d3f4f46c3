# SPDX-License-Identifier: Apache-2.0
"""Lists of clips: folders and manifests of every kind, crops that stay within their clip, and what is held out."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch

from pluri.speech import audio
from pluri.speech.corpus import AudioDataConfig
from pluri.ssl import draw
from pluri.ssl.data import BadItem


def speech(path, cache, split="train", **settings):
    return AudioDataConfig(path=str(path), **{"held_out": 0.0, "shortest": 0.1, **settings}).build(split, cache)


def numbered(path, seconds):
    """A clip whose samples say where they stand: sample i is i / 2^15."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.arange(round(seconds * 16000), dtype=np.int16), 16000)


def place(item):
    """The first sample's number and how many there are, if they follow one another."""
    numbers = (item.inputs * 2**15).round().long()
    assert torch.equal(numbers - numbers[0], torch.arange(len(numbers)))
    return int(numbers[0]), len(numbers)


def test_a_folder_of_any_depth_and_a_single_file_are_listed(samples, tmp_path):
    data = speech(samples["speech"], tmp_path)
    paths = sorted(path for path in samples["speech"].rglob("*") if path.suffix in (".wav", ".flac"))
    assert sorted(data.root / clip.path for clip in data.clips) == paths and len(paths) == 36
    for record, size in zip(data.epoch(0).records, data.epoch(0).sizes, strict=True):
        info = soundfile.info(data.name(record))
        assert size == pytest.approx(info.frames / info.samplerate)
        assert abs(len(data.load(record, 0).inputs) - 16000 * size) <= 1
    one = speech(paths[5], tmp_path)
    assert [one.root / clip.path for clip in one.clips] == [paths[5]]
    again = speech(samples["speech"], tmp_path)
    assert again.clips == data.clips and len(list(tmp_path.glob("audio-*.json"))) == 2


def test_a_second_build_reads_no_headers(samples, tmp_path, monkeypatch):
    folder = tmp_path / "speech"
    shutil.copytree(samples["speech"], folder)
    first = speech(folder, tmp_path / "cache")

    def refuse(_):
        raise BadItem("a header was read again")

    monkeypatch.setattr(audio, "probe", refuse)
    assert speech(folder, tmp_path / "cache").clips == first.clips
    numbered(folder / "new.wav", 1.0)
    with pytest.raises(ValueError, match="none of 37 clips can be read; the first: .*/.*: a header was read again"):
        speech(folder, tmp_path / "cache")


MANIFEST = [("deep/b.wav", 0.5, 1.25), ("a.wav", None, None), ("a.wav", 0.25, None), ("deep/b.wav", None, 0.5)]
WANTED = [("deep/b.wav", 8000, 12000), ("a.wav", 0, 16000), ("a.wav", 4000, 12000), ("deep/b.wav", 0, 8000)]


def write_manifest(path):
    rows = [{"path": name, "start": start, "end": end, "text": "什么, “x”"} for name, start, end in MANIFEST]
    if path.suffix == ".jsonl":
        rows = [{key: value for key, value in row.items() if value is not None} for row in rows]
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return
    import csv

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl"])
def test_manifests_name_files_and_pieces_of_files(suffix, tmp_path):
    numbered(tmp_path / "a.wav", 1.0)
    numbered(tmp_path / "deep" / "b.wav", 2.0)
    write_manifest(tmp_path / f"list.{suffix}")
    data = speech(tmp_path / f"list.{suffix}", tmp_path / "cache")
    epoch = data.epoch(0)
    found = [(data.clips[int(r[0])].path, *place(data.load(r, 0))) for r in epoch.records]
    assert found == WANTED and epoch.sizes.tolist() == [count / 16000 for _, _, count in WANTED]
    assert data.name(epoch.records[0]).endswith("b.wav from 0.5 s")


def test_the_manifests_of_fairseq_are_read(tmp_path):
    numbered(tmp_path / "audio" / "a.wav", 1.0)
    numbered(tmp_path / "audio" / "deep" / "b.wav", 2.0)
    (tmp_path / "train.tsv").write_text(f"{tmp_path / 'audio'}\ndeep/b.wav\t32000\na.wav\t16000\n")
    data = speech(tmp_path / "train.tsv", tmp_path / "cache")
    found = [(data.clips[int(r[0])].path, *place(data.load(r, 0))) for r in data.epoch(0).records]
    assert found == [("deep/b.wav", 0, 32000), ("a.wav", 0, 16000)]


def test_manifests_that_cannot_be_used_are_refused_with_their_row(tmp_path):
    numbered(tmp_path / "a.wav", 1.0)
    for name, content, message in (
        ("a.csv", "file,start\na.wav,0\n", "a.csv, line 2: no column path"),
        ("b.csv", "path,start\na.wav,0\na.wav,soon\n", "b.csv, line 3: start and end must be seconds"),
        ("c.tsv", "path\tstart\n", "lists no clips"),
        ("d.tsv", "", "lists no clips"),
        ("e.tsv", "path\tstart\na.wav\n", "e.tsv, line 2: 1 values for 2 columns"),
        ("f.csv", "path,start\na.wav,nan\n", "f.csv, line 2: a clip must start at 0 or later"),
        ("g.tsv", "path\tstart\na\r.wav\t0\n", "g.tsv, line 2: a carriage return within the line"),
        ("h.jsonl", '{"path": ["a.wav"]}', "h.jsonl, line 1: path is no text"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=message):
            speech(tmp_path / name, tmp_path / "cache")


def test_rows_of_a_manifest_that_lead_nowhere_are_named(tmp_path):
    numbered(tmp_path / "a.wav", 1.0)
    (tmp_path / "list.csv").write_text("path,start,end\nb.wav,,\na.wav,3,4\na.wav,0.5,9\n")
    data = speech(tmp_path / "list.csv", tmp_path / "cache")
    assert data.clips == [("a.wav", 0.5, 0.5)]
    assert [name.rsplit("/", 1)[1] for name, _ in data.bad] == ["b.wav", "a.wav"]
    assert "ends before 3 seconds" in data.bad[1][1]


@pytest.mark.parametrize("piece", ["1.5,0.5", "1,1", "-1,0.5"])
def test_a_piece_that_ends_before_it_begins_or_begins_before_its_file_is_refused_with_its_row(piece, tmp_path):
    numbered(tmp_path / "a.wav", 2.0)
    (tmp_path / "list.csv").write_text(f"path,start,end\na.wav,0,1\na.wav,{piece}\n")
    with pytest.raises(ValueError, match="list.csv, line 3: a clip must start at 0 or later and end after its start"):
        speech(tmp_path / "list.csv", tmp_path / "cache")


@pytest.mark.parametrize(("line", "message"), [('{"path": "a.wav"', "not JSON"), ('"a.wav"', "not a JSON object")])
def test_a_broken_line_of_a_manifest_is_refused_with_its_number(line, message, tmp_path):
    numbered(tmp_path / "a.wav", 2.0)
    (tmp_path / "list.jsonl").write_text('{"path": "a.wav"}\n\n' + line + "\n")
    with pytest.raises(ValueError, match=f"list.jsonl, line 3: {message}"):
        speech(tmp_path / "list.jsonl", tmp_path / "cache")


@pytest.mark.parametrize("suffix", ["TSV", "JSONL"])
def test_manifests_with_suffixes_in_capitals_are_read(suffix, tmp_path):
    numbered(tmp_path / "a.wav", 1.0)
    numbered(tmp_path / "deep" / "b.wav", 2.0)
    write_manifest(tmp_path / f"list.{suffix.lower()}")
    (tmp_path / f"list.{suffix.lower()}").rename(tmp_path / f"LIST.{suffix}")
    assert len(speech(tmp_path / f"LIST.{suffix}", tmp_path / "cache").clips) == 4


def test_manifests_with_a_byte_order_mark_are_read(tmp_path):
    numbered(tmp_path / "a.wav", 1.0)
    (tmp_path / "list.csv").write_text("path,start\na.wav,0.5\n", encoding="utf-8-sig")
    assert speech(tmp_path / "list.csv", tmp_path / "cache").clips == [("a.wav", 0.5, 0.5)]


def test_quotes_in_the_transcripts_of_a_tsv_swallow_no_rows(tmp_path):
    # Common Voice's files are like that: path and sentence, tabs between, quotes as they are.
    numbered(tmp_path / "a.wav", 1.0)
    (tmp_path / "list.tsv").write_text('path\tsentence\na.wav\t"Hello, he said.\na.wav\tFine.\na.wav\tSo be it."\n')
    assert len(speech(tmp_path / "list.tsv", tmp_path / "cache").clips) == 3


def test_long_clips_are_cropped_elsewhere_for_each_key_and_within_the_clip(tmp_path):
    numbered(tmp_path / "a.wav", 2.0)
    (tmp_path / "list.csv").write_text("path,start,end\na.wav,0.5,1.5\na.wav,,\na.wav,0,0.2\n")
    data = speech(tmp_path / "list.csv", tmp_path / "cache", longest=0.25)
    assert data.epoch(0).sizes.tolist() == [0.25, 0.25, pytest.approx(0.2)]
    for record, first, last in zip(data.epoch(0).records[:2], (8000, 0), (24000, 32000), strict=True):
        places = [place(data.load(record, draw.key(0, key))) for key in range(200)]
        starts = np.array([start for start, _ in places])
        assert {count for _, count in places} == {4000}
        assert first <= starts.min() and starts.max() <= last - 4000 and len(set(places)) > 150
        room = last - first - 4000
        assert starts.min() < first + 0.05 * room and starts.max() > last - 4000 - 0.05 * room
        assert abs(starts.mean() - (first + room / 2)) < 0.1 * room
        assert place(data.load(record, draw.key(0, 3))) == places[3]
    assert {place(data.load(data.epoch(0).records[2], key)) for key in range(5)} == {(0, 3200)}


def test_short_clips_are_left_out_and_a_folder_of_nothing_else_refused(tmp_path):
    for i, seconds in enumerate((0.05, 0.3, 0.5)):
        numbered(tmp_path / "speech" / f"{i}.wav", seconds)
    data = speech(tmp_path / "speech", tmp_path, shortest=0.2)
    assert len(data.records) == 2 and data.left_out == 1
    with pytest.raises(ValueError, match="none of the 3 clips"):
        speech(tmp_path / "speech", tmp_path, shortest=1.0)


def test_the_held_out_split_goes_by_path_and_loses_nothing(samples, tmp_path):
    parts = {split: speech(samples["speech"], tmp_path, split, held_out=0.3) for split in ("train", "held_out")}
    listed = {split: {data.clips[i].path for i in data.records[:, 0]} for split, data in parts.items()}
    assert len(listed["train"] | listed["held_out"]) == 36 and not listed["train"] & listed["held_out"]
    assert 3 <= len(listed["held_out"]) <= 20
    shutil.copytree(samples["speech"], tmp_path / "moved")
    numbered(tmp_path / "moved" / "new.wav", 1.0)
    moved = speech(tmp_path / "moved", tmp_path, "held_out", held_out=0.3)
    assert {moved.clips[i].path for i in moved.records[:, 0]} - {"new.wav"} == listed["held_out"]
