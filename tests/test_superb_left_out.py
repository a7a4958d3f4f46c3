# SPDX-License-Identifier: Apache-2.0
"""What is missing or bad in train and dev is named in left_out.json and counted, whether states are kept or not."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile

from pluri.benchmarks.superb import suite
from pluri.benchmarks.superb.clips import Clips
from pluri.benchmarks.superb.states import States
from pluri.benchmarks.superb.store import StoreConfig
from pluri.benchmarks.superb.swept import LEFT_OUT
from pluri.benchmarks.superb.utterance.config import usable
from pluri.benchmarks.superb.utterance.probe import Labelled
from pluri.benchmarks.superb.utterance.tasks import SpeakerConfig
from pluri.benchmarks.superb.utterances import Utterance

STORED, ONLINE = StoreConfig(dtype="fp32"), StoreConfig(gigabytes=0.0)


def manifest(folder):
    """60 clips for train, 20 for dev and 4 for test, each of a tenth of a second."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = ["path\tlabel\tsplit"]
    for part, count in (("train", 60), ("dev", 20), ("test", 4)):
        for i in range(count):
            soundfile.write(folder / f"{part}{i}.wav", (0.01, 0.1)[i % 2] * rng.standard_normal(1600), 16000)
            rows.append(f"{part}{i}.wav\t{'ab'[i % 2]}\t{part}")
    path = folder / "m.tsv"
    path.write_text("\n".join(rows) + "\n")
    return path


def spoil(path):
    """The header can be read, the samples cannot be used."""
    soundfile.write(path, np.full(1600, np.nan, np.float32), 16000, subtype="FLOAT")


def run(path, out, store):
    config = SpeakerConfig(steps=6, evaluations=2, batch=8, grid=(1e-2, 1e-3), device="cpu", store=store)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=str(path)))
    lines = []
    return suite.evaluate({"superb/sid": config}, "fbank_no_cmvn", 1, False, out, lines.append)[0], "\n".join(lines)


def test_all_that_is_left_out_is_named_and_counted_with_states_kept_or_online(tmp_path):
    path = manifest(tmp_path / "data")
    folder = path.parent
    (folder / "train3.wav").unlink()
    (folder / "train5.wav").write_bytes(b"nonsense")
    spoil(folder / "train7.wav")
    spoil(folder / "dev2.wav")
    rows = []
    for name, store in (("kept", STORED), ("online", ONLINE)):
        row, said = run(path, tmp_path / name, store)
        rows.append(row)
        (file,) = (tmp_path / name).rglob(LEFT_OUT)
        left = json.loads(file.read_text())
        assert {place.rsplit("/", 1)[1]: why.split(":")[0] for place, why in left["bad"].items()} == {
            "m.tsv, line 5": f"there is no audio {folder / 'train3.wav'}",
            "train5.wav": "no audio",
            "train7.wav": "has samples that are not finite",
            "dev2.wav": "has samples that are not finite",
        }
        assert row.chosen[0]["bad"] == 4 and "4 items could not be read and were left out" in said
        assert left["online"] == (name == "online")
    assert rows[0].each == rows[1].each
    again, said = run(path, tmp_path / "kept", STORED)
    assert again.chosen[0]["bad"] == 4 and "store:" not in said


@pytest.mark.parametrize("store", [STORED, ONLINE])
@pytest.mark.parametrize("part", ["train", "test"])
def test_too_many_bad_clips_and_any_of_test_stop_the_run(tmp_path, store, part):
    path = manifest(tmp_path / "data")
    spoil(path.parent / "dev0.wav")  # one of 20 may be bad
    clips = [path.parent / f"{part}{i}.wav" for i in range(1 if part == "test" else 4)]
    for clip in clips:
        spoil(clip)
    with pytest.raises(ValueError, match="4 of 60 clips of train" if part == "train" else "fewer test clips") as error:
        run(path, tmp_path / "out", store)
    assert any(str(clip) in str(error.value) for clip in clips) and "\n" not in str(error.value)


@pytest.mark.parametrize("lost", [lambda path: path.unlink(), lambda path: path.write_bytes(b"nonsense"), spoil])
def test_clips_that_test_lacks_are_counted_and_the_first_is_named(tmp_path, lost):
    path = manifest(tmp_path / "data")
    lost(path.parent / "test2.wav")
    with pytest.raises(ValueError, match="fewer test clips is another score, so restore it$"):
        run(path, tmp_path / "out", ONLINE)
    lost(path.parent / "test1.wav")
    lost(path.parent / "test3.wav")
    with pytest.raises(ValueError, match=r"test1.wav.*\(the first of 3\); a score over fewer .*restore them$"):
        run(path, tmp_path / "out", ONLINE)


def test_where_all_of_dev_is_missing_its_first_clip_is_named(tmp_path):
    path = manifest(tmp_path / "data")
    for clip in (path.parent / "train0.wav", *path.parent.glob("dev*.wav")):
        clip.unlink()
    with pytest.raises(ValueError, match=r"m.tsv, line 62: there is no audio .*/dev0.wav, nor of another row of dev$"):
        run(path, tmp_path / "out", ONLINE)


class Bad(States):
    """States of which some cannot be read."""

    def __init__(self, bad):
        self.bad = bad

    def read(self, numbers, place=None):
        raise NotImplementedError


def test_the_clip_that_is_named_is_one_of_the_part(tmp_path):
    clips = Clips()
    numbers = [clips.add(Utterance(f"{i}", tmp_path / f"{i}.wav", end=1.0)) for i in range(6)]
    part = Labelled(["a", "b"], [[numbers[2]], [numbers[3], numbers[4]]], np.zeros((2, 1), np.int64))
    for bad, named in (((0, 2), "2.wav"), ((5, 4, 1, 3), "3.wav")):
        with pytest.raises(ValueError, match=f"1 of 2 clips of train cannot be read, .*: .*/{named}: broken"):
            usable("train", part, Bad(dict.fromkeys(bad, "broken")), clips)
    assert usable("train", part, Bad({0: "broken", 4: "broken"}), clips).pieces == [[2], [3]]
